//! Readings as output: the loop that `run` and `read` share, and what it shows.

use std::io::{self, BufWriter, Write};
use std::time::Instant;

use anyhow::{Context, Result};
use caps::Capability;

use super::clock::{Schedule, Signals, Wake};
use super::output::{Stdout, Writer};
use super::{keep_capabilities, note, plural, query, style, warn};
use crate::cli::{Exit, Global, RunArgs, View};
use crate::error::usage;
use crate::names::{self, HostNames};
use crate::render::{Format, Renderer, Style};
use crate::schema::Table;
use crate::snapshot::{Query, Reading, Selection, Snapshot, TableReading, TableSnapshot};

/// What is read again and again: a tally that counts for this process, or one
/// that is attached.
pub(super) trait Source {
    /// All of it, at this instant.
    fn read(&self) -> Result<Reading>;

    /// What it takes to go on, beside reading.
    fn capabilities(&self) -> Option<Capability> {
        None
    }

    /// Until it is time, or something else comes first.
    fn wait(&self, names: &HostNames, signals: &Signals, instant: Option<Instant>) -> Result<Wake>;

    /// Whether there is nothing more to wait for: the next reading is the last.
    fn has_ended(&self) -> Result<bool> {
        Ok(false)
    }

    /// The reading that follows is the last.
    fn finish(&mut self, wake: Wake, signals: &Signals) -> Result<()>;

    /// Nobody reads the output in time, and counting goes on no longer for that.
    fn stop(&mut self);
}

/// Readings as the schedule has them, to stdout.
pub(super) fn show(
    face: &mut Face,
    source: &mut dyn Source,
    signals: &Signals,
    mut schedule: Schedule,
) -> Result<Exit> {
    let stdout = Stdout::open()?;
    let mut needed = face.names.capabilities(&face.tables);
    needed.extend(source.capabilities());
    keep_capabilities(needed);
    loop {
        let (instant, is_last) = schedule.next();
        let wake = face.wait(source, signals, instant)?;
        let is_last = is_last || wake != Wake::Time || source.has_ended()?;
        if is_last {
            source.finish(wake, signals)?;
        }
        let reading = source.read()?;
        let shown = face.show(
            reading,
            Writer {
                stdout: &stdout,
                signals,
                end: schedule.end().filter(|_| !is_last),
                stop: &mut || source.stop(),
            },
        );
        if stdout.was_cut() {
            warn("the output is incomplete: its reader stopped, and a signal ended it");
            return Ok(Exit::Incomplete);
        }
        shown?;
        if is_last {
            break;
        }
    }
    face.last_words(schedule.left_out());
    Ok(face.exit())
}

/// Turns readings into output, and remembers what the next one needs.
pub(super) struct Face {
    name: String,
    summary: String,
    tables: Vec<Table>,
    query: Query,
    totals: bool,
    max_rows: Option<u32>,
    names: HostNames,
    renderer: Renderer,
    for_people: bool,
    before: Option<Reading>,
    reset: u64,
    whole: bool,
    complete: bool,
    strict: bool,
}

impl Face {
    /// Until it is time, or something else comes first. Takes note of cgroups
    /// meanwhile: one that is removed has no name that could be asked for.
    fn wait(
        &self,
        source: &dyn Source,
        signals: &Signals,
        instant: Option<Instant>,
    ) -> Result<Wake> {
        loop {
            if !self.names.look(&self.tables) {
                return source.wait(&self.names, signals, instant);
            }
            let next = Instant::now() + names::PAUSE;
            let next = instant.map_or(next, |instant| instant.min(next));
            let wake = source.wait(&self.names, signals, Some(next))?;
            if wake != Wake::Time || instant == Some(next) {
                return Ok(wake);
            }
        }
    }

    /// For the readings that `run` and `read` are asked for.
    pub(super) fn of_many(
        global: &Global,
        args: &RunArgs,
        named: (&str, &str),
        tables: Vec<Table>,
    ) -> Result<Self> {
        let many = |what| usage(format!("`--every` gives many readings, and {what}"));
        match (args.every, global.output) {
            (Some(_), Format::Json) => return Err(many("JSON is one object; use `-o jsonl`")),
            (Some(_), Format::Svg) => return Err(many("SVG is one picture; use `-o folded`")),
            _ => {}
        }
        let mut face = Self::new(global, &args.view, named, tables)?;
        face.max_rows = args.loading.max_rows;
        Ok(face)
    }

    /// Refuses what these tables cannot show.
    pub(super) fn new(
        global: &Global,
        view: &View,
        (name, summary): (&str, &str),
        tables: Vec<Table>,
    ) -> Result<Self> {
        let query = query(&view.selection);
        let names = if view.raw {
            HostNames::raw()
        } else {
            HostNames::new()
        };
        query.check(&tables, &names)?;
        let format = global.output;
        format.check(&tables, query.by.as_deref())?;
        for table in &tables {
            note_details(table, format, &query);
        }
        let style = Style {
            histogram: view.histogram,
            totals: view.total,
            ..style(global)
        };
        Ok(Self {
            name: name.to_owned(),
            summary: summary.to_owned(),
            tables,
            query,
            totals: view.total,
            max_rows: None,
            names,
            renderer: Renderer::new(format, style),
            for_people: format == Format::Table,
            before: None,
            reset: 0,
            whole: true,
            complete: true,
            strict: view.strict,
        })
    }

    /// What the first reading is subtracted from.
    pub(super) fn start_from(&mut self, reading: Reading) {
        self.before = Some(reading);
    }

    /// As good as what was shown.
    pub(super) fn exit(&self) -> Exit {
        match (self.complete, self.strict && !self.whole) {
            (true, false) => Exit::Done,
            _ => Exit::Incomplete,
        }
    }

    pub(super) fn show(&mut self, mut reading: Reading, out: impl Write) -> Result<()> {
        if let (Some(_), Some(before)) = (&reading.incomplete, &self.before) {
            reading.fill_from(before);
        }
        let before = self.before.as_ref();
        let since = before.map(|before| reading.since(before, &self.tables));
        let since = since.as_ref().unwrap_or(&reading);
        let shown = if self.totals { &reading } else { since };
        let selections = self.select(shown);
        let snapshot = self.snapshot(shown, since, &selections);
        self.reset += snapshot.reset();
        self.complete &= snapshot.incomplete.is_none();
        self.whole &= snapshot.is_whole();
        self.renderer
            .render(&mut BufWriter::new(out), &snapshot)
            .context("failed to write")?;
        self.before = Some(reading);
        Ok(())
    }

    fn select(&self, shown: &Reading) -> Vec<Selection> {
        let tables = self.tables.iter().zip(&shown.tables);
        tables
            .map(|(table, reading)| self.query.apply(table, &reading.rows, &self.names))
            .collect()
    }

    /// Of an interval, or with `--total` since counting began.
    fn snapshot<'s>(
        &self,
        shown: &Reading,
        since: &Reading,
        selections: &'s [Selection],
    ) -> Snapshot<'s> {
        let readings = shown.tables.iter().zip(&since.tables);
        let tables = selections.iter().zip(readings);
        let tables = tables.map(|(selection, (shown, since))| TableSnapshot {
            table: &selection.table,
            rows: selection.named(&self.names, self.for_people),
            rows_read: shown.rows.len(),
            dropped: shown.dropped,
            reset: since.reset,
        });
        Snapshot {
            tally: self.name.clone(),
            summary: self.summary.clone(),
            time: shown.time,
            seconds: shown.seconds,
            missed: shown.missed,
            gaps: shown.gaps,
            incomplete: shown.incomplete.clone(),
            tables: tables.collect(),
        }
    }

    fn dropped(&self, table: &Table, reading: &TableReading, dropped: u64) -> String {
        let (name, rows) = (&table.name, reading.rows.len());
        let events = plural(dropped, "event");
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
    pub(super) fn last_words(&self, left_out: u64) {
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
            if let Some(dropped @ 1..) = reading.dropped {
                warn(&self.dropped(table, reading, dropped));
            }
        }
        if let Some(missed @ 1..) = last.missed {
            warn(&format!(
                "the kernel skipped {} of the tally's programs, as one was already running",
                plural(missed, "run")
            ));
        }
        if let Some(gaps @ 1..) = last.gaps {
            warn(&format!(
                "the kernel did not report some of the tally's events, which have {}",
                plural(gaps, "gap")
            ));
        }
        if self.reset > 0 {
            warn(&format!(
                "{} reset (deleted, evicted or set to zero): what they counted just before is lost",
                match self.reset {
                    1 => "1 row was".to_owned(),
                    many => format!("{many} rows were"),
                }
            ));
        }
        if let Some(why) = &last.incomplete {
            warn(&format!("the last reading is incomplete: {why}"));
        }
        let _ = io::stderr().flush();
    }
}

/// What a format has no columns for.
fn note_details(table: &Table, format: Format, query: &Query) {
    let names: Vec<String> = table
        .details
        .iter()
        .map(|detail| format!("`{}`", detail.name))
        .collect();
    let how = match (format, &query.by) {
        (Format::Json | Format::Jsonl, None) => return,
        (Format::Json | Format::Jsonl, Some(_)) => "without --by",
        (_, None) => "with -o json or jsonl",
        (_, Some(_)) => "with -o json or jsonl, and without --by",
    };
    if !names.is_empty() {
        let names = names.join(", ");
        note(&format!(
            "{names} of table `{}`: shown only {how}",
            table.name
        ));
    }
}
