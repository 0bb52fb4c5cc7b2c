//! The line of time of a recording: how much was counted, what was lost, and where
//! one is.

use std::time::{Duration, SystemTime};

use ratatui::layout::Rect;

use super::{Pen, Tone};
use crate::tui::replay::Replay;
use crate::tui::state::State;

/// How wide a time is, with a space.
const CLOCK: u16 = 9;

/// Columns of equal time.
struct Columns {
    start: SystemTime,
    /// Of one, in seconds.
    span: f64,
    count: usize,
}

impl Columns {
    fn new(replay: &Replay, width: u16) -> Self {
        let (start, end) = (
            replay.frames[0].time,
            replay.frames[replay.frames.len() - 1].time,
        );
        let count = usize::from(width.saturating_sub(2 * CLOCK)).max(1);
        let all = end.duration_since(start).unwrap_or_default().as_secs_f64();
        Self {
            start,
            span: all / (count - 1).max(1) as f64,
            count,
        }
    }

    fn of(&self, time: SystemTime) -> usize {
        let since = time.duration_since(self.start).unwrap_or_default();
        let column = (since.as_secs_f64() / self.span.max(1e-9)).round() as usize;
        column.min(self.count - 1)
    }
}

pub(super) fn draw(state: &State, pen: &mut Pen<'_>, area: Rect) {
    let Some(replay) = &state.replay else {
        return;
    };
    let columns = Columns::new(replay, area.width);
    let mut rates: Vec<Option<f64>> = vec![None; columns.count];
    let mut has_lost = vec![false; columns.count];
    for frame in &replay.frames {
        let column = columns.of(frame.time);
        let rate = rates[column].unwrap_or(0.0);
        rates[column] = Some(frame.rate.max(rate));
        has_lost[column] |= frame.has_lost;
    }
    let is_between = |column: usize| columns.span < state.every.as_secs_f64() && column > 0;
    for column in 0..columns.count {
        // Where a column is shorter than an interval, some have no reading of their own.
        let back = (state.every.as_secs_f64() / columns.span.max(1e-9)).ceil() as usize;
        if rates[column].is_none() && is_between(column) {
            let before = rates[column.saturating_sub(back)..column].iter().rev();
            rates[column] = before.copied().find_map(|it| it);
        }
    }
    let clock = |time| (state.host.clock)(time);
    let end = replay.frames[replay.frames.len() - 1].time;
    pen.put(
        (area.x, area.y),
        area.right(),
        &clock(columns.start),
        Tone::Plain,
    );
    pen.put_right((area.right(), area.y), &clock(end), Tone::Plain);
    let x = area.x + CLOCK;
    let line = state.glyphs.sparkline(rates.iter().copied());
    pen.put((x, area.y), area.right(), &line, Tone::Drawn);
    let here = columns.of(replay.time());
    let now = clock(replay.time());
    for column in 0..columns.count {
        let (mark, tone) = match () {
            () if column == here => ("^", Tone::Strong),
            () if has_lost[column] => ("!", Tone::Lost),
            () if rates[column].is_none() => ("?", Tone::Plain),
            () => continue,
        };
        pen.put((x + column as u16, area.y + 1), area.right(), mark, tone);
    }
    let room = columns.count - here;
    let label = match room > now.len() + 1 {
        true => x + here as u16 + 2,
        false => (x + here as u16).saturating_sub(now.len() as u16 + 1),
    };
    pen.put((label, area.y + 1), area.right(), &now, Tone::Plain);
}

/// The frame that is shown at this column of the screen.
pub(super) fn frame_at(state: &State, width: u16, x: u16) -> Option<usize> {
    let replay = state.replay.as_ref()?;
    let columns = Columns::new(replay, width);
    let column = usize::from(x.checked_sub(CLOCK)?).min(columns.count - 1);
    let since = Duration::from_secs_f64(column as f64 * columns.span);
    let time = columns.start.checked_add(since)?;
    let place = replay.frames.partition_point(|frame| frame.time < time);
    Some(place.min(replay.frames.len() - 1))
}
