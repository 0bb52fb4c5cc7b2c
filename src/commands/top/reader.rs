//! The thread that reads: it loads what the view shows, and reads it on schedule. A
//! reading that was not taken yet gives way to the next one.

use std::ffi::OsString;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::cli::TopArgs;
use crate::commands::keep_capabilities;
use crate::schema::Table;
use crate::snapshot::Reading;
use crate::tally::{Instance, InstanceName, Session, Tally, resolve};
use crate::tui::{Event, Feed, Tab};

/// After which a first screen of numbers stands.
const FIRST: Duration = Duration::from_millis(500);

/// What the tabs are of.
pub(super) struct Wanted {
    names: Vec<OsString>,
    max_rows: Option<u32>,
}

/// The thread, from outside.
pub(super) struct Reader {
    every: Sender<Duration>,
    tabs: Receiver<Result<Vec<Tab>>>,
}

/// What counts.
enum Source {
    Run(Box<Session>),
    Attached(Box<Instance>),
}

/// A source, and where its tables are among the tabs.
struct Open {
    source: Source,
    name: String,
    kind: &'static str,
    summary: String,
    tables: Vec<Table>,
    first_tab: usize,
    has_ended: bool,
}

impl Wanted {
    pub(super) fn of(args: &TopArgs) -> Result<Self> {
        Ok(Self {
            names: args.tallies.clone(),
            max_rows: args.max_rows,
        })
    }

    fn open(&self) -> Result<Vec<Open>> {
        let mut all: Vec<Open> = Vec::new();
        let mut first_tab = 0;
        for name in &self.names {
            let mut open = self.open_one(name)?;
            open.first_tab = first_tab;
            first_tab += open.tables.len();
            all.push(open);
        }
        Ok(all)
    }

    fn open_one(&self, name: &OsString) -> Result<Open> {
        let text = name.to_string_lossy();
        if let Some(label) = text.strip_prefix('@') {
            let instance = Instance::open(&InstanceName::parse(label)?)?;
            return Ok(Open {
                name: label.to_owned(),
                kind: "read",
                summary: instance.summary().to_owned(),
                tables: instance.tables(&[])?,
                source: Source::Attached(Box::new(instance)),
                first_tab: 0,
                has_ended: false,
            });
        }
        let tally = Tally::find(name)?;
        let options = resolve(&tally.schema.options, &[])?;
        let session = Session::start(&tally, &options, self.max_rows);
        let session = session.with_context(|| format!("failed to start `{}`", tally.name))?;
        Ok(Open {
            name: tally.name.clone(),
            kind: "run",
            summary: tally.summary().to_owned(),
            tables: tally.tables(&options)?,
            source: Source::Run(Box::new(session)),
            first_tab: 0,
            has_ended: false,
        })
    }
}

impl Reader {
    /// Loads in the thread, as what libbpf opens stays there.
    pub(super) fn start(wanted: Wanted, every: Duration, events: Sender<Event>) -> Result<Self> {
        let (tell_tabs, tabs) = mpsc::channel();
        let (tell_every, new_every) = mpsc::channel();
        let work = move || match wanted.open() {
            Err(error) => _ = tell_tabs.send(Err(error)),
            Ok(mut open) => {
                let all = open.iter().flat_map(Open::tabs).collect();
                // Capabilities are those of a thread.
                keep_capabilities(Vec::new());
                if tell_tabs.send(Ok(all)).is_ok() {
                    read(&mut open, every, &new_every, &events);
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
    pub(super) fn tabs(&self) -> Result<Vec<Tab>> {
        self.tabs
            .recv()
            .map_err(|_| anyhow!("the reader has ended"))?
    }

    pub(super) fn read_every(&self, every: Duration) {
        // A reader that has ended has said so.
        let _ = self.every.send(every);
    }
}

impl Open {
    fn tabs(&self) -> Vec<Tab> {
        let tabs = self.tables.iter().map(|table| {
            let source = format!("{} {}", self.kind, self.name);
            let name = match self.tables.len() {
                1 => self.name.clone(),
                _ => format!("{}.{}", self.name, table.name),
            };
            Tab::new(Feed::new(source, name, self.summary.clone(), table.clone()))
        });
        tabs.collect()
    }

    fn read(&self) -> Result<Reading> {
        match &self.source {
            Source::Run(session) => session.read(),
            Source::Attached(instance) => instance.read(),
        }
    }

    /// Sends a reading to each tab. Whether somebody takes it.
    fn send(&mut self, events: &Sender<Event>) -> bool {
        if self.has_ended {
            return true;
        }
        let readings = match self.read() {
            Ok(reading) => reading.of_each_table(),
            Err(error) => {
                self.has_ended = true;
                let tabs = self.first_tab..self.first_tab + self.tables.len();
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

/// Reads all until nobody takes it.
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
