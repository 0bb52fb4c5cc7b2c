//! The order of rows.

use std::cmp::Reverse;

use super::column::Column;
use super::filter::KeyTest;
use crate::schema::{MetricKind, Names, Table, Value};

/// A column to sort by, as it is typed: `calls`, or `-calls` for the other way round.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sort {
    pub(crate) column: String,
    is_reversed: bool,
}

impl Sort {
    pub(crate) fn is_reversed(&self) -> bool {
        self.is_reversed
    }

    pub(crate) fn parse(text: &str) -> Self {
        let reversed = text.strip_prefix('-');
        Self {
            column: reversed.unwrap_or(text).to_owned(),
            is_reversed: reversed.is_some(),
        }
    }
}

/// What a row is ordered by, computed once; the least comes first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// The greater the number, the less its rank.
    Number(i128),
    /// By the alphabet.
    Name(String),
    Reversed(Reverse<Box<Rank>>),
    /// The row has no such number.
    Nothing,
    /// By default these come last.
    Idle(Box<Rank>),
}

/// What the rows of one table are ordered by.
#[derive(Debug)]
pub(crate) struct Sorting<'t> {
    table: &'t Table,
    by: Option<Column>,
    is_reversed: bool,
    idle: Vec<KeyTest<'t>>,
}

impl<'t> Sorting<'t> {
    /// By default, and without the column, as the C file says.
    pub(super) fn new(table: &'t Table, sort: Option<&Sort>, names: &dyn Names) -> Self {
        let column = |name: &String| Column::of(table, name);
        let given = sort.and_then(|sort| Some((column(&sort.column)?, sort.is_reversed)));
        if let Some((by, is_reversed)) = given {
            return Self {
                table,
                by: Some(by),
                is_reversed,
                idle: Vec::new(),
            };
        }
        let declared = table.sort_by.as_ref().and_then(column);
        Self {
            table,
            by: declared.or_else(|| Column::first(table)),
            is_reversed: false,
            idle: idle(table, names),
        }
    }

    /// The rank of a row: greater numbers come first, names by the alphabet.
    pub(crate) fn rank(&self, key: &[u8], cells: &[u64], names: &dyn Names) -> Rank {
        let rank = match self.by {
            None => Rank::Number(0),
            Some(Column::Label(label)) => match names.of(&self.table.labels[label], key) {
                Value::Uint(number) => Rank::Number(number.try_into().unwrap_or(i128::MAX)),
                Value::Int(number) => Rank::Number(number),
                value => Rank::Name(value.to_string()),
            },
            Some(column) => match column.thousandths(cells) {
                Some(number) => Rank::Number(-number),
                None => return Rank::Nothing,
            },
        };
        if self.is_reversed && rank == Rank::Number(0) && self.has_not_ended(cells) {
            Rank::Nothing
        } else if self.is_reversed {
            Rank::Reversed(Reverse(Box::new(rank)))
        } else if self.idle.iter().any(|idle| idle.keeps(key, names)) {
            Rank::Idle(Box::new(rank))
        } else {
            rank
        }
    }
}

impl Sorting<'_> {
    /// Whether something of this row is under way: what it will count is not known.
    fn has_not_ended(&self, cells: &[u64]) -> bool {
        let mut metrics = self.table.metrics.iter();
        metrics.any(|it| it.kind == MetricKind::UnderWay && cells[it.cell] > 0)
    }

    /// The number of the sorted column in a row; of the first column of numbers where
    /// that is a label.
    pub(crate) fn number(&self, cells: &[u64]) -> f64 {
        let is_label = |it: &Column| matches!(it, Column::Label(_));
        let by = self.by.filter(|it| !is_label(it));
        let column = by.or_else(|| Column::first(self.table));
        let thousandths = column.and_then(|column| column.thousandths(cells));
        thousandths.map_or(0.0, |number| number as f64 / 1e3)
    }

    /// Whether the numbers of several rows add up.
    pub(crate) fn adds_up(&self) -> bool {
        !matches!(self.by, Some(Column::Statistic(..)))
    }

    /// Whether these numbers grow over time, so that they have a rate.
    pub(crate) fn has_rate(&self) -> bool {
        match &self.by {
            Some(Column::Cell(cell, _)) => {
                let mut metrics = self.table.metrics.iter();
                metrics.any(|it| it.cell == *cell && it.has_rate())
            }
            Some(Column::Statistic(..)) => false,
            _ => true,
        }
    }
}

fn idle<'t>(table: &'t Table, names: &dyn Names) -> Vec<KeyTest<'t>> {
    let labels = table.labels.iter().filter(|label| !label.idle.is_empty());
    let tests = labels.map(|label| KeyTest::of_any(label, &label.idle, names));
    tests.collect()
}
