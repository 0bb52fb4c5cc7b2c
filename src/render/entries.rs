//! The entries of a map, one after the other: nothing is kept but the first few
//! lines of a table, which say how wide its columns are.

use std::io::{self, Write};

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::metric::Numbers;
use super::parts::Parts;
use super::writer::{Head, RowWriter};
use super::{Format, Style};
use crate::schema::{Declaration, Names, Place, Streamed, Table, Tags, Value};

/// As many rows say how wide the columns of a table are.
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
    parts: Parts<'d>,
    labels: &'d dyn Names,
    per_cpu: bool,
    raw: bool,
    /// Made for the first row, when all else is known.
    writer: Option<RowWriter>,
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
            parts: Parts::new(&declaration.table, labels),
            labels,
            per_cpu: false,
            raw: false,
            writer: None,
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
        let parts = Parts::new(table, self.labels);
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
        let mut writer = self.writer.take().unwrap_or_else(|| self.writer());
        match *entry.values {
            [value] if self.format.is_json() && !self.raw => {
                let Declaration {
                    key, value: place, ..
                } = self.declaration;
                let key = &self.streamed(key, &self.key_tags, entry.key);
                let value = &self.streamed(place, &self.value_tags, value);
                let outer = self.outer(&entry);
                writer.object(out, &EntryJson { outer, key, value })?;
            }
            ref values if self.format.is_json() => {
                let (key, value) = (&self.key(entry.key), &self.value(values));
                let outer = self.outer(&entry);
                writer.object(out, &EntryJson { outer, key, value })?;
            }
            ref values if self.per_cpu => {
                for (cpu, value) in (0..).zip(values) {
                    writer.row(out, self.row(&entry, &[value], Some(cpu)))?;
                }
            }
            ref values => writer.row(out, self.row(&entry, values, None))?,
        }
        self.writer = Some(writer);
        self.count += 1;
        Ok(())
    }

    /// One group of entries.
    pub fn group(&mut self, out: &mut dyn Write, key: &[u8], cells: &[u64]) -> io::Result<()> {
        let mut writer = self.writer.take().unwrap_or_else(|| self.writer());
        let table = self.table;
        let labels = table.labels.iter();
        let names = labels.map(|label| (label.name.as_str(), self.labels.of(label, key)));
        if self.format.is_json() {
            let metrics = table.metrics.iter();
            let numbers = metrics.map(|metric| (metric.name.as_str(), metric.value(cells)));
            let key = &Value::Fields(names.collect());
            let (value, outer) = (&Value::Fields(numbers.collect()), None);
            writer.object(out, &EntryJson { outer, key, value })?;
        } else {
            let mut row: Vec<Value<'_>> = names.map(|(_, name)| name).collect();
            row.extend(self.cells(cells, &[]));
            writer.row(out, row)?;
        }
        self.writer = Some(writer);
        self.count += 1;
        Ok(())
    }

    /// Behind the last entry; `footer` is for people.
    pub fn end(&mut self, out: &mut dyn Write, footer: &str) -> io::Result<()> {
        let mut writer = self.writer.take().unwrap_or_else(|| self.writer());
        writer.end(out, Some(footer))
    }

    fn streamed<'v>(
        &'v self,
        place: &'v Place,
        tags: &'v Tags,
        bytes: &'v [u8],
    ) -> impl Serialize + 'v {
        let names = self.labels;
        Streamed {
            place,
            tags,
            bytes,
            names,
        }
    }

    fn writer(&self) -> RowWriter {
        RowWriter::new(self.format, self.style, self.heads()).measuring(MEASURED)
    }

    /// Of a map of maps: the key there, and the inner map's id.
    fn outer<'v>(&'v self, entry: &Entry<'v>) -> Option<(Value<'v>, u32)> {
        let (outer, (key, id)) = self.outer.zip(entry.outer)?;
        Some((self.labels.whole(&outer.key, &outer.key_tags(), key), id))
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

    /// Of one CPU, of each, or of all together.
    pub fn value<'v>(&'v self, values: &[&'v [u8]]) -> Value<'v> {
        let Declaration { value: place, .. } = self.declaration;
        let one = |bytes: &&'v [u8]| {
            if self.raw {
                Value::Bytes((*bytes).into())
            } else {
                self.labels.whole(place, &self.value_tags, bytes)
            }
        };
        match values {
            [value] => one(value),
            values if self.per_cpu || self.raw => Value::List(values.iter().map(one).collect()),
            values => Value::sum(values.iter().map(one).collect()),
        }
    }

    fn row<'v>(
        &'v self,
        entry: &Entry<'v>,
        values: &[&'v [u8]],
        cpu: Option<u32>,
    ) -> Vec<Value<'v>> {
        let table = self.table;
        let mut row = Vec::new();
        if let Some((key, id)) = self.outer(entry) {
            row.extend([key, id.into()]);
        }
        if self.raw {
            row.push(self.key(entry.key));
            row.extend(cpu.map(Value::from));
            row.push(self.value(values));
            return row;
        }
        let labels = table.labels.iter();
        row.extend(labels.map(|label| self.labels.of(label, entry.key)));
        row.extend(cpu.map(Value::from));
        let mut cells = vec![0; table.cells()];
        values
            .iter()
            .for_each(|value| table.add_cells(value, &mut cells));
        row.extend(self.cells(&cells, values));
        row
    }

    /// Under the columns of a value.
    fn cells<'v>(&'v self, cells: &[u64], values: &[&'v [u8]]) -> Vec<Value<'v>> {
        self.parts.cells(self.numbers(), cells, values)
    }

    /// Totals, of whatever time.
    fn numbers(&self) -> Numbers<'_> {
        let (format, style) = (self.format, &self.style);
        Numbers {
            format,
            style,
            seconds: 1.0,
        }
    }

    fn heads(&self) -> Vec<Head> {
        let head = |name: &str| self.format.head(name);
        let mut heads = Vec::new();
        if self.outer.is_some() {
            heads.extend(["outer", "map"].map(head));
        }
        if self.raw {
            heads.push(head("key"));
        } else {
            heads.extend(self.table.labels.iter().map(|label| head(&label.name)));
        }
        if self.per_cpu {
            heads.push((head("cpu").0, true));
        }
        if self.raw {
            heads.push(head("value"));
        } else {
            heads.extend(self.parts.heads(self.numbers()));
        }
        heads
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
