//! Rows at one instant, and what is done with them before they are shown. Pure.

mod query;
mod rows;
mod shown;

use std::collections::HashSet;
use std::time::SystemTime;

use crate::schema::{Histogram, Metric, MetricKind, Table};

pub(crate) use query::{Filter, Query, Rank};
pub use rows::Rows;
pub(crate) use shown::{Row, Selection, Snapshot, TableSnapshot};

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
