//! `struct tally_histogram` of `ktally.bpf.h`: a log2 histogram.

use anyhow::{Context, Result, bail, ensure};
use plain::Plain;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::input::{Fields, Input};
use super::statistic::Statistic;
use super::types::Type;

/// `struct tally_histogram`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Histogram {
    pub(crate) sum: u64,
    /// Bucket 0 holds 0 and 1; bucket i holds (2^(i-1), 2^i]; the last the rest.
    pub(crate) buckets: [u64; Self::BUCKETS],
}

// SAFETY: a C struct of integers, with no padding and no invalid bit patterns.
unsafe impl Plain for Histogram {}

impl Histogram {
    /// `TALLY_BUCKETS`.
    pub const BUCKETS: usize = 64;
    /// Cells of a row: the sum, then the buckets.
    pub const CELLS: usize = 1 + Self::BUCKETS;
    /// Its name in C.
    pub(crate) const C_NAME: &str = "tally_histogram";

    pub(crate) const EMPTY: Self = Self {
        sum: 0,
        buckets: [0; Self::BUCKETS],
    };

    /// Out of a value's bytes; bytes that are too short are an empty one.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        let mut histogram = Self::EMPTY;
        match histogram.copy_from_bytes(bytes) {
            Ok(()) => histogram,
            Err(_) => Self::EMPTY,
        }
    }

    /// Out of a row's cells: the sum, then the buckets.
    pub(crate) fn of_cells(cells: &[u64]) -> Self {
        let mut histogram = Self::EMPTY;
        histogram.sum = cells[0];
        histogram.buckets.copy_from_slice(&cells[1..Self::CELLS]);
        histogram
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        // SAFETY: of a `Plain` type, every byte is initialized.
        unsafe { plain::as_bytes(&self) }.to_vec()
    }

    pub(super) fn is(ty: &Type) -> bool {
        let name = ty.name.strip_prefix("struct ");
        name == Some(Self::C_NAME) && ty.size == size_of::<Self>()
    }

    /// The greatest value that bucket `i` holds.
    pub const fn edge(i: usize) -> u64 {
        if i + 1 < Self::BUCKETS {
            1 << i
        } else {
            u64::MAX
        }
    }

    /// What all values in bucket `i` exceed; 0 for the first, which holds 0 too.
    pub(crate) const fn over(i: usize) -> u64 {
        if i == 0 { 0 } else { Self::edge(i - 1) }
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
            .map(|(i, count)| [Self::edge(i), count])
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

/// From text, as it is shown.
impl Histogram {
    /// Whether these fields are a histogram as it is shown, rather than as C
    /// declares it.
    pub(super) fn is_shown_as(ty: &Type, fields: &Fields) -> bool {
        let is_pair = |input: &Input| matches!(input, Input::List(_));
        Self::is(ty)
            && fields.iter().any(|(name, input)| match input {
                Input::List(items) => name == "buckets" && items.iter().all(is_pair),
                _ => name == "count",
            })
    }

    /// `sum`, `[edge, count]` pairs, and a `count` that must be theirs. What else
    /// is shown follows from them.
    pub(super) fn from_fields(fields: &Fields) -> Result<Self> {
        let mut histogram = Self::EMPTY;
        let mut count = None;
        for (name, input) in fields {
            match (name.as_str(), input) {
                ("sum", input) => {
                    histogram.sum = whole(input).context("`sum` is a whole number")?;
                }
                ("count", input) => count = whole(input),
                ("buckets", Input::List(pairs)) => {
                    for pair in pairs {
                        let (bucket, number) = bucket(pair)?;
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
fn bucket(pair: &Input) -> Result<(usize, u64)> {
    let pair = match pair {
        Input::List(pair) => pair.iter().map(whole).collect::<Option<Vec<_>>>(),
        _ => None,
    };
    let Some(&[edge, count]) = pair.as_deref() else {
        bail!("`buckets` is a list of [edge, count] pairs");
    };
    let bucket = (0..Histogram::BUCKETS).find(|i| Histogram::edge(*i) == edge);
    let bucket = bucket.with_context(|| format!("{edge} is not the edge of a bucket"))?;
    Ok((bucket, count))
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
        map.serialize_entry("sum", &self.sum)?;
        for (name, statistic) in Statistic::ALL {
            map.serialize_entry(name, &statistic.value(self))?;
        }
        map.serialize_entry("buckets", &Pairs(self))?;
        map.end()
    }
}
