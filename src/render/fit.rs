//! How a table fits a terminal. Where it is too wide, it gives up in this order,
//! each only as far as it must: columns of zeroes, headings of one line, the second
//! space between columns, the space before units, columns that others explain, long
//! text, columns of statistics, and last all others. Elsewhere it is whole.

mod text;

use std::borrow::Cow;
use std::iter::repeat_n;
use std::net::IpAddr;

use unicode_width::UnicodeWidthStr;

use self::text::{split, tight};

use super::Style;
use super::writer::Head;

pub(super) use self::text::{shortened, wrapped};

/// Names of processes are never cut, and other text only down to this.
const LEAST: usize = 15;

/// When a column leaves a table that is too wide; of several, the last first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Leaves {
    /// Before any text is cut.
    First,
    /// After it.
    Early,
    #[default]
    Late,
    /// The sorted column, and what says which row it is.
    Last,
}

/// How the columns of a table are written.
#[derive(Debug)]
pub(super) struct Fit {
    columns: Vec<Column>,
    gap: usize,
    /// Without spaces before units.
    is_tight: bool,
    style: Style,
}

#[derive(Debug)]
struct Column {
    head: Head,
    /// Of the heading on one line and on two, of the cells, and of those without
    /// spaces before units.
    widths: [usize; 4],
    least: usize,
    is_split: bool,
    is_zero: bool,
    is_shown: bool,
    width: usize,
}

impl Fit {
    /// Of these rows, which may not be all.
    pub(super) fn new(heads: &[Head], rows: &[Vec<String>], style: Style, are_all: bool) -> Self {
        let columns = heads.iter().enumerate();
        let columns = columns.map(|(i, head)| {
            let cells = rows.iter().map(|row| row[i].as_str());
            let mut column = Column::new(head.clone(), cells, style);
            column.is_zero &= are_all && i > 0;
            column
        });
        let mut fit = Self {
            columns: columns.collect(),
            gap: 2,
            is_tight: false,
            style,
        };
        let first_number = fit.columns.iter_mut().find(|column| column.head.right);
        first_number.into_iter().for_each(Column::keep);
        fit.columns.iter_mut().take(1).for_each(Column::keep);
        fit.measure();
        if let Some(limit) = style.width {
            fit.shrink(limit);
            if !are_all {
                fit.widen(limit);
            }
        }
        fit
    }

    fn shrink(&mut self, limit: usize) {
        if self.excess(limit) > 0 {
            let zero = self.columns.iter_mut().filter(|column| column.is_zero);
            zero.for_each(|column| column.is_shown = false);
        }
        while self.excess(limit) > 0 && self.split_one() {
            self.measure();
        }
        if self.excess(limit) > 0 {
            self.gap = 1;
        }
        if self.excess(limit) > 0 {
            self.is_tight = true;
            self.measure();
        }
        while self.excess(limit) > 0 && self.leave_one(Leaves::First) {}
        self.shorten(limit);
        while self.excess(limit) > 0 && self.leave_one(Leaves::Last) {
            self.measure();
            self.shorten(limit);
        }
        if let Some(first) = self.columns.first_mut() {
            first.width = first.width.min(limit);
        }
        self.join(limit);
    }

    /// Gives the text of rows to come the room that is left: it moves no column then.
    fn widen(&mut self, limit: usize) {
        let mut room = limit.saturating_sub(self.width());
        let text = self.columns.iter_mut().filter(|column| !column.head.right);
        for column in text.filter(|column| column.is_shown) {
            let more = LEAST.saturating_sub(column.width).min(room);
            column.width += more;
            room -= more;
        }
    }

    /// Headings that have room on one line after all.
    fn join(&mut self, limit: usize) {
        let mut room = limit.saturating_sub(self.width());
        let split = self.columns.iter_mut();
        for column in split.filter(|column| column.is_shown && column.is_split) {
            let more = column.widths[0].saturating_sub(column.width);
            if more <= room {
                (column.is_split, column.width) = (false, column.width + more);
                room -= more;
            }
        }
    }

    fn measure(&mut self) {
        for column in &mut self.columns {
            let [whole, split, cells, tight] = column.widths;
            let head = if column.is_split { split } else { whole };
            column.width = head.max(if self.is_tight { tight } else { cells });
        }
    }

    /// Of all columns that are shown.
    pub(super) fn width(&self) -> usize {
        let shown = self.columns.iter().filter(|column| column.is_shown);
        let all: usize = shown.map(|column| column.width + self.gap).sum();
        all.saturating_sub(self.gap)
    }

    fn excess(&self, limit: usize) -> usize {
        self.width().saturating_sub(limit)
    }

    /// The heading that gains most.
    fn split_one(&mut self) -> bool {
        let gain = |column: &Column| match column.is_split {
            false => column.width - column.widths[1].max(column.widths[2]).min(column.width),
            true => 0,
        };
        let shown = self.columns.iter_mut().filter(|column| column.is_shown);
        match shown.max_by_key(|column| gain(column)) {
            Some(column) if gain(column) > 0 => {
                column.is_split = true;
                true
            }
            _ => false,
        }
    }

    /// The first to go of those that leave by then, but never the first column.
    fn leave_one(&mut self, by: Leaves) -> bool {
        let columns = self.columns.iter_mut().skip(1).rev();
        let leaving = columns.filter(|it| it.is_shown && it.head.leaves <= by);
        match leaving.min_by_key(|column| column.head.leaves) {
            Some(column) => {
                column.is_shown = false;
                true
            }
            None => false,
        }
    }

    /// The widest text first.
    fn shorten(&mut self, limit: usize) {
        loop {
            let excess = self.excess(limit);
            let columns = self.columns.iter_mut();
            let text = columns.filter(|it| it.is_shown && it.width > it.least);
            let Some(widest) = text
                .max_by_key(|column| column.width)
                .filter(|_| excess > 0)
            else {
                return;
            };
            widest.width = widest.width.saturating_sub(excess).max(widest.least);
        }
    }

    /// The headings, on one line or on two.
    pub(super) fn headings(&self) -> Vec<String> {
        let lines = self.heading_cells();
        lines.iter().map(|line| joined(line)).collect()
    }

    /// Their cells, as [`Self::cells`].
    pub(super) fn heading_cells(&self) -> Vec<Vec<Placed<'_>>> {
        let heads = self.columns.iter().map(|column| {
            let text = &column.head.text;
            if column.is_split {
                split(text)
            } else {
                ("", text.as_str())
            }
        });
        let (upper, lower): (Vec<_>, Vec<_>) = heads.unzip();
        let lines = [upper, lower].map(|line| self.placed(line.into_iter().map(Cow::Borrowed)));
        let is_text = |(_, _, text): &Placed<'_>| !text.is_empty();
        let lines = lines.into_iter();
        lines.filter(|line| line.iter().any(is_text)).collect()
    }

    /// A row. A number that is wider than those that were measured moves those
    /// behind it.
    pub(super) fn line(&self, cells: &[String]) -> String {
        joined(&self.cells(cells))
    }

    /// The cells of a row that are shown: the number of each column, where it
    /// begins, and its text.
    pub(super) fn cells<'c>(&self, cells: &'c [String]) -> Vec<Placed<'c>> {
        let cells = cells.iter().zip(&self.columns).map(|(cell, column)| {
            match (column.head.right, self.style.width) {
                (true, _) if self.is_tight => Cow::Owned(tight(cell)),
                (false, Some(_)) => shortened(cell, column.width, self.style),
                _ => Cow::Borrowed(cell.as_str()),
            }
        });
        self.placed(cells)
    }

    fn placed<'c>(&self, cells: impl Iterator<Item = Cow<'c, str>>) -> Vec<Placed<'c>> {
        let mut x = 0;
        let cells = cells.zip(&self.columns).enumerate();
        let shown = cells.filter(|(_, (_, column))| column.is_shown);
        shown
            .map(|(i, (cell, column))| {
                let width = cell.width();
                let space = column.width.saturating_sub(width);
                let start = x + if column.head.right { space } else { 0 };
                x += space + width + self.gap;
                (i, start, cell)
            })
            .collect()
    }

    /// What is not there.
    pub(super) fn notes(&self) -> Option<String> {
        let named = |what: &str, is_so: &dyn Fn(&&Column) -> bool| {
            let names = self.columns.iter().filter(is_so);
            let names: Vec<String> = names.map(|column| column.head.name()).collect();
            (!names.is_empty()).then(|| format!("{what}: {}", names.join(", ")))
        };
        let zero = named("all 0", &|it| !it.is_shown && it.is_zero);
        let cut = named("shortened", &|it| it.is_shown && it.is_cut());
        let left = named("not shown", &|it| !it.is_shown && !it.is_zero);
        let is_less = cut.is_some() || left.is_some();
        let notes: Vec<String> = [zero, cut, left].into_iter().flatten().collect();
        let wide = if is_less { " (--wide)" } else { "" };
        (!notes.is_empty()).then(|| format!("{}{wide}", notes.join("; ")))
    }
}

impl Column {
    fn new<'c>(head: Head, cells: impl Iterator<Item = &'c str>, style: Style) -> Self {
        let heads = match (split(&head.text), style.no_header) {
            (_, true) => [0, 0],
            ((upper, lower), _) => [head.text.width(), upper.width().max(lower.width())],
        };
        let (mut widest, mut least, mut narrowest, mut is_zero) = (0, 0, 0, head.right);
        for cell in cells {
            let width = cell.width();
            widest = widest.max(width);
            if style.width.is_none() {
                // It stays whole.
                continue;
            }
            if head.right {
                narrowest = narrowest.max(tight(cell).width());
                is_zero = is_zero && matches!(cell, "0" | "0 B");
            } else {
                let is_address = width > LEAST && cell.parse::<IpAddr>().is_ok();
                least = least.max(if is_address { width } else { width.min(LEAST) });
            }
        }
        if !head.right {
            narrowest = widest;
        }
        Self {
            least: if head.right {
                usize::MAX
            } else {
                least.max(heads[0])
            },
            widths: [heads[0], heads[1], widest, narrowest],
            is_split: false,
            is_zero: is_zero && head.leaves != Leaves::Last,
            is_shown: true,
            width: 0,
            head,
        }
    }

    fn keep(&mut self) {
        self.head.leaves = Leaves::Last;
        self.is_zero = false;
    }

    fn is_cut(&self) -> bool {
        !self.head.right && self.width < self.widths[2]
    }
}

/// A cell: the number of its column, where it begins, and its text.
pub(super) type Placed<'c> = (usize, usize, Cow<'c, str>);

/// Cells on a line.
fn joined(cells: &[Placed<'_>]) -> String {
    let mut line = String::new();
    let mut width = 0;
    for (_, x, text) in cells.iter().filter(|(_, _, text)| !text.is_empty()) {
        line.extend(repeat_n(' ', x.saturating_sub(width)));
        line.push_str(text);
        width = x + text.width();
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests;
