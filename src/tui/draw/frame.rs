//! What is around the rows: title, tabs, health, messages and keys.

use std::time::{Duration, SystemTime};

use ratatui::layout::Rect;
use unicode_width::UnicodeWidthStr;

use super::{Pen, Tone, overview};
use crate::schema::{Unit, plain_number, whole_number};
use crate::snapshot::Lost;
use crate::tui::feed::Feed;
use crate::tui::state::{Overlay, State};

pub(super) fn title(state: &State, pen: &mut Pen<'_>, area: Rect) {
    let host = &state.host;
    let own = &state.own;
    let memory = Unit::Bytes.scale(own.memory as f64);
    let right = format!(
        "every {}   {}   own {:.1}%, {memory}",
        span(state.every),
        clock(state),
        own.cpu
    );
    let release = host.kernel.split('-').next().unwrap_or_default();
    let (what, right) = match &state.replay {
        None => ("ktally top".to_owned(), right),
        Some(replay) => (
            format!("ktally top --replay {}", replay.name),
            format!(
                "every {}   {}",
                span(state.every),
                (replay.stamp)(replay.time())
            ),
        ),
    };
    let release = match &state.replay {
        Some(_) => "",
        None => release,
    };
    let left = format!("{what}   {}   {} CPUs   {release}", host.name, host.cpus);
    // A narrow one has what is most wanted.
    if area.width < 72 {
        let feed = &state.tab().feed;
        let events = events(state).map_or_else(String::new, |it| format!(" {it}/s"));
        let left = format!("{}{events}", feed.name);
        let x = pen.put_right(
            (area.right(), area.y),
            &format!("{} {}", span(state.every), clock(state)),
            Tone::Plain,
        );
        pen.put((area.x, area.y), x.saturating_sub(1), &left, Tone::Strong);
        return;
    }
    let x = pen.put_right((area.right(), area.y), &right, Tone::Plain);
    pen.put((area.x, area.y), x.saturating_sub(2), &left, Tone::Strong);
}

fn span(every: Duration) -> String {
    humantime::format_duration(every)
        .to_string()
        .replace(' ', "")
}

/// The time of what is shown.
fn clock(state: &State) -> String {
    let time = match state.paused {
        Some(behind) => state.tab().feed.moment(behind).map(|moment| moment.time),
        None => Some(state.own.now),
    };
    time.map(state.host.clock).unwrap_or_default()
}

pub(super) fn tabs(state: &State, pen: &mut Pen<'_>, area: Rect) {
    let y = area.y + 1;
    let (word, tone) = state_word(state);
    let end = pen.put_right((area.right(), y), &word, tone);
    for (i, (x, text)) in tab_places(state).into_iter().enumerate() {
        let tone = match i == state.current {
            true => Tone::Strong,
            false if !state.tabs[i].feed.lost().is_none() => Tone::Lost,
            false => Tone::Plain,
        };
        if let Ok(x) = u16::try_from(x) {
            pen.put((area.x + x, y), end.saturating_sub(1), &text, tone);
        }
    }
}

/// What a state word may need beside the tabs.
const STATE_WIDTH: i32 = 14;

/// Where each tab begins, and its text; the current one is always among them.
fn tab_places(state: &State) -> Vec<(i32, String)> {
    let mut x = 0;
    let places = state.tabs.iter().enumerate().map(|(i, tab)| {
        let name = &tab.feed.name;
        let text = match i == state.current {
            true => format!("[{name}]"),
            false => format!(" {name} "),
        };
        let start = x;
        x += text.width() as i32 + 1;
        (start, text)
    });
    let mut places: Vec<_> = places.collect();
    let (start, text) = &places[state.current];
    let room = i32::from(state.size.0) - STATE_WIDTH;
    let over = (start + text.width() as i32 - room).max(0).min(*start);
    places.iter_mut().for_each(|(x, _)| *x -= over);
    places
}

pub(super) fn tab_at(state: &State, x: u16) -> Option<usize> {
    let places = tab_places(state);
    places
        .iter()
        .position(|(start, text)| (*start..*start + text.width() as i32).contains(&x.into()))
}

/// One word for the state.
fn state_word(state: &State) -> (String, Tone) {
    let feed = &state.tab().feed;
    if let Some(replay) = &state.replay {
        return (replay.word(), Tone::NotNow);
    }
    if let Some(behind) = state.paused {
        let ago = feed.len().saturating_sub(1).min(behind);
        let word = match ago {
            0 => "PAUSED".to_owned(),
            ago => format!("PAUSED {ago} back"),
        };
        return (word, Tone::NotNow);
    }
    if let Some((since, _)) = &feed.ended {
        return (
            format!("DETACHED {}", (state.host.clock)(*since)),
            Tone::Lost,
        );
    }
    let age = feed
        .moment(0)
        .and_then(|it| state.own.now.duration_since(it.time.max(state.opened)).ok());
    match age {
        Some(age) if age > state.every * 2 + Duration::from_secs(1) => {
            (format!("STALE {} s", age.as_secs()), Tone::Lost)
        }
        _ if !lost(state).is_none() => ("LOST EVENTS".to_owned(), Tone::Lost),
        _ if state.tab().view.is_frozen => ("order frozen".to_owned(), Tone::NotNow),
        _ => match state
            .held_until
            .and_then(|until| until.duration_since(state.own.now).ok())
        {
            Some(left) if !left.is_zero() => (
                format!("order held {:.0} s", left.as_secs_f64().ceil()),
                Tone::NotNow,
            ),
            _ => ("live".to_owned(), Tone::Plain),
        },
    }
}

/// Events a second, by the first column that counts events, if there is any.
fn events(state: &State) -> Option<String> {
    let feed = &state.tab().feed;
    feed.table.metrics.iter().find(|metric| metric.has_rate())?;
    let behind = state.behind();
    let moment = feed.moment(behind);
    let rate = moment.map_or(0.0, |it| it.events(&feed.table) as f64 / it.seconds);
    Some(plain_number(rate))
}

/// What is shown lacks this: an overview, what all tabs lack.
fn lost(state: &State) -> Lost {
    match state.overview() {
        Some(_) => overview::lost(state),
        None => state.tab().feed.lost(),
    }
}

pub(super) fn health(state: &State, pen: &mut Pen<'_>, area: Rect) {
    let feed = &state.tab().feed;
    let y = area.y + 2;
    let lost = lost(state);
    let tone = if lost.is_none() {
        Tone::Plain
    } else {
        Tone::Lost
    };
    let rows = feed.moment(state.behind()).map_or(0, |it| it.rows_read);
    let rows = whole_number(rows as i128);
    let rows = match feed.max_rows {
        0 => format!("{rows} rows"),
        room => format!("{rows} of {} rows", whole_number(room.into())),
    };
    let losses = losses(lost);
    let text = if let Some(overview) = state.overview() {
        format!("{}   {losses}", overview::health(state, overview))
    } else if feed.max_rows == 0 {
        overview::of_host(state)
    } else if area.width < 72 {
        format!("{losses}   {rows}").replace("   ", " ")
    } else {
        format!(
            "{}{rows}   {losses}",
            events(state).map_or_else(String::new, |it| format!("{it} events/s   "))
        )
    };
    let mark = if lost.is_none() { "" } else { "! " };
    pen.put((area.x, y), area.right(), &format!("{mark}{text}"), tone);
}

pub(in crate::tui) fn losses(lost: Lost) -> String {
    let known =
        |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |it| whole_number(it.into()));
    let gaps = lost.gaps.filter(|gaps| *gaps > 0);
    let gaps = gaps.map(|gaps| format!("   gaps {}", whole_number(gaps.into())));
    format!(
        "other {}   dropped {}   missed {}{}",
        whole_number(lost.other.into()),
        known(lost.dropped),
        known(lost.missed),
        gaps.unwrap_or_default()
    )
}

/// The only place where text comes and goes.
pub(super) fn message(state: &State, pen: &mut Pen<'_>, area: Rect) {
    let y = area.bottom() - 2;
    let tab = state.tab();
    if let Overlay::Filter(text, _) = &state.overlay {
        let above = match state.message.is_empty() {
            true => format!("columns: {}   = != < > ~ ,", tab.columns().join(" ")),
            false => state.message.clone(),
        };
        pen.clear(Rect {
            y: y - 1,
            height: 2,
            ..area
        });
        pen.put((area.x, y - 1), area.right(), &above, Tone::Plain);
        pen.put(
            (area.x, y),
            area.right(),
            &format!("filter: {text}_"),
            Tone::Strong,
        );
        return;
    }
    if let Overlay::Time(text) = &state.overlay {
        pen.clear(Rect {
            y,
            height: 1,
            ..area
        });
        let text = format!("go to (14:02, 14:02:31, +30, -30): {text}_");
        pen.put((area.x, y), area.right(), &text, Tone::Strong);
        return;
    }
    if state.replay.is_some() && state.message.is_empty() {
        return;
    }
    pen.clear(Rect {
        y,
        height: 1,
        ..area
    });
    if !state.message.is_empty() {
        pen.put((area.x, y), area.right(), &state.message, Tone::Plain);
    } else if let Some((_, why)) = &tab.feed.ended {
        pen.put((area.x, y), area.right(), why, Tone::Wrong);
    } else if let Some(warning) = tab.feed.warnings(state.host.clock).first() {
        pen.put(
            (area.x, y),
            area.right(),
            &format!("! {warning}"),
            Tone::Lost,
        );
    } else if let Some(cost) = own_cost(state) {
        pen.put((area.x, y), area.right(), &cost, Tone::Plain);
    } else if let Some(absent) = state.overview().filter(|it| !it.absent.is_empty()) {
        let text = format!("absent: {}", absent.absent.join(", "));
        pen.put((area.x, y), area.right(), &text, Tone::Faint);
    } else if let Some(baseline) = &tab.feed.baseline {
        let text = format!(
            "baseline: the minute before {} (z new, Z none)",
            (state.host.clock)(baseline.until)
        );
        pen.put((area.x, y), area.right(), &text, Tone::Plain);
    } else if !tab.view.filter.is_empty() {
        let text = format!("filter: {}   (Esc clears it)", tab.view.filter);
        pen.put((area.x, y), area.right(), &text, Tone::Plain);
    } else if let Some(by) = &tab.view.by {
        let text =
            format!("grouped by {by}; → shows its rows, ← hides them, b groups by the next column");
        pen.put((area.x, y), area.right(), &text, Tone::Faint);
    }
}

/// What makes the view cheaper, where it takes more than 1 % of a CPU.
fn own_cost(state: &State) -> Option<String> {
    let counts_dear = state.overview.is_some() && state.tables().any(|table| table.is_dear);
    let less = if counts_dear {
        ", and --light counts less"
    } else {
        ""
    };
    let cpu = state.own.cpu;
    (cpu > 1.0).then(|| format!("ktally itself takes {cpu:.1}% of a CPU: + reads less often{less}"))
}

/// The keys that work now.
pub(super) fn keys(state: &State, pen: &mut Pen<'_>, area: Rect) {
    let view = &state.tab().view;
    let text = match &state.overlay {
        Overlay::Filter(..) => "Enter keep  Esc clear  Tab complete  ↑ earlier filters",
        Overlay::Columns(_) => "space shows, hides  ↑↓ column  Esc back",
        _ if view.is_detail => {
            "Esc back  ↑↓ other row  e export  y copy as command  space pause  ? help  q quit"
        }
        Overlay::Time(_) => "Enter go  Esc back",
        _ if state.replay.is_some() => {
            "space play  , . step  < > 10 s  [ ] 1 min  { } speed  g go to  ? help  q quit"
        }
        _ if state.paused.is_some() => {
            "space go on  , . step  < > ten  s sort  / filter  Enter detail  e export  ? help"
        }
        _ if area.width < 72 => "? help  Enter open  Tab next  q quit",
        _ if state.overview().is_some() => {
            "? help  Enter open  ↑↓ move  Tab next  / filter  s sort  space pause  q quit"
        }
        _ if area.width < 85 => {
            "? help  / filter  s sort  b group  t totals  space pause  Enter detail  q quit"
        }
        _ => {
            "? help  / filter  s sort  b group  t totals  h panel  space pause  Enter detail  q quit"
        }
    };
    pen.put((area.x, area.bottom() - 1), area.right(), text, Tone::Faint);
}

impl Feed {
    /// What the numbers lack now.
    pub(in crate::tui) fn lost(&self) -> Lost {
        self.moment(0).map(|moment| moment.lost).unwrap_or_default()
    }

    /// What was lost, and what helps.
    pub(in crate::tui) fn warnings(&self, clock: fn(SystemTime) -> String) -> Vec<String> {
        let lost = self.lost();
        let since = self
            .lost_since
            .map(|since| format!(" since {}", clock(since)));
        let since = since.unwrap_or_default();
        let mut warnings = Vec::new();
        if lost.other > 0 {
            let more = u64::from(self.max_rows) * 2;
            warnings.push(format!(
                "table full{since}; new keys count as (other); more: --max-rows {more}"
            ));
        }
        if let Some(dropped @ 1..) = lost.dropped {
            warnings.push(format!(
                "{} events{since} found no memory for their start: their time is unknown",
                whole_number(dropped.into())
            ));
        }
        if let Some(missed @ 1..) = lost.missed {
            warnings.push(format!(
                "the kernel skipped {} runs of programs{since}",
                whole_number(missed.into())
            ));
        }
        if let Some(gaps @ 1..) = lost.gaps {
            warnings.push(format!(
                "the kernel did not report some events: {} gaps{since}",
                whole_number(gaps.into())
            ));
        }
        warnings
    }
}
