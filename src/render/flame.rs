//! Stacks: a line each for flame-graph tools, or the flame graph itself. The
//! labels of a row, with a stack's frames root first, and the first counter.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::Result;
use inferno::flamegraph::{self, Options};

use super::escape;
use super::reading::OTHER;
use crate::error::usage;
use crate::schema::{Decoder, Label, MetricKind, Table, Value};
use crate::snapshot::{Snapshot, TableSnapshot};

/// Some table has a stack, also when its rows are grouped, and a counter.
pub(super) fn check(tables: &[Table], by: Option<&[String]>) -> Result<()> {
    let is_shown = |label: &Label| by.is_none_or(|by| by.contains(&label.name));
    let fits = |table: &Table| {
        first_counter(table).is_some()
            && table.labels.iter().any(|it| it.is_stack() && is_shown(it))
    };
    if tables.iter().any(fits) {
        return Ok(());
    }
    let has_stack = tables
        .iter()
        .flat_map(|table| &table.labels)
        .any(Label::is_stack);
    Err(usage(if has_stack {
        "rows grouped without their stack are no flame graph; add it to `--by`"
    } else {
        "this tally counts no stacks, of which `folded` and `svg` are made"
    }))
}

/// A line a stack, sorted; where rows differ only in what is not shown, their
/// counts add up.
pub(super) fn folded(out: &mut dyn Write, snapshot: &Snapshot<'_>) -> io::Result<()> {
    for (stack, count) in stacks(snapshot) {
        writeln!(out, "{stack} {count}")?;
    }
    Ok(())
}

pub(super) fn svg(out: &mut dyn Write, snapshot: &Snapshot<'_>) -> io::Result<()> {
    let title = format!("{}: {}", snapshot.tally, snapshot.summary);
    let counter = counted(snapshot).find_map(|table| first_counter(table.table));
    let stacks = stacks(snapshot);
    // The library takes this for an error.
    if stacks.is_empty() {
        let what = counter.map_or_else(|| "samples".to_owned(), |(_, name)| name);
        return write!(out, "{}", empty(&title, &what));
    }
    let lines: Vec<String> = stacks.iter().map(|(it, n)| format!("{it} {n}")).collect();
    let mut options = Options::default();
    options.title = title;
    options.deterministic = true;
    if let Some((_, name)) = counter {
        options.count_name = name;
    }
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), out)
}

/// A picture that says that there is nothing to see.
fn empty(title: &str, what: &str) -> String {
    let text = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;");
    let (title, what) = (text(&escape(title)), text(&escape(what)));
    format!(
        r#"<?xml version="1.0" standalone="no"?>
<svg version="1.1" width="1200" height="80" viewBox="0 0 1200 80" xmlns="http://www.w3.org/2000/svg">
<g font-family="monospace" text-anchor="middle">
<text x="600" y="24" font-size="17">{title}</text>
<text x="600" y="56" font-size="12">nothing was counted (0 {what})</text>
</g>
</svg>
"#
    )
}

fn counted<'s>(snapshot: &'s Snapshot<'_>) -> impl Iterator<Item = &'s TableSnapshot<'s>> {
    let tables = snapshot.tables.iter();
    tables.filter(|table| table.table.labels.iter().any(Label::is_stack))
}

fn stacks(snapshot: &Snapshot<'_>) -> BTreeMap<String, u64> {
    let mut stacks = BTreeMap::new();
    for table in counted(snapshot) {
        let Some((cell, _)) = first_counter(table.table) else {
            continue;
        };
        let mut add = |stack: &str, cells: &[u64]| {
            let count: &mut u64 = stacks.entry(escape(stack)).or_default();
            *count = count.wrapping_add(cells[cell]);
        };
        for row in table.rows.iter() {
            let names = table.table.labels.iter().zip(row.names);
            let frames = names.map(|(label, name)| frames(label, name));
            let frames: Vec<String> = frames.filter(|frame| !frame.is_empty()).collect();
            add(&frames.join(";"), row.cells);
        }
        if let Some(other) = table.other() {
            add(OTHER, other.cells);
        }
    }
    stacks.retain(|_, count| *count > 0);
    stacks
}

/// One label: any text as one frame, the kernel's frames marked as flame-graph
/// tools have them.
fn frames(label: &Label, name: &Value<'_>) -> String {
    let text = name.to_string();
    if !label.is_stack() {
        return text.replace(';', ":");
    }
    if label.decoder != Some(Decoder::KSTACK) {
        return text;
    }
    let marked = text.split(';').filter(|frame| !frame.is_empty());
    let marked: Vec<String> = marked.map(|frame| format!("{frame}_[k]")).collect();
    marked.join(";")
}

/// Its cell, and its name.
fn first_counter(table: &Table) -> Option<(usize, String)> {
    let mut metrics = table.metrics.iter();
    let counter = metrics.find(|metric| metric.kind == MetricKind::Counter)?;
    Some((counter.cell, counter.name.clone()))
}
