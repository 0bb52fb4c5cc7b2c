//! CSV: a row a line under a header that names the table's columns, exact
//! integers in base units. A histogram is three fields: count, sum, buckets.
//! The first field names the table, as a tally may have several.
//! Behind each reading of a table a line that begins with `#` carries what the
//! rows cannot; text is always quoted and its control characters escaped, so
//! that a record is one line and no line of one begins like that. Text that a
//! spreadsheet would compute has a `'` before it; numbers stay numbers.

use std::io::{self, Write};

use csv::{QuoteStyle, WriterBuilder};

use super::{Style, escape_all, footer};
use crate::schema::{Metric, MetricKind, Table, Value};
use crate::snapshot::{Row, Snapshot, TableSnapshot};

/// The tables whose header was written.
#[derive(Debug, Default)]
pub(super) struct State {
    headers: Vec<String>,
}

impl State {
    pub(super) fn render(
        &mut self,
        out: &mut dyn Write,
        snapshot: &Snapshot<'_>,
        style: &Style,
    ) -> io::Result<()> {
        for table in &snapshot.tables {
            let name = &table.table.name;
            let mut writer = WriterBuilder::new()
                .quote_style(QuoteStyle::NonNumeric)
                .from_writer(&mut *out);
            if !style.no_header && !self.headers.contains(name) {
                writer.write_record(header(table.table))?;
                self.headers.push(name.clone());
            }
            for row in &table.rows {
                let record = record(snapshot, table, row);
                writer.write_record(self::cells(record))?;
            }
            writer.flush()?;
            drop(writer);
            writeln!(out, "# {name}: {}", footer(snapshot, table))?;
        }
        Ok(())
    }
}

/// Not `time`, which is what a tally may well count.
fn header(table: &Table) -> Vec<String> {
    let mut fields = ["table", "timestamp", "seconds"]
        .map(str::to_owned)
        .to_vec();
    fields.extend(table.labels.iter().map(|label| label.name.clone()));
    fields.extend(table.metrics.iter().flat_map(heads));
    fields
}

fn record(snapshot: &Snapshot<'_>, table: &TableSnapshot<'_>, row: &Row<'_>) -> Vec<String> {
    let mut fields = vec![
        table.table.name.clone(),
        humantime::format_rfc3339_millis(snapshot.time).to_string(),
        super::seconds(snapshot.seconds).to_string(),
    ];
    fields.extend(row.names.iter().map(Value::to_string));
    let metrics = table.table.metrics.iter();
    fields.extend(metrics.flat_map(|metric| self::fields(metric, row.cells)));
    fields
}

/// The fields of a record as they are written.
pub fn cells(mut record: Vec<String>) -> Vec<String> {
    for cell in record.iter_mut().filter(|cell| is_formula(cell)) {
        cell.insert(0, '\'');
    }
    escape_all(record)
}

/// Anyone can name a process `=1+1`.
fn is_formula(cell: &str) -> bool {
    cell.len() > 1 && cell.starts_with(['=', '+', '-', '@']) && cell.parse::<f64>().is_err()
}

/// The columns of a metric: one, or three of a histogram.
pub(super) fn heads(metric: &Metric) -> Vec<String> {
    match metric.kind {
        MetricKind::Histogram => ["count", "sum", "buckets"]
            .map(|part| format!("{}_{part}", metric.name))
            .into(),
        _ => vec![metric.name.clone()],
    }
}

/// What stands under [`heads`].
pub(super) fn fields(metric: &Metric, cells: &[u64]) -> Vec<String> {
    match metric.value(cells) {
        Value::Histogram(histogram) => vec![
            histogram.count().to_string(),
            histogram.sum.to_string(),
            histogram.pairs_text(),
        ],
        number => vec![number.to_string()],
    }
}
