//! `ktally run`: count, print, leave nothing behind.

use std::io::{self, BufWriter, IsTerminal, Write};

use anyhow::{Context, Result};

use super::clock::{Schedule, Signals};
use super::output::{Stdout, Writer};
use super::{plural, style, warn};
use crate::cli::{Exit, Global, Output, RunArgs};
use crate::error::usage;
use crate::render::{Renderer, Style};
use crate::schema::{Labels, Table};
use crate::snapshot::{Query, Reading, Snapshot, TableReading, TableSnapshot};
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
        max_rows: args.max_rows,
        labels: Labels::new(),
        renderer: Renderer::new(global.output.into(), style),
        before: None,
        whole: true,
        complete: true,
    };
    let stdout = Stdout::open()?;
    let mut schedule = Schedule::new(args.run_for, args.every);
    loop {
        let (instant, is_last) = schedule.next();
        let is_last = signals.wait_until(instant)? || is_last;
        if is_last {
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

/// Turns readings into output, and remembers what the next one needs.
struct Face<'a> {
    tally: &'a Tally,
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
        for (table, reading) in self.tally.schema.tables.iter().zip(&last.tables) {
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
