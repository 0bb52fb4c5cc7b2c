//! Rows of a table in columns, for a view that draws each cell itself.

use std::borrow::Cow;

use super::fit::{Fit, Leaves};
use super::metric::{Numbers, only_histograms};
use super::writer::{Head, RowWriter};
use super::{Format, Style};
use crate::schema::{Metric, MetricKind, Table};

/// How rows are shown.
#[derive(Clone, Copy)]
pub(crate) struct Look<'l> {
    pub(crate) style: Style,
    /// The time that the numbers are of.
    pub(crate) seconds: f64,
    /// The column that rows are sorted by.
    pub(crate) sort: &'l str,
    /// Whether the greatest come last.
    pub(crate) is_reversed: bool,
    /// Names of columns that are not shown.
    pub(crate) hidden: &'l dyn Fn(&str) -> bool,
}

/// A row, before it is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GridRow<'r> {
    pub(crate) names: &'r [String],
    pub(crate) cells: &'r [u64],
    /// Of the sorted column, in percent.
    pub(crate) share: f64,
}

/// Rows in columns that fit.
#[derive(Debug)]
pub(crate) struct Grid {
    fit: Fit,
    rows: Vec<Vec<String>>,
    columns: Vec<String>,
}

/// A cell, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GridCell<'g> {
    pub(crate) column: &'g str,
    pub(crate) x: usize,
    pub(crate) text: Cow<'g, str>,
}

impl Grid {
    pub(crate) fn new(table: &Table, rows: &[GridRow<'_>], look: Look<'_>) -> Self {
        let numbers = Numbers {
            format: Format::Table,
            style: &look.style,
            seconds: look.seconds,
            has_counts: only_histograms(&table.metrics),
        };
        let metrics: Vec<&Metric> = table
            .metrics
            .iter()
            .filter(|it| !(look.hidden)(&it.name))
            .filter(|it| {
                it.kind != MetricKind::UnderWay || rows.iter().any(|row| row.cells[it.cell] > 0)
            })
            .collect();
        let labels = table.labels.iter().map(|label| label.name.as_str());
        let labels = || labels.clone().filter(|it| !(look.hidden)(it));
        let mut heads: Vec<Head> = labels().map(|name| Format::Table.head(name)).collect();
        let mut columns: Vec<String> = labels().map(str::to_owned).collect();
        for metric in &metrics {
            let parts = numbers.heads(metric, &table.metrics);
            for head in parts {
                columns.push(column_of(metric, &head));
                heads.push(head);
            }
        }
        heads.push(Head::number("%").leaving(Leaves::First));
        columns.push("%".to_owned());
        for (head, column) in heads.iter_mut().zip(&columns) {
            if column == look.sort || column.strip_suffix(".count") == Some(look.sort) {
                let mark = if look.is_reversed { '▲' } else { '▼' };
                head.text = look
                    .style
                    .glyphs(&format!("{mark}{}", head.text))
                    .into_owned();
                head.leaves = Leaves::Last;
            }
        }
        let cells = rows.iter().map(|row| {
            let mut writer = RowWriter::new(Format::Table, look.style, heads.clone());
            let mut names = row.names.iter();
            for label in &table.labels {
                let name = names.next().map_or("", String::as_str);
                if !(look.hidden)(&label.name) {
                    writer.cell(&name.into());
                }
            }
            for metric in &metrics {
                numbers.write(&mut writer, metric, row.cells);
            }
            writer.cell(&percent(row.share).into());
            writer.take_cells()
        });
        let rows: Vec<Vec<String>> = cells.collect();
        Self {
            fit: Fit::new(&heads, &rows, look.style, false),
            rows,
            columns,
        }
    }

    /// The lines of headings: one or two.
    pub(crate) fn headings(&self) -> Vec<Vec<GridCell<'_>>> {
        let lines = self.fit.heading_cells();
        lines.into_iter().map(|line| self.placed(line)).collect()
    }

    pub(crate) fn row(&self, row: usize) -> Vec<GridCell<'_>> {
        self.placed(self.fit.cells(&self.rows[row]))
    }

    /// In cells of the terminal.
    pub(crate) fn width(&self) -> usize {
        self.fit.width()
    }

    fn placed<'g>(&'g self, cells: Vec<(usize, usize, Cow<'g, str>)>) -> Vec<GridCell<'g>> {
        let cells = cells.into_iter();
        let placed = cells.map(|(column, x, text)| GridCell {
            column: &self.columns[column],
            x,
            text,
        });
        placed.collect()
    }
}

/// The column of a heading, as rows are sorted by it.
fn column_of(metric: &Metric, head: &Head) -> String {
    if metric.kind != MetricKind::Histogram {
        return metric.name.clone();
    }
    let name = head.name();
    let part = name.rsplit('_').next().unwrap_or_default();
    format!("{}.{part}", metric.name)
}

fn percent(share: f64) -> String {
    match share {
        share if share.is_nan() => "-".to_owned(),
        share if share > 0.0 && share < 0.5 => "<1".to_owned(),
        share => format!("{share:.0}"),
    }
}
