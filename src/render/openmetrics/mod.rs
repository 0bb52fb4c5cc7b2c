//! OpenMetrics 1.0, and the text format 0.0.4 of Prometheus.

mod encoder;
mod family;
mod number;
mod series;

use std::io::{self, Write};

pub(crate) use encoder::{Dialect, Encoder};
pub use family::labels;
pub(crate) use family::{Counted, CountedTable, Families, FamilyKind};
pub(crate) use series::{Series, Texts, row_labels};

use crate::snapshot::{Snapshot, TableSnapshot};

/// How much is encoded at once.
pub(crate) const PIECE: usize = 64 << 10;

/// All snapshots as one text.
pub(super) fn render(
    out: &mut dyn Write,
    dialect: Dialect,
    snapshots: &[Snapshot<'_>],
) -> io::Result<()> {
    let mut families = Families::default();
    for snapshot in snapshots {
        families.add_tally(&counted(snapshot));
    }
    let mut encoder = Encoder::new(dialect);
    let mut piece = Vec::with_capacity(PIECE);
    loop {
        let goes_on = encoder.fill(&families, &mut piece, PIECE);
        out.write_all(&piece)?;
        piece.clear();
        if !goes_on {
            return Ok(());
        }
    }
}

fn counted<'s>(snapshot: &'s Snapshot<'_>) -> Counted<'s> {
    let tables = snapshot.tables.iter().map(|table| CountedTable {
        table: table.table,
        series: series(table).into(),
        used: table.rows_read as u64,
        max: None,
        dropped: table.dropped,
        uncertain: table.uncertain,
        folded: None,
    });
    Counted {
        prefix: "",
        tally: &snapshot.tally,
        instance: None,
        time: snapshot.time,
        seconds: snapshot.seconds,
        missed_by: &snapshot.missed_by,
        gaps: snapshot.gaps,
        unraised: snapshot.unraised,
        tables: tables.collect(),
    }
}

/// Rows whose labels are the same text are one series.
fn series(table: &TableSnapshot<'_>) -> Series {
    let mut series = Series::new(table.table);
    let mut texts = std::collections::BTreeMap::new();
    let other = table.other();
    let rows = table.rows.iter().map(|row| {
        let names = row.names.iter().map(ToString::to_string);
        (row_labels(table.table, names), row.cells)
    });
    let other = other.iter().map(|row| {
        let names = table.table.labels.iter().map(|_| OTHER.to_owned());
        (row_labels(table.table, names), row.cells)
    });
    for (text, cells) in rows.chain(other) {
        let next = texts.len() as u32;
        let slot = *texts.entry(text).or_insert(next);
        series.add(slot, cells, &table.table.metrics);
    }
    let mut by_slot: Vec<(u32, String)> =
        texts.into_iter().map(|(text, slot)| (slot, text)).collect();
    by_slot.sort_unstable();
    let texts = by_slot.iter().map(|(_, text)| text.as_str());
    series.named(Texts::from_iter(texts).into())
}

/// The value of each label in the series of events that found no row, and of folded rows.
pub(crate) const OTHER: &str = "other";
