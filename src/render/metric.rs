//! A metric as columns: rates or totals for people, exact numbers for programs.

use super::fit::Leaves;
use super::writer::{Head, RowWriter};
use super::{Format, Style};
use crate::schema::{
    Histogram, Metric, MetricKind, Scale, Statistic, Unit, Value, plain_number, whole_number,
};
use crate::snapshot::{Snapshot, count};

/// What stands for a histogram in a table.
static SHOWN: [(&str, Statistic, Leaves); 3] = [
    ("MEAN", Statistic::Mean, Leaves::Early),
    ("P50", Statistic::Quantile(0.5), Leaves::Early),
    ("P99", Statistic::Quantile(0.99), Leaves::Last),
];

/// A histogram without a sum has no mean.
fn shown_of(scale: Scale) -> impl Iterator<Item = &'static (&'static str, Statistic, Leaves)> {
    let has_sum = scale != Scale::Slots;
    SHOWN
        .iter()
        .filter(move |(_, it, _)| has_sum || *it != Statistic::Mean)
}

/// How numbers are written: those of a table are per second, or totals.
#[derive(Clone, Copy)]
pub(super) struct Numbers<'s> {
    pub(super) format: Format,
    pub(super) style: &'s Style,
    /// The time that they are of.
    pub(super) seconds: f64,
    /// Whether tables have the count of each histogram as well.
    pub(super) has_counts: bool,
}

impl Numbers<'_> {
    /// What stands over the columns of one of these metrics: a histogram has three
    /// or four in a table, and seven elsewhere.
    pub(super) fn heads(self, metric: &Metric, metrics: &[Metric]) -> Vec<Head> {
        let is_table = self.format == Format::Table;
        let name = self.format.head(&metric.name).text;
        match metric.kind {
            MetricKind::Histogram if is_table => {
                let alone = metrics.iter().filter(|it| it.kind == metric.kind).count() == 1;
                let prefix = if alone { "" } else { &format!("{name}_") };
                let head = |part: &str| Head::number(format!("{prefix}{part}"));
                let shown = shown_of(metric.scale());
                let shown = shown.map(|(part, _, leaves)| head(part).leaving(*leaves));
                let count = format!("COUNT{}", self.per_second());
                let count = self.has_counts.then(|| head(&count));
                count.into_iter().chain(shown).collect()
            }
            MetricKind::Histogram => {
                let statistics = Statistic::ALL.iter().map(|(part, _)| *part);
                let parts = ["count", "sum"].into_iter().chain(statistics);
                let parts = parts.chain(["buckets"]);
                let head = |part: &str| Head::number(format!("{name}_{part}"));
                parts.map(head).collect()
            }
            MetricKind::Counter if is_table => {
                vec![Head::number(format!("{name}{}", self.per_second()))]
            }
            _ => vec![Head::number(name)],
        }
    }

    /// Writes what stands under [`Self::heads`].
    pub(super) fn write(self, writer: &mut RowWriter, metric: &Metric, cells: &[u64]) {
        let is_table = self.format == Format::Table;
        if metric.kind != MetricKind::Histogram {
            let number = metric.value(cells);
            writer.cell(&if is_table {
                self.shown(metric, &number)
            } else {
                number
            });
        } else {
            self.write_histogram(writer, metric, &metric.histogram(cells));
        }
    }

    fn write_histogram(self, writer: &mut RowWriter, metric: &Metric, histogram: &Histogram) {
        if self.format == Format::Table {
            if self.has_counts {
                writer.cell(&self.count(histogram.count()).into());
            }
            for (_, statistic, _) in shown_of(histogram.scale) {
                let number = statistic.of(histogram);
                writer.cell(&number.map(|number| rounded(metric, number)).into());
            }
            return;
        }
        writer.cell(&histogram.count().into());
        writer.cell(&histogram.sum().into());
        for (_, statistic) in Statistic::ALL {
            writer.cell(&statistic.value(histogram));
        }
        writer.cell(&histogram.pairs_text().into());
    }

    /// A number for people.
    fn shown(self, metric: &Metric, number: &Value<'_>) -> Value<'static> {
        let Some(number) = number.integer() else {
            return Value::Null;
        };
        // Nothing takes no time at all: there was none to measure.
        if number == 0 && metric.kind == MetricKind::Maximum && scaled(metric).is_some() {
            return Value::Null;
        }
        let text = if metric.kind == MetricKind::Counter && !self.style.totals {
            rounded(metric, number as f64 / self.seconds)
        } else {
            total(metric, number)
        };
        text.into()
    }

    fn count(self, count: u64) -> String {
        match self.style.totals {
            true => whole_number(count.into()),
            false => plain_number(count as f64 / self.seconds),
        }
    }

    fn per_second(self) -> &'static str {
        if self.style.totals { "" } else { "/s" }
    }
}

/// Whether histograms are all that is counted: then tables have their counts too.
pub(super) fn only_histograms(metrics: &[Metric]) -> bool {
    use MetricKind::{Histogram, UnderWay};
    let mut kinds = metrics.iter().map(|metric| metric.kind);
    kinds.all(|kind| matches!(kind, Histogram | UnderWay) || kind.is_extreme())
}

/// Whether so little was counted that its number says more than its rate.
pub(super) fn is_rare(snapshot: &Snapshot<'_>) -> bool {
    const FEW: f64 = 10.0;
    let is_rare = |metric: &Metric, cells: &[u64]| match metric.kind {
        MetricKind::Counter if scaled(metric).is_none() => cells[metric.cell] as f64,
        MetricKind::Histogram => count(&cells[metric.cell..]) as f64,
        _ => 0.0,
    } < FEW * snapshot.seconds;
    snapshot.tables.iter().all(|table| {
        let mut rows = table.rows.iter().chain(table.other());
        let metrics = &table.table.metrics;
        rows.all(|row| metrics.iter().all(|metric| is_rare(metric, row.cells)))
    })
}

/// The edge of a histogram's bucket; the last has none.
pub(super) fn edge_text(metric: &Metric, edge: u64) -> String {
    match edge {
        u64::MAX => "∞".to_owned(),
        _ => total(metric, edge.into()),
    }
}

/// Times and sizes are scaled; all else is whole, to the last digit.
pub(super) fn total(metric: &Metric, number: i128) -> String {
    match scaled(metric) {
        Some(unit) => unit.scale(number as f64),
        None => whole_number(number),
    }
}

/// For people, to three digits: a rate, a mean.
pub(super) fn rounded(metric: &Metric, number: f64) -> String {
    match scaled(metric) {
        Some(unit) => unit.scale(number),
        None => plain_number(number),
    }
}

fn scaled(metric: &Metric) -> Option<&Unit> {
    let unit = metric.unit.as_ref();
    unit.filter(|unit| matches!(unit, Unit::Time(_) | Unit::Bytes))
}

/// Numbers of this column for views that draw them elsewhere.
impl Metric {
    /// To three digits.
    pub(crate) fn rounded(&self, number: f64) -> String {
        rounded(self, number)
    }

    /// The edge of a bucket.
    pub(crate) fn edge(&self, edge: u64) -> String {
        edge_text(self, edge)
    }

    /// Of a histogram in a row's cells; `-` where it is empty.
    pub(crate) fn statistic(&self, statistic: Statistic, cells: &[u64]) -> String {
        let number = statistic.of(&self.histogram(cells));
        number.map_or_else(|| "-".to_owned(), |number| rounded(self, number))
    }
}
