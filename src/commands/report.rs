//! Turns readings into output.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};

use anyhow::{Context, Result};

use super::conditions::Conditions;
use super::{note, output, plural, query, style, warn};
use crate::cli::{Exit, Global, RunArgs, View};
use crate::error::usage;
use crate::names::{HostNames, local};
use crate::render::{Format, Renderer, Style};
use crate::schema::Table;
use crate::snapshot::{Query, Reading, Selection, Snapshot, TableSnapshot};
use crate::tally::Instance;

/// A tally whose readings are shown, and what the next one needs.
pub(super) struct Counted {
    pub(super) name: String,
    summary: String,
    pub(super) tables: Vec<Table>,
    pub(super) max_rows: Option<u32>,
    pub(super) before: Option<Reading>,
    /// Rows that were reset so far.
    pub(super) reset: u64,
}

impl Counted {
    pub(super) fn new(name: &str, summary: &str, tables: Vec<Table>) -> Self {
        Self {
            name: name.to_owned(),
            summary: summary.to_owned(),
            tables,
            max_rows: None,
            before: None,
            reset: 0,
        }
    }

    /// An error if it does not count what is to be shown.
    pub(super) fn of(instance: &Instance, fields: &[&str]) -> Result<Self> {
        let tables = instance.tables(fields)?;
        Ok(Self::new(&instance.meta.tally, instance.summary(), tables))
    }
}

/// How readings are shown: of one tally, or of several that are read together.
pub(super) struct Report {
    tallies: Vec<Counted>,
    query: Query,
    totals: bool,
    pub(super) names: HostNames,
    renderer: Renderer,
    for_people: bool,
    has_clock: bool,
    /// Whether each reading shows as many rows as the terminal has lines.
    fills_screen: bool,
    conditions: Conditions,
    whole: bool,
    complete: bool,
    strict: bool,
}

impl Report {
    /// For `run` and `read`, which may give many readings.
    pub(super) fn of_many(
        global: &Global,
        args: &RunArgs,
        mut tallies: Vec<Counted>,
    ) -> Result<Self> {
        check_format(args, global.output, &tallies)?;
        for tally in &mut tallies {
            tally.max_rows = args.loading.max_rows;
        }
        let mut view = args.view.clone();
        let is_single = args.every().is_none();
        // What one command did is a sum.
        view.total |= is_single && view.rate.is_none() && !args.command.is_empty();
        if !is_single {
            view.rate.get_or_insert_default();
        }
        let mut report = Self::new(global, &view, tallies)?;
        report.has_clock = !is_single;
        report.fills_screen = !is_single && report.for_people && report.query.top.is_none();
        let tables: Vec<Table> = report.tables().cloned().collect();
        report.conditions = Conditions::new(args, &report.query, &tables, &report.names)?;
        Ok(report)
    }

    /// An error if these tallies cannot be shown in this way.
    pub(super) fn new(global: &Global, view: &View, tallies: Vec<Counted>) -> Result<Self> {
        let query = query(&view.selection);
        let names = if view.raw {
            HostNames::raw()
        } else {
            HostNames::new()
        };
        let tables = tallies.iter().flat_map(|tally| &tally.tables);
        let tables: Vec<Table> = tables.cloned().collect();
        query.check(&tables, &names)?;
        let format = global.output;
        let totals = view.total || format.is_of_metrics();
        for tally in &tallies {
            note_fields(tally, &query);
            format.check(&tally.tables, query.by.as_deref())?;
            for table in &tally.tables {
                note_details(table, format, &query);
            }
        }
        let style = Style {
            histogram: view.histogram,
            totals,
            rare_totals: view.rate.is_none(),
            ..style(global)
        };
        Ok(Self {
            tallies,
            query,
            totals,
            names,
            renderer: Renderer::new(format, style),
            for_people: format == Format::Table,
            has_clock: false,
            fills_screen: false,
            conditions: Conditions::default(),
            whole: true,
            complete: true,
            strict: view.strict,
        })
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tallies.iter().flat_map(|tally| &tally.tables)
    }

    /// The first readings show the difference to these.
    pub(super) fn start_from(&mut self, readings: Vec<Reading>) {
        for (tally, reading) in self.tallies.iter_mut().zip(readings) {
            tally.before = Some(reading);
        }
    }

    /// Whether a reading met `--until`.
    pub(super) fn is_met(&self) -> bool {
        self.conditions.is_met()
    }

    pub(super) fn exit(&self) -> Exit {
        if self.complete && (self.whole || !self.strict) {
            self.conditions.exit()
        } else {
            Exit::Incomplete
        }
    }

    /// To the terminal, which may have been resized.
    fn fit(&mut self) {
        let Some((width, height)) = output::size() else {
            return;
        };
        // One line stands between two readings, and the cursor on the last.
        let room = self.fills_screen.then(|| height.saturating_sub(2));
        self.renderer.fit(width, room);
        if self.fills_screen {
            self.query.top = Some(height);
        }
    }

    /// Writes a reading of each tally.
    pub(super) fn show(&mut self, mut readings: Vec<Reading>, out: impl Write) -> Result<()> {
        self.fit();
        for (tally, reading) in self.tallies.iter().zip(&mut readings) {
            if let (Some(_), Some(before)) = (&reading.incomplete, &tally.before) {
                reading.fill_from(before);
            }
        }
        let tallies = self.tallies.iter().zip(&readings);
        let shown: Vec<Shown<'_>> = tallies
            .map(|(tally, reading)| Shown::new(tally, reading, self.totals))
            .collect();
        for Shown { tally, all, .. } in &shown {
            let Counted { name, tables, .. } = tally;
            self.conditions.look(name, tables, all, &self.names);
        }
        let selections: Vec<Vec<Selection<'_>>> =
            shown.iter().map(|shown| self.select(shown)).collect();
        let snapshots: Vec<Snapshot<'_>> = shown
            .iter()
            .zip(&selections)
            .map(|(shown, selections)| self.snapshot(shown, selections))
            .collect();
        for snapshot in &snapshots {
            self.complete &= snapshot.incomplete.is_none();
            self.whole &= snapshot.is_whole();
        }
        let resets: Vec<u64> = snapshots.iter().map(Snapshot::reset).collect();
        let time = snapshots.first().map(|snapshot| local(snapshot.time));
        let clock = time.as_deref().filter(|_| self.has_clock);
        self.renderer
            .render(&mut BufWriter::new(out), &snapshots, clock)
            .context("failed to write")?;
        let read = readings.into_iter().zip(resets);
        for (tally, (reading, reset)) in self.tallies.iter_mut().zip(read) {
            tally.before = Some(reading);
            tally.reset += reset;
        }
        Ok(())
    }

    fn select<'r>(&self, shown: &'r Shown<'_>) -> Vec<Selection<'r>> {
        let tables = shown.tally.tables.iter().zip(&shown.all.tables);
        tables
            .map(|(table, reading)| self.query.apply(table, &reading.rows, &self.names))
            .collect()
    }

    fn snapshot<'s>(&self, of: &Shown<'_>, selections: &'s [Selection<'s>]) -> Snapshot<'s> {
        let Shown { tally, all, since } = of;
        let since = since.as_ref().unwrap_or(all);
        let readings = all.tables.iter().zip(&since.tables);
        let tables = selections.iter().zip(readings);
        let tables = tables.map(|(selection, (shown, since))| TableSnapshot {
            reset: since.reset,
            ..TableSnapshot::new(selection, shown, &self.query, &self.names, self.for_people)
        });
        let is_interval = tally.before.is_some() && !self.totals;
        let called = (&*tally.name, &*tally.summary);
        Snapshot {
            sort: self.query.sort.as_ref().map(|sort| sort.column.clone()),
            ..Snapshot::new(called, all, is_interval, tables.collect())
        }
    }

    /// Warnings after the last reading.
    pub(super) fn warn_at_end(&self, left_out: u64) {
        if left_out > 0 {
            warn(&format!(
                "{} left out: a reading takes longer than `--every`",
                plural(left_out, "interval")
            ));
        }
        self.tallies.iter().for_each(Counted::warn_of_losses);
        let _ = io::stderr().flush();
    }
}

/// What is shown of a reading.
struct Shown<'r> {
    tally: &'r Counted,
    /// Of an interval, or with `--total` since counting began.
    all: Cow<'r, Reading>,
    /// Of the interval, if that is another.
    since: Option<Reading>,
}

impl<'r> Shown<'r> {
    fn new(tally: &'r Counted, reading: &'r Reading, totals: bool) -> Self {
        let before = tally.before.as_ref();
        let since = before.map(|before| reading.since(before, &tally.tables));
        let (all, since) = match since {
            Some(since) if !totals => (Cow::Owned(since), None),
            since => (reading.in_all(&tally.tables), since),
        };
        Self { tally, all, since }
    }
}

/// Refuses formats that have no place for many readings, or for many tallies.
fn check_format(args: &RunArgs, format: Format, tallies: &[Counted]) -> Result<()> {
    let many = |what| {
        Err(usage(format!(
            "`--every` and `--until` give many readings, and {what}"
        )))
    };
    match (args.every(), format) {
        (Some(_), Format::Json) => many("JSON is one object; use `-o jsonl`"),
        (Some(_), Format::Svg) => many("SVG is one picture; use `-o folded`"),
        (Some(_), format) if format.is_of_metrics() => {
            many("a metric has one value at a time; use `ktally export`")
        }
        (_, Format::Folded | Format::Svg) if tallies.len() > 1 => {
            Err(usage("a flame graph is of one tally: run it once for each"))
        }
        (_, Format::Csv) => apart(tallies),
        _ => Ok(()),
    }
}

/// Names fields that are not asked of a tally, as it does not have them.
fn note_fields(tally: &Counted, query: &Query) {
    for field in query.lacking(&tally.tables) {
        let name = &tally.name;
        note(&format!(
            "tally `{name}` has no field `{field}`: it is shown without it"
        ));
    }
}

/// Refuses tables that CSV does not tell apart: it names the table alone.
fn apart(tallies: &[Counted]) -> Result<()> {
    let tables = tallies.iter().flat_map(|tally| &tally.tables);
    let mut known = BTreeSet::new();
    let mut names = tables.map(|table| table.name.as_str());
    names
        .find(|name| !known.insert(*name))
        .map_or(Ok(()), |name| {
            Err(usage(format!(
                "two of these tallies have a table `{name}`, and CSV names no tally; use `-o jsonl`"
            )))
        })
}

/// Names details of a table that the format leaves out.
fn note_details(table: &Table, format: Format, query: &Query) {
    let names: Vec<String> = table
        .details
        .iter()
        .map(|detail| format!("`{}`", detail.name))
        .collect();
    let is_shown = table.is_found && matches!(format, Format::Table | Format::Csv);
    let how = match (format, &query.by) {
        (_, None) if is_shown => return,
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
