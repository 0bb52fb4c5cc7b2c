//! Turns readings into output: the loop that `run` and `read` share, and warnings.

use std::io::{self, BufWriter, Write};
use std::time::Instant;

use anyhow::{Context, Result};
use caps::Capability;

use super::output::{Stdout, Writer};
use super::wait::{Schedule, Signals, Wake};
use super::{keep_capabilities, note, plural, query, style, warn};
use crate::cli::{Exit, Global, RunArgs, View};
use crate::error::usage;
use crate::names::{self, HostNames};
use crate::render::{Format, Renderer, Style};
use crate::schema::Table;
use crate::snapshot::{Query, Reading, Selection, Snapshot, TableReading, TableSnapshot};

/// A tally that counts for this process, or one that is attached.
pub(super) trait Source {
    fn read(&self) -> Result<Reading>;

    /// A capability that is needed beside those for reading.
    fn capabilities(&self) -> Option<Capability> {
        None
    }

    /// Waits until the instant, or until something else comes first.
    fn wait(
        &self,
        _names: &HostNames,
        signals: &Signals,
        instant: Option<Instant>,
    ) -> Result<Wake> {
        signals.wait(instant, [])
    }

    /// Whether counting has ended, so that the next reading is the last.
    fn has_ended(&self) -> Result<bool> {
        Ok(false)
    }

    /// Called before the last reading.
    fn finish(&mut self, _wake: Wake) -> Result<()> {
        Ok(())
    }

    /// Called after the last reading.
    fn end(&mut self, _wake: Wake, _signals: &Signals) -> Result<()> {
        Ok(())
    }

    /// Ends counting at once, while the output is blocked.
    fn stop(&mut self) {}
}

/// Writes readings on schedule.
pub(super) fn show(
    report: &mut Report,
    source: &mut dyn Source,
    signals: &Signals,
    mut schedule: Schedule,
) -> Result<Exit> {
    let stdout = Stdout::open()?;
    let mut needed = report.names.capabilities(&report.tables);
    needed.extend(source.capabilities());
    keep_capabilities(needed);
    loop {
        let (instant, is_last) = schedule.next();
        let wake = report.wait(source, signals, instant)?;
        let is_last = is_last || wake != Wake::Time || source.has_ended()?;
        if is_last {
            source.finish(wake)?;
        }
        let reading = source.read()?;
        if is_last {
            source.end(wake, signals)?;
        }
        let shown = report.show(
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
    report.warn_at_end(schedule.left_out());
    Ok(report.exit())
}

/// Turns readings into output, and remembers what the next one needs.
pub(super) struct Report {
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

impl Report {
    /// Waits until the instant, or until something else comes first. Meanwhile it
    /// records the names of cgroups, because removed ones have none to ask for.
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

    /// For `run` and `read`, which may give many readings.
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
        let mut report = Self::new(global, &args.view, named, tables)?;
        report.max_rows = args.loading.max_rows;
        Ok(report)
    }

    /// An error if these tables cannot be shown in this way.
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

    /// The first reading shows the difference to this one.
    pub(super) fn start_from(&mut self, reading: Reading) {
        self.before = Some(reading);
    }

    pub(super) fn exit(&self) -> Exit {
        if self.complete && (self.whole || !self.strict) {
            Exit::Done
        } else {
            Exit::Incomplete
        }
    }

    pub(super) fn show(&mut self, mut reading: Reading, out: impl Write) -> Result<()> {
        if let (Some(_), Some(before)) = (&reading.incomplete, &self.before) {
            reading.fill_from(before);
        }
        let before = self.before.as_ref();
        let since = before.map(|before| reading.since(before, &self.tables));
        let all = (self.totals || since.is_none()).then(|| reading.in_all(&self.tables));
        let since = since.as_ref().or(all.as_deref()).unwrap_or(&reading);
        let shown = all.as_deref().unwrap_or(since);
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

    fn select<'r>(&self, shown: &'r Reading) -> Vec<Selection<'r>> {
        let tables = self.tables.iter().zip(&shown.tables);
        tables
            .map(|(table, reading)| self.query.apply(table, &reading.rows, &self.names))
            .collect()
    }

    /// `shown` is of an interval, or with `--total` since counting began.
    fn snapshot<'s>(
        &self,
        shown: &Reading,
        since: &Reading,
        selections: &'s [Selection<'s>],
    ) -> Snapshot<'s> {
        let readings = shown.tables.iter().zip(&since.tables);
        let tables = selections.iter().zip(readings);
        let is_filtered = !self.query.filters.is_empty();
        let is_shown = !is_filtered && self.query.top != Some(0);
        let tables = tables.map(|(selection, (shown, since))| {
            let table = &selection.table;
            let other = shown.other.as_deref();
            let other = other.filter(|cells| !table.counts_nothing(cells));
            TableSnapshot {
                table,
                rows: selection.named(&self.names, self.for_people),
                rows_read: shown.rows.len(),
                other: other.filter(|_| is_shown).map(<[u64]>::to_vec),
                leaves_out_other: is_filtered && other.is_some(),
                uncertain: shown.uncertain,
                dropped: shown.dropped,
                reset: since.reset,
            }
        });
        Snapshot {
            tally: self.name.clone(),
            summary: self.summary.clone(),
            time: shown.time,
            seconds: shown.seconds,
            missed: shown.missed,
            missed_by: shown.missed_by.clone(),
            gaps: shown.gaps,
            incomplete: shown.incomplete.clone(),
            tables: tables.collect(),
            sort: self.query.sort.clone(),
        }
    }

    /// What a table could not keep of its events.
    fn warn_of_table(&self, table: &Table, reading: &TableReading) {
        let (name, rows) = (&table.name, reading.rows.len());
        let is_full = rows >= self.max_rows.unwrap_or(table.max_entries) as usize;
        let room = || {
            let rows = plural(rows as u64, "row");
            format!("(it holds {rows}); give it more with --max-rows")
        };
        if let Some(other @ 1..) = reading.other_events(table) {
            let events = plural(other, "event");
            warn(&if is_full {
                format!(
                    "table `{name}` had no room for the keys of {events} {}",
                    room()
                )
            } else {
                format!(
                    "table `{name}` had no room, or found no memory, for the keys of {events}; give it more with --max-rows"
                )
            });
        }
        let Some(dropped @ 1..) = reading.dropped else {
            return;
        };
        let events = plural(dropped, "event");
        warn(&match reading.other {
            Some(_) => format!(
                "table `{name}` found no memory for the start of {events}: their time is unknown"
            ),
            None if is_full => format!("table `{name}` had no room for {events} {}", room()),
            None => format!("table `{name}` had no memory for {events}"),
        });
    }

    /// Warnings after the last reading.
    pub(super) fn warn_at_end(&self, left_out: u64) {
        if left_out > 0 {
            warn(&format!(
                "{} left out: a reading takes longer than `--every`",
                plural(left_out, "interval")
            ));
        }
        if let Some(last) = &self.before {
            self.warn_of_losses(last);
        }
        let _ = io::stderr().flush();
    }

    fn warn_of_losses(&self, last: &Reading) {
        for (table, reading) in self.tables.iter().zip(&last.tables) {
            self.warn_of_table(table, reading);
        }
        if let Some(missed @ 1..) = last.missed {
            let named = last.missed_by.iter().filter(|(_, missed)| *missed > 0);
            let named: Vec<String> = named
                .map(|(name, missed)| format!("`{name}` {missed}"))
                .collect();
            let named = match named.is_empty() {
                true => String::new(),
                false => format!(" ({})", named.join(", ")),
            };
            warn(&format!(
                "the kernel skipped {} of the tally's programs{named}, as one was already running",
                plural(missed, "run")
            ));
        }
        if let Some(gaps @ 1..) = last.gaps {
            warn(&format!(
                "the kernel did not report some of the tally's events: it left {}",
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
    }
}

/// Names details of a table that the format leaves out.
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
