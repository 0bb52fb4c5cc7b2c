//! What was counted between two readings of one table.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Reading, Rows};
use crate::schema::Table;

/// An interval, and all that was counted since counting began.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Interval {
    pub(crate) time: SystemTime,
    pub(crate) seconds: f64,
    pub(crate) rows: Rows,
    pub(crate) other: Option<Vec<u64>>,
    /// Since counting began.
    pub(crate) total_seconds: f64,
    pub(crate) totals: Rows,
    pub(crate) total_other: Option<Vec<u64>>,
    pub(crate) lost: Lost,
    /// Why some rows may be missing.
    pub(crate) incomplete: Option<String>,
}

/// What the numbers lack, since counting began; `None` is unknown. Recordings have it
/// with these names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lost {
    pub(crate) other: u64,
    pub(crate) dropped: Option<u64>,
    pub(crate) missed: Option<u64>,
    pub(crate) gaps: Option<u64>,
}

impl Lost {
    /// What both lack.
    pub(crate) fn and(self, more: Self) -> Self {
        let sum = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
        };
        Self {
            other: self.other.saturating_add(more.other),
            dropped: sum(self.dropped, more.dropped),
            missed: sum(self.missed, more.missed),
            gaps: sum(self.gaps, more.gaps),
        }
    }

    pub(crate) fn is_none(self) -> bool {
        self.sum() == 0
    }

    /// Of everything that is known.
    pub(crate) fn sum(self) -> u64 {
        let lost = [self.dropped, self.missed, self.gaps];
        let lost = lost.into_iter().flatten();
        lost.fold(self.other, u64::saturating_add)
    }
}

impl Interval {
    /// Of readings of one table: that of the interval, and that since counting began.
    pub(crate) fn new(mut since: Reading, mut all: Reading, table: &Table) -> Self {
        let (now, total) = (since.tables.swap_remove(0), all.tables.swap_remove(0));
        Self {
            time: since.time,
            seconds: since.seconds,
            lost: Lost {
                other: total.other_events(table).unwrap_or_default(),
                dropped: total.dropped,
                missed: all.missed,
                gaps: all.gaps,
            },
            rows: now.rows,
            other: now.other.filter(|cells| !table.counts_nothing(cells)),
            total_seconds: all.seconds,
            totals: total.rows,
            total_other: total.other,
            incomplete: since.incomplete,
        }
    }
}
