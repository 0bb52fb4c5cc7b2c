//! The entries of a map, one after the other: nothing is kept but the first few
//! lines of a table, which say how wide its columns are.

use std::io::{self, Write};

use csv::{QuoteStyle, WriterBuilder};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::text::{metric_cells, metric_heads};
use super::{Format, Style, aligned, escape_all, json, line, widths};
use crate::schema::{Column, Declaration, Label, Names, Streamed, Table, Tags, Value};

/// As many lines say how wide the columns of a table are.
const MEASURED: usize = 1000;

/// One entry, as bytes.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'e> {
    /// A whole key.
    pub key: &'e [u8],
    /// One value, or one a CPU.
    pub values: &'e [&'e [u8]],
    /// Inside of a map of maps: the key there, and the inner map's id.
    pub outer: Option<(&'e [u8], u32)>,
}

/// Writes entries in a format.
pub struct Entries<'d> {
    format: Format,
    style: Style,
    declaration: &'d Declaration,
    key_tags: Tags,
    value_tags: Tags,
    outer: Option<&'d Declaration>,
    table: &'d Table,
    /// Of the table's value.
    parts: Vec<Column<'d>>,
    labels: &'d dyn Names,
    per_cpu: bool,
    raw: bool,
    columns: Option<Columns>,
    /// The room of the last line, for the next one.
    text: Vec<u8>,
    count: u64,
}

impl<'d> Entries<'d> {
    /// Of a map that is declared like this.
    pub fn new(
        format: Format,
        style: Style,
        declaration: &'d Declaration,
        labels: &'d dyn Names,
    ) -> Self {
        Self {
            format,
            style: Style {
                totals: true,
                ..style
            },
            key_tags: declaration.key_tags(),
            value_tags: declaration.value_tags(),
            declaration,
            outer: None,
            table: &declaration.table,
            parts: declaration.table.columns(),
            labels,
            per_cpu: false,
            raw: false,
            columns: None,
            text: Vec::new(),
            count: 0,
        }
    }

    /// The several values of an entry one by one, rather than their sum.
    pub fn per_cpu(self, per_cpu: bool) -> Self {
        Self { per_cpu, ..self }
    }

    /// Bytes, whatever they mean.
    pub fn raw(self, raw: bool) -> Self {
        Self { raw, ..self }
    }

    /// Entries of the maps inside of a map that is declared like this.
    pub fn within(self, outer: &'d Declaration) -> Self {
        let outer = Some(outer);
        Self { outer, ..self }
    }

    /// Groups of entries: rows of a table with fewer labels.
    pub fn grouped(self, table: &'d Table) -> Self {
        let parts = table.columns();
        Self {
            table,
            parts,
            ..self
        }
    }

    /// How many entries were written.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// One more entry.
    pub fn entry(&mut self, out: &mut dyn Write, entry: Entry<'_>) -> io::Result<()> {
        match self.format {
            Format::Json | Format::Jsonl => {
                let mut text = self.separated();
                match *entry.values {
                    [value] if !self.raw => {
                        let Declaration {
                            key, value: place, ..
                        } = self.declaration;
                        let names = self.labels;
                        let key = Streamed {
                            place: key,
                            tags: &self.key_tags,
                            bytes: entry.key,
                            names,
                        };
                        let value = Streamed {
                            place,
                            tags: &self.value_tags,
                            bytes: value,
                            names,
                        };
                        self.object(&mut text, &key, &value, entry.outer)?;
                    }
                    ref values => {
                        let (key, value) = (self.key(entry.key), self.value(values));
                        self.object(&mut text, &key, &value, entry.outer)?;
                    }
                }
                out.write_all(&text)?;
                self.text = text;
            }
            Format::Csv | Format::Table | Format::Folded | Format::Svg => {
                if self.per_cpu {
                    for (cpu, value) in entry.values.iter().enumerate() {
                        let row = self.row(&entry, &[value], Some(cpu));
                        self.line(out, row)?;
                    }
                } else {
                    let row = self.row(&entry, entry.values, None);
                    self.line(out, row)?;
                }
            }
        }
        self.count += 1;
        Ok(())
    }

    /// One group of entries.
    pub fn group(&mut self, out: &mut dyn Write, key: &[u8], cells: &[u64]) -> io::Result<()> {
        let table = self.table;
        let names = |label: &'_ Label| self.labels.of(label, key).to_string();
        match self.format {
            Format::Json | Format::Jsonl => {
                let mut text = self.separated();
                let labels = table.labels.iter();
                let names = labels.map(|label| (label.name.as_str(), self.labels.of(label, key)));
                let metrics = table.metrics.iter();
                let numbers = metrics.map(|metric| (metric.name.as_str(), metric.value(cells)));
                let (key, value) = (names.collect(), numbers.collect());
                self.object(&mut text, &Value::Fields(key), &Value::Fields(value), None)?;
                out.write_all(&text)?;
                self.text = text;
            }
            Format::Csv | Format::Table | Format::Folded | Format::Svg => {
                let mut row: Vec<String> = table.labels.iter().map(names).collect();
                row.extend(self.cells(cells, &[]));
                self.line(out, row)?;
            }
        }
        self.count += 1;
        Ok(())
    }

    /// Behind the last entry; `footer` is for people.
    pub fn end(&mut self, out: &mut dyn Write, footer: &str) -> io::Result<()> {
        match self.format {
            Format::Json if self.count == 0 => writeln!(out, "[]")?,
            Format::Json => writeln!(out, "\n]")?,
            Format::Jsonl if self.count == 0 => {}
            Format::Jsonl => writeln!(out)?,
            Format::Csv => {
                self.head(out)?;
                writeln!(out, "# {footer}")?;
            }
            Format::Table | Format::Folded | Format::Svg => {
                if let Some(columns) = &mut self.columns {
                    columns.write_measured(out, &self.style)?;
                }
                writeln!(out, "{footer}")?;
            }
        }
        out.flush()
    }

    /// A line that begins with what separates it from the one before.
    fn separated(&mut self) -> Vec<u8> {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        text.extend_from_slice(match (self.format, self.count) {
            (Format::Json, 0) => b"[\n",
            (Format::Json, _) => b",\n",
            (_, 0) => b"",
            _ => b"\n",
        });
        text
    }

    fn object(
        &self,
        text: &mut Vec<u8>,
        key: &impl Serialize,
        value: &impl Serialize,
        outer: Option<(&[u8], u32)>,
    ) -> io::Result<()> {
        let outer = self.outer.zip(outer);
        let outer = outer.map(|(declaration, (key, id))| (self.outer_key(declaration, key), id));
        json::write(text, &EntryJson { key, value, outer })
    }

    /// By its type, or as bytes.
    pub fn key<'v>(&'v self, key: &'v [u8]) -> Value<'v> {
        match self.raw {
            true => Value::Bytes(key.into()),
            false => self
                .labels
                .whole(&self.declaration.key, &self.key_tags, key),
        }
    }

    fn outer_key<'v>(&'v self, outer: &'v Declaration, key: &'v [u8]) -> Value<'v> {
        self.labels.whole(&outer.key, &outer.key_tags(), key)
    }

    /// Of one CPU, of each, or of all together.
    pub fn value<'v>(&'v self, values: &[&'v [u8]]) -> Value<'v> {
        let Declaration { value: place, .. } = self.declaration;
        let one = |bytes: &&'v [u8]| match self.raw {
            true => Value::Bytes((*bytes).into()),
            false => self.labels.whole(place, &self.value_tags, bytes),
        };
        match values {
            [value] => one(value),
            values if self.per_cpu || self.raw => Value::List(values.iter().map(one).collect()),
            values => Value::sum(values.iter().map(one).collect()),
        }
    }

    fn row(&self, entry: &Entry<'_>, values: &[&[u8]], cpu: Option<usize>) -> Vec<String> {
        let table = &self.declaration.table;
        let mut row = Vec::new();
        if let (Some(declaration), Some((key, id))) = (self.outer, entry.outer) {
            row.extend([self.outer_key(declaration, key).to_string(), id.to_string()]);
        }
        if self.raw {
            row.push(self.key(entry.key).to_string());
            row.extend(cpu.map(|cpu| cpu.to_string()));
            row.push(self.value(values).to_string());
            return row;
        }
        let labels = table.labels.iter();
        row.extend(labels.map(|label| self.labels.of(label, entry.key).to_string()));
        row.extend(cpu.map(|cpu| cpu.to_string()));
        let mut cells = vec![0; table.cells()];
        values
            .iter()
            .for_each(|value| table.add_cells(value, &mut cells));
        row.extend(self.cells(&cells, values));
        row
    }

    /// Under the columns of a value.
    fn cells(&self, cells: &[u64], values: &[&[u8]]) -> Vec<String> {
        let cells = self
            .parts
            .iter()
            .flat_map(|part| match (part, self.format) {
                (Column::Metric(metric), Format::Table) => {
                    metric_cells(metric, cells, 1.0, &self.style)
                }
                (Column::Metric(metric), _) => super::csv::fields(metric, cells),
                (Column::Detail(detail), _) => {
                    let copies = values.iter().map(|value| self.labels.of(detail, value));
                    vec![Value::sum(copies.collect()).to_string()]
                }
            });
        cells.collect()
    }

    fn columns(&self) -> Columns {
        let is_table = self.format == Format::Table;
        let mut columns = Columns::default();
        let case = |name: &str| match is_table {
            true => name.to_uppercase(),
            false => name.to_owned(),
        };
        if self.outer.is_some() {
            columns.add([case("outer"), case("map")], false);
        }
        match self.raw {
            true => columns.add([case("key")], false),
            false => {
                let labels = self.table.labels.iter();
                columns.add(labels.map(|label| case(&label.name)), false);
            }
        }
        if self.per_cpu {
            columns.add([case("cpu")], true);
        }
        if self.raw {
            columns.add([case("value")], false);
            return columns;
        }
        for part in &self.parts {
            match part {
                Column::Metric(metric) if is_table => {
                    let heads = metric_heads(metric, &self.table.metrics, &self.style);
                    columns.add(heads, true);
                }
                Column::Metric(metric) => columns.add(super::csv::heads(metric), true),
                Column::Detail(detail) => columns.add([case(&detail.name)], false),
            }
        }
        columns
    }

    /// Before the first line, also where there is none.
    fn head(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.columns.is_some() {
            return Ok(());
        }
        let columns = self.columns.insert(self.columns());
        match self.format {
            Format::Csv if !self.style.no_header => {
                write_record(out, &mut self.text, &columns.head)
            }
            _ => Ok(()),
        }
    }

    fn line(&mut self, out: &mut dyn Write, row: Vec<String>) -> io::Result<()> {
        self.head(out)?;
        let Some(columns) = &mut self.columns else {
            return Ok(());
        };
        match (self.format, &columns.widths) {
            // A record is one line, and no name can forge another.
            (Format::Csv, _) => write_record(out, &mut self.text, &super::csv::cells(row)),
            (_, Some(widths)) => {
                writeln!(out, "{}", line(&escape_all(row), widths, &columns.right))
            }
            (_, None) => {
                columns.measured.push(escape_all(row));
                match columns.measured.len() < MEASURED {
                    true => Ok(()),
                    false => columns.write_measured(out, &self.style),
                }
            }
        }
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

/// What lines have in common.
#[derive(Debug, Default)]
struct Columns {
    head: Vec<String>,
    /// Numbers stand on the right.
    right: Vec<bool>,
    /// The lines that say how wide a table's columns are.
    measured: Vec<Vec<String>>,
    /// Known once they were written.
    widths: Option<Vec<usize>>,
}

impl Columns {
    fn add(&mut self, names: impl IntoIterator<Item = String>, right: bool) {
        self.head.extend(names);
        self.right.resize(self.head.len(), right);
    }

    fn write_measured(&mut self, out: &mut dyn Write, style: &Style) -> io::Result<()> {
        if self.widths.is_some() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.measured);
        let widths = self.widths.insert(widths(&self.head, &rows, style));
        aligned(out, &self.head, &self.right, &rows, widths, style)
    }
}

struct EntryJson<'e, K, V> {
    key: &'e K,
    value: &'e V,
    /// Of a map of maps: the key there, and the inner map's id.
    outer: Option<(Value<'e>, u32)>,
}

impl<K: Serialize, V: Serialize> Serialize for EntryJson<'_, K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some((key, id)) = &self.outer {
            map.serialize_entry("outer", key)?;
            map.serialize_entry("map", id)?;
        }
        map.serialize_entry("key", self.key)?;
        map.serialize_entry("value", self.value)?;
        map.end()
    }
}
