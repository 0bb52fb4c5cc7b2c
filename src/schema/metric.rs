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
    /// The option without which it is not counted.
    pub with: Option<String>,
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
    /// The least so far: one cell, of its complement. A row begins with zero, which has
    /// seen none, and the less a number the greater its complement: all that keeps the
    /// greatest cell keeps the least number.
    Minimum,
    /// A distribution: the sum, then the buckets.
    Histogram,
    /// How many events have begun and not ended: one cell, which no value has.
    UnderWay,
}

impl MetricKind {
    /// Whether it is of one number out of all, and no interval has it.
    pub(crate) fn is_extreme(self) -> bool {
        matches!(self, Self::Maximum | Self::Minimum)
    }
}

/// How a cell has a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Unsigned,
    Signed,
    /// Of a minimum.
    Complement,
}

impl Form {
    /// The number of a cell; `None` of a minimum that has seen none.
    pub(crate) fn number(self, cell: u64) -> Option<i128> {
        match self {
            Self::Unsigned => Some(cell.into()),
            Self::Signed => Some((cell as i64).into()),
            Self::Complement => (cell != 0).then_some((!cell).into()),
        }
    }
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
            _ => match self.integer(cells) {
                Some(number) if number < 0 => Value::Int(number),
                Some(number) => Value::Uint(number as u128),
                None => Value::Null,
            },
        }
    }

    /// Its number out of a row's cells; of a histogram the sum.
    pub(crate) fn integer(&self, cells: &[u64]) -> Option<i128> {
        self.form().number(cells[self.cell])
    }

    pub(crate) fn form(&self) -> Form {
        match self.kind {
            MetricKind::Minimum => Form::Complement,
            _ if self.is_signed() => Form::Signed,
            _ => Form::Unsigned,
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
    /// numbers add up, and of extremes the greatest cell is that of both.
    pub(crate) fn add(&self, cells: &mut [u64], more: &[u64]) {
        let cells = &mut cells[self.range()];
        let pairs = cells
            .iter_mut()
            .zip(more.get(self.range()).into_iter().flatten());
        match self.kind {
            kind if kind.is_extreme() => pairs.for_each(|(cell, more)| *cell = (*cell).max(*more)),
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
            MetricKind::Maximum | MetricKind::Minimum => {
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

/// A minimum, of which the complement is kept, or an array of them.
pub(super) fn least(place: &Place, bytes: &[u8]) -> Value<'static> {
    match &place.ty.kind {
        Kind::Array { element, .. } if element.size > 0 => {
            let elements = 0..place.ty.size / element.size;
            Value::List(
                elements
                    .map(|i| least(&place.element(element, i), bytes))
                    .collect(),
            )
        }
        _ => {
            let cell = place.raw(bytes).unwrap_or_default() as u64;
            let number = Form::Complement.number(cell);
            number.map_or(Value::Null, |number| Value::Uint(number as u128))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Plain;
    use crate::schema::decode::Names;
    use crate::schema::parse::{LeftOut, parse};
    use crate::schema::testing::{int, member, structure};
    use crate::schema::{Tags, Type};

    #[test]
    fn a_minimum_is_read_and_written_as_its_complement() {
        let word = int(8, false);
        let several = Type::array(word.clone(), 2);
        let mut members = vec![member("min", 0, &word), member("two", 8, &several)];
        members
            .iter_mut()
            .for_each(|it| it.tags.add("ktally:minimum:"));
        let place = Place::whole(structure(24, members));
        let (tags, cells) = (Tags::default(), [!5u64, !0, 0]);
        let bytes = cells.map(u64::to_le_bytes).concat();
        let shown = Plain.whole(&place, &tags, &bytes);
        let text = serde_json::to_string(&shown).unwrap();
        assert_eq!(text, r#"{"min":5,"two":[0,null]}"#);
        let mut read = vec![0; 24];
        parse(&place, &tags, &text, LeftOut::Refused, &Plain, &mut read).unwrap();
        assert_eq!(read, bytes);
    }
}
