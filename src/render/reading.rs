//! Readings as tables, for people with histograms as bars, and as CSV.

use std::io::{self, Write};
use std::iter::repeat_n;

use super::fit::Leaves;
use super::metric::{Numbers, only_histograms, total};
use super::writer::RowWriter;
use super::{Format, Style, bars, footer, seconds, sentence, span, title};
use crate::schema::{Metric, MetricKind, Value, whole_number};
use crate::snapshot::{self, Row, Snapshot, TableSnapshot};
use crate::text::plural;

pub(super) fn table(out: &mut dyn Write, snapshot: &Snapshot<'_>, style: &Style) -> io::Result<()> {
    let style = &style.of(snapshot);
    if !style.no_header {
        let text = format!("{}: {}", snapshot.tally, snapshot.summary);
        let cpus = plural(style.cpus as u64, "CPU");
        let span = format!("{}, {cpus}", span(snapshot.seconds));
        title(out, &text, &span, style)?;
    }
    for (i, table) in snapshot.tables.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        if snapshot.tables.len() > 1 && !style.no_header {
            let text = format!("{}: {}", table.table.name, table.table.help);
            sentence(out, &text, style)?;
        }
        render_table(out, snapshot, table, style)?;
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
    // A single row leaves space for its whole histogram.
    let as_bars = has_histogram
        && (style.histogram
            || (table.rows_read == 1 && table.other.is_none())
            || (table.table.labels.is_empty() && !table.rows.is_empty()));
    let only_bars = as_bars && only_histograms(metrics);
    let footer = footer(snapshot, table, Format::Table);
    if !only_bars {
        let footer = (!as_bars).then_some(&*footer);
        write_rows(out, snapshot, table, (Format::Table, *style), footer)?;
    }
    if as_bars {
        write_bars(out, table, only_bars, style)?;
        sentence(out, &footer, style)?;
    }
    Ok(())
}

/// A block a histogram, apart from what is before it. Where bars are `alone`, the
/// other columns are said there.
fn write_bars(
    out: &mut dyn Write,
    table: &TableSnapshot<'_>,
    alone: bool,
    style: &Style,
) -> io::Result<()> {
    let metrics = &table.table.metrics;
    let mut is_first = alone;
    for row in table.rows.iter().chain(table.other()) {
        let names = row.names.iter().map(Value::to_string);
        let mut names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
        if row.names.is_empty() && table.other.is_some() {
            names.push(OTHER.to_owned());
        }
        let others = metrics.iter().filter(|_| alone);
        let beside: String = others.clone().map(|it| beside(it, row.cells)).collect();
        let mut others = others.filter(|it| is_under_way(it));
        let is_under_way = others.any(|it| row.cells[it.cell] > 0);
        for metric in metrics.iter().filter(|it| it.kind == MetricKind::Histogram) {
            if snapshot::count(&row.cells[metric.cell..]) > 0 || is_under_way {
                if !std::mem::take(&mut is_first) {
                    writeln!(out)?;
                }
                bars::render(out, &names.join(" "), metric, row.cells, &beside, style)?;
            }
        }
    }
    Ok(())
}

/// A header for each table, unless they were written before; behind its rows a
/// comment with what they cannot say.
pub(super) fn csv(out: &mut dyn Write, snapshot: &Snapshot<'_>, style: Style) -> io::Result<()> {
    snapshot.tables.iter().try_for_each(|table| {
        let footer = footer(snapshot, table, Format::Csv);
        let footer = format!("{}: {footer}", table.table.name);
        write_rows(out, snapshot, table, (Format::Csv, style), Some(&footer))
    })
}

/// What stands in the place of the keys that the events of a row `other` lost.
pub(super) const OTHER: &str = "(other)";

/// The same as the cells of labels; programs get none.
pub(super) fn other_label(nth: usize, is_csv: bool) -> Value<'static> {
    match nth {
        _ if is_csv => Value::Null,
        0 => OTHER.into(),
        _ => "-".into(),
    }
}

/// The rows of a table, as a table or as CSV. CSV says in each row which table
/// and which reading it is of, and whether it is the row `other`.
fn write_rows(
    out: &mut dyn Write,
    snapshot: &Snapshot<'_>,
    shown: &TableSnapshot<'_>,
    (format, style): (Format, Style),
    footer: Option<&str>,
) -> io::Result<()> {
    let TableSnapshot { table, rows, .. } = shown;
    let is_csv = format == Format::Csv;
    let numbers = Numbers {
        format,
        style: &style,
        seconds: snapshot.seconds,
        has_counts: only_histograms(&table.metrics),
    };
    // A table says how many events are under way where there are some.
    let is_shown = |metric: &&Metric| {
        let mut all = rows.iter().chain(shown.other());
        is_csv || !is_under_way(metric) || all.any(|row| row.cells[metric.cell] > 0)
    };
    let metrics: Vec<&Metric> = table.metrics.iter().filter(is_shown).collect();
    let mut heads = Vec::new();
    if is_csv {
        heads.extend(["table", "timestamp", "seconds", "kind"].map(|name| format.head(name)));
    }
    heads.extend(table.labels.iter().map(|label| format.head(&label.name)));
    for metric in &metrics {
        heads.extend(numbers.heads(metric, &table.metrics));
    }
    // Text and names in values say as much as keys, where no author says which matter.
    let details = if table.is_found {
        &table.details[..]
    } else {
        &[]
    };
    heads.extend(details.iter().map(|detail| format.head(&detail.name)));
    if let Some(sort) = snapshot.sort.as_ref().or(table.sort_by.as_ref()) {
        let sort = sort.to_lowercase().replace('.', "_");
        let is_sorted = |name: &str| sort == name || sort.ends_with(&format!("_{name}"));
        let sorted = heads.iter_mut().filter(|head| is_sorted(&head.name()));
        sorted.for_each(|head| head.leaves = Leaves::Last);
    }
    let time = humantime::format_rfc3339_millis(snapshot.time).to_string();
    let leading = [(&table.name).into(), time.into(), seconds(snapshot.seconds)];
    let mut writer = RowWriter::new(format, style, heads).leading(&leading);
    let kinds = repeat_n("row", rows.len()).chain(["other"]);
    for (row, kind) in rows.iter().chain(shown.other()).zip(kinds) {
        let Row { names, cells, .. } = row;
        if is_csv {
            writer.cell(&kind.into());
        }
        for (i, label) in table.labels.iter().enumerate() {
            match names.get(i) {
                Some(name) if label.is_stack() && !is_csv => writer.cell(&last_frames(name)),
                Some(name) => writer.cell(name),
                None => writer.cell(&other_label(i, is_csv)),
            }
        }
        for metric in &metrics {
            numbers.write(&mut writer, metric, cells);
        }
        for i in 0..details.len() {
            writer.cell(row.details.get(i).unwrap_or(&Value::Null));
        }
        writer.end_row(out)?;
    }
    writer.end(out, footer)
}

/// In a table's column: the frames of a stack nearest to what was running.
fn last_frames(stack: &Value<'_>) -> Value<'static> {
    const FRAMES: usize = 3;
    let text = stack.to_string();
    match text.rmatch_indices(';').nth(FRAMES - 1) {
        Some((cut, _)) => format!("..{}", &text[cut..]).into(),
        None => text.into(),
    }
}

fn is_under_way(metric: &Metric) -> bool {
    metric.kind == MetricKind::UnderWay
}

/// What a row has in a column beside its histograms.
fn beside(metric: &Metric, cells: &[u64]) -> String {
    let number = metric.integer(cells).filter(|_| cells[metric.cell] != 0);
    match (metric.kind, number) {
        (MetricKind::UnderWay, Some(many)) => format!("; {} under way", whole_number(many)),
        (kind, Some(extreme)) if kind.is_extreme() => {
            format!("; {} {}", metric.name, total(metric, extreme))
        }
        _ => String::new(),
    }
}
