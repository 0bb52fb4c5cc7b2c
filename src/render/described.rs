//! What a column is, for programs.

use crate::schema::{Metric, MetricKind, Unit, Value};

/// A column of numbers as an object.
pub(crate) fn metric_fields(metric: &Metric) -> Vec<(&str, Value<'_>)> {
    vec![
        ("name", (&metric.name).into()),
        ("kind", kind_name(metric.kind).into()),
        ("unit", metric.unit.as_ref().map(Unit::name).into()),
        ("help", (&metric.help).into()),
    ]
}

/// How lists call it.
pub(crate) fn kind_name(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge | MetricKind::UnderWay => "gauge",
        MetricKind::Maximum => "maximum",
        MetricKind::Minimum => "minimum",
        MetricKind::Histogram => "histogram",
    }
}
