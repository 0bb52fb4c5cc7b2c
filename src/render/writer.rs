//! Rows in each format that has rows: a table, CSV, JSON, JSON lines.

use std::io::{self, Write};

use csv::{QuoteStyle, WriterBuilder};
use serde::ser::Serialize;

use unicode_width::UnicodeWidthStr;

use super::{Format, Style, heading, json};
use crate::schema::Value;
use crate::text::{escape, is_control};

/// What stands over a column, and whether its cells are numbers: those stand on
/// the right of a table's column.
pub(super) type Head = (String, bool);

/// Writes rows one by one. Nothing is kept but the first rows of a table, which
/// say how wide its columns are.
#[derive(Debug)]
pub(super) struct RowWriter {
    format: Format,
    style: Style,
    heads: Vec<String>,
    right: Vec<bool>,
    has_header: bool,
    measured: usize,
    waiting: Vec<Vec<String>>,
    /// Known once the rows that wait were written.
    widths: Option<Vec<usize>>,
    count: u64,
    /// The memory of the last line, for the next one.
    text: Vec<u8>,
}

impl RowWriter {
    pub(super) fn new(format: Format, style: Style, heads: Vec<Head>) -> Self {
        let (heads, right) = heads.into_iter().unzip();
        Self {
            format,
            style,
            heads,
            right,
            has_header: false,
            measured: usize::MAX,
            waiting: Vec::new(),
            widths: None,
            count: 0,
            text: Vec::new(),
        }
    }

    /// The number of rows that are measured before a table is written.
    pub(super) fn measuring(self, measured: usize) -> Self {
        Self { measured, ..self }
    }

    /// One row, with a cell for each column.
    pub(super) fn row(&mut self, out: &mut dyn Write, cells: Vec<Value<'_>>) -> io::Result<()> {
        match self.format {
            Format::Json | Format::Jsonl => {
                let text = self.separated();
                let names = self.heads.iter().map(String::as_str);
                let object = Value::Fields(names.zip(cells).collect());
                self.text = json_line(out, text, self.format, &object)?;
            }
            Format::Csv => {
                self.header(out)?;
                let record: Vec<String> = cells.into_iter().map(field).collect();
                write_record(out, &mut self.text, &record)?;
            }
            Format::Table | Format::Folded | Format::Svg => {
                let cells = cells.into_iter();
                let row = cells.map(|cell| escaped(cell.to_string())).collect();
                self.line(out, row)?;
            }
        }
        self.count += 1;
        Ok(())
    }

    /// One row of JSON that is not made of this table's columns.
    pub(super) fn object(
        &mut self,
        out: &mut dyn Write,
        object: &impl Serialize,
    ) -> io::Result<()> {
        let text = self.separated();
        self.text = json_line(out, text, self.format, object)?;
        self.count += 1;
        Ok(())
    }

    /// After the last row. The footer is not part of JSON.
    pub(super) fn end(&mut self, out: &mut dyn Write, footer: Option<&str>) -> io::Result<()> {
        match self.format {
            Format::Json if self.count == 0 => writeln!(out, "[]")?,
            Format::Json => writeln!(out, "\n]")?,
            Format::Jsonl => {}
            Format::Csv => {
                self.header(out)?;
                if let Some(footer) = footer {
                    writeln!(out, "# {footer}")?;
                }
            }
            Format::Table | Format::Folded | Format::Svg => {
                self.write_waiting(out)?;
                if let Some(footer) = footer {
                    writeln!(out, "{footer}")?;
                }
            }
        }
        out.flush()
    }

    /// What separates an object from the one before.
    fn separated(&mut self) -> Vec<u8> {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        text.extend_from_slice(match (self.format, self.count) {
            (Format::Json, 0) => b"[\n",
            (Format::Json, _) => b",\n",
            _ => b"",
        });
        text
    }

    /// Of CSV, also where no row follows.
    fn header(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.has_header || self.style.no_header {
            return Ok(());
        }
        self.has_header = true;
        write_record(out, &mut self.text, &self.heads)
    }

    fn line(&mut self, out: &mut dyn Write, row: Vec<String>) -> io::Result<()> {
        if let Some(widths) = &self.widths {
            return writeln!(out, "{}", line(&row, widths, &self.right));
        }
        self.waiting.push(row);
        if self.waiting.len() < self.measured {
            return Ok(());
        }
        self.write_waiting(out)
    }

    fn write_waiting(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let rows = std::mem::take(&mut self.waiting);
        if rows.is_empty() {
            return Ok(());
        }
        let widths = self.widths.insert(widths(&self.heads, &rows, &self.style));
        if !self.style.no_header {
            let head = line(&self.heads, widths, &self.right);
            heading(out, &head, &self.style)?;
        }
        let lines = rows.iter().map(|row| line(row, widths, &self.right));
        lines
            .into_iter()
            .try_for_each(|line| writeln!(out, "{line}"))
    }
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
        if *right {
            line.extend([space.as_str(), cell]);
        } else {
            line.extend([cell, space.as_str()]);
        }
    }
    line.truncate(line.trim_end().len());
    line
}

/// The object, and the end of its line where each object is a line.
fn json_line(
    out: &mut dyn Write,
    mut text: Vec<u8>,
    format: Format,
    object: &impl Serialize,
) -> io::Result<Vec<u8>> {
    json::write(&mut text, object)?;
    if format == Format::Jsonl {
        text.push(b'\n');
    }
    out.write_all(&text)?;
    Ok(text)
}

/// A field of CSV: what JSON has, lists and objects as JSON. It has one line, and
/// a `'` before text that a spreadsheet would compute.
fn field(cell: Value<'_>) -> String {
    let text = match cell {
        Value::Null => return String::new(),
        Value::List(_) | Value::Fields(_) => return json::text(&cell),
        cell => escaped(cell.to_string()),
    };
    if is_formula(&text) {
        format!("'{text}")
    } else {
        text
    }
}

/// Anyone can name a process `=1+1`.
fn is_formula(text: &str) -> bool {
    text.len() > 1 && text.starts_with(['=', '+', '-', '@']) && text.parse::<f64>().is_err()
}

fn escaped(text: String) -> String {
    if text.chars().any(is_control) {
        escape(&text)
    } else {
        text
    }
}

/// A flush of csv's writer goes through to what it writes to: here, text.
fn write_record(out: &mut dyn Write, text: &mut Vec<u8>, record: &[String]) -> io::Result<()> {
    text.clear();
    // A field that does not fit is looked through again from where it stopped.
    let size: usize = record.iter().map(|field| field.len() + 4).sum();
    let mut writer = WriterBuilder::new()
        .quote_style(QuoteStyle::NonNumeric)
        .buffer_capacity(size.max(1 << 10))
        .from_writer(&mut *text);
    writer.write_record(record)?;
    writer.flush()?;
    drop(writer);
    out.write_all(text)
}
