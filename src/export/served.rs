//! Which rows of a table get a series. The others are added up in the series `other`.
//!
//! The sum of the others must never fall, or Prometheus takes it for a restart. So a row
//! that was folded stays folded: once a row found no room, no later one gets any.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;

use crate::render::{OTHER, Series, Texts, labels, row_labels};
use crate::schema::{Names, Table};
use crate::snapshot::{Query, TableReading};

/// The series of one table, from one reading to the next.
pub(crate) struct Served {
    most: usize,
    /// The labels of each slot, and the slots by their labels. The first is `other`.
    texts: Arc<Texts>,
    by_text: HashTable<u32>,
    /// Keys that have a series, one behind the other, and the slot of each: keys with the
    /// same labels share one.
    key_size: usize,
    keys: Vec<u8>,
    slots: Vec<u32>,
    by_key: HashTable<u32>,
    hasher: RandomState,
    /// Whether a row found no room.
    is_full: bool,
}

/// The slot of the series `other`.
const OTHER_SLOT: u32 = 0;

impl Served {
    /// Has no series of rows yet, and never more than `most`. A label of the series `other`
    /// says when this exporter began: after a restart other rows may be part of it.
    pub(crate) fn new(table: &Table, most: usize, start: &str) -> Self {
        let mut served = Self {
            most,
            texts: Arc::default(),
            by_text: HashTable::new(),
            key_size: 0,
            keys: Vec::new(),
            slots: Vec::new(),
            by_key: HashTable::new(),
            hasher: RandomState::new(),
            is_full: false,
        };
        let mut other = row_labels(table, table.labels.iter().map(|_| OTHER.to_owned()));
        if !other.is_empty() {
            other.push(',');
        }
        other += &labels(&[("exporter_start", start)]);
        served.slot_of(&other);
        served
    }

    /// The series of a reading, and how many of its rows have none.
    pub(crate) fn series(
        &mut self,
        table: &Table,
        reading: &TableReading,
        names: &dyn Names,
    ) -> (Series, u64) {
        let query = Query::default();
        // The first series are those of the largest rows.
        let is_first = self.slots.is_empty() && reading.rows.len() > self.most;
        let (mut series, folded) = if is_first || query.groups(table, names) {
            let selection = query.apply(table, &reading.rows, names);
            self.fold(&selection.table, || selection.iter(), names)
        } else {
            self.fold(table, || reading.rows.iter(), names)
        };
        let other = reading.other.as_deref();
        if let Some(other) = other.filter(|cells| !table.counts_nothing(cells)) {
            series.add(OTHER_SLOT, other, &table.metrics);
        }
        (series.named(Arc::clone(&self.texts)), folded)
    }

    fn fold<'r, I: Iterator<Item = (&'r [u8], &'r [u64])>>(
        &mut self,
        table: &Table,
        rows: impl Fn() -> I,
        names: &dyn Names,
    ) -> (Series, u64) {
        self.key_size = table.key_size;
        let counting = || rows().filter(|(_, cells)| !table.counts_nothing(cells));
        if let Some(all) = self.add_up(table, counting(), names, !self.is_full) {
            return all;
        }
        self.keep_only(counting().map(|(key, _)| key));
        let all = self.add_up(table, counting(), names, false);
        all.unwrap_or_default()
    }

    /// The series of rows, and how many rows have none. `None` at a row that finds no
    /// room, if series of rows that are gone `may_go`.
    fn add_up<'r>(
        &mut self,
        table: &Table,
        rows: impl Iterator<Item = (&'r [u8], &'r [u64])>,
        names: &dyn Names,
        may_go: bool,
    ) -> Option<(Series, u64)> {
        let mut series = Series::new(table);
        let mut folded = 0;
        for (key, cells) in rows {
            let slot = match self.find(key) {
                Some(slot) => slot,
                None if !self.is_full && self.texts.len() <= self.most => {
                    let labels = table.labels.iter();
                    let labels = labels.map(|label| names.of(label, key).to_string());
                    let slot = self.slot_of(&row_labels(table, labels));
                    self.remember(key, slot);
                    slot
                }
                None if may_go => return None,
                None => {
                    self.is_full = true;
                    folded += 1;
                    OTHER_SLOT
                }
            };
            series.add(slot, cells, &table.metrics);
        }
        Some((series, folded))
    }

    /// Makes room: rows that are gone give up their series, as no row was folded yet.
    fn keep_only<'r>(&mut self, keys: impl Iterator<Item = &'r [u8]>) {
        let old = Self {
            texts: Arc::clone(&self.texts),
            by_text: HashTable::new(),
            keys: std::mem::take(&mut self.keys),
            slots: std::mem::take(&mut self.slots),
            by_key: std::mem::take(&mut self.by_key),
            hasher: self.hasher.clone(),
            ..*self
        };
        self.texts = Arc::default();
        self.by_text.clear();
        self.slot_of(old.texts.get(OTHER_SLOT as usize));
        for key in keys {
            if let Some(slot) = old.find(key) {
                let slot = self.slot_of(old.texts.get(slot as usize));
                self.remember(key, slot);
            }
        }
    }

    fn find(&self, key: &[u8]) -> Option<u32> {
        let is_it = |row: &u32| key_at(&self.keys, self.key_size, *row) == key;
        let row = self.by_key.find(self.hasher.hash_one(key), is_it)?;
        Some(self.slots[*row as usize])
    }

    fn remember(&mut self, key: &[u8], slot: u32) {
        let row = self.slots.len() as u32;
        self.keys.extend_from_slice(key);
        self.slots.push(slot);
        let (keys, size, hasher) = (&self.keys, self.key_size, &self.hasher);
        let hash = |row: &u32| hasher.hash_one(key_at(keys, size, *row));
        self.by_key.insert_unique(hasher.hash_one(key), row, hash);
    }

    /// The slot of these labels, which is new with them.
    fn slot_of(&mut self, labels: &str) -> u32 {
        let hash = self.hasher.hash_one(labels);
        let is_it = |slot: &u32| self.texts.get(*slot as usize) == labels;
        if let Some(slot) = self.by_text.find(hash, is_it) {
            return *slot;
        }
        let slot = self.texts.len() as u32;
        Arc::make_mut(&mut self.texts).push(labels);
        let (texts, hasher) = (&self.texts, &self.hasher);
        let hash_of = |slot: &u32| hasher.hash_one(texts.get(*slot as usize));
        self.by_text.insert_unique(hash, slot, hash_of);
        slot
    }
}

fn key_at(keys: &[u8], size: usize, row: u32) -> &[u8] {
    &keys[row as usize * size..][..size]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::schema::testing::{self, member, structure};
    use crate::schema::{Plain, Tags, Type};
    use crate::snapshot::Rows;

    /// Of one key, a number, and a counter.
    fn table() -> Table {
        let key = structure(4, vec![member("id", 0, &Type::unsigned(4))]);
        let value = structure(8, vec![member("count", 0, &Type::unsigned(8))]);
        Table::new("t", &Tags::default(), 8, &key, &value)
    }

    fn reading(rows: &[(u32, u64)], other: u64) -> TableReading {
        let mut all = Rows::of(&table());
        for (id, count) in rows {
            all.push(&id.to_le_bytes())[0] = *count;
        }
        TableReading {
            rows: all,
            other: Some(vec![other]),
            ..TableReading::default()
        }
    }

    /// `id=count` of each series, and how many rows were folded.
    fn shown(served: &mut Served, rows: &[(u32, u64)], other: u64) -> (String, u64) {
        let table = table();
        let (series, folded) = served.series(&table, &reading(rows, other), &Plain);
        let series = series.iter().map(|(labels, cells)| {
            let id = labels.split('"').nth(1).unwrap();
            format!("{id}={}", cells[0])
        });
        (series.collect::<Vec<_>>().join(" "), folded)
    }

    fn served(most: usize) -> Served {
        Served::new(&table(), most, "now")
    }

    #[test]
    fn the_largest_are_served_and_the_others_folded() {
        let mut served = served(2);
        let first = shown(&mut served, &[(1, 10), (2, 30), (3, 20), (4, 5)], 0);
        assert_eq!(first, ("other=15 2=30 3=20".to_owned(), 2));
        // A folded row stays folded, however large it becomes and whichever rows come or go.
        let second = shown(&mut served, &[(1, 900), (2, 31), (5, 7)], 1);
        assert_eq!(second, ("other=908 2=31".to_owned(), 2));
        let third = shown(&mut served, &[(1, 900), (3, 21), (5, 7)], 1);
        assert_eq!(third, ("other=908 3=21".to_owned(), 2));
    }

    #[test]
    fn later_rows_are_served_while_there_is_room() {
        let mut served = served(3);
        assert_eq!(shown(&mut served, &[(1, 1)], 0), ("1=1".to_owned(), 0));
        let second = shown(&mut served, &[(1, 1), (2, 2)], 4);
        assert_eq!(second, ("other=4 1=1 2=2".to_owned(), 0));
        // Nothing was folded yet: the series of rows that are gone is free.
        let third = shown(&mut served, &[(2, 3), (3, 4), (4, 5)], 4);
        assert_eq!(third, ("other=4 2=3 3=4 4=5".to_owned(), 0));
        let fourth = shown(&mut served, &[(2, 3), (3, 4), (4, 5), (5, 6)], 4);
        assert_eq!(fourth, ("other=10 2=3 3=4 4=5".to_owned(), 1));
        let fifth = shown(&mut served, &[(2, 3), (5, 6), (1, 1)], 4);
        assert_eq!(fifth, ("other=11 2=3".to_owned(), 2));
    }

    /// Whatever comes and goes, nothing is lost and `other` never falls while no row
    /// falls.
    #[test]
    fn other_never_falls() {
        let mut served = served(5);
        let mut counts = [0_u64; 40];
        let mut before = 0;
        for round in 0..200_u64 {
            let mut rows = Vec::new();
            for (id, count) in counts.iter_mut().enumerate() {
                if id as u64 <= round / 4 {
                    *count += (id as u64 * 7 + round) % 5 + 1;
                    rows.push((id as u32, *count));
                }
            }
            let table = table();
            let (series, _) = served.series(&table, &reading(&rows, round), &Plain);
            let sum: u64 = series.iter().map(|(_, cells)| cells[0]).sum();
            assert_eq!(sum, counts.iter().sum::<u64>() + round);
            let other = series.iter().find(|(labels, _)| labels.contains("other"));
            let other = other.map_or(0, |(_, cells)| cells[0]);
            assert!(other >= before, "{round}");
            before = other;
        }
        assert!(before > 0);
    }

    /// The same labels twice would make the text invalid.
    #[test]
    fn keys_that_look_the_same_are_one_series() {
        let text = testing::text(4);
        let key = structure(4, vec![member("name", 0, &text)]);
        let value = structure(8, vec![member("count", 0, &Type::unsigned(8))]);
        let table = Table::new("t", &Tags::default(), 8, &key, &value);
        let mut rows = Rows::of(&table);
        rows.push(b"a\0x\0")[0] = 1;
        rows.push(b"a\0y\0")[0] = 2;
        let reading = TableReading {
            rows,
            ..TableReading::default()
        };
        let mut served = Served::new(&table, 10, "now");
        for _ in 0..2 {
            let (series, folded) = served.series(&table, &reading, &Plain);
            let all: Vec<_> = series.iter().collect();
            assert_eq!((all, folded), (vec![("name=\"a\"", &[3][..])], 0));
        }
    }

    /// A restart begins a new series.
    #[test]
    fn other_says_when_the_exporter_began() {
        let table = table();
        let (series, _) = served(1).series(&table, &reading(&[(1, 1)], 3), &Plain);
        let labels: Vec<&str> = series.iter().map(|(labels, _)| labels).collect();
        let other = "id=\"other\",exporter_start=\"now\"";
        assert_eq!(labels, [other, "id=\"1\""]);
    }
}
