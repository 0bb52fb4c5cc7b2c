//! The sorted column over time: what sparklines and comparisons show.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use super::feed::{Feed, Moment, sum_of};
use super::tab::{Line, MOST_ROWS};
use crate::schema::{Names, Plain, Table, whole_number};
use crate::snapshot::{Query, Selection};

/// The rows of a selection that have these keys, in their order.
pub(super) fn lines(selection: &Selection<'_>, keys: &[Vec<u8>], names: &dyn Names) -> Vec<Line> {
    let cells: HashMap<&[u8], &[u64]> = selection.iter().collect();
    let width = selection.table.cells();
    let line = |key: &Vec<u8>| {
        let labels = selection.table.labels.iter();
        Line {
            names: labels
                .map(|label| names.described(label, key).to_string())
                .collect(),
            cells: cells
                .get(key.as_slice())
                .map_or_else(|| vec![0; width], |it| it.to_vec()),
            key: key.clone(),
            ..Line::default()
        }
    };
    keys.iter().take(MOST_ROWS).map(line).collect()
}

/// The sorted column in each reading up to one, and at the baseline.
#[derive(Debug)]
pub(super) struct Past {
    table: Table,
    query: Query,
    readings: Vec<(SystemTime, Rates)>,
    /// Which of them each second of the last minute has.
    minute: Vec<Option<usize>>,
    baseline: Option<Rates>,
}

/// What one row has of it.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Of each second of the last minute.
    pub(super) minute: Vec<Option<f64>>,
    /// At the baseline, a second.
    pub(super) before: Option<f64>,
}

impl History {
    pub(super) fn now(&self) -> Option<f64> {
        self.minute.last().copied().flatten()
    }
}

/// Of each row by its key, and of all.
type Rates = (HashMap<Vec<u8>, f64>, f64);

impl Past {
    /// `newest` is what the query selects of the last of these readings, where that is
    /// known: only that reading may have many rows.
    pub(super) fn new(
        feed: &Feed,
        behind: usize,
        (query, newest): (&Query, Option<&Selection<'_>>),
        names: &dyn Names,
    ) -> Self {
        let table = feed.table.clone();
        let sorting = query.sorting(&table, &Plain);
        let has_rate = sorting.has_rate();
        let rates = |selection: &Selection<'_>, sum: Option<&Vec<u64>>, seconds: f64| {
            let seconds = if has_rate { seconds } else { 1.0 };
            let rate = |cells: &[u64]| sorting.number(cells) / seconds;
            let rows = selection.iter().take(MOST_ROWS);
            let rows = rows.map(|(key, cells)| (key.to_vec(), rate(cells)));
            let sum = sum.filter(|_| query.filters.is_empty()).cloned();
            let sum = sum.unwrap_or_else(|| sum_in(selection, query));
            (rows.collect(), rate(&sum))
        };
        let select = |rows| query.apply(&feed.table, rows, names);
        let before = feed.until(behind + usize::from(newest.is_some()));
        let before = before.map(|it| (it, rates(&select(&it.rows), Some(&it.sum), it.seconds)));
        let last = newest.zip(feed.moment(behind));
        let last = last.map(|(rows, it)| (it, rates(rows, Some(&it.sum), it.seconds)));
        let readings = before.chain(last);
        let readings = readings.map(|(it, rates)| (it.time, rates)).collect();
        let baseline = feed.baseline.as_ref();
        let baseline = baseline.map(|it| rates(&select(&it.rows), None, it.seconds));
        Self {
            readings,
            minute: feed.minute(behind),
            baseline,
            query: query.clone(),
            table,
        }
    }

    /// Keys of rows that counted something a moment ago, or at the baseline, and nothing
    /// since.
    pub(super) fn lingering(&self, moment: &Moment, selection: &Selection<'_>) -> Vec<Vec<u8>> {
        const LINGER: Duration = Duration::from_secs(10);
        let since = moment.time.checked_sub(LINGER);
        let recent = self.readings.iter().filter(|(time, _)| Some(*time) > since);
        let recent = recent.map(|(_, rates)| rates).chain(&self.baseline);
        let now: HashSet<&[u8]> = selection.iter().map(|(key, _)| key).collect();
        let known = recent.flat_map(|(rows, _)| rows.keys());
        let gone = known.filter(|key| !now.contains(key.as_slice()));
        gone.collect::<BTreeSet<_>>().into_iter().cloned().collect()
    }

    /// What the sorted column has for these cells, or the first one where that does not
    /// add up.
    pub(super) fn number(&self, cells: &[u64]) -> f64 {
        let sorting = self.query.sorting(&self.table, &Plain);
        if sorting.adds_up() {
            return sorting.number(cells);
        }
        let own = Query::default();
        own.sorting(&self.table, &Plain).number(cells)
    }

    /// Of a row; zero where others were counted in that time.
    pub(super) fn of(&self, key: &[u8]) -> History {
        let mut was_there = false;
        let number = |(_, (rows, _)): &(SystemTime, Rates)| {
            was_there |= rows.contains_key(key);
            rows.get(key).copied().or(was_there.then_some(0.0))
        };
        let numbers: Vec<Option<f64>> = self.readings.iter().map(number).collect();
        let baseline = self.baseline.as_ref();
        History {
            minute: self.by_second(|reading| numbers[reading]),
            before: baseline.map(|(rows, _)| rows.get(key).copied().unwrap_or(0.0)),
        }
    }

    /// Of all rows.
    pub(super) fn of_all(&self) -> History {
        History {
            minute: self.by_second(|reading| Some(self.readings[reading].1.1)),
            before: self.baseline.as_ref().map(|(_, sum)| *sum),
        }
    }

    fn by_second(&self, number: impl Fn(usize) -> Option<f64>) -> Vec<Option<f64>> {
        let readings = self.minute.iter();
        readings.map(|reading| number((*reading)?)).collect()
    }

    /// The row that stands for all.
    pub(super) fn sum(&self, selection: &Selection<'_>) -> Line {
        Line {
            names: vec![format!(
                "sum of {}",
                whole_number(selection.matching as i128)
            )],
            cells: sum_in(selection, &self.query),
            share: 100.0,
            ..Line::default()
        }
    }
}

/// The sum of all rows that match, not only of those that are shown.
fn sum_in(selection: &Selection<'_>, query: &Query) -> Vec<u64> {
    match query.filters.is_empty() {
        true => {
            let rows = selection.rows.iter();
            sum_of(&selection.table, rows.map(|(_, cells)| cells), &None)
        }
        false => {
            let rows = selection.iter();
            sum_of(&selection.table, rows.map(|(_, cells)| cells), &None)
        }
    }
}
