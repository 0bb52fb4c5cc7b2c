//! The upper half of the overview: a line of each tally.

use ratatui::layout::Rect;

use super::{Pen, Tone, rows};
use crate::schema::{Unit, whole_number};
use crate::snapshot::Lost;
use crate::tui::feed::Feed;
use crate::tui::overview::Overview;
use crate::tui::state::State;

/// Where columns begin.
const WHAT: u16 = 2;
const NOW: u16 = 29;
const SPARK: u16 = 31;

/// A heading, the lines, and a blank one; at most this share of the screen.
pub(super) fn height(overview: &Overview, area: Rect) -> u16 {
    let lines = overview.lines.len() as u16;
    (lines + 2).min(area.height * 2 / 3)
}

pub(super) fn draw(state: &State, pen: &mut Pen<'_>, overview: &Overview, area: Rect) {
    let spark: u16 = match area.width {
        ..60 => 0,
        60..100 => 12,
        _ => 20,
    };
    let busiest = SPARK + spark + if spark > 0 { 2 } else { 0 };
    let at = |x: u16, y: u16| (area.x + x, y);
    pen.put(at(WHAT, area.y), area.right(), "WHAT", Tone::Plain);
    pen.put_right(at(NOW, area.y), "NOW", Tone::Plain);
    let head = if spark < 12 { "" } else { "LAST MINUTE" };
    pen.put(at(SPARK, area.y), area.right(), head, Tone::Plain);
    pen.put(at(busiest, area.y), area.right(), "BUSIEST", Tone::Plain);
    let first = first(overview, area);
    let lines = overview.lines.iter().enumerate().skip(first);
    for (i, line) in lines.take(room(area)) {
        let y = area.y + 1 + (i - first) as u16;
        let is_idle = line.past.last().copied().flatten() == Some(0.0);
        let tone = if is_idle { Tone::Faint } else { Tone::Plain };
        pen.put(at(WHAT, y), area.right(), &line.what, tone);
        pen.put_right(at(NOW, y), &line.now, tone);
        let past = rows::minute(&line.past, spark.into()).into_iter();
        let past = state.glyphs.sparkline(past);
        if spark > 0 {
            pen.put(at(SPARK, y), area.right(), &past, Tone::Drawn);
        }
        pen.put(at(busiest, y), area.right(), &line.busiest, tone);
        if overview.selected == Some(i) {
            pen.select(Rect {
                y,
                height: 1,
                ..area
            });
            pen.put((area.x, y), area.x + 1, ">", Tone::Strong);
        }
    }
}

fn room(area: Rect) -> usize {
    usize::from(area.height.saturating_sub(2))
}

/// The first line that is shown: the selected one is among them.
fn first(overview: &Overview, area: Rect) -> usize {
    let selected = overview.selected.unwrap_or(0);
    (selected + 1).saturating_sub(room(area))
}

/// The line at this height, if there is one.
pub(super) fn line_at(overview: &Overview, area: Rect, y: u16) -> Option<usize> {
    let line = usize::from(y.checked_sub(area.y + 1)?) + first(overview, area);
    let is_shown = y < area.bottom().saturating_sub(1);
    (is_shown && line < overview.lines.len()).then_some(line)
}

/// What all tallies together counted.
pub(super) fn health(state: &State, overview: &Overview) -> String {
    let behind = state.behind();
    let rates = feeds(state).filter_map(|feed| {
        let moment = feed.moment(behind)?;
        Some(moment.events(&feed.table) as f64 / moment.seconds)
    });
    let rate: f64 = rates.sum();
    let absent = match overview.absent.len() {
        0 => String::new(),
        absent => format!("   absent {absent}"),
    };
    let tables = feeds(state).count();
    let rate = whole_number(rate as i128);
    format!("{tables} tables   {rate} events/s{absent}")
}

/// What tables without a limit have: how many rows, and what all of them have of the
/// column that they are sorted by.
pub(super) fn of_host(state: &State) -> String {
    let tables = state.tabs.iter().filter_map(|tab| {
        let (feed, table) = (&tab.feed, &tab.feed.table);
        let moment = feed.moment(state.behind())?;
        let metric = table.metric(table.sort_by.as_deref()?)?;
        let sum = moment.sum[metric.cell] as f64;
        let text = match &metric.unit {
            Some(Unit::Time(_)) if metric.has_rate() => {
                format!("{:.2}% of a CPU", sum / moment.seconds / 1e7)
            }
            _ => format!("{} of {}", metric.rounded(sum), metric.name),
        };
        let rows = whole_number(moment.rows_read as i128);
        Some(format!("{rows} {}: {text}", table.name))
    });
    tables.collect::<Vec<_>>().join("   ")
}

/// What all of them lost.
pub(super) fn lost(state: &State) -> Lost {
    let none = Lost {
        dropped: Some(0),
        missed: Some(0),
        ..Lost::default()
    };
    feeds(state).map(Feed::lost).fold(none, Lost::and)
}

fn feeds(state: &State) -> impl Iterator<Item = &Feed> {
    state.tabs.iter().skip(1).map(|tab| &tab.feed)
}
