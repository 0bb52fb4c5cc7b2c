//! `ktally diff`: what two files counted, row by row.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::Result;

use super::{keep_capabilities, output, query, style};
use crate::cli::{DiffArgs, Exit, Global};
use crate::recording::{Comparison, Document};
use crate::render::{Compared, comparisons};
use crate::schema::Table;
use crate::tally::Tally;

pub(super) fn diff(global: &Global, args: &DiffArgs) -> Result<Exit> {
    keep_capabilities(Vec::new());
    let read = |path: &Path| Document::read(path, &tables_of);
    let all = Comparison::of_all(read(&args.before)?, read(&args.after)?)?;
    let query = query(&args.selection);
    let mut compared = Vec::new();
    for comparison in &all {
        let (table, mut rows) = comparison.rows(&query)?;
        let matching = rows.len();
        rows.truncate(query.top.unwrap_or(usize::MAX));
        compared.push(Compared {
            comparison,
            table,
            rows,
            matching,
        });
    }
    comparisons(
        &mut output::out(),
        (global.output, style(global)),
        &compared,
    )?;
    Ok(Exit::Done)
}

/// The tables that this version knows of a tally, with all of their labels. A document
/// may name any path: ktally neither opens nor compiles it.
fn tables_of(tally: &str) -> Vec<Table> {
    if tally.contains(['/', '.']) {
        return Vec::new();
    }
    Tally::find(OsStr::new(tally)).map_or_else(|_| Vec::new(), |known| known.schema.tables)
}
