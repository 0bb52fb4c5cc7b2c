//! The histograms of `ktally.bpf.h`, log2 and linear.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::input::{Fields, Input};
use super::statistic::Statistic;
use super::tags::Tags;
use super::types::{Kind, Member, Place, Type, number};

/// Where the buckets of a histogram end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// `struct tally_histogram`: at powers of two. Bucket 0 holds 0 and 1.
    Log2,
    /// `LINEAR_HISTOGRAM(help, step)`: at multiples of the step. Bucket 0 holds 0.
    Linear(u64),
    /// What other authors call slots: bucket i holds [2^i, 2^(i+1)), bucket 0 also 0. They
    /// keep no sum.
    Slots,
}

impl Scale {
    /// That of a type which is a histogram; `None` of any other.
    pub(crate) fn of(ty: &Type) -> Option<Self> {
        let members = ty.struct_members();
        if ty.name == SLOTS {
            return Some(Self::Slots);
        }
        if ty.size != 8 * Histogram::CELLS {
            return None;
        }
        if ty.name == C_NAME {
            return Some(Self::Log2);
        }
        // The step is the size of elements that are not there.
        let [sum, buckets, step] = members else {
            return None;
        };
        let Kind::Array { element, len: 0 } = &step.place.ty.kind else {
            return None;
        };
        let names = [sum, buckets, step].map(|member| member.name.as_str());
        let is_linear = names == ["sum", "buckets", "step"] && element.size > 0;
        is_linear.then_some(Self::Linear(element.size as u64))
    }

    /// A type that is such a histogram.
    pub(crate) fn ty(self) -> Arc<Type> {
        let size = 8 * Histogram::CELLS;
        let step = match self {
            Self::Log2 => return Type::new(C_NAME, size, Kind::Struct(Vec::new())),
            Self::Slots => return slots(&Type::unsigned(8), Histogram::BUCKETS),
            Self::Linear(step) => step,
        };
        let word = Type::unsigned(8);
        let buckets = Type::array(word.clone(), Histogram::BUCKETS);
        let step = Type::array(Type::opaque(step as usize), 0);
        let members = [
            ("sum", 0, word),
            ("buckets", 8, buckets),
            ("step", size, step),
        ];
        let members = members.map(|(name, byte, ty)| Member {
            name: name.to_owned(),
            place: Place::whole(ty).shifted(8 * byte),
            tags: Tags::default(),
        });
        Type::new("", size, Kind::Struct(members.into()))
    }

    /// The greatest value that bucket `i` holds: a power of two, or a multiple of the
    /// step; of the last one that of any.
    pub const fn edge(self, i: usize) -> u64 {
        match self {
            _ if i + 1 >= Histogram::BUCKETS => u64::MAX,
            Self::Log2 => 1 << i,
            Self::Slots => (2 << i) - 1,
            Self::Linear(step) => step.saturating_mul(i as u64),
        }
    }

    /// The bucket that ends at this edge.
    pub(crate) fn bucket(self, edge: u64) -> Result<usize> {
        let bucket = (0..Histogram::BUCKETS).find(|i| self.edge(*i) == edge);
        bucket.with_context(|| format!("{edge} is not the edge of a bucket"))
    }

    /// What all values in bucket `i` exceed; 0 for the first, which holds 0 too.
    pub(crate) const fn over(self, i: usize) -> u64 {
        if i == 0 { 0 } else { self.edge(i - 1) }
    }
}

/// The name of a log2 histogram in C.
const C_NAME: &str = "struct tally_histogram";
/// The name of an array that is a histogram. No type in C has such a name.
pub(super) const SLOTS: &str = "log2 slots";

/// This many slots of a log2 histogram.
fn slots(element: &Arc<Type>, len: usize) -> Arc<Type> {
    let (element, size) = (Arc::clone(element), element.size.saturating_mul(len));
    Type::new(SLOTS, size, Kind::Array { element, len })
}

/// An array of 8 to 64 integers, as the slots of a log2 histogram.
pub(super) fn as_slots(ty: &Type) -> Option<Arc<Type>> {
    match &ty.kind {
        Kind::Array {
            element,
            len: len @ 8..=Histogram::BUCKETS,
        } if element.is_number() => Some(slots(element, *len)),
        _ => None,
    }
}

/// What was observed: how much in all, and how many in each bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Histogram {
    pub(crate) scale: Scale,
    pub(crate) sum: u64,
    pub(crate) buckets: [u64; Self::BUCKETS],
    /// The greatest that was observed, if a `MAXIMUM` beside it says so.
    pub(crate) greatest: Option<u64>,
}

impl Histogram {
    /// `TALLY_BUCKETS`.
    pub const BUCKETS: usize = 64;
    /// Cells of a row, and words of a value: the sum, then the buckets.
    pub const CELLS: usize = 1 + Self::BUCKETS;

    pub(crate) const fn empty(scale: Scale) -> Self {
        Self {
            scale,
            sum: 0,
            buckets: [0; Self::BUCKETS],
            greatest: None,
        }
    }

    /// Out of the bytes of a value of this type, which is a histogram.
    pub(crate) fn of_bytes(ty: &Type, bytes: &[u8]) -> Self {
        let mut cells = [0; Self::CELLS];
        add_bytes(ty, bytes, &mut cells);
        Self::of_cells(Scale::of(ty).unwrap_or(Scale::Log2), &cells)
    }

    /// What all observations add up to, modulo 2^64; `None` if that is not kept.
    pub(crate) fn sum(&self) -> Option<u64> {
        (self.scale != Scale::Slots).then_some(self.sum)
    }

    /// Out of a row's cells: the sum, then the buckets.
    pub(crate) fn of_cells(scale: Scale, cells: &[u64]) -> Self {
        let mut histogram = Self::empty(scale);
        histogram.sum = cells[0];
        histogram.buckets.copy_from_slice(&cells[1..Self::CELLS]);
        histogram
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let words = std::iter::once(self.sum).chain(self.buckets);
        words.flat_map(u64::to_ne_bytes).collect()
    }

    pub(crate) fn count(&self) -> u64 {
        self.buckets
            .iter()
            .fold(0, |sum, bucket| sum.wrapping_add(*bucket))
    }

    /// `[edge, count]` of each bucket that holds something.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = [u64; 2]> {
        let counts = self.buckets.iter().copied().enumerate();
        counts
            .filter(|(_, count)| *count > 0)
            .map(|(i, count)| [self.scale.edge(i), count])
    }

    /// The pairs as text, for formats without nesting.
    pub(crate) fn pairs_text(&self) -> String {
        let pairs: Vec<String> = self
            .pairs()
            .map(|[edge, count]| format!("[{edge},{count}]"))
            .collect();
        format!("[{}]", pairs.join(","))
    }

    pub(crate) fn add(&mut self, more: &Self) {
        self.sum = self.sum.wrapping_add(more.sum);
        for (bucket, more) in self.buckets.iter_mut().zip(more.buckets) {
            *bucket = bucket.wrapping_add(more);
        }
    }
}

/// Adds the bytes of a value of this type, which is a histogram, to its cells. What the
/// bytes are too short for counts as zero.
pub(super) fn add_bytes(ty: &Type, bytes: &[u8], cells: &mut [u64]) {
    let (width, cells) = match &ty.kind {
        Kind::Array { element, .. } => (element.size.max(1), &mut cells[1..]),
        Kind::Int { .. } => (ty.size.max(1), cells),
        _ => (8, cells),
    };
    for (cell, word) in cells.iter_mut().zip(bytes.chunks_exact(width)) {
        *cell = cell.wrapping_add(number(word).unwrap_or_default() as u64);
    }
}

/// Where a histogram is in a row's cells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct HistogramAt {
    pub(super) scale: Scale,
    /// The first of its cells.
    pub(crate) cell: usize,
    /// The cell of the greatest that it observed.
    pub(super) greatest: Option<usize>,
}

impl HistogramAt {
    pub(crate) fn read(self, cells: &[u64]) -> Histogram {
        Histogram {
            greatest: self.greatest.and_then(|cell| cells.get(cell).copied()),
            ..Histogram::of_cells(self.scale, &cells[self.cell..])
        }
    }
}

/// From text, as it is shown.
impl Histogram {
    /// Whether these fields are a histogram as it is shown, rather than as C
    /// declares it.
    pub(super) fn is_shown_as(ty: &Type, fields: &Fields) -> bool {
        let is_pair = |input: &Input| matches!(input, Input::List(_));
        Scale::of(ty).is_some()
            && fields.iter().any(|(name, input)| match input {
                Input::List(items) => name == "buckets" && items.iter().all(is_pair),
                _ => name == "count",
            })
    }

    /// `sum`, `[edge, count]` pairs, and a `count` that must be theirs. What else
    /// is shown follows from them.
    pub(super) fn from_fields(scale: Scale, fields: &Fields) -> Result<Self> {
        let mut histogram = Self::empty(scale);
        let mut count = None;
        for (name, input) in fields {
            match (name.as_str(), input) {
                ("sum", input) => {
                    histogram.sum = whole(input).context("`sum` is a whole number")?;
                }
                ("count", input) => count = whole(input),
                ("buckets", Input::List(pairs)) => {
                    for pair in pairs {
                        let (bucket, number) = bucket(scale, pair)?;
                        histogram.buckets[bucket] = number;
                    }
                }
                (name, _) if Statistic::ALL.iter().any(|(it, _)| *it == name) => {}
                (other, _) => bail!("a histogram has `count`, `sum` and `buckets`, no `{other}`"),
            }
        }
        ensure!(
            count.is_none_or(|count| count == histogram.count()),
            "`count` is not what the buckets add up to"
        );
        Ok(histogram)
    }
}

/// The index of a bucket and its count, from its edge and its count.
fn bucket(scale: Scale, pair: &Input) -> Result<(usize, u64)> {
    let pair = match pair {
        Input::List(pair) => pair.iter().map(whole).collect::<Option<Vec<_>>>(),
        _ => None,
    };
    let Some(&[edge, count]) = pair.as_deref() else {
        bail!("`buckets` is a list of [edge, count] pairs");
    };
    Ok((scale.bucket(edge)?, count))
}

fn whole(input: &Input) -> Option<u64> {
    match input {
        Input::Word(text) => text.parse().ok(),
        _ => None,
    }
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Pairs<'a>(&'a Histogram);
        impl Serialize for Pairs<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq(self.0.pairs())
            }
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("count", &self.count())?;
        map.serialize_entry("sum", &self.sum())?;
        for (name, statistic) in Statistic::ALL {
            map.serialize_entry(name, &statistic.value(self))?;
        }
        map.serialize_entry("buckets", &Pairs(self))?;
        map.end()
    }
}
