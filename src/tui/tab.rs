//! A tab: one table, and how it is looked at. What is shown of it is made anew for
//! each reading and each key that changes the view.

use std::borrow::Cow;
use std::collections::BTreeSet;

use anyhow::Result;

use super::feed::{Feed, Moment};
use super::order::Order;
use super::past::{History, Past, lines};
use crate::error::usage;
use crate::schema::{Metric, MetricKind, Names, Table};
use crate::snapshot::{Condition, Query, Rows, Sort, difference};

/// How many rows are shown at most.
pub(super) const MOST_ROWS: usize = 2000;

/// How a table is looked at.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// The label that rows are grouped by.
    pub(super) by: Option<String>,
    /// The groups that are open.
    pub(super) open: BTreeSet<Vec<u8>>,
    /// As typed; it is valid.
    pub(super) filter: String,
    /// `None` is the table's own.
    pub(super) sort: Option<String>,
    pub(super) is_reversed: bool,
    pub(super) is_total: bool,
    pub(super) hidden: BTreeSet<String>,
    /// The key of the row.
    pub(super) selected: Option<Vec<u8>>,
    /// The first row of the screen.
    pub(super) first: usize,
    pub(super) has_panel: bool,
    /// One row in full.
    pub(super) is_detail: bool,
    pub(super) follows: bool,
    pub(super) is_frozen: bool,
}

/// Rows, and what they are of.
pub(super) struct Numbers<'m> {
    pub(super) seconds: f64,
    pub(super) rows: Cow<'m, Rows>,
    pub(super) other: Option<Vec<u64>>,
}

/// Why rows are looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// There is another reading.
    Reading,
    /// The same, but rows keep their places.
    Held,
    /// Something else is asked for.
    View,
}

/// A tab.
#[derive(Debug)]
pub(crate) struct Tab {
    pub(crate) feed: Feed,
    pub(super) view: View,
    pub(super) shown: Shown,
    order: Order,
}

/// What is shown of a reading.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// Grouping leaves fewer labels.
    pub(super) table: Option<Table>,
    pub(super) rows: Vec<Line>,
    /// How many rows match.
    pub(super) matching: usize,
    /// Of the rows that match.
    pub(super) sum: Option<Line>,
    pub(super) other: Option<Line>,
    /// That the numbers are of.
    pub(super) seconds: f64,
    /// Of the selected row, for each reading: its cells, or that there was no
    /// reading of it.
    pub(super) past: Vec<Option<Vec<u64>>>,
    /// The sorted column over time, of rows and of those within groups.
    rates: Option<Past>,
    member_rates: Option<Past>,
}

impl Shown {
    /// The sorted column of a row over time.
    pub(super) fn history(&self, line: &Line) -> History {
        let rates = match line.is_member {
            true => &self.member_rates,
            false => &self.rates,
        };
        let of_line = |rates: &Past| rates.of(&line.key);
        rates.as_ref().map(of_line).unwrap_or_default()
    }

    /// The same of all rows.
    pub(super) fn history_of_all(&self) -> History {
        self.rates.as_ref().map(Past::of_all).unwrap_or_default()
    }
}

/// A row.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    pub(super) key: Vec<u8>,
    pub(super) names: Vec<String>,
    pub(super) cells: Vec<u64>,
    /// Of the sorted column, in percent.
    pub(super) share: f64,
    /// Whether it is within a group.
    pub(super) is_member: bool,
}

impl Tab {
    pub(crate) fn new(feed: Feed) -> Self {
        Self {
            feed,
            view: View::default(),
            shown: Shown::default(),
            order: Order::default(),
        }
    }

    /// What is asked of the rows.
    pub(super) fn query(&self, by: Option<&str>) -> Query {
        let mark = if self.view.is_reversed { "-" } else { "" };
        // By default what is idle comes last.
        let is_own = self.view.sort.is_none() && !self.view.is_reversed;
        Query {
            by: by.map(|by| vec![by.to_owned()]),
            filters: filters(&self.view.filter).unwrap_or_default(),
            sort: (!is_own).then(|| Sort::parse(&format!("{mark}{}", self.sort()))),
            // All that a filter leaves are added up.
            top: self.view.filter.is_empty().then_some(MOST_ROWS),
        }
    }

    /// The column that rows are sorted by.
    pub(super) fn sort(&self) -> String {
        let table = &self.feed.table;
        let first = || table.metrics.first().map(|metric| metric.name.clone());
        let own = || table.sort_by.clone().or_else(first).unwrap_or_default();
        self.view.sort.clone().unwrap_or_else(own)
    }

    /// The columns that rows can be sorted by.
    pub(super) fn sorts(&self) -> Vec<String> {
        let table = self.shown.table.as_ref().unwrap_or(&self.feed.table);
        let labels = table.labels.iter().map(|label| label.name.clone());
        let metrics = table.metrics.iter().flat_map(|metric| {
            let parts: &[&str] = match metric.kind {
                MetricKind::Histogram => &[".count", ".mean", ".p50", ".p99"],
                _ => &[""],
            };
            parts.iter().map(|part| format!("{}{part}", metric.name))
        });
        labels.chain(metrics).collect()
    }

    /// Makes what is shown of the reading that is so many behind the newest.
    pub(super) fn refresh(&mut self, behind: usize, names: &dyn Names, change: Change) {
        let Some(moment) = self.feed.moment(behind) else {
            self.shown = Shown::default();
            return;
        };
        let numbers = self.numbers(moment);
        let rows = &*numbers.rows;
        let table = &self.feed.table;
        let query = self.query(self.view.by.as_deref());
        let selection = query.apply(table, rows, names);
        let first = selection.iter().take(MOST_ROWS);
        let keys: Vec<Vec<u8>> = first.map(|(key, _)| key.to_vec()).collect();
        if change == Change::View {
            self.order.clear();
        }
        let newest = (!self.view.is_total).then_some(&selection);
        let past = Past::new(&self.feed, behind, (&query, newest), names);
        let mut keys = keys;
        keys.extend(past.lingering(moment, &selection));
        let keys = self.order.next(&keys, change == Change::Held);
        let mut shown = Shown {
            matching: selection.matching,
            seconds: numbers.seconds,
            rows: lines(&selection, keys, names),
            sum: Some(past.sum(&selection)),
            other: numbers
                .other
                .clone()
                .filter(|_| self.view.filter.is_empty())
                .map(|cells| Line {
                    names: vec!["(other)".to_owned()],
                    cells,
                    ..Line::default()
                }),
            ..Shown::default()
        };
        self.open_groups(&mut shown, rows, behind, names);
        let all = shown
            .sum
            .as_ref()
            .map_or(0.0, |sum| past.number(&sum.cells));
        let others = shown.other.iter_mut();
        for line in shown.rows.iter_mut().chain(others) {
            line.share = past.number(&line.cells) / all * 100.0;
        }
        shown.rates = Some(past);
        shown.table = Some(selection.table);
        self.shown = shown;
        self.refresh_row(behind, names);
    }

    /// What the view is of: an interval, or all since counting or the baseline began.
    pub(super) fn numbers<'m>(&self, moment: &'m Moment) -> Numbers<'m> {
        let totals = moment.totals.as_deref().filter(|_| self.view.is_total);
        match (totals, &self.feed.baseline) {
            (None, _) => Numbers {
                seconds: moment.seconds,
                rows: Cow::Borrowed(&moment.rows),
                other: moment.other.clone(),
            },
            (Some(totals), None) => Numbers {
                seconds: totals.seconds,
                rows: Cow::Borrowed(&totals.rows),
                other: totals.other.clone(),
            },
            (Some(totals), Some(baseline)) => {
                let before = &baseline.totals;
                let metrics = &self.feed.table.metrics;
                let mut other = totals.other.clone();
                if let (Some(other), Some(before)) = (&mut other, &before.other) {
                    difference(metrics, other, before);
                }
                let (rows, _) = totals.rows.since(&before.rows, metrics);
                Numbers {
                    seconds: totals.seconds - before.seconds,
                    rows: Cow::Owned(rows),
                    other,
                }
            }
        }
    }

    /// Puts the rows of each open group behind it.
    fn open_groups(&self, shown: &mut Shown, rows: &Rows, behind: usize, names: &dyn Names) {
        let Some(by) = self
            .view
            .by
            .as_deref()
            .filter(|_| !self.view.open.is_empty())
        else {
            return;
        };
        let table = &self.feed.table;
        let Some(label) = table.label(by) else {
            return;
        };
        let query = self.query(None);
        let all = query.apply(table, rows, names);
        shown.member_rates = Some(Past::new(&self.feed, behind, (&query, None), names));
        let groups = std::mem::take(&mut shown.rows);
        for group in groups {
            let name = group.names.first().cloned().unwrap_or_default();
            let is_open = self.view.open.contains(&group.key);
            shown.rows.push(group);
            if is_open {
                let is_member =
                    |key: &[u8]| names.described(&table.labels[label], key).to_string() == name;
                let keys = all.iter().map(|(key, _)| key).filter(|key| is_member(key));
                let keys: Vec<Vec<u8>> = keys.map(<[u8]>::to_vec).collect();
                let mut members = lines(&all, &keys, names);
                for member in &mut members {
                    member.is_member = true;
                    member.names.remove(label);
                    member.names.truncate(1);
                }
                shown.rows.extend(members);
            }
        }
    }

    /// What was counted of the selected row in each reading, where that is shown.
    pub(super) fn refresh_row(&mut self, behind: usize, names: &dyn Names) {
        let is_shown = self.view.has_panel || self.view.is_detail;
        let selected = self.selected().filter(|_| is_shown);
        let selected = selected.map(|row| (row.key.clone(), row.is_member));
        let Some((key, is_member)) = selected else {
            self.shown.past = Vec::new();
            return;
        };
        let by = self.view.by.as_deref().filter(|_| !is_member);
        let query = self.query(by);
        let cells = |moment: &Moment| {
            let selection = query.apply(&self.feed.table, &moment.rows, names);
            let cells = selection.iter().find(|(it, _)| *it == key);
            cells.map(|(_, cells)| cells.to_vec())
        };
        self.shown.past = self.feed.until(behind).map(cells).collect();
    }

    /// The columns, by name.
    pub(super) fn columns(&self) -> Vec<String> {
        let table = &self.feed.table;
        let labels = table.labels.iter().map(|label| label.name.clone());
        let metrics = table.metrics.iter().map(|metric| metric.name.clone());
        labels.chain(metrics).collect()
    }

    /// A filter with its last word completed, if only one column begins like that.
    pub(super) fn completed(&self, text: &str) -> String {
        let start = text.rfind(' ').map_or(0, |space| space + 1);
        let word = &text[start..];
        let columns = self.columns();
        let mut fitting = columns.iter().filter(|column| column.starts_with(word));
        match (fitting.next(), fitting.next()) {
            (Some(column), None) => format!("{}{column}", &text[..start]),
            _ => text.to_owned(),
        }
    }

    /// Whether a filter can be asked of the rows.
    pub(super) fn check(&self, text: &str, names: &dyn Names) -> Result<()> {
        let query = Query {
            filters: filters(text)?,
            ..Query::default()
        };
        query.check(std::slice::from_ref(&self.feed.table), names)
    }

    /// What a row of the whole table counted since counting began, if that is known.
    pub(super) fn total_of(&self, key: &[u8]) -> Option<&[u64]> {
        let rows = &self.feed.moment(0)?.totals.as_deref()?.rows;
        let found = rows.iter().find(|(it, _)| *it == key);
        found.map(|(_, cells)| cells)
    }

    /// The metric that rows are sorted by; the first one where that is a label.
    pub(super) fn sorted_metric(&self) -> Option<&Metric> {
        let table = &self.feed.table;
        table.metric(&self.sort()).or(table.metrics.first())
    }

    /// Whether a row stands for several.
    pub(super) fn is_group(&self, row: &Line) -> bool {
        self.view.by.is_some() && !row.is_member
    }

    /// Where the selected row is.
    pub(super) fn place(&self) -> Option<usize> {
        let selected = self.view.selected.as_ref()?;
        self.shown.rows.iter().position(|row| row.key == *selected)
    }

    /// The selected row.
    pub(super) fn selected(&self) -> Option<&Line> {
        self.shown.rows.get(self.place()?)
    }
}

/// The filters of a line that was typed.
fn filters(text: &str) -> Result<Vec<Condition>> {
    let words = text.split_whitespace();
    let filters = words.map(Condition::parse).collect::<Result<_, _>>();
    filters.map_err(usage)
}
