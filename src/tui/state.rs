//! All that the live view knows, and what each event makes of it.

use std::time::{Duration, SystemTime};

use ratatui::crossterm::event::{KeyEvent, MouseEvent};

use super::glyphs::Glyphs;
use super::keys::Action;
use super::overview::Overview;
use super::replay::Replay;
use super::tab::{Change, Tab};
use crate::recording::Recorder;
use crate::schema::{Names, Table};
use crate::snapshot::{Interval, Reading};

/// How long an order is held after a key.
pub(super) const HOLD: Duration = Duration::from_secs(3);

/// The intervals that `+` and `-` walk through, in milliseconds.
const INTERVALS: [u64; 9] = [100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000];

/// What happens.
#[derive(Debug)]
pub(crate) enum Event {
    Key(KeyEvent),
    Mouse(MouseEvent),
    Resize(u16, u16),
    /// Of the tab with this number.
    Reading(usize, Reading),
    /// All tabs were read.
    Round,
    /// The same from a recording.
    Interval(usize, Interval),
    /// Readings follow that do not go on from those before.
    Rewind,
    /// All of a frame was read; whether it is the next one.
    Frame(usize, bool),
    /// No more readings of it come.
    Ended(usize, String),
    /// The clock went on.
    Tick(Own),
}

/// What is to be done that changes more than the state.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    None,
    Quit,
    Suspend,
    Redraw,
    /// Read at this interval.
    Interval(Duration),
    /// Take the mouse, or leave it to the terminal.
    Mouse(bool),
    /// Write what is shown into a file of this name.
    Export(String, String),
    /// Put a command into the clipboard.
    Copy(String),
    /// Append a line to the recording.
    Record(String),
    /// Read this frame of the recording.
    Seek(usize),
}

/// What is watched.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) kernel: String,
    pub(crate) cpus: usize,
    /// The time of day there.
    pub(crate) clock: fn(SystemTime) -> String,
}

/// What the program itself takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own {
    pub(crate) now: SystemTime,
    /// Time of a CPU since it began.
    pub(crate) used: Duration,
    /// Of one CPU, in percent.
    pub(crate) cpu: f64,
    /// Resident, in bytes.
    pub(crate) memory: u64,
}

/// What lies over the rows and takes the keys.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Overlay {
    None,
    Help,
    /// A filter that is typed, and which of the earlier ones is shown.
    Filter(String, usize),
    /// The columns, and which of them is selected.
    Columns(usize),
    /// A time that is typed.
    Time(String),
}

/// The state.
#[derive(Debug)]
pub(crate) struct State {
    pub(super) host: Host,
    pub(super) own: Own,
    pub(super) tabs: Vec<Tab>,
    pub(super) overview: Option<Overview>,
    pub(super) current: usize,
    pub(super) overlay: Overlay,
    /// How many readings the shown one is behind the newest, where it is paused.
    pub(super) paused: Option<usize>,
    pub(super) every: Duration,
    /// Till when rows keep their places.
    pub(super) held_until: Option<SystemTime>,
    /// When the tab was opened: what is hidden is read rarely.
    pub(super) opened: SystemTime,
    pub(super) message: String,
    /// The warning that was said last.
    pub(super) warning: isize,
    pub(super) has_mouse: bool,
    /// Filters of this session, the last one first.
    pub(super) filters: Vec<String>,
    pub(super) size: (u16, u16),
    pub(super) glyphs: Glyphs,
    pub(super) color: bool,
    pub(super) recorder: Option<Recorder>,
    /// The recording that is shown, rather than what counts now.
    pub(super) replay: Option<Replay>,
}

impl State {
    pub(crate) fn new(host: Host, own: Own, tabs: Vec<Tab>, every: Duration) -> Self {
        Self {
            opened: own.now,
            host,
            own,
            tabs,
            overview: None,
            current: 0,
            overlay: Overlay::None,
            paused: None,
            every,
            held_until: None,
            message: String::new(),
            warning: -1,
            has_mouse: true,
            filters: Vec::new(),
            size: (80, 24),
            glyphs: Glyphs::default(),
            color: true,
            recorder: None,
            replay: None,
        }
    }

    /// With what the terminal has.
    pub(crate) fn on(mut self, size: (u16, u16), glyphs: Glyphs, color: bool) -> Self {
        (self.size, self.glyphs, self.color) = (size, glyphs, color);
        self
    }

    /// All that is shown.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tabs.iter().map(|tab| &tab.feed.table)
    }

    /// The tab that is shown.
    pub(crate) fn current(&self) -> usize {
        self.current
    }

    pub(super) fn tab(&self) -> &Tab {
        &self.tabs[self.current]
    }

    pub(super) fn tab_mut(&mut self) -> &mut Tab {
        &mut self.tabs[self.current]
    }

    /// How many readings the shown one is behind the newest.
    pub(super) fn behind(&self) -> usize {
        self.paused.unwrap_or(0)
    }

    pub(super) fn is_held(&self) -> bool {
        self.held_until.is_some_and(|until| until > self.own.now)
    }

    /// Takes an event. What is then to be done.
    pub(crate) fn next(&mut self, event: Event, names: &dyn Names) -> Effect {
        match event {
            Event::Key(key) => return self.key(key, names),
            Event::Mouse(mouse) => return self.mouse(mouse, names),
            Event::Resize(width, height) => self.size = (width, height),
            Event::Reading(tab, reading) => return self.read(tab, reading, names),
            Event::Round => return self.join(names),
            Event::Interval(tab, interval) => self.tabs[tab].feed.take(interval),
            Event::Rewind => self.rewind(),
            Event::Frame(frame, is_next) => self.arrive(frame, is_next, names),
            Event::Ended(tab, why) => self.tabs[tab].feed.ended = Some((self.own.now, why)),
            Event::Tick(own) => self.own = own,
        }
        Effect::None
    }

    pub(super) fn read(&mut self, tab: usize, reading: Reading, names: &dyn Names) -> Effect {
        let lines = self.take(tab, reading, names);
        if tab == self.current {
            self.show_reading(names);
        }
        match lines.is_empty() {
            true => Effect::None,
            false => Effect::Record(lines),
        }
    }

    /// Shows the newest reading, or stays at the one that is shown.
    pub(super) fn show_reading(&mut self, names: &dyn Names) {
        let newest = self.tab().feed.len();
        match &mut self.paused {
            Some(behind) => *behind = (*behind + 1).min(newest),
            None => {
                let is_held = self.is_held() || self.tab().view.is_frozen;
                let change = if is_held {
                    Change::Held
                } else {
                    Change::Reading
                };
                self.tab_mut().refresh(0, names, change);
                self.refresh_overview(names);
                if self.tab().view.follows {
                    self.show_selected();
                }
            }
        }
    }

    /// Looks at the rows again, as something else is asked for.
    pub(super) fn look(&mut self, names: &dyn Names) {
        let behind = self.behind();
        self.tab_mut().refresh(behind, names, Change::View);
        self.refresh_overview(names);
        self.show_selected();
    }

    fn key(&mut self, key: KeyEvent, names: &dyn Names) -> Effect {
        let action = Action::of(key);
        if let Some(action) = action.filter(|it| it.is_global() && !self.is_typed(key)) {
            return self.act(action, names);
        }
        match &self.overlay {
            Overlay::None => action.map_or(Effect::None, |action| self.act(action, names)),
            Overlay::Help => {
                self.overlay = Overlay::None;
                Effect::None
            }
            Overlay::Filter(text, earlier) => {
                let (text, earlier) = (text.clone(), *earlier);
                self.type_filter(text, earlier, key.code, names);
                Effect::None
            }
            Overlay::Time(text) => self.type_time(text.clone(), key.code),
            Overlay::Columns(place) => {
                self.choose_column(*place, key.code);
                Effect::None
            }
        }
    }

    /// Whether a key is text of a line.
    fn is_typed(&self, key: KeyEvent) -> bool {
        matches!(self.overlay, Overlay::Filter(..) | Overlay::Time(_)) && key.modifiers.is_empty()
    }

    pub(super) fn act(&mut self, action: Action, names: &dyn Names) -> Effect {
        self.message.clear();
        if let Some(effect) = self.replayed(action) {
            return effect;
        }
        match action {
            Action::Quit => return Effect::Quit,
            Action::Suspend => return Effect::Suspend,
            Action::Redraw => return Effect::Redraw,
            Action::Export => return self.export(names),
            Action::Copy => return Effect::Copy(self.command()),
            Action::Interval(step) => return self.change_interval(step),
            Action::Mouse => {
                self.has_mouse = !self.has_mouse;
                return Effect::Mouse(self.has_mouse);
            }
            Action::Row(_) | Action::Page(_) | Action::FirstRow | Action::LastRow => {
                self.go(action, names);
            }
            Action::NextTab(step) => {
                let tabs = self.tabs.len() as isize;
                let next = (self.current as isize + step).rem_euclid(tabs);
                self.open_tab(next as usize, names);
            }
            Action::Tab(tab) if tab < self.tabs.len() => self.open_tab(tab, names),
            Action::Help => self.overlay = Overlay::Help,
            Action::Filter => self.overlay = Overlay::Filter(self.tab().view.filter.clone(), 0),
            Action::Columns => self.overlay = Overlay::Columns(0),
            Action::Pause => self.pause(names),
            Action::Step(step) => self.step(step, names),
            Action::Back => self.back(names),
            Action::Enter => self.enter(names),
            Action::Open | Action::Close => self.open_group(action == Action::Open, names),
            Action::Warning(step) => self.warn(step),
            Action::Baseline(is_wanted) => {
                for tab in &mut self.tabs {
                    tab.feed.baseline = None;
                    if is_wanted {
                        tab.feed.set_baseline();
                    }
                }
                self.look(names);
            }
            action => {
                self.change_view(action);
                self.look(names);
            }
        }
        Effect::None
    }

    /// What is asked of the rows.
    fn change_view(&mut self, action: Action) {
        let sorts = self.tab().sorts();
        let sort = self.tab().sort();
        let labels = self.tab().feed.table.labels.iter();
        let labels: Vec<String> = labels.map(|label| label.name.clone()).collect();
        let view = &mut self.tab_mut().view;
        match action {
            Action::Sort(step) => {
                let sort = sorts
                    .iter()
                    .position(|it| it.starts_with(&sort))
                    .unwrap_or(0);
                let next = (sort as isize + step).rem_euclid(sorts.len() as isize);
                view.sort = sorts.get(next as usize).cloned();
            }
            Action::Reverse => view.is_reversed = !view.is_reversed,
            Action::Group(step) => view.by = next_group(&labels, view.by.as_deref(), step),
            Action::Totals => view.is_total = !view.is_total,
            Action::Panel => view.has_panel = !view.has_panel,
            Action::Follow => view.follows = !view.follows,
            Action::Freeze => view.is_frozen = !view.is_frozen,
            _ => {}
        }
    }

    pub(super) fn open_tab(&mut self, tab: usize, names: &dyn Names) {
        self.current = tab;
        self.opened = self.own.now;
        self.look(names);
    }

    fn change_interval(&mut self, step: isize) -> Effect {
        let now = self.every.as_millis() as u64;
        let place = INTERVALS
            .iter()
            .position(|it| *it >= now)
            .unwrap_or(INTERVALS.len() - 1);
        let next = place.saturating_add_signed(step).min(INTERVALS.len() - 1);
        self.every = Duration::from_millis(INTERVALS[next]);
        Effect::Interval(self.every)
    }

    /// The clock went on.
    pub(crate) fn set_time(&mut self, now: SystemTime) {
        self.own.now = now;
    }

    /// Says something in the message line.
    pub(crate) fn say(&mut self, text: &str) {
        text.clone_into(&mut self.message);
    }
}

/// The label that rows are grouped by next; none behind the last.
fn next_group(labels: &[String], by: Option<&str>, step: isize) -> Option<String> {
    let places = labels.len() as isize + 1;
    let now = by.and_then(|by| labels.iter().position(|it| it == by));
    let now = now.map_or(0, |place| place as isize + 1);
    let next = (now + step).rem_euclid(places);
    labels.get(usize::try_from(next - 1).ok()?).cloned()
}
