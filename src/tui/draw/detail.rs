//! One row in full.

use ratatui::layout::Rect;

use super::{Pen, Tone};
use crate::schema::{Metric, MetricKind, Statistic, whole_number};
use crate::tui::state::State;
use crate::tui::tab::{Line, Tab};

/// One row in full: exact numbers, and what the last minute had.
pub(super) fn draw(state: &State, pen: &mut Pen<'_>, area: Rect, row: &Line) {
    let tab = state.tab();
    let place = tab.place().unwrap_or(0) + 1;
    let rows = whole_number(tab.shown.matching as i128);
    let name = row.names.join(" ");
    let text = format!("{name}   row {place} of {rows} by {}", tab.sort());
    pen.put((area.x, area.y), area.right(), &text, Tone::Strong);
    let head = format!(
        "  {:<11} {:>11} {:>12} {:>12} {:>18}  UNIT",
        "COLUMN", "NOW", "MINUTE MEAN", "MINUTE MAX", "TOTAL, EXACT"
    );
    pen.put((area.x, area.y + 1), area.right(), &head, Tone::Plain);
    let mut y = area.y + 2;
    for metric in &tab.feed.table.metrics {
        for line in lines(tab, row, metric, state.behind()) {
            pen.put((area.x, y), area.right(), &line, Tone::Plain);
            y += 1;
        }
    }
    let first = tab.shown.past.iter().position(Option::is_some);
    if let Some(moment) = first.and_then(|i| tab.feed.until(state.behind()).nth(i)) {
        pen.put(
            (area.x, y),
            area.right(),
            &format!("in the readings since {}", (state.host.clock)(moment.time)),
            Tone::Faint,
        );
    }
}

fn lines(tab: &Tab, row: &Line, metric: &Metric, behind: usize) -> Vec<String> {
    let seconds = tab.feed.until(behind).map(|moment| moment.seconds);
    let past: Vec<(f64, Option<&Vec<u64>>)> = seconds
        .zip(tab.shown.past.iter().map(Option::as_ref))
        .collect();
    let name = &metric.name;
    let unit = metric.unit.as_ref().map_or("", |unit| unit.name());
    let total = tab.total_of(&row.key);
    if metric.kind == MetricKind::Histogram {
        let shown = |statistic: Statistic, cells: &[u64]| metric.statistic(statistic, cells);
        let now = past.last().and_then(|(_, cells)| *cells);
        let quantiles =
            [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)].map(|(name, q)| {
                let text = now.map_or("-".to_owned(), |cells| shown(Statistic::Quantile(q), cells));
                format!("{name} {text}")
            });
        let mean = now.map_or("-".to_owned(), |cells| shown(Statistic::Mean, cells));
        let count = total
            .as_ref()
            .map_or(0, |cells| crate::snapshot::count(&cells[metric.cell..]));
        return vec![
            format!(
                "  {name:<11} {:>11} {:>12} {:>12} {:>18}  events",
                format!("mean {mean}"),
                "",
                "",
                whole_number(count.into())
            ),
            format!("  {:<11} {}", "", quantiles.join("   ")),
        ];
    }
    let number = |cells: Option<&[u64]>| cells.and_then(|cells| metric.integer(cells));
    let rate = |cells: Option<&Vec<u64>>, seconds: f64| {
        number(cells.map(Vec::as_slice)).unwrap_or_default() as f64
            / if metric.has_rate() { seconds } else { 1.0 }
    };
    let rates: Vec<f64> = past
        .iter()
        .map(|(seconds, cells)| rate(*cells, *seconds))
        .collect();
    let mean = rates.iter().sum::<f64>() / rates.len().max(1) as f64;
    let most = rates.iter().copied().fold(0.0, f64::max);
    let per = if metric.has_rate() { "/s" } else { "" };
    let shown = |number: f64| format!("{}{per}", metric.rounded(number));
    let total = number(total).unwrap_or_default();
    vec![format!(
        "  {name:<11} {:>11} {:>12} {:>12} {:>18}  {unit}",
        shown(rates.last().copied().unwrap_or(0.0)),
        shown(mean),
        shown(most),
        whole_number(total)
    )]
}
