//! `ktally run`: count, print, leave nothing behind.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::{style, warn};
use crate::cli::{Exit, Global, Output, RunArgs};
use crate::error::usage;
use crate::render::{Renderer, Style};
use crate::schema::Labels;
use crate::snapshot::{Query, Reading, Snapshot, TableSnapshot};
use crate::tally::{Given, Session, Storage, Tally, resolve};

pub(super) fn run(global: &Global, args: &RunArgs, tally: &Tally, given: &[Given]) -> Result<Exit> {
    if args.every.is_some() && global.output == Output::Json {
        return Err(usage(
            "`--every` gives many readings, and JSON is one object; use `-o jsonl`",
        ));
    }
    let query = Query {
        by: args.by.clone(),
        filters: args.filters.clone(),
        sort: args.sort.clone(),
        top: args.top,
    };
    query.check(&tally.schema.tables)?;
    let options = resolve(&tally.schema.options, given)?;

    // From here on a signal waits for the next look at it: none is lost.
    let signals = Signals::block()?;
    let mut storage = Storage::uninit();
    let mut session = Session::start(tally, &mut storage, &options, args.max_rows)?;
    session.warnings().iter().for_each(|warning| warn(warning));
    if global.verbose || (io::stderr().is_terminal() && args.run_for.is_none()) {
        eprintln!("ktally: counting; Ctrl-C ends it");
    }

    let style = Style {
        histogram: args.histogram,
        totals: args.total,
        ..style(global)
    };
    let mut face = Face {
        tally,
        query,
        totals: args.total,
        labels: Labels::new(),
        renderer: Renderer::new(global.output.into(), style),
        before: None,
        whole: true,
        complete: true,
    };
    let mut schedule = Schedule::new(args.run_for, args.every);
    loop {
        let (instant, is_last) = schedule.next();
        if signals.wait_until(instant)? || is_last {
            break;
        }
        face.show(session.read()?)?;
    }
    session.detach();
    face.show(session.read()?)?;
    face.last_words();
    Ok(match (face.complete, args.strict && !face.whole) {
        (true, false) => Exit::Done,
        _ => Exit::Incomplete,
    })
}

/// When to read next.
struct Schedule {
    end: Option<Instant>,
    every: Option<Duration>,
    next: Option<Instant>,
}

impl Schedule {
    /// What lies beyond the clock's range never comes.
    fn new(run_for: Option<Duration>, every: Option<Duration>) -> Self {
        let now = Instant::now();
        Self {
            end: run_for.and_then(|run_for| now.checked_add(run_for)),
            every,
            next: every.and_then(|every| now.checked_add(every)),
        }
    }

    /// The instant of the next reading, if only a signal does not come first,
    /// and whether it is the last.
    fn next(&mut self) -> (Option<Instant>, bool) {
        let (Some(next), Some(every)) = (self.next, self.every) else {
            return (self.end, true);
        };
        if self.end.is_some_and(|end| next >= end) {
            return (self.end, true);
        }
        // A reader that fell behind leaves out intervals, rather than rushing.
        let behind = Instant::now().saturating_duration_since(next);
        let late = behind.as_nanos() / every.as_nanos().max(1);
        let steps = u32::try_from(late).unwrap_or(u32::MAX).saturating_add(1);
        self.next = next.checked_add(every.saturating_mul(steps));
        (Some(next), false)
    }
}

/// SIGINT, SIGTERM and SIGHUP as a file descriptor.
struct Signals(SignalFd);

impl Signals {
    fn block() -> Result<Self> {
        let mut set = SigSet::empty();
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
            .into_iter()
            .for_each(|signal| set.add(signal));
        set.thread_block().context("failed to block signals")?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)
            .context("failed to open a signal descriptor")?;
        Ok(Self(fd))
    }

    /// Whether a signal came before the instant did. With none, waits for ever.
    fn wait_until(&self, instant: Option<Instant>) -> Result<bool> {
        loop {
            let timeout = match instant {
                None => PollTimeout::NONE,
                Some(instant) => {
                    let left = instant.saturating_duration_since(Instant::now());
                    // Up, so as not to spin through the last millisecond.
                    let millis = left.as_nanos().div_ceil(1_000_000);
                    PollTimeout::try_from(i32::try_from(millis).unwrap_or(i32::MAX))
                        .unwrap_or(PollTimeout::MAX)
                }
            };
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(0) if instant.is_some_and(|instant| Instant::now() < instant) => {}
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("failed to wait"),
            }
        }
    }
}

/// Turns readings into output, and remembers what the next one needs.
struct Face<'a> {
    tally: &'a Tally,
    query: Query,
    totals: bool,
    labels: Labels,
    renderer: Renderer,
    before: Option<Reading>,
    whole: bool,
    complete: bool,
}

impl Face<'_> {
    fn show(&mut self, reading: Reading) -> Result<()> {
        let snapshot = self.snapshot(&reading);
        self.complete &= snapshot.incomplete.is_none();
        self.whole &= snapshot.is_whole();
        self.renderer
            .render(&mut io::stdout().lock(), &snapshot, &self.labels)
            .context("failed to write")?;
        self.before = Some(reading);
        Ok(())
    }

    /// Of an interval, or with `--total` since counting began.
    fn snapshot(&self, now: &Reading) -> Snapshot {
        let before = self.before.as_ref().filter(|_| !self.totals);
        let tables = self
            .tally
            .schema
            .tables
            .iter()
            .enumerate()
            .map(|(i, table)| {
                let (now, before) = (&now.tables[i], before.map(|before| &before.tables[i]));
                let (table, rows) = self.query.apply(
                    table,
                    &now.rows,
                    before.map(|before| &before.rows),
                    &self.labels,
                );
                TableSnapshot {
                    table,
                    rows,
                    rows_read: now.rows.len(),
                    dropped: now.dropped - before.map_or(0, |before| before.dropped),
                }
            })
            .collect();
        let missed_before = before.and_then(|before| before.missed).unwrap_or(0);
        Snapshot {
            tally: self.tally.name.clone(),
            summary: self.tally.summary().to_owned(),
            time: now.time,
            seconds: now.seconds - before.map_or(0.0, |before| before.seconds),
            missed: now.missed.map(|missed| missed - missed_before),
            incomplete: now.incomplete.clone(),
            tables,
        }
    }

    /// What a user must not overlook.
    fn last_words(&self) {
        let Some(last) = &self.before else {
            return;
        };
        for (table, reading) in self.tally.schema.tables.iter().zip(&last.tables) {
            if reading.dropped > 0 {
                warn(&format!(
                    "table `{}` had no room for {} events (it holds {} rows); give it more with --max-rows",
                    table.name,
                    reading.dropped,
                    reading.rows.len()
                ));
            }
        }
        if let Some(missed @ 1..) = last.missed {
            warn(&format!(
                "the kernel skipped {missed} runs of the tally's programs, which were already running"
            ));
        }
        if let Some(why) = &last.incomplete {
            warn(&format!("the last reading is incomplete: {why}"));
        }
        let _ = io::stderr().flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(run_for: u64, every: Option<u64>) -> Vec<u64> {
        let start = Instant::now();
        let mut schedule = Schedule::new(
            Some(Duration::from_secs(run_for)),
            every.map(Duration::from_secs),
        );
        let mut seconds = Vec::new();
        loop {
            let (instant, is_last) = schedule.next();
            let after = instant.map(|instant| instant - start);
            seconds.extend(after.map(|after| after.as_secs()));
            if is_last {
                return seconds;
            }
        }
    }

    #[test]
    fn the_last_reading_is_at_the_end() {
        assert_eq!(readings(5, None), [5]);
        assert_eq!(readings(3, Some(1)), [1, 2, 3]);
        assert_eq!(readings(5, Some(2)), [2, 4, 5]);
        assert_eq!(readings(5, Some(60)), [5]);
        assert_eq!(readings(0, Some(1)), [0]);
    }

    #[test]
    fn without_an_end_only_a_signal_ends_it() {
        let mut for_ever = Schedule::new(None, None);
        assert_eq!(for_ever.next(), (None, true));
        let mut too_long = Schedule::new(Some(Duration::MAX), Some(Duration::MAX));
        assert_eq!(too_long.next(), (None, true));
    }
}
