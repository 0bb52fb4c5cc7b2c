//! Faces: snapshots as text. Pure functions of what they are given; no map, no
//! file descriptor, no clock.

mod bars;
mod changes;
mod column;
mod csv;
mod entries;
mod flame;
mod format;
mod json;
mod parts;
mod text;
mod writer;

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

pub use changes::{Change, Changes};
pub use column::{Column, object, seconds, write_json, write_rows};
pub use entries::{Entries, Entry};
pub use format::Format;

use crate::schema::Unit;
use crate::snapshot::{Snapshot, TableSnapshot};
use crate::text::{escape, is_control};

/// What a person at a terminal can choose.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// Escape sequences for headings.
    pub color: bool,
    /// Histograms as bars, also where a table has many rows.
    pub histogram: bool,
    /// Running totals, rather than rates.
    pub totals: bool,
    /// Leave out headings.
    pub no_header: bool,
    /// The output is a terminal: control characters are escaped there, also in
    /// formats that would carry them as they are.
    pub terminal: bool,
    /// Online, for the title.
    pub cpus: usize,
}

impl Style {
    /// For numbers of so many seconds. Fewer than are shown give no rates: two
    /// events in a microsecond are not two million a second.
    fn over(self, seconds: f64) -> Self {
        Self {
            totals: self.totals || seconds < LEAST_SECONDS,
            ..self
        }
    }
}

/// What is rounded to `0.1 s`.
const LEAST_SECONDS: f64 = 0.05;

/// `5.0 s`; a shorter time in its own unit.
fn span(seconds: f64) -> String {
    if seconds < LEAST_SECONDS {
        Unit::Time(1).scale(seconds * 1e9)
    } else {
        format!("{seconds:.1} s")
    }
}

/// Writes one snapshot after the other.
#[derive(Debug)]
pub struct Renderer {
    format: Format,
    style: Style,
    csv: csv::State,
    written: bool,
}

impl Renderer {
    /// Nothing written yet.
    pub fn new(format: Format, style: Style) -> Self {
        Self {
            format,
            style,
            csv: csv::State::default(),
            written: false,
        }
    }

    /// One snapshot, whole: with its rows shown of rows read, what was dropped
    /// and what was missed.
    pub fn render(&mut self, out: &mut dyn Write, snapshot: &Snapshot<'_>) -> io::Result<()> {
        match self.format {
            Format::Table => {
                if self.written {
                    writeln!(out)?;
                }
                text::render(out, snapshot, &self.style)?;
            }
            Format::Json | Format::Jsonl => json::render(out, snapshot)?,
            Format::Csv => self.csv.render(out, snapshot, &self.style)?,
            Format::Folded => flame::folded(out, snapshot)?,
            Format::Svg => flame::svg(out, snapshot)?,
        }
        self.written = true;
        out.flush()
    }
}

/// `1 row`, `2 rows`.
fn counted(number: u64, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {what}{s}")
}

/// `10 of 312 rows; 0 dropped, 0 missed`.
fn footer(snapshot: &Snapshot<'_>, table: &TableSnapshot<'_>) -> String {
    let (shown, read) = (table.rows.len(), table.rows_read);
    let rows = if read == 1 { "row" } else { "rows" };
    let known = |lost: Option<u64>| lost.map_or_else(|| "unknown".to_owned(), |it| it.to_string());
    let (dropped, missed) = (known(table.dropped), known(snapshot.missed));
    let reset = match table.reset {
        0 => String::new(),
        reset => format!(", {reset} reset"),
    };
    let gaps = match snapshot.gaps {
        Some(gaps @ 1..) => format!(", {}", counted(gaps, "gap")),
        _ => String::new(),
    };
    let incomplete = snapshot.incomplete.as_ref();
    let incomplete = incomplete.map_or("", |_| "; incomplete");
    format!("{shown} of {read} {rows}; {dropped} dropped, {missed} missed{gaps}{reset}{incomplete}")
}

/// Columns of text, each as wide on a terminal as its widest cell; numbers to
/// the right.
/// Control characters are escaped.
pub fn columns(
    out: &mut dyn Write,
    head: &[String],
    right: &[bool],
    rows: &[Vec<String>],
    style: &Style,
) -> io::Result<()> {
    let rows: Vec<Vec<String>> = rows.iter().cloned().map(escape_all).collect();
    aligned(out, head, right, &rows, &widths(head, &rows, style), style)
}

/// The same of what is escaped already.
fn aligned(
    out: &mut dyn Write,
    head: &[String],
    right: &[bool],
    rows: &[Vec<String>],
    widths: &[usize],
    style: &Style,
) -> io::Result<()> {
    if !style.no_header {
        heading(out, &line(head, widths, right), style)?;
    }
    rows.iter()
        .try_for_each(|row| writeln!(out, "{}", line(row, widths, right)))
}

fn escape_all(row: Vec<String>) -> Vec<String> {
    row.into_iter()
        .map(|cell| match cell.chars().any(is_control) {
            true => escape(&cell),
            false => cell,
        })
        .collect()
}

fn widths(head: &[String], rows: &[Vec<String>], style: &Style) -> Vec<usize> {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .map(|row| &row[column])
            .chain((!style.no_header).then_some(&head[column]));
        cells.map(|cell| cell.width()).max().unwrap_or(0)
    };
    (0..head.len()).map(width).collect()
}

/// A cell that is wider than its column moves those behind it.
fn line(cells: &[String], widths: &[usize], right: &[bool]) -> String {
    let mut line = String::new();
    for ((cell, width), right) in cells.iter().zip(widths).zip(right) {
        let space = " ".repeat(width.saturating_sub(cell.width()));
        if !line.is_empty() {
            line.push_str("  ");
        }
        match right {
            true => line.extend([space.as_str(), cell]),
            false => line.extend([cell, space.as_str()]),
        }
    }
    line.truncate(line.trim_end().len());
    line
}

/// A line that stands out.
pub fn heading(out: &mut dyn Write, text: &str, style: &Style) -> io::Result<()> {
    let bold = anstyle::Style::new().bold();
    let text = escape(text);
    match style.color {
        true => writeln!(out, "{bold}{text}{bold:#}"),
        false => writeln!(out, "{text}"),
    }
}

#[cfg(test)]
mod tests;
