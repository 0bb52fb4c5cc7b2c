//! Rows at one instant, and what is done with them before they are shown. Pure.

mod query;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use crate::schema::{Histogram, Metric, MetricKind, Names, Table, Value};

pub(crate) use query::{Filter, Query, Rank};

/// Rows of one table, packed: a key of fixed size and a fixed number of cells
/// each, so that a million small rows take tens of megabytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    key_size: usize,
    width: usize,
    keys: Vec<u8>,
    cells: Vec<u64>,
    /// Every copy of the value, of a table with details: a row each.
    values: Vec<Vec<u8>>,
}

impl Rows {
    /// No rows yet, for a table's keys and cells.
    pub(crate) fn of(table: &Table) -> Self {
        Self {
            key_size: table.key_size,
            width: table.cells(),
            ..Self::default()
        }
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.keys
            .len()
            .checked_div(self.key_size)
            .unwrap_or(usize::from(!self.cells.is_empty()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a row of zeroes, to be filled in. A key of no bytes stands for one
    /// row: the total.
    pub(crate) fn push(&mut self, key: &[u8]) -> &mut [u64] {
        debug_assert_eq!(key.len(), self.key_size);
        self.keys.extend_from_slice(key);
        let start = self.cells.len();
        self.cells.resize(start + self.width, 0);
        &mut self.cells[start..]
    }

    /// Takes the last row back.
    pub(crate) fn pop(&mut self) {
        self.keys
            .truncate(self.keys.len().saturating_sub(self.key_size));
        self.cells
            .truncate(self.cells.len().saturating_sub(self.width));
        self.values.truncate(self.len());
    }

    /// Keeps the value of a row, or one more copy of it.
    pub(crate) fn keep_value(&mut self, row: usize, value: &[u8]) {
        self.values.resize_with(self.len(), Vec::new);
        self.values[row].extend_from_slice(value);
    }

    /// The copies of a row's value, of so many bytes each, as far as they were kept.
    pub(crate) fn values(&self, row: usize, size: usize) -> impl Iterator<Item = &[u8]> {
        let values = self.values.get(row).map_or(&[][..], Vec::as_slice);
        values.chunks_exact(size.max(1))
    }

    /// The bytes of a row's key.
    pub fn key(&self, row: usize) -> &[u8] {
        &self.keys[row * self.key_size..][..self.key_size]
    }

    /// The numbers of a row.
    pub fn cells(&self, row: usize) -> &[u64] {
        &self.cells[row * self.width..][..self.width]
    }

    /// What was counted since `before`, and how many rows were reset meanwhile.
    fn since(&self, before: &Self, metrics: &[Metric]) -> (Self, u64) {
        let mut before: HashMap<&[u8], &[u64]> = before.iter().collect();
        let mut rows = self.clone();
        let mut reset = 0;
        for row in 0..rows.len() {
            if let Some(before) = before.remove(self.key(row)) {
                reset += u64::from(difference(metrics, rows.cells_mut(row), before));
            }
        }
        // A row that is gone has nothing in it.
        let mut gone = vec![0; self.width];
        for before in before.into_values() {
            gone.fill(0);
            reset += u64::from(difference(metrics, &mut gone, before));
        }
        (rows, reset)
    }

    fn cells_mut(&mut self, row: usize) -> &mut [u64] {
        &mut self.cells[row * self.width..][..self.width]
    }

    /// Every row: its key and its numbers.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u64])> {
        (0..self.len()).map(|row| (self.key(row), self.cells(row)))
    }
}

/// What was read of one table.
#[derive(Debug, Clone)]
pub struct TableReading {
    /// Every row that counted something.
    pub rows: Rows,
    /// Rows, and starts of events, that found no memory since counting began;
    /// `None` where the table has no counter of them.
    pub dropped: Option<u64>,
    /// Rows that were reset since the reading before.
    pub reset: u64,
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
    /// Gaps in the events that the kernel reported, since counting began; `None`
    /// where the tally does not look for them.
    pub gaps: Option<u64>,
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
            let (rows, reset) = now.rows.since(&before.rows, &table.metrics);
            TableReading {
                rows,
                dropped: grown(now.dropped, before.dropped),
                reset,
            }
        });
        Self {
            time: self.time,
            seconds: self.seconds - before.seconds,
            tables: tables.collect(),
            missed: grown(self.missed, before.missed),
            gaps: grown(self.gaps, before.gaps),
            incomplete: self.incomplete.clone(),
        }
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

/// By how much a counter grew; one that was reset, from zero.
fn grown(now: Option<u64>, before: Option<u64>) -> Option<u64> {
    let (now, before) = now.zip(before)?;
    Some(now.checked_sub(before).unwrap_or(now))
}

/// What is shown of a reading: all that a renderer needs.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot<'s> {
    pub(crate) tally: String,
    pub(crate) summary: String,
    pub(crate) time: SystemTime,
    /// That the numbers are about: the interval, or since counting began.
    pub(crate) seconds: f64,
    /// Runs that the kernel skipped in that time.
    pub(crate) missed: Option<u64>,
    /// Gaps in the events that the kernel reported in that time.
    pub(crate) gaps: Option<u64>,
    /// Why some rows may be missing.
    pub(crate) incomplete: Option<String>,
    pub(crate) tables: Vec<TableSnapshot<'s>>,
}

/// One table of a [`Snapshot`].
#[derive(Debug, Clone)]
pub(crate) struct TableSnapshot<'s> {
    /// Its columns; grouping leaves fewer labels.
    pub(crate) table: &'s Table,
    /// With their names.
    pub(crate) rows: NamedRows<'s>,
    /// How many rows were read.
    pub(crate) rows_read: usize,
    /// Rows, and starts of events, that found no memory in that time.
    pub(crate) dropped: Option<u64>,
    /// Rows that were reset in that time, and may have counted more before it.
    pub(crate) reset: u64,
}

impl Snapshot<'_> {
    /// Whether every event was counted, as far as is known, and every row read.
    pub(crate) fn is_whole(&self) -> bool {
        // Unknown does not prove a loss.
        let none = |lost: Option<u64>| lost.unwrap_or(0) == 0;
        let is_whole = |table: &TableSnapshot<'_>| none(table.dropped) && table.reset == 0;
        self.tables.iter().all(is_whole)
            && none(self.missed)
            && none(self.gaps)
            && self.incomplete.is_none()
    }

    /// Over all tables.
    pub(crate) fn reset(&self) -> u64 {
        self.tables.iter().map(|table| table.reset).sum()
    }
}

/// A row that is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'r> {
    /// Of each label.
    pub(crate) names: &'r [Value<'r>],
    pub(crate) cells: &'r [u64],
    /// Of each detail.
    pub(crate) details: &'r [Value<'r>],
}

/// So many rows stay in the cache while they are shown.
const BLOCK: usize = 64;

/// The rows that are shown, with their names: packed, as [`Rows`] are.
#[derive(Debug, Clone)]
pub(crate) struct NamedRows<'s> {
    rows: &'s Rows,
    order: &'s [usize],
    names: Vec<Value<'s>>,
    details: Vec<Value<'s>>,
}

impl NamedRows<'_> {
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        self.order.iter().enumerate().map(|(place, row)| {
            if place % BLOCK == 0 {
                self.touch(place);
            }
            Row {
                names: self.of(place, &self.names),
                cells: self.rows.cells(*row),
                details: self.of(place, &self.details),
            }
        })
    }

    /// Brings the numbers of the next rows into the CPU's cache: they lie anywhere,
    /// and a CPU waits for many of them in the time of one.
    fn touch(&self, place: usize) {
        /// Of a cache line.
        const CELLS: usize = 8;
        let rows = self.order[place..].iter().take(BLOCK);
        let cells = rows.flat_map(|row| self.rows.cells(*row).iter().step_by(CELLS));
        std::hint::black_box(cells.fold(0, |sum, cell| sum ^ cell));
    }

    /// Each row has as many of them.
    fn of<'r>(&self, place: usize, all: &'r [Value<'r>]) -> &'r [Value<'r>] {
        let width = all.len() / self.len();
        &all[place * width..][..width]
    }
}

/// Rows of a table, filtered, grouped, sorted and cut.
#[derive(Debug, Clone)]
pub(crate) struct Selection<'r> {
    /// Grouping leaves fewer labels.
    pub(crate) table: Table,
    /// Those of the reading, or groups of them.
    pub(crate) rows: Cow<'r, Rows>,
    /// Which of them are shown.
    order: Vec<usize>,
    /// Their keys, in this order: they are read again and again. A copy of the
    /// numbers would take most memory.
    keys: Vec<u8>,
}

impl<'r> Selection<'r> {
    fn new(table: Table, rows: Cow<'r, Rows>, order: Vec<usize>) -> Self {
        let mut keys = Vec::with_capacity(order.len() * rows.key_size);
        for row in &order {
            keys.extend_from_slice(rows.key(*row));
        }
        Self {
            table,
            rows,
            order,
            keys,
        }
    }

    #[cfg(test)]
    pub(crate) fn all(table: Table, rows: Rows) -> Self {
        let order = (0..rows.len()).collect();
        Self::new(table, Cow::Owned(rows), order)
    }

    /// Every row: its key and its numbers.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u64])> {
        let order = self.order.iter().enumerate();
        order.map(|(place, row)| (self.key(place), self.rows.cells(*row)))
    }

    fn key(&self, place: usize) -> &[u8] {
        &self.keys[place * self.rows.key_size..][..self.rows.key_size]
    }

    /// Every row with its names. For people a process's name stands behind its
    /// number.
    pub(crate) fn named(&self, names: &dyn Names, for_people: bool) -> NamedRows<'_> {
        let Self {
            table, rows, order, ..
        } = self;
        let mut named = Vec::with_capacity(order.len() * table.labels.len());
        let mut details = Vec::with_capacity(order.len() * table.details.len());
        for (place, row) in order.iter().enumerate() {
            let key = self.key(place);
            named.extend(table.labels.iter().map(|label| {
                if for_people {
                    names.described(label, key)
                } else {
                    names.of(label, key)
                }
            }));
            details.extend(table.details.iter().map(|detail| {
                let copies = rows.values(*row, table.value_size);
                Value::sum(copies.map(|value| names.of(detail, value)).collect())
            }));
        }
        NamedRows {
            rows,
            order,
            names: named,
            details,
        }
    }
}

/// Leaves in `now` what counters and histograms counted since `before`; gauges
/// stay. Whether one of them was reset: of a row with declared counters, which
/// only ever grow, all were.
pub(crate) fn difference(metrics: &[Metric], now: &mut [u64], before: &[u64]) -> bool {
    let counting = || {
        let metrics = metrics.iter();
        metrics.filter(|metric| metric.kind != MetricKind::Gauge)
    };
    let is_reset = |metric: &Metric, now: &[u64]| metric.since(now, before).is_none();
    if counting().any(|metric| metric.is_declared && is_reset(metric, now)) {
        return true;
    }
    let mut reset = false;
    for metric in counting() {
        match metric.since(now, before) {
            Some(grown) => now[metric.range()].copy_from_slice(&grown),
            None => reset = true,
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

/// The upper edge of the bucket that holds the q-quantile: at least that share
/// of the observations is not greater. `None` where there are none.
pub(crate) fn quantile(cells: &[u64], q: f64) -> Option<u64> {
    let total = count(cells);
    if total == 0 {
        return None;
    }
    // 0.07 * 100 is a little more than 7 in binary.
    const ROUNDING: f64 = 1e-9;
    let rank = ((total as f64 * (q - ROUNDING)).ceil() as u64).clamp(1, total);
    let mut below = 0u64;
    (0..Histogram::BUCKETS).find_map(|bucket| {
        below = below.wrapping_add(cells[1 + bucket]);
        (below >= rank).then(|| Histogram::edge(bucket))
    })
}

#[cfg(test)]
mod tests;
