//! The sorted column over time: what sparklines and comparisons show.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use super::feed::{Feed, Moment, sum_of};
use super::tab::{Line, MOST_ROWS};
use crate::schema::{Names, Plain, Table, whole_number};
use crate::snapshot::{Query, Rows, Selection};

/// The rows of a selection that have these keys, in their order.
pub(super) fn lines(
    selection: &Selection<'_>,
    keys: &[Vec<u8>],
    past: &Past,
    names: &dyn Names,
) -> Vec<Line> {
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
            past: past.of(key),
            before: past
                .baseline
                .as_ref()
                .map(|(rows, _)| rows.get(key).copied().unwrap_or(0.0)),
            key: key.clone(),
            ..Line::default()
        }
    };
    keys.iter().take(MOST_ROWS).map(line).collect()
}

/// The sorted column in each reading up to one, and at the baseline.
pub(super) struct Past {
    table: Table,
    query: Query,
    readings: Vec<(SystemTime, Rates)>,
    /// Which of them each second of the last minute has.
    minute: Vec<Option<usize>>,
    baseline: Option<Rates>,
}

/// Of each row by its key, and of all.
type Rates = (HashMap<Vec<u8>, f64>, f64);

impl Past {
    pub(super) fn new(feed: &Feed, behind: usize, query: &Query, names: &dyn Names) -> Self {
        let table = feed.table.clone();
        let sorting = query.sorting(&table, &Plain);
        let has_rate = sorting.has_rate();
        let rates = |rows: &Rows, sum: Option<&Vec<u64>>, seconds: f64| {
            let seconds = if has_rate { seconds } else { 1.0 };
            let rate = |cells: &[u64]| sorting.number(cells) / seconds;
            let selection = query.apply(&feed.table, rows, names);
            let rows = selection.iter().take(MOST_ROWS);
            let rows = rows.map(|(key, cells)| (key.to_vec(), rate(cells)));
            let sum = sum.filter(|_| query.filters.is_empty()).cloned();
            let sum = sum.unwrap_or_else(|| sum_in(&selection, query));
            (rows.collect(), rate(&sum))
        };
        let readings = feed
            .until(behind)
            .map(|it| (it.time, rates(&it.rows, Some(&it.sum), it.seconds)));
        let readings = readings.collect();
        let baseline = feed
            .baseline
            .as_ref()
            .map(|it| rates(&it.rows, None, it.seconds));
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
    fn of(&self, key: &[u8]) -> Vec<Option<f64>> {
        let mut was_there = false;
        let number = |(_, (rows, _)): &(SystemTime, Rates)| {
            was_there |= rows.contains_key(key);
            rows.get(key).copied().or(was_there.then_some(0.0))
        };
        let numbers: Vec<Option<f64>> = self.readings.iter().map(number).collect();
        self.by_second(|reading| numbers[reading])
    }

    /// The last minute.
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
            past: self.by_second(|reading| Some(self.readings[reading].1.1)),
            before: self.baseline.as_ref().map(|(_, sum)| *sum),
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
