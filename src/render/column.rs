//! Columns: what a command says of its rows, once for every format.

use std::io::{self, Write};

use super::fit::Leaves;
use super::writer::{Head, RowWriter};
use super::{Format, Style, json};
use crate::schema::{Unit, Value};
use crate::text::thousands;

type Exact<'c, R> = Box<dyn Fn(&R) -> Value<'_> + 'c>;

/// A column of rows: its name, and what a row has there.
pub(crate) struct Column<'c, R> {
    name: &'static str,
    title: String,
    right: bool,
    leaves: Leaves,
    value: Exact<'c, R>,
    shown: Shown<'c, R>,
}

/// What a table has in a column.
enum Shown<'c, R> {
    No,
    Value,
    Scaled(Unit),
    Text(Box<dyn Fn(&R) -> String + 'c>),
}

impl<'c, R> Column<'c, R> {
    /// Of text, on the left of its column in a table.
    pub(crate) fn text(name: &'static str, value: impl Fn(&R) -> Value<'_> + 'c) -> Self {
        Self {
            name,
            title: name.to_uppercase(),
            right: false,
            leaves: Leaves::default(),
            value: Box::new(value),
            shown: Shown::Value,
        }
    }

    /// Of numbers, on the right, with separators in tables.
    pub(crate) fn number(name: &'static str, value: impl Fn(&R) -> Value<'_> + 'c) -> Self {
        let mut column = Self::text(name, value);
        column.right = true;
        column
    }

    /// For programs: tables leave it out.
    pub(crate) fn exact(name: &'static str, value: impl Fn(&R) -> Value<'_> + 'c) -> Self {
        Self::text(name, value).in_tables(false)
    }

    /// Whether tables have it.
    pub(crate) fn in_tables(mut self, is_shown: bool) -> Self {
        if !is_shown {
            self.shown = Shown::No;
        }
        self
    }

    /// A terminal that is not wide enough for all does without it first.
    pub(crate) fn spare(mut self) -> Self {
        self.leaves = Leaves::First;
        self
    }

    /// Tables scale it.
    pub(crate) fn unit(mut self, unit: Unit) -> Self {
        self.shown = Shown::Scaled(unit);
        self
    }

    /// Tables have this text in the place of the value.
    pub(crate) fn shown_as(mut self, text: impl Fn(&R) -> String + 'c) -> Self {
        self.shown = Shown::Text(Box::new(text));
        self
    }

    /// Tables have this title in the place of the name.
    pub(crate) fn titled(mut self, title: &str) -> Self {
        title.clone_into(&mut self.title);
        self
    }

    fn is_in(&self, format: Format) -> bool {
        format != Format::Table || !matches!(self.shown, Shown::No)
    }

    fn head(&self, format: Format) -> Head {
        let text = match format {
            Format::Table => &self.title,
            _ => self.name,
        };
        Head {
            right: self.right,
            leaves: self.leaves,
            ..Head::text(text)
        }
    }

    fn cell<'r>(&self, format: Format, row: &'r R) -> Value<'r> {
        match (format, &self.shown) {
            (Format::Table, Shown::Text(text)) => text(row).into(),
            (Format::Table, Shown::Value) if self.right => match (self.value)(row) {
                Value::Uint(number) => thousands(&number.to_string()).into(),
                other => other,
            },
            (Format::Table, Shown::Scaled(unit)) => match (self.value)(row) {
                Value::Uint(number) => unit.scale(number as f64).into(),
                other => other,
            },
            _ => (self.value)(row),
        }
    }
}

/// All rows in a format.
pub(crate) fn write_rows<R>(
    out: &mut dyn Write,
    (format, style): (Format, Style),
    columns: &[Column<'_, R>],
    rows: impl IntoIterator<Item = R>,
) -> io::Result<()> {
    let columns: Vec<_> = columns.iter().filter(|it| it.is_in(format)).collect();
    let heads = columns.iter().map(|column| column.head(format)).collect();
    let mut writer = RowWriter::new(format, style, heads);
    for row in rows {
        for column in &columns {
            writer.cell(&column.cell(format, &row));
        }
        writer.end_row(out)?;
    }
    writer.end(out, None)
}

/// One row as an object.
pub(crate) fn object<'r, R>(columns: &[Column<'_, R>], row: &'r R) -> Value<'r> {
    let columns = columns.iter();
    let fields = columns.map(|column| (column.name, (column.value)(row)));
    Value::Fields(fields.collect())
}

/// One JSON value, on a line.
pub(crate) fn write_json(out: &mut dyn Write, value: &Value<'_>) -> io::Result<()> {
    writeln!(out, "{}", json::text(value))
}

/// A time in seconds, to the microsecond.
pub(crate) fn seconds(seconds: f64) -> Value<'static> {
    Value::Float((seconds * 1e6).round() / 1e6)
}
