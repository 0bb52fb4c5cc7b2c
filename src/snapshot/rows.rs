//! The rows of a table, as they are read.

use std::collections::HashMap;

use super::{add, difference, take};
use crate::schema::{Metric, Table};

/// Rows of one table, packed: a key of fixed size and a fixed number of cells
/// each, so that a million small rows take tens of megabytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    pub(super) key_size: usize,
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

    /// The numbers of the row of this key, which is new where there is none.
    pub(crate) fn entry(&mut self, key: &[u8]) -> &mut [u64] {
        let row = (0..self.len()).find(|row| self.key(*row) == key);
        match row {
            Some(row) => self.cells_mut(row),
            None => self.push(key),
        }
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
    pub(crate) fn since(&self, before: &Self, metrics: &[Metric]) -> (Self, u64) {
        let (places, gone) = self.places_in(before);
        let mut rows = self.clone();
        let mut reset = 0;
        for (row, place) in places.into_iter().enumerate() {
            if let Some(place) = place {
                let before = before.cells(place);
                reset += u64::from(difference(metrics, rows.cells_mut(row), before));
            }
        }
        // A row that is gone has nothing in it.
        let mut nothing = vec![0; self.width];
        for place in gone {
            nothing.fill(0);
            reset += u64::from(difference(metrics, &mut nothing, before.cells(place)));
        }
        (rows, reset)
    }

    /// Where the key of each row is in `before`, and which rows there are gone. Most
    /// rows stand in the same order in both: only the others are looked up.
    fn places_in(&self, before: &Self) -> (Vec<Option<usize>>, Vec<usize>) {
        const AHEAD: usize = 8;
        let mut is_left = vec![true; before.len()];
        let mut next = 0;
        let in_order = (0..self.len()).map(|row| {
            let mut ahead = next..before.len().min(next + AHEAD);
            let place = ahead.find(|place| before.key(*place) == self.key(row))?;
            is_left[place] = false;
            next = place + 1;
            Some(place)
        });
        let mut places: Vec<Option<usize>> = in_order.collect();
        let left = (0..before.len()).filter(|place| is_left[*place]);
        let mut left: HashMap<&[u8], usize> =
            left.map(|place| (before.key(place), place)).collect();
        for (row, place) in places.iter_mut().enumerate() {
            *place = place.or_else(|| left.remove(self.key(row)));
        }
        (places, left.into_values().collect())
    }

    /// Adds what is under way to the rows that it is of, less what was under way at
    /// the reading before.
    pub(super) fn add_under_way(&mut self, now: &Self, before: &Self, metrics: &[Metric]) {
        if now.is_empty() && before.is_empty() {
            return;
        }
        let rows = self.iter().enumerate();
        let mut known: HashMap<Vec<u8>, usize> =
            rows.map(|(row, (key, _))| (key.to_vec(), row)).collect();
        for (key, more) in now.iter() {
            let row = *known.entry(key.to_vec()).or_insert_with(|| {
                self.push(key);
                self.len() - 1
            });
            add(metrics, self.cells_mut(row), more);
        }
        for (key, less) in before.iter() {
            if let Some(row) = known.get(key) {
                take(self.cells_mut(*row), less, metrics);
            }
        }
    }

    /// Adds what other rows of these keys counted.
    pub(crate) fn add(&mut self, more: &Self, metrics: &[Metric]) {
        self.add_under_way(more, &Self::default(), metrics);
    }

    pub(super) fn cells_mut(&mut self, row: usize) -> &mut [u64] {
        &mut self.cells[row * self.width..][..self.width]
    }

    /// Every row: its key and its numbers.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u64])> {
        (0..self.len()).map(|row| (self.key(row), self.cells(row)))
    }
}
