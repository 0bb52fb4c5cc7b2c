//! Rows in each format that has rows: a table, CSV, JSON, JSON lines.

use std::borrow::Cow;
use std::io::{self, Write};

use super::fit::{Fit, Leaves, wrapped};
use super::{Format, Style, heading, json};
use crate::schema::Value;
use crate::text::{escape, has_control};
use serde::ser::Serialize;

/// What stands over a column, and what a table makes of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Head {
    pub(super) text: String,
    /// Whether its cells are numbers: those stand on the right of a table's column.
    pub(super) right: bool,
    pub(super) leaves: Leaves,
}

impl Head {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }

    pub(super) fn number(text: impl Into<String>) -> Self {
        Self {
            right: true,
            ..Self::text(text)
        }
    }

    pub(super) fn leaving(self, leaves: Leaves) -> Self {
        Self { leaves, ..self }
    }

    /// The column, as it is typed.
    pub(super) fn name(&self) -> String {
        let text = self.text.trim_end_matches("/s");
        text.to_lowercase()
    }
}

/// Writes rows cell by cell. Nothing is kept but the first rows of a table, which
/// say how wide its columns are.
#[derive(Debug, Default)]
pub(super) struct RowWriter {
    format: Format,
    style: Style,
    heads: Vec<Head>,
    has_header: bool,
    measured: usize,
    waiting: Vec<Vec<String>>,
    /// Known once the rows that wait were written.
    fit: Option<Fit>,
    count: u64,
    /// What each record of CSV begins with.
    leading: Vec<u8>,
    /// The cells of the row that is being written: of a table, or as text.
    cells: Vec<String>,
    text: Vec<u8>,
    /// How many cells the row has so far.
    column: usize,
}

impl RowWriter {
    pub(super) fn new(format: Format, style: Style, heads: Vec<Head>) -> Self {
        Self {
            format,
            style,
            heads,
            measured: usize::MAX,
            ..Self::default()
        }
    }

    /// The number of rows that are measured before a table is written.
    pub(super) fn measuring(self, measured: usize) -> Self {
        Self { measured, ..self }
    }

    /// Cells that each record of CSV begins with: heads, but not cells, include
    /// them.
    pub(super) fn leading(mut self, cells: &[Value<'_>]) -> Self {
        for cell in cells {
            write_field(&mut self.leading, cell);
            self.leading.push(b',');
        }
        self
    }

    /// The next cell of the row.
    pub(super) fn cell(&mut self, cell: &Value<'_>) {
        match self.format {
            Format::Json | Format::Jsonl => {
                if self.column == 0 {
                    self.begin_object();
                    self.text.push(b'{');
                } else {
                    self.text.push(b',');
                }
                json::append(&mut self.text, &self.heads[self.column].text);
                self.text.push(b':');
                json::append(&mut self.text, cell);
            }
            Format::Csv => {
                if self.column == 0 {
                    self.text.extend_from_slice(&self.leading);
                } else {
                    self.text.push(b',');
                }
                write_field(&mut self.text, cell);
            }
            _ => {
                let mut text = escaped(&text_of(cell)).into_owned();
                if self.heads[self.column].right {
                    text = self.style.glyphs(&text).into_owned();
                } else if text.is_empty() {
                    text.push('-');
                }
                self.cells.push(text);
            }
        }
        self.column += 1;
    }

    /// The cells of a row of a table that is drawn elsewhere.
    pub(super) fn take_cells(&mut self) -> Vec<String> {
        self.column = 0;
        std::mem::take(&mut self.cells)
    }

    /// Behind the last cell of a row.
    pub(super) fn end_row(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.column = 0;
        match self.format {
            Format::Json | Format::Jsonl => {
                self.text.push(b'}');
                self.end_object(out)?;
            }
            Format::Csv => {
                self.header(out)?;
                self.text.push(b'\n');
                self.put(out)?;
            }
            _ => {
                let row = std::mem::take(&mut self.cells);
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
        self.begin_object();
        json::append(&mut self.text, object);
        self.end_object(out)?;
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
            _ => {
                self.write_waiting(out, true)?;
                let notes = self.fit.as_ref().and_then(Fit::notes);
                let footer: Vec<&str> = footer.into_iter().chain(notes.as_deref()).collect();
                if !footer.is_empty() {
                    writeln!(out, "{}", wrapped(&footer.join("; "), &self.style))?;
                }
            }
        }
        out.flush()
    }

    /// What separates an object from the one before.
    fn begin_object(&mut self) {
        self.text
            .extend_from_slice(match (self.format, self.count) {
                (Format::Json, 0) => b"[\n",
                (Format::Json, _) => b",\n",
                _ => b"",
            });
    }

    fn end_object(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.format == Format::Jsonl {
            self.text.push(b'\n');
        }
        self.put(out)
    }

    fn put(&mut self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.text)?;
        self.text.clear();
        Ok(())
    }

    /// Of CSV, also where no row follows.
    fn header(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.has_header || self.style.no_header {
            return Ok(());
        }
        self.has_header = true;
        let mut header = Vec::new();
        for head in &self.heads {
            if !header.is_empty() {
                header.push(b',');
            }
            write_text(&mut header, &head.text);
        }
        header.push(b'\n');
        out.write_all(&header)
    }

    fn line(&mut self, out: &mut dyn Write, row: Vec<String>) -> io::Result<()> {
        if let Some(fit) = &self.fit {
            return writeln!(out, "{}", fit.line(&row));
        }
        self.waiting.push(row);
        if self.waiting.len() < self.measured {
            return Ok(());
        }
        self.write_waiting(out, false)
    }

    fn write_waiting(&mut self, out: &mut dyn Write, are_all: bool) -> io::Result<()> {
        let rows = std::mem::take(&mut self.waiting);
        if rows.is_empty() {
            return Ok(());
        }
        let fit = Fit::new(&self.heads, &rows, self.style, are_all);
        let fit = self.fit.insert(fit);
        if !self.style.no_header {
            let headings = fit.headings();
            headings
                .iter()
                .try_for_each(|line| heading(out, line, &self.style))?;
        }
        rows.iter()
            .try_for_each(|row| writeln!(out, "{}", fit.line(row)))
    }
}

/// A field of CSV: what JSON has, lists and objects as JSON. It has one line, and
/// a `'` before text that a spreadsheet would compute.
fn write_field(record: &mut Vec<u8>, cell: &Value<'_>) {
    match cell {
        Value::Null => quote(record, ""),
        Value::Uint(_) | Value::Int(_) => json::append(record, cell),
        Value::List(_) | Value::Fields(_) => quote(record, &json::text(cell)),
        cell => {
            let text = text_of(cell);
            let text = escaped(&text);
            if is_formula(&text) {
                quote(record, &format!("'{text}"));
            } else {
                write_text(record, &text);
            }
        }
    }
}

/// Numbers are bare.
fn write_text(record: &mut Vec<u8>, text: &str) {
    if is_number(text) {
        record.extend_from_slice(text.as_bytes());
    } else {
        quote(record, text);
    }
}

fn quote(record: &mut Vec<u8>, text: &str) {
    record.push(b'"');
    for (i, part) in text.split('"').enumerate() {
        if i > 0 {
            record.extend_from_slice(b"\"\"");
        }
        record.extend_from_slice(part.as_bytes());
    }
    record.push(b'"');
}

/// Anyone can name a process `=1+1`.
fn is_formula(text: &str) -> bool {
    text.len() > 1 && text.starts_with(['=', '+', '-', '@']) && !is_number(text)
}

fn is_number(text: &str) -> bool {
    // Most text is not, and parsing takes longer.
    let may_be =
        |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'i' | 'I' | 'n' | 'N');
    text.starts_with(may_be) && text.parse::<f64>().is_ok()
}

fn text_of<'v>(cell: &'v Value<'_>) -> Cow<'v, str> {
    match cell {
        Value::Text(text) => Cow::Borrowed(text),
        cell => Cow::Owned(cell.to_string()),
    }
}

fn escaped(text: &str) -> Cow<'_, str> {
    if has_control(text) {
        Cow::Owned(escape(text))
    } else {
        Cow::Borrowed(text)
    }
}
