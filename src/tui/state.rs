//! All that the live view knows, and what each event makes of it.

use std::time::{Duration, SystemTime};

use ratatui::crossterm::event::{KeyEvent, MouseEvent};

use super::draw::losses;
use super::glyphs::Glyphs;
use super::keys::Action;
use super::overview::Overview;
use super::replay::Replay;
use super::tab::{Change, Tab};
use crate::recording::Recorder;
use crate::schema::{Names, Table, whole_number};
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
    /// Read so often.
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
    pub(super) message: String,
    /// The warning that was said last.
    warning: isize,
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

    pub(super) fn tab(&self) -> &Tab {
        &self.tabs[self.current]
    }

    pub(super) fn tab_mut(&mut self) -> &mut Tab {
        &mut self.tabs[self.current]
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
            Event::Interval(tab, interval) => self.tabs[tab].feed.take(interval),
            Event::Rewind => self.rewind(),
            Event::Frame(frame, is_next) => self.arrive(frame, is_next, names),
            Event::Ended(tab, why) => self.tabs[tab].feed.ended = Some((self.own.now, why)),
            Event::Tick(own) => self.own = own,
        }
        Effect::None
    }

    fn read(&mut self, tab: usize, reading: Reading, names: &dyn Names) -> Effect {
        let mut lines = self.take(tab, reading, names);
        let mut is_shown = tab == self.current;
        if let Some(joined) = self.join(tab) {
            lines += &self.take(0, joined, names);
            is_shown |= self.current == 0;
        }
        if is_shown {
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
        let behind = self.paused.unwrap_or(0);
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

    fn pause(&mut self, names: &dyn Names) {
        self.paused = match self.paused {
            None => Some(0),
            Some(_) => None,
        };
        if self.paused.is_none() {
            self.look(names);
        }
    }

    /// Goes back or ahead by so many readings; pauses.
    fn step(&mut self, step: isize, names: &dyn Names) {
        let oldest = self.tab().feed.len().saturating_sub(1);
        let behind = self.paused.unwrap_or(0);
        self.paused = Some(behind.saturating_add_signed(-step).min(oldest));
        self.look(names);
    }

    /// The first of these that applies: leaves a detail, clears the filter, thaws the
    /// order, goes on.
    fn back(&mut self, names: &dyn Names) {
        let view = &mut self.tab_mut().view;
        if view.is_detail {
            view.is_detail = false;
        } else if !view.filter.is_empty() {
            view.filter.clear();
        } else if view.is_frozen {
            view.is_frozen = false;
        } else if self.paused.take().is_none() {
            if self.overview.is_none() {
                return;
            }
            self.current = 0;
        }
        self.look(names);
    }

    pub(super) fn enter(&mut self, names: &dyn Names) {
        if self.enter_line(names) {
            return;
        }
        let row = self.tab().selected();
        if row.is_some_and(|row| row.members > 0) {
            self.open_group(true, names);
        } else if row.is_some() {
            self.tab_mut().view.is_detail = true;
        }
    }

    fn open_group(&mut self, is_open: bool, names: &dyn Names) {
        let Some(row) = self.tab().selected().filter(|row| !row.is_member) else {
            return;
        };
        let key = row.key.clone();
        let open = &mut self.tab_mut().view.open;
        if is_open {
            open.insert(key)
        } else {
            open.remove(&key)
        };
        self.look(names);
    }

    /// Selects another row; holds the order.
    fn go(&mut self, action: Action, names: &dyn Names) {
        if self.go_line(action) {
            return;
        }
        self.held_until = self.own.now.checked_add(HOLD);
        let page = self.rows_shown().saturating_sub(1).max(1) as isize;
        let tab = self.tab_mut();
        let Some(last) = tab.shown.rows.len().checked_sub(1) else {
            return;
        };
        let place = tab.place();
        let moved = |step: isize| match place {
            Some(place) => place.saturating_add_signed(step).min(last),
            None => tab.view.first.min(last),
        };
        let place = match action {
            Action::Row(step) => moved(step),
            Action::Page(step) => moved(step * page),
            Action::LastRow => last,
            _ => 0,
        };
        tab.view.selected = Some(tab.shown.rows[place].key.clone());
        let behind = self.paused.unwrap_or(0);
        self.tab_mut().refresh_row(behind, names);
        self.show_selected();
    }

    /// Scrolls until the selected row is on the screen.
    fn show_selected(&mut self) {
        let rows = self.rows_shown().max(1);
        let tab = self.tab_mut();
        let Some(place) = tab.place() else {
            return;
        };
        let first = tab.view.first.min(place);
        tab.view.first = first.max((place + 1).saturating_sub(rows));
    }

    /// Says the next thing that was lost, and what helps.
    pub(super) fn warn(&mut self, step: isize) {
        let warnings = self.tab().feed.warnings(self.host.clock);
        let Some(count) = isize::try_from(warnings.len()).ok().filter(|it| *it > 0) else {
            "nothing was lost".clone_into(&mut self.message);
            return;
        };
        self.warning = (self.warning + step).rem_euclid(count);
        let place = self.warning.unsigned_abs();
        self.message = format!("! {} of {count}: {}", place + 1, warnings[place]);
    }

    /// The clock went on.
    pub(crate) fn set_time(&mut self, now: SystemTime) {
        self.own.now = now;
    }

    /// Says something in the message line.
    pub(crate) fn say(&mut self, text: &str) {
        text.clone_into(&mut self.message);
    }

    /// What every table counted and lost, for the end.
    pub(crate) fn last_words(&self) -> Vec<String> {
        let own = usize::from(self.overview.is_some());
        let words = self.tabs.iter().skip(own).filter_map(|tab| {
            let moment = tab.feed.moment(0)?;
            let seconds = moment.totals.as_deref()?.seconds;
            let lost = losses(tab.feed.lost());
            let rows = whole_number(moment.rows_read as i128);
            Some(format!(
                "{}: {rows} rows in {seconds:.0} s; {lost}",
                tab.feed.name
            ))
        });
        words.collect()
    }

    /// What is shown as `-o json` has it.
    fn export(&self, names: &dyn Names) -> Effect {
        let tab = self.tab();
        let time = humantime::format_rfc3339_seconds(self.own.now).to_string();
        let name = format!(
            "ktally-{}-{}.json",
            tab.feed.name,
            time.replace(['-', ':'], "")
        );
        match tab.json(self.paused.unwrap_or(0), names) {
            Some(text) => Effect::Export(name, text),
            None => Effect::None,
        }
    }

    /// The command that prints what is shown.
    fn command(&self) -> String {
        let tab = self.tab();
        let mut words = vec!["ktally".to_owned(), tab.feed.source.clone()];
        if self.overview().is_some() {
            return words.join(" ");
        }
        // A dump is one reading.
        if !tab.feed.source.starts_with("map ") {
            words.push(format!("--every {}ms", self.every.as_millis()));
        }
        words.extend(["--sort".to_owned(), tab.sort()]);
        words.extend(
            tab.view
                .by
                .iter()
                .flat_map(|by| ["--by".to_owned(), by.clone()]),
        );
        for filter in tab.view.filter.split_whitespace() {
            let quoted = filter.replace('\'', r"'\''");
            words.extend(["--where".to_owned(), format!("'{quoted}'")]);
        }
        words.extend(tab.view.is_total.then(|| "--total".to_owned()));
        words.join(" ")
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
