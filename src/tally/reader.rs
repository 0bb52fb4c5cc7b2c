//! Reads a tally that counts, in this process or as an instance: its tables, and
//! what is known about the events that are not in them.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use super::follow::FOLLOWED;
use crate::map::{Map, Outcome, Reader};
use crate::schema::{Schema, Table};
use crate::snapshot::{Reading, Rows, TableReading};
use crate::sys;

/// The maps and programs of a tally.
#[derive(Debug)]
pub(super) struct TallyReader {
    pub(super) tables: Vec<(Table, Map)>,
    /// `.bss.ktally`, the health of every table.
    pub(super) health: Option<Map>,
    /// The programs that the links run; `None` if this user may not open them.
    pub(super) programs: Option<Vec<OwnedFd>>,
}

impl TallyReader {
    /// `final_missed` is given when the programs are gone.
    pub(super) fn read(
        &self,
        schema: &Schema,
        counted_for: Duration,
        final_missed: Option<u64>,
    ) -> Result<Reading> {
        let time = SystemTime::now();
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
                dropped: dropped(schema, &health, &table.name),
                reset: 0,
            });
        }
        if let Some(lost @ 1..) = dropped(schema, &health, FOLLOWED) {
            incomplete = Some(format!(
                "{lost} children of the command could not be followed (out of memory)"
            ));
        }
        let missed = match (final_missed, &self.programs) {
            (None, Some(programs)) => missed(programs)?,
            (known, _) => known,
        };
        let gaps = schema.gaps.as_ref().and_then(|gaps| gaps.raw(&health));
        Ok(Reading {
            time,
            seconds: counted_for.as_secs_f64(),
            tables,
            missed,
            gaps: gaps.and_then(|gaps| u64::try_from(gaps).ok()),
            incomplete,
        })
    }

    fn health(&self) -> Result<Vec<u8>> {
        let Some(map) = &self.health else {
            return Ok(Vec::new());
        };
        let health = map.lookup(&[0; 4]);
        let health = health.context("failed to read dropped counters")?;
        Ok(health.unwrap_or_default())
    }
}

/// How often the kernel skipped these programs; `None` on kernels that do not say.
pub(super) fn missed(programs: &[OwnedFd]) -> Result<Option<u64>> {
    let mut sum = Some(0);
    for program in programs {
        let info = sys::program::info(program.as_fd()).context("failed to ask for missed runs")?;
        sum = sum
            .zip(info.recursion_misses)
            .map(|(sum, missed)| sum + missed);
    }
    Ok(sum)
}

/// Omits rows that counted nothing: a program is just inserting them, or they are
/// unused indexes of an array.
fn rows_of(map: &Map, table: &Table) -> Result<(Rows, Outcome)> {
    let mut rows = Rows::of(table);
    let outcome = Reader::new(map)
        .read(|key, buffer| {
            let cells = rows.push(key);
            for value in map.values(buffer) {
                table.add_cells(value, cells);
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

/// `dropped` of `struct tally_health`: events that found no memory. `None` if the table
/// has no such counter.
fn dropped(schema: &Schema, section: &[u8], table: &str) -> Option<u64> {
    let health = schema.health.get(table)?.bytes(section)?;
    health.first_chunk().copied().map(u64::from_ne_bytes)
}
