//! The thread that reads: it loads what the view shows, and reads it on schedule. A
//! reading that was not taken yet gives way to the next one.

use std::ops::Range;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::source::{Opened, Wanted, Watched};
use crate::commands::keep_capabilities;
use crate::commands::wait::Signals;
use crate::tui::{Event, Overview, Tab};

/// After which a first screen of numbers stands.
const FIRST: Duration = Duration::from_millis(500);

/// How often that is read which is not shown.
const HIDDEN: Duration = Duration::from_secs(10);

/// The thread, from outside.
pub(super) struct Reader {
    wishes: Sender<Wish>,
    shown: usize,
    tabs: Receiver<Result<(Vec<Tab>, Option<Overview>)>>,
}

/// What the view wants.
enum Wish {
    /// Readings at this interval.
    Every(Duration),
    /// This tab, which is shown now.
    Show(usize),
}

/// What is read, and when.
struct Plan {
    open: Vec<Open>,
    every: Duration,
    /// The tab that is shown.
    shown: usize,
    /// All of them are always read, as all are recorded.
    is_recorded: bool,
    /// When all were read.
    round: Option<Instant>,
}

/// A source, and where its tables are among the tabs.
struct Open {
    source: Watched,
    first_tab: usize,
    has_ended: bool,
}

impl Reader {
    /// Loads in the thread, as what libbpf opens stays there.
    pub(super) fn start(
        wanted: Wanted,
        (every, is_recorded): (Duration, bool),
        events: Sender<Event>,
    ) -> Result<Self> {
        let (tell_tabs, tabs) = mpsc::channel();
        let (wish, wishes) = mpsc::channel();
        let work = move || match wanted.open() {
            Err(error) => _ = tell_tabs.send(Err(error)),
            Ok(opened) => {
                let tabs = opened.tabs();
                let first = usize::from(opened.absent.is_some());
                // Capabilities are those of a thread, and so are blocked signals.
                keep_capabilities(opened.capabilities.clone());
                let signals = Signals::block();
                if signals.is_ok() && tell_tabs.send(Ok(tabs)).is_ok() {
                    let plan = Plan {
                        open: Open::all(opened.sources, first),
                        every,
                        shown: 0,
                        is_recorded,
                        round: None,
                    };
                    plan.read(&wishes, &events);
                }
            }
        };
        let builder = thread::Builder::new().name("ktally-reader".to_owned());
        builder.spawn(work).context("failed to start a thread")?;
        Ok(Self {
            wishes: wish,
            shown: 0,
            tabs,
        })
    }

    /// Once all of it counts.
    pub(super) fn tabs(&self) -> Result<(Vec<Tab>, Option<Overview>)> {
        self.tabs
            .recv()
            .map_err(|_| anyhow!("the reader has ended"))?
    }

    pub(super) fn read_every(&self, every: Duration) {
        // A reader that has ended has said so.
        let _ = self.wishes.send(Wish::Every(every));
    }

    /// The other tabs are read rarely.
    pub(super) fn show(&mut self, tab: usize) {
        if std::mem::replace(&mut self.shown, tab) != tab {
            let _ = self.wishes.send(Wish::Show(tab));
        }
    }
}

impl Opened {
    /// A tab for each table, behind an overview.
    fn tabs(&self) -> (Vec<Tab>, Option<Overview>) {
        let mut tabs: Vec<Tab> = self.sources.iter().flat_map(Watched::tabs).collect();
        let overview = self.absent.clone().map(|absent| {
            let (tab, overview) = Overview::new(&tabs, absent);
            tabs.insert(0, tab);
            overview
        });
        (tabs, overview)
    }
}

impl Open {
    fn all(sources: Vec<Watched>, mut first_tab: usize) -> Vec<Self> {
        let open = sources.into_iter().map(|source| {
            let tabs = source.tables().len();
            first_tab += tabs;
            Self {
                source,
                first_tab: first_tab - tabs,
                has_ended: false,
            }
        });
        open.collect()
    }

    fn tabs(&self) -> Range<usize> {
        self.first_tab..self.first_tab + self.source.tables().len()
    }

    /// Sends a reading to each tab; `false` once the view has ended.
    fn send(&mut self, events: &Sender<Event>) -> bool {
        if self.has_ended {
            return true;
        }
        let readings = match self.source.read() {
            Ok(reading) => reading.of_each_table(),
            Err(error) => {
                self.has_ended = true;
                let why = format!("{error:#}");
                let mut ends = self.tabs().map(|tab| Event::Ended(tab, why.clone()));
                return ends.all(|end| events.send(end).is_ok());
            }
        };
        let readings = self.tabs().zip(readings);
        let mut readings = readings.map(|(tab, reading)| Event::Reading(tab, reading));
        readings.all(|reading| events.send(reading).is_ok())
    }
}

impl Plan {
    /// Reads until the view has ended.
    fn read(mut self, wishes: &Receiver<Wish>, events: &Sender<Event>) {
        let mut next = Instant::now();
        let mut number = 0;
        loop {
            match wishes.recv_timeout(next.saturating_duration_since(Instant::now())) {
                // It has numbers, and the next ones come soon.
                Ok(Wish::Show(tab)) => {
                    self.shown = tab;
                    continue;
                }
                Ok(Wish::Every(every)) => self.every = every,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let started = Instant::now();
            number += 1;
            if !self.send(number <= 2 || self.is_round_due(), events) {
                return;
            }
            let took = started.elapsed();
            let pause = if number == 1 { FIRST } else { self.every };
            // Reading takes half of the time at most.
            next = started + pause.min(self.every).max(2 * took);
        }
    }

    /// Whether more is to be read than the tab that is shown: an overview is of all.
    fn is_round_due(&self) -> bool {
        let shows_all = !self.open.iter().any(|it| it.tabs().contains(&self.shown));
        let is_old = |round: Instant| round.elapsed() + self.every / 2 > HIDDEN;
        self.is_recorded || shows_all || self.round.is_none_or(is_old)
    }

    /// `false` once the view has ended.
    fn send(&mut self, is_round: bool, events: &Sender<Event>) -> bool {
        let shown = self.shown;
        let mut open = self.open.iter_mut();
        if !is_round {
            return open.all(|it| !it.tabs().contains(&shown) || it.send(events));
        }
        self.round = Some(Instant::now());
        open.all(|it| it.send(events)) && events.send(Event::Round).is_ok()
    }
}
