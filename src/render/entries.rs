//! The entries of a map, one after the other: nothing is kept but the first few
//! lines of a table, which say how wide its columns are.

use std::borrow::Cow;
use std::io::{self, Write};

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::metric::Numbers;
use super::parts::Parts;
use super::reading::other_label;
use super::writer::{Head, RowWriter};
use super::{Format, Style};
use crate::schema::{Declaration, Names, Place, Streamed, Table, Tags, Value};

/// As many rows say how wide the columns of a table are.
const MEASURED: usize = 1000;

/// One entry, as bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'e> {
    /// A whole key.
    pub(crate) key: &'e [u8],
    /// One value, or one a CPU.
    pub(crate) values: &'e [&'e [u8]],
    /// Inside of a map of maps: the key there, and the inner map's id.
    pub(crate) outer: Option<(&'e [u8], u32)>,
}

/// Writes entries in a format.
pub(crate) struct Entries<'d> {
    layout: Layout<'d>,
    /// Made for the first row, when all else is known.
    writer: Option<RowWriter>,
    /// The numbers of an entry, added up.
    sums: Vec<u64>,
    count: u64,
}

/// What entries are, and how they are shown.
struct Layout<'d> {
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
}

impl<'d> Entries<'d> {
    /// Of a map that is declared like this.
    pub(crate) fn new(
        format: Format,
        style: Style,
        declaration: &'d Declaration,
        labels: &'d dyn Names,
    ) -> Self {
        let totals = true;
        let layout = Layout {
            format,
            style: Style { totals, ..style },
            key_tags: declaration.key_tags(),
            value_tags: declaration.value_tags(),
            declaration,
            outer: None,
            table: &declaration.table,
            parts: Parts::new(&declaration.table, labels),
            labels,
            per_cpu: false,
            raw: false,
        };
        Self {
            layout,
            writer: None,
            sums: Vec::new(),
            count: 0,
        }
    }

    /// The several values of an entry one by one, rather than their sum.
    pub(crate) fn per_cpu(mut self, per_cpu: bool) -> Self {
        self.layout.per_cpu = per_cpu;
        self
    }

    /// Bytes, whatever they mean.
    pub(crate) fn raw(mut self, raw: bool) -> Self {
        self.layout.raw = raw;
        self
    }

    /// Entries of the maps inside of a map that is declared like this.
    pub(crate) fn within(mut self, outer: &'d Declaration) -> Self {
        self.layout.outer = Some(outer);
        self
    }

    /// Groups of entries: rows of a table with fewer labels.
    pub(crate) fn grouped(mut self, table: &'d Table) -> Self {
        self.layout.table = table;
        self.layout.parts = Parts::new(table, self.layout.labels);
        self
    }

    /// How many entries were written.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// A whole key, by its type or as bytes.
    pub(crate) fn key<'v>(&'v self, key: &'v [u8]) -> Value<'v> {
        self.layout.key(key)
    }

    /// A value of one CPU, of each, or of all together.
    pub(crate) fn value<'v>(&'v self, values: &[&'v [u8]]) -> Value<'v> {
        self.layout.value(values)
    }

    pub(crate) fn entry(&mut self, out: &mut dyn Write, entry: Entry<'_>) -> io::Result<()> {
        let layout = &self.layout;
        let writer = self.writer.get_or_insert_with(|| layout.writer());
        self.count += 1;
        if layout.format.is_json() {
            return layout.object(writer, out, &entry);
        }
        if !layout.per_cpu {
            layout.row(writer, &mut self.sums, &entry, entry.values, None);
            return writer.end_row(out);
        }
        for (cpu, value) in (0..).zip(entry.values) {
            layout.row(writer, &mut self.sums, &entry, &[value], Some(cpu));
            writer.end_row(out)?;
        }
        Ok(())
    }

    /// One group of entries.
    pub(crate) fn group(
        &mut self,
        out: &mut dyn Write,
        key: &[u8],
        cells: &[u64],
    ) -> io::Result<()> {
        let layout = &self.layout;
        let writer = self.writer.get_or_insert_with(|| layout.writer());
        self.count += 1;
        let labels = layout.table.labels.iter();
        let names = labels.map(|label| (label.name.as_str(), layout.labels.of(label, key)));
        if layout.format.is_json() {
            let metrics = layout.table.metrics.iter();
            let numbers = metrics.map(|metric| (metric.name.as_str(), metric.value(cells)));
            let key = &Value::Fields(names.collect());
            let (value, outer) = (&Value::Fields(numbers.collect()), None);
            return writer.object(out, &EntryJson { outer, key, value });
        }
        names.for_each(|(_, name)| writer.cell(&name));
        layout.parts.write(writer, layout.numbers(), cells, &[]);
        writer.end_row(out)
    }

    /// The row `other` of a tally's table, which has no key.
    pub(crate) fn other(&mut self, out: &mut dyn Write, value: &[u8]) -> io::Result<()> {
        let layout = &self.layout;
        let writer = self.writer.get_or_insert_with(|| layout.writer());
        if layout.format.is_json() {
            let (key, outer) = (&Value::Null, None);
            let value = &layout.streamed(&layout.declaration.value, &layout.value_tags, value);
            return writer.object(out, &EntryJson { outer, key, value });
        }
        let is_csv = layout.format == Format::Csv;
        let cells = layout.table.labels.len() + usize::from(layout.per_cpu);
        for cell in 0..cells {
            writer.cell(&other_label(cell, is_csv));
        }
        layout.numbers_of(writer, &mut self.sums, &[value]);
        writer.end_row(out)
    }

    /// Behind the last entry. The numbers of `footer` are for people: elsewhere they
    /// have no separators.
    pub(crate) fn end(&mut self, out: &mut dyn Write, footer: &str) -> io::Result<()> {
        let footer = match self.layout.format {
            Format::Table => Cow::Borrowed(footer),
            _ => Cow::Owned(footer.replace(',', "")),
        };
        let writer = self.writer.get_or_insert_with(|| self.layout.writer());
        writer.end(out, Some(&footer))
    }
}

impl Layout<'_> {
    fn writer(&self) -> RowWriter {
        RowWriter::new(self.format, self.style, self.heads()).measuring(MEASURED)
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
            heads.push(Head::number(head("cpu").text));
        }
        if self.raw {
            heads.push(head("value"));
        } else {
            heads.extend(self.parts.heads(self.numbers()));
        }
        heads
    }

    /// Totals, of whatever time.
    fn numbers(&self) -> Numbers<'_> {
        let (format, style) = (self.format, &self.style);
        Numbers {
            format,
            style,
            seconds: 1.0,
            has_counts: false,
        }
    }

    fn object(
        &self,
        writer: &mut RowWriter,
        out: &mut dyn Write,
        entry: &Entry<'_>,
    ) -> io::Result<()> {
        let outer = self.outer(entry);
        if let [value] = *entry.values
            && !self.raw
        {
            let key = &self.streamed(&self.declaration.key, &self.key_tags, entry.key);
            let value = &self.streamed(&self.declaration.value, &self.value_tags, value);
            return writer.object(out, &EntryJson { outer, key, value });
        }
        let (key, value) = (&self.key(entry.key), &self.value(entry.values));
        writer.object(out, &EntryJson { outer, key, value })
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

    /// Of a map of maps: the key there, and the inner map's id.
    fn outer<'v>(&'v self, entry: &Entry<'v>) -> Option<(Value<'v>, u32)> {
        let (outer, (key, id)) = self.outer.zip(entry.outer)?;
        Some((self.labels.whole(&outer.key, &outer.key_tags(), key), id))
    }

    fn key<'v>(&'v self, key: &'v [u8]) -> Value<'v> {
        if self.raw {
            return Value::Bytes(key.into());
        }
        let place = &self.declaration.key;
        self.labels.whole(place, &self.key_tags, key)
    }

    fn value<'v>(&'v self, values: &[&'v [u8]]) -> Value<'v> {
        let place = &self.declaration.value;
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
            values => self.declaration.sum(values, self.labels),
        }
    }

    fn row(
        &self,
        writer: &mut RowWriter,
        sums: &mut Vec<u64>,
        entry: &Entry<'_>,
        values: &[&[u8]],
        cpu: Option<u32>,
    ) {
        if let Some((key, id)) = self.outer(entry) {
            writer.cell(&key);
            writer.cell(&id.into());
        }
        if self.raw {
            writer.cell(&self.key(entry.key));
        } else {
            for label in &self.table.labels {
                writer.cell(&self.labels.of(label, entry.key));
            }
        }
        if let Some(cpu) = cpu {
            writer.cell(&cpu.into());
        }
        if self.raw {
            return writer.cell(&self.value(values));
        }
        self.numbers_of(writer, sums, values);
    }

    fn numbers_of(&self, writer: &mut RowWriter, sums: &mut Vec<u64>, values: &[&[u8]]) {
        sums.clear();
        sums.resize(self.table.cells(), 0);
        for value in values {
            self.table.add_cells(value, sums);
        }
        self.parts.write(writer, self.numbers(), sums, values);
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
