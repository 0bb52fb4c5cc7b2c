//! Rows at one instant, and what is done with them before they are shown. Pure.

mod column;
mod filter;
mod interval;
mod order;
mod query;
mod rows;
mod shown;
mod watch;

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::SystemTime;

use crate::schema::{Histogram, Metric, MetricKind, Table};

pub(crate) use filter::{Condition, Filter};
pub(crate) use interval::{Interval, Lost};
pub(crate) use order::{Rank, Sort};
pub(crate) use query::Query;
pub use rows::Rows;
pub(crate) use shown::{Row, Selection, Snapshot, TableSnapshot};
pub(crate) use watch::Watch;

/// What was read of one table.
#[derive(Debug, Clone, Default)]
pub struct TableReading {
    /// Every row that counted something.
    pub rows: Rows,
    /// The cells of the row `other`, of events whose keys found no room; `None`
    /// for objects of earlier headers, which dropped such events.
    pub other: Option<Vec<u64>>,
    /// What the events that are under way will add to the rows: a part of the
    /// reading that the table does not have yet.
    pub under_way: Rows,
    /// The same of the row `other`.
    pub other_under_way: Vec<u64>,
    /// Rows that lack the time of events which ended while they were read.
    pub uncertain: u64,
    /// Starts of events that found no memory since counting began; `None` where
    /// the table has no counter of them.
    pub dropped: Option<u64>,
    /// Rows that were reset since the reading before.
    pub reset: u64,
}

impl TableReading {
    /// How many events the row `other` has.
    pub fn other_events(&self, table: &Table) -> Option<u64> {
        Some(events(table, self.other.as_deref()?))
    }
}

/// How many events these cells have, by the first metric that counts events: a
/// counter without a unit, or a histogram.
pub(crate) fn events(table: &Table, cells: &[u64]) -> u64 {
    let events = table.metrics.iter().find_map(|metric| match metric.kind {
        MetricKind::Counter if metric.unit.is_none() => Some(cells[metric.cell]),
        MetricKind::Histogram => Some(count(&cells[metric.cell..])),
        _ => None,
    });
    events.or(cells.first().copied()).unwrap_or_default()
}

/// What was read of a tally, at one instant.
#[derive(Debug, Clone)]
pub struct Reading {
    /// By the clock of the host.
    pub time: SystemTime,
    /// Since counting began.
    pub seconds: f64,
    /// In the order of the tally's tables.
    pub tables: Vec<TableReading>,
    /// Runs that the kernel skipped, since counting began; `None` where it does
    /// not tell (before Linux 5.12).
    pub missed: Option<u64>,
    /// The same of each program, by its name; empty where it is not known.
    pub missed_by: Vec<(String, u64)>,
    /// Gaps in the events that the kernel reported, since counting began; `None`
    /// where the tally does not look for them.
    pub gaps: Option<u64>,
    /// Attempts to raise a maximum that were given up, since counting began; `None`
    /// where the tally has no maxima.
    pub unraised: Option<u64>,
    /// Why some rows may be missing from it.
    pub incomplete: Option<String>,
}

impl Reading {
    /// What was counted since a reading `before` of the same tables. A row is
    /// reset where it had counted more: it was deleted, evicted or set to zero,
    /// and what is in it now was counted since.
    pub(crate) fn since(&self, before: &Self, tables: &[Table]) -> Self {
        let readings = self.tables.iter().zip(&before.tables);
        let tables = tables.iter().zip(readings).map(|(table, (now, before))| {
            let (mut rows, reset) = now.rows.since(&before.rows, &table.metrics);
            let mut other = now.other.clone();
            if let (Some(other), Some(before)) = (&mut other, &before.other) {
                difference(&table.metrics, other, before);
            }
            let metrics = &table.metrics;
            rows.add_under_way(&now.under_way, &before.under_way, metrics);
            if let Some(other) = &mut other {
                add(metrics, other, &now.other_under_way);
                take(other, &before.other_under_way, metrics);
            }
            TableReading {
                rows,
                other,
                under_way: Rows::default(),
                other_under_way: Vec::new(),
                uncertain: now.uncertain,
                dropped: grown(now.dropped, before.dropped),
                reset,
            }
        });
        Self {
            time: self.time,
            seconds: self.seconds - before.seconds,
            tables: tables.collect(),
            missed: grown(self.missed, before.missed),
            missed_by: self.missed_since(before),
            gaps: grown(self.gaps, before.gaps),
            unraised: grown(self.unraised, before.unraised),
            incomplete: self.incomplete.clone(),
        }
    }

    /// The same since counting began.
    pub fn in_all(&self, tables: &[Table]) -> Cow<'_, Self> {
        let is_still = |table: &TableReading| {
            table.under_way.is_empty() && table.other_under_way.iter().all(|cell| *cell == 0)
        };
        if self.tables.iter().all(is_still) {
            return Cow::Borrowed(self);
        }
        let mut all = self.clone();
        for (table, reading) in tables.iter().zip(&mut all.tables) {
            let under_way = std::mem::take(&mut reading.under_way);
            let none = Rows::default();
            reading
                .rows
                .add_under_way(&under_way, &none, &table.metrics);
            let more = std::mem::take(&mut reading.other_under_way);
            let other = reading.other.iter_mut();
            other.for_each(|other| add(&table.metrics, other, &more));
        }
        Cow::Owned(all)
    }

    fn missed_since(&self, before: &Self) -> Vec<(String, u64)> {
        let since = self.missed_by.iter().map(|(program, now)| {
            let mut known = before.missed_by.iter();
            let before = known.find(|(known, _)| known == program);
            let grown = before.and_then(|(_, before)| grown(Some(*now), Some(*before)));
            (program.clone(), grown.unwrap_or(*now))
        });
        since.collect()
    }

    /// A reading of each of its tables.
    pub(crate) fn of_each_table(mut self) -> Vec<Self> {
        let tables = std::mem::take(&mut self.tables);
        let one = |table| Self {
            tables: vec![table],
            ..self.clone()
        };
        tables.into_iter().map(one).collect()
    }

    /// Gives it the runs that the kernel missed, of each program.
    pub(crate) fn set_missed(&mut self, missed: Option<Vec<(String, u64)>>) {
        let known = missed.as_ref();
        self.missed = known.map(|missed| missed.iter().map(|(_, missed)| missed).sum());
        self.missed_by = missed.unwrap_or_default();
    }

    /// Takes away runs that the kernel had missed before.
    pub(crate) fn take_missed(&mut self, before: &[(String, u64)]) {
        for (program, before) in before {
            let mut missed = self.missed_by.iter_mut();
            if let Some((_, missed)) = missed.find(|(known, _)| known == program) {
                *missed = missed.saturating_sub(*before);
            }
        }
        let before = before.iter().map(|(_, before)| before).sum();
        self.missed = self.missed.map(|missed| missed.saturating_sub(before));
    }

    /// Adds what was counted in other tables of the same kinds.
    pub(crate) fn add(&mut self, more: &Self, tables: &[Table]) {
        let readings = self.tables.iter_mut().zip(&more.tables);
        for (table, (reading, more)) in tables.iter().zip(readings) {
            let none = Rows::default();
            reading
                .rows
                .add_under_way(&more.rows, &none, &table.metrics);
            if let (Some(other), Some(more)) = (&mut reading.other, &more.other) {
                add(&table.metrics, other, more);
            }
            let dropped = reading.dropped.zip(more.dropped);
            reading.dropped = dropped.map(|(dropped, more)| dropped + more);
        }
        let sum = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a + b);
        self.gaps = sum(self.gaps, more.gaps);
        self.unraised = sum(self.unraised, more.unraised);
        self.incomplete = self.incomplete.take().or_else(|| more.incomplete.clone());
    }

    /// Takes the rows that it lacks from the reading before: what an incomplete
    /// reading did not come to is neither gone, nor new in the next one.
    pub(crate) fn fill_from(&mut self, before: &Self) {
        for (now, before) in self.tables.iter_mut().zip(&before.tables) {
            let known: HashSet<Vec<u8>> = now.rows.iter().map(|(key, _)| key.to_vec()).collect();
            let lacking = before.rows.iter().filter(|(key, _)| !known.contains(*key));
            for (key, cells) in lacking {
                now.rows.push(key).copy_from_slice(cells);
            }
        }
    }
}

/// Takes in the numbers of another row.
fn add(metrics: &[Metric], cells: &mut [u64], more: &[u64]) {
    metrics.iter().for_each(|metric| metric.add(cells, more));
}

/// Takes away what was under way before, down to zero: what ended while a reading
/// was made may be in none of its rows.
fn take(cells: &mut [u64], before: &[u64], metrics: &[Metric]) {
    let counters = metrics.iter().filter(|it| it.kind == MetricKind::Counter);
    for cell in counters.map(|counter| counter.cell) {
        let before = before.get(cell).copied().unwrap_or_default();
        cells[cell] = cells[cell].saturating_sub(before);
    }
}

/// By how much a counter grew; one that was reset, from zero.
fn grown(now: Option<u64>, before: Option<u64>) -> Option<u64> {
    let (now, before) = now.zip(before)?;
    Some(now.checked_sub(before).unwrap_or(now))
}

/// Leaves in `now` what counters and histograms counted since `before`; gauges
/// and maxima stay. Whether one of them was reset: of a row with declared counters, which
/// only ever grow, all were.
pub(crate) fn difference(metrics: &[Metric], now: &mut [u64], before: &[u64]) -> bool {
    let counting = || {
        let counts = [MetricKind::Counter, MetricKind::Histogram];
        metrics
            .iter()
            .filter(move |metric| counts.contains(&metric.kind))
    };
    if counting().any(|metric| metric.is_declared && metric.is_reset(now, before)) {
        return true;
    }
    let mut reset = false;
    for metric in counting() {
        if metric.is_reset(now, before) {
            reset = true;
        } else {
            metric.subtract(now, before);
        }
    }
    reset
}

/// The number of observations in a histogram's cells.
pub fn count(cells: &[u64]) -> u64 {
    cells[1..Histogram::CELLS]
        .iter()
        .fold(0, |sum, bucket| sum.wrapping_add(*bucket))
}

#[cfg(test)]
mod tests;
