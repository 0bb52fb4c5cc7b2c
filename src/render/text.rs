//! Tables for people: scaled numbers, rates, quantiles.

use std::io::{self, Write};

use super::{Style, bars, columns, counted, escape, footer, heading, span};
use crate::schema::{Label, Metric, MetricKind, Unit, Value, plain_number, whole_number};
use crate::snapshot::{self, Row, Snapshot, TableSnapshot, quantile};

/// The quantiles that stand for a histogram in a column.
const QUANTILES: [(&str, f64); 2] = [("p50", 0.5), ("p99", 0.99)];

pub(super) fn render(
    out: &mut dyn Write,
    snapshot: &Snapshot<'_>,
    style: &Style,
) -> io::Result<()> {
    let style = &style.over(snapshot.seconds);
    if !style.no_header {
        let title = format!("{}: {}", snapshot.tally, snapshot.summary);
        let cpus = counted(style.cpus as u64, "CPU");
        let span = format!("{}, {cpus}", span(snapshot.seconds));
        heading(out, &format!("{title:<54}  {span}"), style)?;
    }
    for (i, table) in snapshot.tables.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        if snapshot.tables.len() > 1 && !style.no_header {
            writeln!(out, "{}: {}", table.table.name, escape(&table.table.help))?;
        }
        render_table(out, snapshot, table, style)?;
        writeln!(out, "{}", footer(snapshot, table))?;
    }
    Ok(())
}

fn render_table(
    out: &mut dyn Write,
    snapshot: &Snapshot<'_>,
    table: &TableSnapshot<'_>,
    style: &Style,
) -> io::Result<()> {
    let metrics = &table.table.metrics;
    let has_histogram = metrics
        .iter()
        .any(|metric| metric.kind == MetricKind::Histogram);
    // A single row has the room to show all of its histogram.
    let as_bars = has_histogram
        && (style.histogram
            || table.rows_read == 1
            || (table.table.labels.is_empty() && !table.rows.is_empty()));
    let only_bars = as_bars
        && metrics
            .iter()
            .all(|metric| metric.kind == MetricKind::Histogram);
    if !only_bars && !table.rows.is_empty() {
        render_columns(out, snapshot, table, style)?;
    }
    if !as_bars {
        return Ok(());
    }
    // A block a histogram, apart from what is before it.
    let mut is_first = only_bars;
    for row in &table.rows {
        let names = row.names.iter().map(Value::to_string);
        let names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
        for metric in metrics {
            let cells = &row.cells[metric.cell..];
            if metric.kind == MetricKind::Histogram && snapshot::count(cells) > 0 {
                if !std::mem::take(&mut is_first) {
                    writeln!(out)?;
                }
                bars::render(out, &names.join(" "), metric, cells, style)?;
            }
        }
    }
    Ok(())
}

fn render_columns(
    out: &mut dyn Write,
    snapshot: &Snapshot<'_>,
    table: &TableSnapshot<'_>,
    style: &Style,
) -> io::Result<()> {
    let metrics = &table.table.metrics;
    let mut head: Vec<String> = table
        .table
        .labels
        .iter()
        .map(|label| label.name.to_uppercase())
        .collect();
    let mut right = vec![false; head.len()];
    let shows_counts = shows_counts(metrics);
    for metric in metrics {
        if shows_counts {
            head.push(count_head(metric, metrics, style));
        }
        head.extend(metric_heads(metric, metrics, style));
    }
    right.resize(head.len(), true);
    let rows: Vec<Vec<String>> = table
        .rows
        .iter()
        .map(|Row { names, cells, .. }| {
            let labels = table.table.labels.iter().zip(names);
            let names = labels.map(|(label, name)| brief(label, name));
            let numbers = metrics.iter().flat_map(|metric| {
                let count = shows_counts.then(|| count_cell(metric, cells, snapshot, style));
                let rest = metric_cells(metric, cells, snapshot.seconds, style);
                count.into_iter().chain(rest)
            });
            names.chain(numbers).collect()
        })
        .collect();
    columns(out, &head, &right, &rows, style)
}

/// In a column; of a stack, the frames nearest to what was running.
fn brief(label: &Label, name: &Value<'_>) -> String {
    const FRAMES: usize = 3;
    let text = name.to_string();
    let cut = text.rmatch_indices(';').nth(FRAMES - 1);
    match cut.filter(|_| label.is_stack()) {
        Some((cut, _)) => format!("..{}", &text[cut..]),
        None => text,
    }
}

/// Where histograms are all that is counted, they also say how much that is.
fn shows_counts(metrics: &[Metric]) -> bool {
    metrics
        .iter()
        .all(|metric| metric.kind == MetricKind::Histogram)
}

fn count_head(metric: &Metric, metrics: &[Metric], style: &Style) -> String {
    let per_second = if style.totals { "" } else { "/s" };
    match metrics.len() {
        1 => format!("COUNT{per_second}"),
        _ => format!("{} COUNT{per_second}", metric.name.to_uppercase()),
    }
}

fn count_cell(metric: &Metric, cells: &[u64], snapshot: &Snapshot<'_>, style: &Style) -> String {
    let count = snapshot::count(&cells[metric.cell..]);
    if style.totals {
        whole_number(count.into())
    } else {
        plain_number(count as f64 / snapshot.seconds)
    }
}

pub(super) fn metric_heads(metric: &Metric, metrics: &[Metric], style: &Style) -> Vec<String> {
    let name = metric.name.to_uppercase();
    match metric.kind {
        MetricKind::Counter if !style.totals => vec![format!("{name}/s")],
        MetricKind::Counter | MetricKind::Gauge => vec![name],
        MetricKind::Histogram => {
            let histograms = metrics
                .iter()
                .filter(|metric| metric.kind == MetricKind::Histogram);
            let alone = histograms.count() == 1;
            let head = |(quantile, _): (&str, f64)| {
                if alone {
                    quantile.to_owned()
                } else {
                    format!("{name} {quantile}")
                }
            };
            QUANTILES.map(head).into()
        }
    }
}

pub(super) fn metric_cells(
    metric: &Metric,
    cells: &[u64],
    seconds: f64,
    style: &Style,
) -> Vec<String> {
    let cells = &cells[metric.cell..];
    let number = if metric.is_signed() {
        i128::from(cells[0] as i64)
    } else {
        cells[0].into()
    };
    match metric.kind {
        MetricKind::Counter if !style.totals => {
            vec![rate(metric, number as f64 / seconds)]
        }
        MetricKind::Counter | MetricKind::Gauge => vec![total(metric, number)],
        MetricKind::Histogram => QUANTILES
            .map(|(_, q)| {
                quantile(cells, q).map_or_else(|| "-".to_owned(), |edge| edge_text(metric, edge))
            })
            .into(),
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
