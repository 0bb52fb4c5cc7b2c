//! What is shown of a reading: rows that were selected, with their names.

use std::borrow::Cow;
use std::time::SystemTime;

use super::{Query, Reading, Rows, TableReading, add};
use crate::schema::{Decoder, Label, Names, Table, Value};

/// What is shown of a reading: all that a renderer needs.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot<'s> {
    pub(crate) tally: String,
    pub(crate) summary: String,
    pub(crate) time: SystemTime,
    /// That the numbers are about: the interval, or since counting began.
    pub(crate) seconds: f64,
    /// Whether that is an interval: maxima are since counting began all the same.
    pub(crate) is_interval: bool,
    /// Runs that the kernel skipped in that time.
    pub(crate) missed: Option<u64>,
    /// The same of each program; empty where it is not known.
    pub(crate) missed_by: Vec<(String, u64)>,
    /// Gaps in the events that the kernel reported in that time.
    pub(crate) gaps: Option<u64>,
    /// Attempts to raise a maximum that were given up in that time.
    pub(crate) unraised: Option<u64>,
    /// Why some rows may be missing.
    pub(crate) incomplete: Option<String>,
    pub(crate) tables: Vec<TableSnapshot<'s>>,
    /// The column that rows are sorted by, if it was given.
    pub(crate) sort: Option<String>,
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
    /// Whether a screen has no room for all rows.
    pub(crate) held_back: bool,
    /// How many there would be to show without a limit.
    pub(crate) matching: usize,
    /// The cells of the row `other`, where it counted something and no filter asks
    /// for keys that its events no longer have.
    pub(crate) other: Option<Vec<u64>>,
    /// Whether such a filter leaves it out.
    pub(crate) leaves_out_other: bool,
    /// Rows that lack the time of events which ended while they were read.
    pub(crate) uncertain: u64,
    /// Starts of events that found no memory in that time.
    pub(crate) dropped: Option<u64>,
    /// Rows that were reset in that time, and may have counted more before it.
    pub(crate) reset: u64,
}

impl<'s> Snapshot<'s> {
    /// What is shown of a tally's reading.
    pub(crate) fn new(
        (tally, summary): (&str, &str),
        reading: &Reading,
        is_interval: bool,
        tables: Vec<TableSnapshot<'s>>,
    ) -> Self {
        Self {
            tally: tally.to_owned(),
            summary: summary.to_owned(),
            time: reading.time,
            seconds: reading.seconds,
            is_interval,
            missed: reading.missed,
            missed_by: reading.missed_by.clone(),
            gaps: reading.gaps,
            unraised: reading.unraised,
            incomplete: reading.incomplete.clone(),
            tables,
            sort: None,
        }
    }
}

impl Snapshot<'_> {
    /// Whether every event was counted, as far as is known, and every row read.
    pub(crate) fn is_whole(&self) -> bool {
        // Unknown does not prove a loss.
        let none = |lost: Option<u64>| lost.unwrap_or(0) == 0;
        let is_whole = |table: &TableSnapshot<'_>| {
            let has_other = table.other.is_some() || table.leaves_out_other;
            none(table.dropped) && table.reset == 0 && !has_other
        };
        self.tables.iter().all(is_whole)
            && none(self.missed)
            && none(self.gaps)
            && none(self.unraised)
            && self.incomplete.is_none()
    }

    /// The same with at most this many rows per table.
    pub(crate) fn first(&self, most: usize) -> Self {
        let tables = self.tables.iter().map(|table| TableSnapshot {
            rows: table.rows.first(most),
            held_back: table.rows.len() > most,
            other: table.other.clone(),
            ..*table
        });
        Self {
            tables: tables.collect(),
            tally: self.tally.clone(),
            summary: self.summary.clone(),
            missed_by: self.missed_by.clone(),
            incomplete: self.incomplete.clone(),
            sort: self.sort.clone(),
            ..*self
        }
    }

    /// Over all tables.
    pub(crate) fn reset(&self) -> u64 {
        self.tables.iter().map(|table| table.reset).sum()
    }
}

impl<'s> TableSnapshot<'s> {
    /// What is shown of a table's reading.
    pub(crate) fn new(
        selection: &'s Selection<'_>,
        reading: &TableReading,
        query: &Query,
        names: &dyn Names,
        for_people: bool,
    ) -> Self {
        let table = &selection.table;
        let other = reading.other.as_deref();
        let other = other.filter(|cells| !table.counts_nothing(cells));
        let is_filtered = !query.filters.is_empty();
        let is_shown = !is_filtered && query.top != Some(0);
        Self {
            table,
            rows: selection.named(names, for_people),
            rows_read: reading.rows.len(),
            held_back: false,
            matching: selection.matching,
            other: other.filter(|_| is_shown).map(<[u64]>::to_vec),
            leaves_out_other: is_filtered && other.is_some(),
            uncertain: reading.uncertain,
            dropped: reading.dropped,
            reset: reading.reset,
        }
    }
}

impl TableSnapshot<'_> {
    /// The row `other`, where there is one to show.
    pub(crate) fn other(&self) -> Option<Row<'_>> {
        self.other.as_deref().map(Row::of_cells)
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

impl<'r> Row<'r> {
    /// A sum of rows, without a name.
    pub(crate) fn of_cells(cells: &'r [u64]) -> Self {
        Self {
            names: &[],
            cells,
            details: &[],
        }
    }
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

impl<'s> NamedRows<'s> {
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

    fn first(&self, most: usize) -> Self {
        let most = most.min(self.len());
        let of = |all: &[Value<'s>]| all[..most * (all.len() / self.len().max(1))].to_vec();
        Self {
            rows: self.rows,
            order: &self.order[..most],
            names: of(&self.names),
            details: of(&self.details),
        }
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
    /// How many of them there would be without a limit.
    pub(crate) matching: usize,
    /// Which of them are shown.
    order: Vec<usize>,
    /// Their keys, in this order: they are read again and again. A copy of the
    /// numbers would take most memory.
    keys: Vec<u8>,
}

impl<'r> Selection<'r> {
    pub(super) fn new(
        table: Table,
        rows: Cow<'r, Rows>,
        order: Vec<usize>,
        matching: usize,
    ) -> Self {
        let mut keys = Vec::with_capacity(order.len() * rows.key_size);
        for row in &order {
            keys.extend_from_slice(rows.key(*row));
        }
        Self {
            table,
            rows,
            matching,
            order,
            keys,
        }
    }

    /// Keeps the first rows. Returns how many others there are, and what they add up to.
    pub(crate) fn cut(&mut self, most: usize) -> (usize, Vec<u64>) {
        let rest = self.order.split_off(most.min(self.order.len()));
        self.keys.truncate(self.order.len() * self.rows.key_size);
        let mut sums = vec![0; self.table.cells()];
        for row in &rest {
            add(&self.table.metrics, &mut sums, self.rows.cells(*row));
        }
        (rest.len(), sums)
    }

    /// The first rows whose keys pass.
    pub(crate) fn pick(&self, most: usize, passes: impl Fn(&[u8]) -> bool) -> Self {
        let places = (0..self.order.len()).filter(|place| passes(self.key(*place)));
        let order: Vec<usize> = places.take(most).map(|place| self.order[place]).collect();
        let matching = order.len();
        Self::new(self.table.clone(), self.rows.clone(), order, matching)
    }

    #[cfg(test)]
    pub(crate) fn all(table: Table, rows: Rows) -> Self {
        let order = (0..rows.len()).collect();
        let matching = rows.len();
        Self::new(table, Cow::Owned(rows), order, matching)
    }

    /// Every row: its key and its numbers.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u64])> {
        let order = self.order.iter().enumerate();
        order.map(|(place, row)| (self.key(place), self.rows.cells(*row)))
    }

    fn key(&self, place: usize) -> &[u8] {
        &self.keys[place * self.rows.key_size..][..self.rows.key_size]
    }

    /// Every row with its names, which may be others for people: a process's name
    /// stands behind its number, unless it is a column.
    pub(crate) fn named(&self, names: &dyn Names, for_people: bool) -> NamedRows<'_> {
        let Self {
            table, rows, order, ..
        } = self;
        let is = |label: &Label, what| label.decoder.as_ref() == Some(&what);
        let has_comm = table.labels.iter().any(|it| is(it, Decoder::COMM));
        let is_described = |label| for_people && !(has_comm && is(label, Decoder::PID));
        let mut named = Vec::with_capacity(order.len() * table.labels.len());
        let mut details = Vec::with_capacity(order.len() * table.details.len());
        for (place, row) in order.iter().enumerate() {
            let key = self.key(place);
            named.extend(table.labels.iter().map(|label| {
                if is_described(label) {
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
