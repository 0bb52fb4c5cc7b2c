//! Intervals to lines.

use std::collections::{HashMap, HashSet};

use super::head::{FORM, Head};
use super::line::{Mark, Written, WrittenRow, WrittenRows, follow, hex};
use crate::schema::{Names, Table};
use crate::snapshot::{Interval, Rows, events};

/// After this number of rounds, lines have all rows again. A seek reads at most that
/// many.
const WHOLE_EVERY: u64 = 60;

/// Writes the lines of all tabs.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    /// A round has a line of each tab.
    round: u64,
    /// The tabs that have a line in this round.
    seen: HashSet<usize>,
    /// The round in which each tab was whole.
    whole: HashMap<usize, u64>,
}

impl Head {
    /// The first line.
    pub(crate) fn line(&self) -> String {
        let head = Self {
            recording: FORM,
            ..self.clone()
        };
        format!("{}\n", serde_json::json!(head))
    }
}

impl Recorder {
    /// The line of an interval, of a tab whose rows had these numbers before.
    pub(crate) fn line(
        &mut self,
        tab: usize,
        table: &Table,
        before: Option<&Rows>,
        interval: &Interval,
        names: &dyn Names,
    ) -> String {
        if !self.seen.insert(tab) {
            self.round += 1;
            self.seen = HashSet::from([tab]);
        }
        let is_whole = self.is_whole(tab);
        let before = before.filter(|_| !is_whole);
        let is_counted = |(_, cells): &(&[u8], &[u64])| !table.counts_nothing(cells);
        let rows: Vec<_> = interval.rows.iter().filter(is_counted).collect();
        let (totals, gone) = match before {
            Some(before) => unexpected(table, before, &rows, &interval.totals),
            None => (interval.totals.iter().collect(), Vec::new()),
        };
        let written = |rows| WrittenRows { table, names, rows };
        let other = |cells| WrittenRow {
            table,
            key: None,
            cells,
        };
        let counted = rows.iter().map(|(_, cells)| events(table, cells));
        let counted = counted.chain(interval.other.iter().map(|cells| events(table, cells)));
        let line = Written {
            mark: Mark {
                tab,
                time: humantime::format_rfc3339_micros(interval.time).to_string(),
                seconds: interval.seconds,
                events: counted.fold(0, u64::saturating_add),
                whole: before.is_none(),
                lost: interval.lost,
            },
            total_seconds: interval.total_seconds,
            incomplete: interval.incomplete.as_deref(),
            rows: written(rows),
            other: interval.other.as_deref().map(other),
            totals: written(totals),
            total_other: interval.total_other.as_deref().map(other),
            gone,
        };
        let mut text = serde_json::to_string(&line).unwrap_or_default();
        text.push('\n');
        text
    }

    fn is_whole(&mut self, tab: usize) -> bool {
        let is_due = |since: &u64| self.round - since >= WHOLE_EVERY;
        let is_whole =
            self.whole.get(&tab).is_none_or(is_due) || self.round.is_multiple_of(WHOLE_EVERY);
        if is_whole {
            self.whole.insert(tab, self.round);
        }
        is_whole
    }
}

/// Rows with their numbers, and keys as text.
type Unexpected<'r> = (Vec<(&'r [u8], &'r [u64])>, Vec<String>);

/// Rows whose totals do not follow from those before and from the interval's, as after
/// a reset; and keys that are not there any more.
fn unexpected<'r>(
    table: &Table,
    before: &Rows,
    rows: &[(&[u8], &[u64])],
    totals: &'r Rows,
) -> Unexpected<'r> {
    let mut expected: HashMap<&[u8], Vec<u64>> = HashMap::new();
    let mut unchanged: HashMap<&[u8], &[u64]> = before.iter().collect();
    for (key, now) in rows {
        let cells = unchanged.remove(key);
        let mut cells = cells.map_or_else(|| vec![0; table.cells()], <[u64]>::to_vec);
        follow(&table.metrics, &mut cells, now);
        expected.insert(key, cells);
    }
    let mut others = Vec::new();
    for (key, cells) in totals.iter() {
        let is_expected = match expected.remove(key) {
            Some(expected) => expected == cells,
            None => unchanged.remove(key) == Some(cells),
        };
        if !is_expected {
            others.push((key, cells));
        }
    }
    let gone = unchanged.into_keys().chain(expected.into_keys());
    let mut gone: Vec<String> = gone.map(hex).collect();
    gone.sort_unstable();
    (others, gone)
}
