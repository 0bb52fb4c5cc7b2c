//! A metric as columns: rates or totals for people, exact numbers for programs.

use super::writer::Head;
use super::{Format, Style};
use crate::schema::{Metric, MetricKind, Unit, Value, plain_number, whole_number};
use crate::snapshot::{count, quantile};

/// The quantiles that stand for a histogram in a table.
const QUANTILES: [(&str, f64); 2] = [("p50", 0.5), ("p99", 0.99)];

/// How numbers are written: those of a table are per second, or totals.
#[derive(Clone, Copy)]
pub(super) struct Numbers<'s> {
    pub(super) format: Format,
    pub(super) style: &'s Style,
    /// The time that they are of.
    pub(super) seconds: f64,
}

impl Numbers<'_> {
    /// What stands over the columns of one of these metrics: a histogram has two
    /// in a table, and three elsewhere.
    pub(super) fn heads(self, metric: &Metric, metrics: &[Metric]) -> Vec<Head> {
        let is_table = self.format == Format::Table;
        let name = self.format.head(&metric.name).0;
        let heads = match metric.kind {
            MetricKind::Histogram if is_table => {
                let alone = metrics.iter().filter(|it| it.kind == metric.kind).count() == 1;
                let prefix = if alone { "" } else { &format!("{name} ") };
                QUANTILES.map(|(part, _)| format!("{prefix}{part}")).into()
            }
            MetricKind::Histogram => ["count", "sum", "buckets"]
                .map(|part| format!("{name}_{part}"))
                .into(),
            MetricKind::Counter if is_table => vec![format!("{name}{}", self.per_second())],
            MetricKind::Counter | MetricKind::Gauge => vec![name],
        };
        heads.into_iter().map(|head| (head, true)).collect()
    }

    /// What stands under [`Self::heads`].
    pub(super) fn cells(self, metric: &Metric, cells: &[u64]) -> Vec<Value<'static>> {
        match metric.value(cells) {
            Value::Histogram(histogram) if self.format != Format::Table => {
                let buckets = histogram.pairs_text().into();
                vec![histogram.count().into(), histogram.sum.into(), buckets]
            }
            Value::Histogram(_) => {
                let edge = |q| quantile(&cells[metric.cell..], q);
                let text = |q| edge(q).map(|edge| edge_text(metric, edge));
                QUANTILES.map(|(_, q)| text(q).into()).into()
            }
            number if self.format != Format::Table => vec![number],
            number => {
                let is_rate = metric.kind == MetricKind::Counter && !self.style.totals;
                let number = match number {
                    Value::Int(number) => number,
                    _ => cells[metric.cell].into(),
                };
                let text = if is_rate {
                    rate(metric, number as f64 / self.seconds)
                } else {
                    total(metric, number)
                };
                vec![text.into()]
            }
        }
    }

    /// How much a histogram has counted.
    pub(super) fn count_head(self, metric: &Metric, metrics: &[Metric]) -> Head {
        let count = match metrics.len() {
            1 => "COUNT".to_owned(),
            _ => format!("{} COUNT", metric.name.to_uppercase()),
        };
        (format!("{count}{}", self.per_second()), true)
    }

    /// What stands under [`Self::count_head`].
    pub(super) fn count_cell(self, metric: &Metric, cells: &[u64]) -> Value<'static> {
        let count = count(&cells[metric.cell..]);
        if self.style.totals {
            whole_number(count.into()).into()
        } else {
            plain_number(count as f64 / self.seconds).into()
        }
    }

    fn per_second(self) -> &'static str {
        if self.style.totals { "" } else { "/s" }
    }
}

/// The edge of a histogram's bucket; the last has none.
pub(super) fn edge_text(metric: &Metric, edge: u64) -> String {
    match edge {
        u64::MAX => "∞".to_owned(),
        _ => total(metric, edge.into()),
    }
}

/// Times and sizes are scaled; all else is whole, to the last digit.
fn total(metric: &Metric, number: i128) -> String {
    match scaled(metric) {
        Some(unit) => unit.scale(number as f64),
        None => whole_number(number),
    }
}

fn rate(metric: &Metric, number: f64) -> String {
    match scaled(metric) {
        Some(unit) => unit.scale(number),
        None => plain_number(number),
    }
}

fn scaled(metric: &Metric) -> Option<&Unit> {
    let unit = metric.unit.as_ref();
    unit.filter(|unit| matches!(unit, Unit::Time(_) | Unit::Bytes))
}
