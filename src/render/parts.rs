//! The value of a map's entry as columns: its numbers, and what else it has.

use super::metric::Numbers;
use super::writer::{Head, RowWriter};
use crate::schema::{Names, Part, Table, Value};

/// The columns of a table's value.
pub(super) struct Parts<'d> {
    table: &'d Table,
    parts: Vec<Part<'d>>,
    labels: &'d dyn Names,
}

impl<'d> Parts<'d> {
    pub(super) fn new(table: &'d Table, labels: &'d dyn Names) -> Self {
        let parts = table.parts();
        Self {
            table,
            parts,
            labels,
        }
    }

    pub(super) fn heads(&self, numbers: Numbers<'_>) -> Vec<Head> {
        let heads = self.parts.iter().flat_map(|part| match part {
            Part::Metric(metric) => numbers.heads(metric, &self.table.metrics),
            Part::Detail(detail) => vec![numbers.format.head(&detail.name)],
        });
        heads.collect()
    }

    /// Writes what the copies of a value, whose numbers are added up in `cells`,
    /// have there.
    pub(super) fn write(
        &self,
        writer: &mut RowWriter,
        numbers: Numbers<'_>,
        cells: &[u64],
        copies: &[&[u8]],
    ) {
        for part in &self.parts {
            match part {
                Part::Metric(metric) => numbers.write(writer, metric, cells),
                Part::Detail(detail) => {
                    let copies = copies.iter().map(|value| self.labels.of(detail, value));
                    writer.cell(&Value::sum(copies.collect()));
                }
            }
        }
    }
}
