//! What was read of one table: the last reading, and a minute of those before.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use crate::schema::{Plain, Table};
use crate::snapshot::{Interval, Lost, Query, Reading, Rows, events};

/// How many readings are kept.
pub(super) const KEPT: usize = 60;

/// How many rows of each.
const KEPT_ROWS: usize = 200;

/// One table, and what was read of it.
#[derive(Debug)]
pub(crate) struct Feed {
    /// How `ktally` prints it: `run syscalls`, `read x`.
    pub(crate) source: String,
    /// Of the tally; with the table's behind it where it has several.
    pub(crate) name: String,
    pub(crate) summary: String,
    pub(crate) table: Table,
    /// What it has room for.
    pub(crate) max_rows: u32,
    /// The newest is the last, and is whole; those before it have their first rows.
    moments: VecDeque<Moment>,
    /// What the last reading had since counting began.
    before: Option<Reading>,
    /// When something was lost for the first time.
    pub(super) lost_since: Option<SystemTime>,
    /// Readings from before, to compare with.
    pub(super) baseline: Option<Baseline>,
    /// Why no reading comes any more, and since when.
    pub(super) ended: Option<(SystemTime, String)>,
}

/// Counted since counting began.
#[derive(Debug, Clone)]
pub(super) struct Totals {
    pub(super) seconds: f64,
    pub(super) rows: Rows,
    pub(super) other: Option<Vec<u64>>,
}

/// What was counted in the minute before an instant.
#[derive(Debug)]
pub(super) struct Baseline {
    pub(super) until: SystemTime,
    pub(super) seconds: f64,
    pub(super) rows: Rows,
    /// Since counting began, up to then.
    pub(super) totals: Totals,
}

/// What one reading says of a table.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    pub(super) time: SystemTime,
    /// The interval.
    pub(super) seconds: f64,
    /// Counted in the interval.
    pub(super) rows: Rows,
    /// Counted since counting began; only of the newest.
    pub(super) totals: Option<Box<Totals>>,
    /// The sum of all rows, `other` among them.
    pub(super) sum: Vec<u64>,
    pub(super) other: Option<Vec<u64>>,
    pub(super) rows_read: usize,
    pub(super) lost: Lost,
    pub(super) incomplete: Option<String>,
}

impl Feed {
    pub(crate) fn new(source: String, name: String, summary: String, table: Table) -> Self {
        Self {
            source,
            name,
            summary,
            max_rows: table.max_entries,
            table,
            moments: VecDeque::new(),
            before: None,
            lost_since: None,
            baseline: None,
            ended: None,
        }
    }

    /// What a reading whose only table is this one says of the time since the one
    /// before. The first one says only where counting stands.
    pub(super) fn interval(&mut self, mut reading: Reading) -> Option<Interval> {
        let tables = std::slice::from_ref(&self.table);
        let Some(before) = &self.before else {
            self.before = Some(reading);
            return None;
        };
        if reading.incomplete.is_some() {
            reading.fill_from(before);
        }
        let all = reading.in_all(tables).into_owned();
        let since = reading.since(before, tables);
        if since.seconds <= 0.0 {
            return None;
        }
        self.before = Some(reading);
        Some(Interval::new(since, all, &self.table))
    }

    /// Takes the next interval.
    pub(super) fn take(&mut self, interval: Interval) {
        let moment = Moment::new(interval, &self.table);
        if !moment.lost.is_none() && self.lost_since.is_none() {
            self.lost_since = Some(moment.time);
        }
        if let Some(last) = self.moments.back_mut() {
            last.reduce(&self.table);
        }
        if self.moments.len() == KEPT {
            self.moments.pop_front();
        }
        self.moments.push_back(moment);
        self.ended = None;
    }

    /// Forgets what was read.
    pub(super) fn clear(&mut self) {
        self.moments.clear();
        self.before = None;
        self.lost_since = None;
    }

    /// Every row since counting began, as it was last read.
    pub(super) fn totals(&self) -> Option<&Rows> {
        let totals = self.moments.back()?.totals.as_deref()?;
        Some(&totals.rows)
    }

    /// Has later readings compared with those up to now.
    pub(super) fn set_baseline(&mut self) {
        let Some((last, totals)) = self
            .moments
            .back()
            .and_then(|it| Some((it, it.totals.as_deref()?)))
        else {
            return;
        };
        let mut rows = Rows::of(&self.table);
        for moment in &self.moments {
            rows.add(&moment.rows, &self.table.metrics);
        }
        self.baseline = Some(Baseline {
            until: last.time,
            seconds: self.moments.iter().map(|moment| moment.seconds).sum(),
            rows,
            totals: totals.clone(),
        });
    }

    /// The reading that is so many behind the newest.
    pub(super) fn moment(&self, behind: usize) -> Option<&Moment> {
        let last = self.moments.len().checked_sub(1)?;
        self.moments.get(last.saturating_sub(behind))
    }

    /// The last reading as it was taken: since counting began.
    pub(super) fn last(&self) -> Option<&Reading> {
        self.before.as_ref()
    }

    /// How many readings there are.
    pub(super) fn len(&self) -> usize {
        self.moments.len()
    }

    /// The places of the readings that have each second of the last minute, up to the
    /// reading that is so many behind the newest: intervals may differ.
    pub(super) fn minute(&self, behind: usize) -> Vec<Option<usize>> {
        let shown = self.moments.len().saturating_sub(behind);
        let Some(last) = shown.checked_sub(1) else {
            return Vec::new();
        };
        let newest = self.moments[last].time;
        let place_of = |second: usize| {
            let middle = Duration::from_millis(1000 * second as u64 + 500);
            let at = newest.checked_sub(middle)?;
            let covering = self.moments.partition_point(|moment| moment.time < at);
            let place = if second == 0 {
                last
            } else {
                covering.min(last)
            };
            let moment = &self.moments[place];
            let lasted = Duration::from_secs_f64(moment.seconds);
            let began = moment.time.checked_sub(lasted)?;
            (second == 0 || began <= at).then_some(place)
        };
        let mut places: Vec<_> = (0..KEPT).map(place_of).collect();
        places.reverse();
        places
    }

    /// Up to the one that is so many behind the newest, the oldest first.
    pub(super) fn until(&self, behind: usize) -> impl Iterator<Item = &Moment> + Clone {
        let shown = self.moments.len().saturating_sub(behind);
        self.moments.iter().take(shown)
    }
}

impl Moment {
    fn new(interval: Interval, table: &Table) -> Self {
        let counted = interval.rows.iter().map(|(_, cells)| cells);
        let counted = counted.filter(|cells| !table.counts_nothing(cells));
        Self {
            time: interval.time,
            seconds: interval.seconds,
            sum: sum_of(table, counted, &interval.other),
            rows_read: interval.totals.len(),
            rows: interval.rows,
            other: interval.other,
            totals: Some(Box::new(Totals {
                seconds: interval.total_seconds,
                rows: interval.totals,
                other: interval.total_other,
            })),
            lost: interval.lost,
            incomplete: interval.incomplete,
        }
    }

    /// How many events it has, by the first column that counts events.
    pub(super) fn events(&self, table: &Table) -> u64 {
        events(table, &self.sum)
    }

    /// Leaves the rows that counted most by the first column.
    fn reduce(&mut self, table: &Table) {
        self.totals = None;
        if self.rows.len() > KEPT_ROWS {
            let query = Query {
                top: Some(KEPT_ROWS),
                ..Query::default()
            };
            // Nothing is grouped: the rows keep their whole keys.
            let mut whole = table.clone();
            whole.hides_key = false;
            let mut rows = Rows::of(table);
            for (key, cells) in query.apply(&whole, &self.rows, &Plain).iter() {
                rows.push(key).copy_from_slice(cells);
            }
            self.rows = rows;
        }
    }
}

/// What rows and the row `other` have together.
pub(super) fn sum_of<'r>(
    table: &Table,
    rows: impl Iterator<Item = &'r [u64]>,
    other: &'r Option<Vec<u64>>,
) -> Vec<u64> {
    let mut sum = vec![0; table.cells()];
    for cells in rows.chain(other.as_deref()) {
        table
            .metrics
            .iter()
            .for_each(|metric| metric.add(&mut sum, cells));
    }
    sum
}
