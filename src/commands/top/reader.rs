//! The thread that reads: it loads what the view shows, and reads it on schedule. A
//! reading that was not taken yet gives way to the next one.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::source::{Opened, Source, Wanted};
use crate::commands::keep_capabilities;
use crate::commands::wait::Signals;
use crate::tui::{Event, Overview, Tab};

/// After which a first screen of numbers stands.
const FIRST: Duration = Duration::from_millis(500);

/// The thread, from outside.
pub(super) struct Reader {
    every: Sender<Duration>,
    tabs: Receiver<Result<(Vec<Tab>, Option<Overview>)>>,
}

/// A source, and where its tables are among the tabs.
struct Open {
    source: Source,
    first_tab: usize,
    has_ended: bool,
}

impl Reader {
    /// Loads in the thread, as what libbpf opens stays there.
    pub(super) fn start(wanted: Wanted, every: Duration, events: Sender<Event>) -> Result<Self> {
        let (tell_tabs, tabs) = mpsc::channel();
        let (tell_every, new_every) = mpsc::channel();
        let work = move || match wanted.open() {
            Err(error) => _ = tell_tabs.send(Err(error)),
            Ok(opened) => {
                let tabs = opened.tabs();
                let first = usize::from(opened.absent.is_some());
                // Capabilities are those of a thread, and so are blocked signals.
                keep_capabilities(opened.capabilities.clone());
                let signals = Signals::block();
                if signals.is_ok() && tell_tabs.send(Ok(tabs)).is_ok() {
                    read(
                        &mut Open::all(opened.sources, first),
                        every,
                        &new_every,
                        &events,
                    );
                }
            }
        };
        let builder = thread::Builder::new().name("ktally-reader".to_owned());
        builder.spawn(work).context("failed to start a thread")?;
        Ok(Self {
            every: tell_every,
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
        let _ = self.every.send(every);
    }
}

impl Opened {
    /// A tab for each table, behind an overview.
    fn tabs(&self) -> (Vec<Tab>, Option<Overview>) {
        let mut tabs: Vec<Tab> = self.sources.iter().flat_map(Source::tabs).collect();
        let overview = self.absent.clone().map(|absent| {
            let (tab, overview) = Overview::new(&tabs, absent);
            tabs.insert(0, tab);
            overview
        });
        (tabs, overview)
    }
}

impl Open {
    fn all(sources: Vec<Source>, mut first_tab: usize) -> Vec<Self> {
        let open = sources.into_iter().map(|source| {
            let tabs = source.tables.len();
            first_tab += tabs;
            Self {
                source,
                first_tab: first_tab - tabs,
                has_ended: false,
            }
        });
        open.collect()
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
                let tabs = self.first_tab..self.first_tab + self.source.tables.len();
                let why = format!("{error:#}");
                return tabs
                    .into_iter()
                    .all(|tab| events.send(Event::Ended(tab, why.clone())).is_ok());
            }
        };
        let mut readings = readings.into_iter().enumerate();
        readings.all(|(i, reading)| {
            events
                .send(Event::Reading(self.first_tab + i, reading))
                .is_ok()
        })
    }
}

/// Reads all sources until the view has ended.
fn read(
    open: &mut [Open],
    mut every: Duration,
    new_every: &Receiver<Duration>,
    events: &Sender<Event>,
) {
    let mut pause = Duration::ZERO;
    let mut number = 0;
    loop {
        match new_every.recv_timeout(pause) {
            Ok(new) => every = new,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let started = Instant::now();
        if !open.iter_mut().all(|it| it.send(events)) {
            return;
        }
        number += 1;
        let took = started.elapsed();
        let next = if number == 1 { FIRST.min(every) } else { every };
        // Reading takes half of the time at most.
        pause = next.saturating_sub(took).max(took);
    }
}
