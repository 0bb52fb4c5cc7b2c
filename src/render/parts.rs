//! The value of a map's entry as columns: its numbers, and what else it has.

use super::text::{metric_cells, metric_heads};
use super::writer::Head;
use super::{Format, Style, csv};
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

    pub(super) fn heads(&self, format: Format, style: &Style) -> Vec<Head> {
        let heads = self.parts.iter().flat_map(|part| match (part, format) {
            (Part::Metric(metric), Format::Table) => {
                numbers(metric_heads(metric, &self.table.metrics, style))
            }
            (Part::Metric(metric), _) => numbers(csv::heads(metric)),
            (Part::Detail(detail), _) => vec![format.head(&detail.name)],
        });
        heads.collect()
    }

    /// What the copies of a value, whose numbers are added up in `cells`, have
    /// there.
    pub(super) fn cells<'v>(
        &'v self,
        (format, style): (Format, &Style),
        seconds: f64,
        cells: &[u64],
        copies: &[&'v [u8]],
    ) -> Vec<Value<'v>> {
        let texts = |texts: Vec<String>| texts.into_iter().map(Value::from).collect();
        let values = self.parts.iter().flat_map(|part| match (part, format) {
            (Part::Metric(metric), Format::Table) => {
                texts(metric_cells(metric, cells, seconds, style))
            }
            (Part::Metric(metric), _) => texts(csv::fields(metric, cells)),
            (Part::Detail(detail), _) => {
                let copies = copies.iter().map(|value| self.labels.of(detail, value));
                vec![Value::sum(copies.collect())]
            }
        });
        values.collect()
    }
}

fn numbers(heads: Vec<String>) -> Vec<Head> {
    heads.into_iter().map(|head| (head, true)).collect()
}
