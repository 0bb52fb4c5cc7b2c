//! A column of numbers, and its cells in a row.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::histogram::{Histogram, HistogramAt, Scale, add_bytes};
use super::types::{Kind, Place};
use super::unit::Unit;
use super::value::Value;

/// A column of numbers: part of the value.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// The member's name; of a nested one, `outer.inner`.
    pub name: String,
    /// One line; may be empty.
    pub help: String,
    /// What it does over time.
    pub kind: MetricKind,
    /// Whether its author says so, or it is but a number.
    pub(crate) is_declared: bool,
    /// Where it is in the value.
    pub place: Place,
    /// What it counts.
    pub unit: Option<Unit>,
    /// Its first cell in a row of cells.
    pub cell: usize,
    /// The cell of the greatest number that a histogram has observed.
    pub(crate) greatest: Option<usize>,
}

/// What a column of numbers does over time. Recordings have it with these names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    /// Only ever grows: one cell.
    Counter,
    /// Goes up and down: one cell.
    Gauge,
    /// The greatest so far: one cell, which no interval changes.
    Maximum,
    /// A distribution: the sum, then the buckets.
    Histogram,
    /// How many events have begun and not ended: one cell, which no value has.
    UnderWay,
}

impl Metric {
    /// How many cells of a row it takes.
    pub fn cells(&self) -> usize {
        match self.kind {
            MetricKind::Histogram => Histogram::CELLS,
            _ => 1,
        }
    }

    /// Whether it grows over time, so that an interval has a rate.
    pub(crate) fn has_rate(&self) -> bool {
        matches!(self.kind, MetricKind::Counter | MetricKind::Histogram)
    }

    /// Its value out of a row's cells.
    pub fn value(&self, cells: &[u64]) -> Value<'static> {
        match self.kind {
            MetricKind::Histogram => Value::Histogram(Box::new(self.histogram(cells))),
            _ if self.is_signed() => Value::Int((cells[self.cell] as i64).into()),
            _ => Value::Uint(cells[self.cell].into()),
        }
    }

    /// The histogram in a row's cells.
    pub(crate) fn histogram(&self, cells: &[u64]) -> Histogram {
        self.histogram_at().read(cells)
    }

    /// Where that is.
    pub(crate) fn histogram_at(&self) -> HistogramAt {
        HistogramAt {
            scale: self.scale(),
            cell: self.cell,
            greatest: self.greatest,
        }
    }

    /// Where the buckets of a histogram end.
    pub fn scale(&self) -> Scale {
        Scale::of(&self.place.ty).unwrap_or(Scale::Log2)
    }

    /// Sign-extended to 64 bits where the type is signed.
    pub(super) fn number(&self, value: &[u8]) -> u64 {
        let raw = self.place.raw(value).unwrap_or_default() as u64;
        match (&self.place.ty.kind, self.place.width()) {
            (Kind::Int { signed: true }, bits @ 1..64) => {
                (((raw << (64 - bits)) as i64) >> (64 - bits)) as u64
            }
            _ => raw,
        }
    }

    /// Whether its number may be below zero.
    pub fn is_signed(&self) -> bool {
        self.place.ty.kind == Kind::Int { signed: true }
    }

    /// Takes in what another row, or another copy of this one, has in this column:
    /// numbers add up, and of maxima the greatest is that of both.
    pub(crate) fn add(&self, cells: &mut [u64], more: &[u64]) {
        let cells = &mut cells[self.range()];
        let pairs = cells
            .iter_mut()
            .zip(more.get(self.range()).into_iter().flatten());
        match self.kind {
            MetricKind::Maximum => pairs.for_each(|(cell, more)| *cell = (*cell).max(*more)),
            _ => pairs.for_each(|(cell, more)| *cell = cell.wrapping_add(*more)),
        }
    }

    /// Takes in what a value (one CPU's, of a per-CPU map) has in this column.
    pub(super) fn add_value(&self, value: &[u8], cells: &mut [u64]) {
        match self.kind {
            MetricKind::Histogram => {
                let bytes = self.place.bytes(value).unwrap_or_default();
                add_bytes(&self.place.ty, bytes, &mut cells[self.range()]);
            }
            MetricKind::UnderWay => {}
            MetricKind::Maximum => {
                let cell = &mut cells[self.cell];
                *cell = self.number(value).max(*cell);
            }
            MetricKind::Counter | MetricKind::Gauge => {
                let cell = &mut cells[self.cell];
                *cell = cell.wrapping_add(self.number(value));
            }
        }
    }

    pub(crate) fn range(&self) -> Range<usize> {
        self.cell..self.cell + self.cells()
    }

    /// Whether it was reset between two readings of a row.
    pub(crate) fn is_reset(&self, now: &[u64], before: &[u64]) -> bool {
        let mut cells = now[self.range()].iter().zip(&before[self.range()]);
        cells.any(|(now, before)| self.grown(*now, *before).is_none())
    }

    /// Leaves by how much it grew between two readings of a row.
    pub(crate) fn subtract(&self, now: &mut [u64], before: &[u64]) {
        let cells = now[self.range()].iter_mut().zip(&before[self.range()]);
        for (now, before) in cells {
            *now = self.grown(*now, *before).unwrap_or(*now);
        }
    }

    fn grown(&self, now: u64, before: u64) -> Option<u64> {
        let difference = now.wrapping_sub(before);
        match self.place.width() {
            // It may well sink.
            _ if self.is_signed() => Some(difference),
            _ if now >= before => Some(difference),
            // It went past the end of its type, if that was near.
            bits @ 5..64 => Some(difference & ((1 << bits) - 1)).filter(|it| it >> (bits - 4) == 0),
            _ => None,
        }
    }
}

/// A maximum right behind a histogram, of the same unit, is of what that observes.
pub(super) fn pair_maxima(metrics: &mut [Metric]) {
    for i in 1..metrics.len() {
        let [histogram, maximum] = &mut metrics[i - 1..=i] else {
            return;
        };
        let kinds = (histogram.kind, maximum.kind);
        let are_of_one = histogram.unit == maximum.unit;
        if kinds == (MetricKind::Histogram, MetricKind::Maximum) && are_of_one {
            histogram.greatest = Some(maximum.cell);
        }
    }
}
