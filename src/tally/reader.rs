//! Reads a tally that counts, in this process or as an instance: its tables, and
//! what is known about the events that are not in them.

use std::collections::HashSet;
use std::iter::Sum;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};

use super::follow::FOLLOWED;
use super::under_way::{Kept, RowId, RowUnderWay, Starts, States, monotonic_now};
use crate::map::{Map, Outcome, Reader};
use crate::schema::{Place, Schema, Table};
use crate::snapshot::{Reading, Rows, TableReading};
use crate::sys;

/// What the runs of programs cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) runs: u64,
    /// In nanoseconds.
    pub(crate) time: u64,
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::default(), |sum, cost| Self {
            runs: sum.runs + cost.runs,
            time: sum.time + cost.time,
        })
    }
}

/// The maps and programs of a tally.
#[derive(Debug)]
pub(super) struct TallyReader {
    pub(super) tables: Vec<(Table, Map)>,
    /// `.bss.ktally`, the health of every table.
    pub(super) health: Option<Map>,
    pub(super) states: States,
    /// The programs that the links run; `None` if this user may not open them.
    pub(super) programs: Option<Vec<(String, OwnedFd)>>,
}

impl TallyReader {
    /// When counting began and ended, by `CLOCK_MONOTONIC`; `stopped_at` is given when
    /// the programs run no more, and `kept` when what was under way then is kept.
    pub(super) fn read(
        &self,
        schema: &Schema,
        started_at: u64,
        stopped_at: Option<u64>,
        kept: Option<&Kept>,
    ) -> Result<Reading> {
        let (time, now) = (SystemTime::now(), monotonic_now());
        let (mut reading, at) = match kept {
            Some(kept) => {
                let mut reading = self.read_tables(schema)?;
                self.add(&mut reading.tables, &kept.rows);
                (reading, kept.at)
            }
            None => self.read_now(schema, stopped_at)?,
        };
        reading.time = time - Duration::from_nanos(now.saturating_sub(at));
        reading.seconds = Duration::from_nanos(at.saturating_sub(started_at)).as_secs_f64();
        reading.set_missed(self.missed()?);
        Ok(reading)
    }

    /// The tables with what is under way, and the instant that this is of.
    fn read_now(&self, schema: &Schema, stopped_at: Option<u64>) -> Result<(Reading, u64)> {
        let before = self.states.read(stopped_at)?;
        let at = before.at;
        let mut reading = self.read_tables(schema)?;
        if !self.states.is_empty() {
            self.settle(schema, &mut reading.tables, before, stopped_at)?;
        }
        Ok((reading, at))
    }

    /// The tables alone, without what is under way.
    pub(super) fn read_tables(&self, schema: &Schema) -> Result<Reading> {
        let health = self.health()?;
        let mut incomplete = None;
        let mut tables = Vec::new();
        for (table, map) in &self.tables {
            let (rows, outcome) = rows_of(map, table)?;
            if let Outcome::Incomplete(why) = outcome {
                incomplete = Some(format!("table `{}`: {why}", table.name));
            }
            tables.push(TableReading {
                rows,
                other: other(schema, &health, table),
                under_way: Rows::of(table),
                other_under_way: vec![0; table.cells()],
                uncertain: 0,
                dropped: dropped(schema, &health, &table.name),
                reset: 0,
            });
        }
        if let Some(lost @ 1..) = dropped(schema, &health, FOLLOWED) {
            incomplete = Some(format!(
                "{lost} children of the command could not be followed (out of memory)"
            ));
        }
        let counter = |place: &Option<Place>| {
            let number = place.as_ref().and_then(|place| place.raw(&health));
            number.and_then(|number| u64::try_from(number).ok())
        };
        Ok(Reading {
            time: SystemTime::now(),
            seconds: 0.0,
            tables,
            missed: None,
            missed_by: Vec::new(),
            gaps: counter(&schema.gaps),
            unraised: counter(&schema.unraised),
            incomplete,
        })
    }

    /// How often the kernel skipped each of its programs, if that is known.
    pub(super) fn missed(&self) -> Result<Option<Vec<(String, u64)>>> {
        self.programs.as_deref().map_or(Ok(None), missed)
    }

    /// What its programs have cost while the kernel measured. `None` without privileges.
    pub(super) fn costs(&self) -> Result<Option<Vec<(String, Cost)>>> {
        let Some(programs) = &self.programs else {
            return Ok(None);
        };
        let costs = programs.iter().map(|(name, program)| {
            let info = sys::program::info(program.as_fd());
            let info = info.context("failed to ask what a program costs")?;
            let cost = Cost {
                runs: info.run_cnt,
                time: info.run_time_ns,
            };
            Ok((name.clone(), cost))
        });
        costs.collect::<Result<_>>().map(Some)
    }

    /// How many rows each of its tables has room for; `None` of arrays.
    pub(super) fn max_rows(&self) -> Vec<Option<u32>> {
        self.tables.iter().map(|(_, map)| map.max_rows()).collect()
    }

    fn health(&self) -> Result<Vec<u8>> {
        let Some(map) = &self.health else {
            return Ok(Vec::new());
        };
        let health = map.lookup(&[0; 4]);
        let health = health.context("failed to read dropped counters")?;
        Ok(health.unwrap_or_default())
    }

    /// Adds what is under way: what was so before the tables were read and still
    /// is. The row of what ended meanwhile is read once more between two looks at
    /// the starts, until none of its events ends between them, or too often.
    fn settle(
        &self,
        schema: &Schema,
        tables: &mut [TableReading],
        mut before: Starts,
        stopped_at: Option<u64>,
    ) -> Result<()> {
        const MOST_ROUNDS: usize = 100;
        const MOST_TIME: Duration = Duration::from_millis(20);
        let started = Instant::now();
        let mut after = self.states.read(stopped_at)?;
        let mut unsettled = before.unsettled(&after);
        let is_settled = |row: &RowId| !unsettled.contains(row);
        self.add(tables, &self.states.lasting(&before, &after, is_settled));
        for _ in 0..MOST_ROUNDS {
            if unsettled.is_empty() || started.elapsed() > MOST_TIME {
                break;
            }
            let health = self.health()?;
            for ((table, _), reading) in self.tables.iter().zip(&mut *tables) {
                reading.other = other(schema, &health, table);
            }
            for (table, key) in &unsettled {
                let (declared, map) = &self.tables[*table];
                if let Some(buffer) = map.lookup(key)? {
                    let cells = tables[*table].rows.entry(key);
                    cells.fill(0);
                    map.values(&buffer)
                        .for_each(|value| declared.add_cells(value, cells));
                }
            }
            before = after;
            after = self.states.read(stopped_at)?;
            let changed = before.unsettled(&after);
            let (still, settled) = unsettled.into_iter().partition(|row| changed.contains(row));
            let settled: HashSet<RowId> = settled;
            unsettled = still;
            let lasting = self
                .states
                .lasting(&before, &after, |row| settled.contains(row));
            self.add(tables, &lasting);
        }
        let lasting = self
            .states
            .lasting(&before, &after, |row| unsettled.contains(row));
        self.add(tables, &lasting);
        for (table, _) in unsettled {
            tables[table].uncertain += 1;
        }
        Ok(())
    }

    /// Adds what is under way of rows that were not added to before. Where a table is
    /// full, events of a new key will end in its row `other`.
    fn add(&self, tables: &mut [TableReading], rows: &[RowUnderWay]) {
        if rows.is_empty() {
            return;
        }
        for (i, ((table, map), reading)) in self.tables.iter().zip(tables).enumerate() {
            let is_full = reading.rows.len() >= map.max_entries as usize;
            let keys = reading.rows.iter().map(|(key, _)| key);
            let known: HashSet<&[u8]> = keys.take_while(|_| is_full).collect();
            // What is kept was read from a pin.
            let is_of = |it: &&RowUnderWay| it.row.0 == i && it.row.1.len() == table.key_size;
            for RowUnderWay { row, cells } in rows.iter().filter(is_of) {
                let sums = if is_full && !known.contains(&row.1[..]) {
                    &mut reading.other_under_way[..]
                } else {
                    reading.under_way.push(&row.1)
                };
                for (cell, more) in cells {
                    if let Some(sum) = sums.get_mut(*cell) {
                        *sum = sum.wrapping_add(*more);
                    }
                }
            }
        }
    }
}

/// How often the kernel skipped each of these programs; `None` on kernels that do not
/// say.
pub(super) fn missed(programs: &[(String, OwnedFd)]) -> Result<Option<Vec<(String, u64)>>> {
    let missed = programs.iter().map(|(name, program)| {
        let info = sys::program::info(program.as_fd()).context("failed to ask for missed runs")?;
        Ok(info.recursion_misses.map(|missed| (name.clone(), missed)))
    });
    missed.collect()
}

/// Reads a map that does not belong to a tally. The caller fills in the times.
pub(crate) fn read_map(map: &Map, table: &Table) -> Result<Reading> {
    let (rows, outcome) = rows_of(map, table)?;
    Ok(Reading {
        time: SystemTime::UNIX_EPOCH,
        seconds: 0.0,
        tables: vec![TableReading {
            rows,
            ..TableReading::default()
        }],
        missed: None,
        missed_by: Vec::new(),
        gaps: None,
        unraised: None,
        incomplete: match outcome {
            Outcome::Incomplete(why) => Some(why),
            _ => None,
        },
    })
}

/// Omits rows that counted nothing: a program is just inserting them, or they are
/// unused indexes of an array.
fn rows_of(map: &Map, table: &Table) -> Result<(Rows, Outcome)> {
    let mut rows = Rows::of(table);
    let outcome = Reader::new(map)
        .read(|key, buffer| {
            let bytes = map.values(buffer).flatten().copied();
            if table.is_unused(map.is_array(), bytes) {
                return ControlFlow::Continue(());
            }
            let cells = rows.push(key);
            for value in map.values(buffer) {
                table.add_row(key, value, cells);
            }
            if table.counts_nothing(cells) {
                rows.pop();
            } else if !table.details.is_empty() {
                let last = rows.len() - 1;
                map.values(buffer)
                    .for_each(|value| rows.keep_value(last, value));
            }
            ControlFlow::Continue(())
        })
        .with_context(|| format!("failed to read table `{}`", table.name))?;
    Ok((rows, outcome))
}

/// The cells of a table's row `other`.
fn other(schema: &Schema, section: &[u8], table: &Table) -> Option<Vec<u64>> {
    let value = schema.others.get(&table.name)?.bytes(section)?;
    let mut cells = vec![0; table.cells()];
    table.add_cells(value, &mut cells);
    Some(cells)
}

/// `dropped` of `struct tally_health`: starts that found no memory. `None` if the table
/// has no such counter.
fn dropped(schema: &Schema, section: &[u8], table: &str) -> Option<u64> {
    let health = schema.health.get(table)?.bytes(section)?;
    health.first_chunk().copied().map(u64::from_ne_bytes)
}
