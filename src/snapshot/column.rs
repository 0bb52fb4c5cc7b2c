//! The columns that rows are sorted by, and asked for.

use super::count;
use crate::schema::{Form, HistogramAt, MetricKind, Statistic, Table, Unit, whole_number};

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Column {
    Label(usize),
    Cell(usize, Form),
    Count(usize),
    Statistic(HistogramAt, Statistic),
}

impl Column {
    /// A label, a metric, or of a histogram `NAME.count`, `NAME.sum`, `NAME.mean`,
    /// `NAME.p50` and so on; the bare name of a histogram is its count.
    pub(super) fn of(table: &Table, name: &str) -> Option<Self> {
        if let Some(label) = table.label(name) {
            return Some(Self::Label(label));
        }
        let mut metrics = table.metrics.iter();
        if let Some(metric) = metrics.position(|metric| metric.name == name) {
            return Some(Self::of_metric(table, metric));
        }
        let histograms = || {
            let metrics = table.metrics.iter();
            metrics.filter(|metric| metric.kind == MetricKind::Histogram)
        };
        // `p99` is enough where there is one histogram.
        let (metric, part) = match histograms().find_map(|metric| {
            let part = name.strip_prefix(&metric.name)?.strip_prefix('.')?;
            Some((metric, part))
        }) {
            Some(found) => found,
            None if histograms().count() == 1 => (histograms().next()?, name),
            None => return None,
        };
        match part {
            "count" => Some(Self::Count(metric.cell)),
            "sum" => Some(Self::Cell(metric.cell, Form::Unsigned)),
            _ => Statistic::by_name(part).map(|it| Self::Statistic(metric.histogram_at(), it)),
        }
    }

    /// The first column of numbers.
    pub(super) fn first(table: &Table) -> Option<Self> {
        (!table.metrics.is_empty()).then(|| Self::of_metric(table, 0))
    }

    fn of_metric(table: &Table, metric: usize) -> Self {
        let metric = &table.metrics[metric];
        match metric.kind {
            MetricKind::Histogram => Self::Count(metric.cell),
            _ => Self::Cell(metric.cell, metric.form()),
        }
    }

    /// What its number counts.
    pub(super) fn unit(self, table: &Table) -> Option<&Unit> {
        let cell = match self {
            Self::Cell(cell, _) => cell,
            Self::Statistic(histogram, _) => histogram.cell,
            Self::Label(_) | Self::Count(_) => return None,
        };
        let mut metrics = table.metrics.iter();
        let metric = metrics.find(|metric| metric.cell == cell)?;
        metric.unit.as_ref()
    }

    /// The number of a row for people, in its unit.
    pub(super) fn shown(self, table: &Table, cells: &[u64]) -> Option<String> {
        let number = self.thousandths(cells)?;
        Some(match self.unit(table) {
            Some(unit) => unit.scale(number as f64 / 1e3),
            None => whole_number(number / 1000),
        })
    }

    /// The number of a row, in thousandths, to which statistics are shown. `None` of a
    /// label, and of a statistic or a minimum without observations.
    pub(super) fn thousandths(self, cells: &[u64]) -> Option<i128> {
        let number = match self {
            Self::Label(_) => return None,
            Self::Cell(cell, form) => form.number(cells[cell])?,
            Self::Count(cell) => count(&cells[cell..]).into(),
            Self::Statistic(histogram, statistic) => {
                let number = statistic.of(&histogram.read(cells))?;
                return Some((number * 1e3).round() as i128);
            }
        };
        Some(number * 1000)
    }
}
