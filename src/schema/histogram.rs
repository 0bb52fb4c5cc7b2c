//! `struct tally_histogram` of `ktally.bpf.h`: a log2 histogram.

use plain::Plain;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::types::Type;

/// `struct tally_histogram`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Histogram {
    /// Of all observations.
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

    /// With no observations.
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

    /// As in a value.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // SAFETY: of a `Plain` type, every byte is initialized.
        unsafe { plain::as_bytes(self) }.to_vec()
    }

    /// Whether a C type is this one.
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

    /// The number of observations.
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

    /// Adds the observations of another.
    pub(crate) fn add(&mut self, more: &Self) {
        self.sum = self.sum.wrapping_add(more.sum);
        for (bucket, more) in self.buckets.iter_mut().zip(more.buckets) {
            *bucket = bucket.wrapping_add(more);
        }
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
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("count", &self.count())?;
        map.serialize_entry("sum", &self.sum)?;
        map.serialize_entry("buckets", &Pairs(self))?;
        map.end()
    }
}
