//! `ktally run`: count, print, leave nothing behind.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::time::Instant;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::clock::{Schedule, Signals, Wake};
use super::output::{Stdout, Writer};
use super::{plural, style, warn, warn_of};
use crate::cli::{Exit, Global, Output, RunArgs};
use crate::error::usage;
use crate::render::{Format, Renderer, Style};
use crate::schema::{Labels, Table};
use crate::snapshot::{Query, Reading, Snapshot, TableReading, TableSnapshot};
use crate::tally::{Command, Given, Session, Storage, Tally, resolve};

pub(super) fn run(global: &Global, args: &RunArgs, tally: &Tally, given: &[Given]) -> Result<Exit> {
    if args.every.is_some() && global.output == Output::Json {
        return Err(usage(
            "`--every` gives many readings, and JSON is one object; use `-o jsonl`",
        ));
    }
    if args.every.is_some() && global.output == Output::Svg {
        return Err(usage(
            "`--every` gives many readings, and SVG is one picture; use `-o folded`",
        ));
    }
    let query = Query {
        by: args.by.clone(),
        filters: args.filters.clone(),
        sort: args.sort.clone(),
        top: args.top,
    };
    let options = resolve(&tally.schema.options, given)?;
    let tables = tally.tables(&options)?;
    query.check(&tables)?;
    let format = Format::from(global.output);
    format.check(&tables, query.by.as_deref())?;

    warn_of(tally);

    // From here on a signal waits for the next look at it: none is lost.
    let signals = Signals::block()?;
    let mut command = match &args.command[..] {
        [] => None,
        words => Some(Command::start(words)?),
    };
    let mut storage = Storage::uninit();
    let rows = args.max_rows;
    let mut session = Session::start_for(tally, &mut storage, &options, rows, command.as_ref())?;
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
        tables,
        query,
        totals: args.total,
        max_rows: args.max_rows,
        labels: if args.raw {
            Labels::raw()
        } else {
            Labels::new()
        },
        renderer: Renderer::new(format, style),
        before: None,
        whole: true,
        complete: true,
    };
    let stdout = Stdout::open()?;
    let mut schedule = Schedule::new(args.run_for, args.every);
    if let Some(command) = &mut command {
        command.release()?;
    }
    loop {
        let (instant, is_last) = schedule.next();
        let wake = face.wait(&session, &signals, instant, command.as_ref())?;
        let is_last = is_last || wake != Wake::Time;
        if is_last {
            if let Some(command) = &mut command {
                end(command, wake, &signals)?;
            }
            session.detach();
        }
        let reading = session.read()?;
        let shown = face.show(
            reading,
            Writer {
                stdout: &stdout,
                signals: &signals,
                end: schedule.end().filter(|_| !is_last),
                stop: &mut || session.detach(),
            },
        );
        if stdout.was_cut() {
            warn("the output is not whole: nobody read on, and a signal ended it");
            return Ok(Exit::Incomplete);
        }
        shown?;
        if is_last {
            break;
        }
    }
    face.last_words(schedule.left_out());
    Ok(match (face.complete, args.strict && !face.whole) {
        (true, false) => Exit::Done,
        _ => Exit::Incomplete,
    })
}

/// The command does not outlive the run.
fn end(command: &mut Command, wake: Wake, signals: &Signals) -> Result<()> {
    match wake {
        Wake::End => {}
        _ => command.stop(signals.came().unwrap_or(Signal::SIGTERM))?,
    }
    if let Some(how) = command.wait()?.filter(|_| wake == Wake::End) {
        warn(&how);
    }
    Ok(())
}

/// Turns readings into output, and remembers what the next one needs.
struct Face<'a> {
    tally: &'a Tally,
    tables: Vec<Table>,
    query: Query,
    totals: bool,
    max_rows: Option<u32>,
    labels: Labels,
    renderer: Renderer,
    before: Option<Reading>,
    whole: bool,
    complete: bool,
}

impl Face<'_> {
    /// Until it is time, or a signal or the command's end comes first. Takes
    /// note of processes meanwhile, whose stacks are to be shown.
    fn wait(
        &self,
        session: &Session<'_>,
        signals: &Signals,
        instant: Option<Instant>,
        command: Option<&Command>,
    ) -> Result<Wake> {
        loop {
            let sources = [
                (command.map(Command::end), Wake::End),
                (session.sightings_fd(), Wake::Sighting),
            ];
            let wake = signals.wait(instant, sources)?;
            for (pid, address) in session.take_sightings()? {
                self.labels.remember(pid, address);
            }
            match wake {
                // Where there are many, there is one whenever one looks.
                Wake::Sighting if instant.is_some_and(|it| it <= Instant::now()) => {
                    return Ok(Wake::Time);
                }
                Wake::Sighting => {}
                wake => return Ok(wake),
            }
        }
    }

    fn show(&mut self, reading: Reading, out: Writer<'_>) -> Result<()> {
        let snapshot = self.snapshot(&reading);
        self.complete &= snapshot.incomplete.is_none();
        self.whole &= snapshot.is_whole();
        self.renderer
            .render(&mut BufWriter::new(out), &snapshot, &self.labels)
            .context("failed to write")?;
        self.before = Some(reading);
        Ok(())
    }

    /// Of an interval, or with `--total` since counting began.
    fn snapshot(&self, now: &Reading) -> Snapshot {
        let before = self.before.as_ref().filter(|_| !self.totals);
        let tables = self
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

    fn dropped(&self, table: &Table, reading: &TableReading) -> String {
        let (name, rows) = (&table.name, reading.rows.len());
        let events = plural(reading.dropped, "event");
        let most = self.max_rows.unwrap_or(table.max_entries) as usize;
        match rows < most {
            true => format!("table `{name}` had no memory for {events}"),
            false => format!(
                "table `{name}` had no room for {events} (it holds {}); give it more with --max-rows",
                plural(rows as u64, "row")
            ),
        }
    }

    /// What a user must not overlook.
    fn last_words(&self, left_out: u64) {
        if left_out > 0 {
            warn(&format!(
                "{} left out: a reading takes longer than `--every`",
                plural(left_out, "interval")
            ));
        }
        let Some(last) = &self.before else {
            return;
        };
        for (table, reading) in self.tables.iter().zip(&last.tables) {
            if reading.dropped > 0 {
                warn(&self.dropped(table, reading));
            }
        }
        if let Some(missed @ 1..) = last.missed {
            warn(&format!(
                "the kernel skipped {} of the tally's programs, as one was already running",
                plural(missed, "run")
            ));
        }
        if let Some(why) = &last.incomplete {
            warn(&format!("the last reading is incomplete: {why}"));
        }
        let _ = io::stderr().flush();
    }
}
