//! JSON: exact integers in base units, names as strings.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::ser::Formatter;

use super::Format;
use crate::schema::Table;
use crate::snapshot::{Row, Snapshot, TableSnapshot};
use crate::text::{has_control, is_control};

/// An object per line. Of several, JSON makes an array.
pub(super) fn render(
    out: &mut dyn Write,
    format: Format,
    snapshots: &[Snapshot<'_>],
) -> io::Result<()> {
    let is_array = format == Format::Json && snapshots.len() != 1;
    let (start, between, end) = match is_array {
        true => ("[\n", ",\n", "\n]\n"),
        false => ("", "\n", "\n"),
    };
    let mut buffered = io::BufWriter::with_capacity(64 << 10, out);
    for (i, snapshot) in snapshots.iter().enumerate() {
        buffered.write_all(if i == 0 { start } else { between }.as_bytes())?;
        write(&mut buffered, snapshot)?;
    }
    buffered.write_all(end.as_bytes())?;
    buffered.flush()
}

/// A value, without the end of its line. It is written in small pieces: `out` is
/// better a buffer.
fn write(out: impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(out, Harmless);
    Ok(value.serialize(&mut serializer)?)
}

/// The same, behind other text.
pub(super) fn append(text: &mut Vec<u8>, value: &impl Serialize) {
    write(text, value).expect("memory takes all, and every key is text");
}

/// The same as text.
pub(crate) fn text(value: &impl Serialize) -> String {
    let mut text = Vec::new();
    append(&mut text, value);
    String::from_utf8(text).expect("JSON is UTF-8")
}

/// JSON lets some control characters through as they are; a terminal would obey
/// them. `\u009b` is the same text.
struct Harmless;

impl Formatter for Harmless {
    #[inline]
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if !has_control(fragment) {
            return writer.write_all(fragment.as_bytes());
        }
        for c in fragment.chars() {
            if is_control(c) {
                write!(writer, "\\u{:04x}", u32::from(c))?;
            } else {
                write!(writer, "{c}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for Snapshot<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let time = humantime::format_rfc3339_millis(self.time).to_string();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("tally", &self.tally)?;
        map.serialize_entry("time", &time)?;
        map.serialize_entry("seconds", &super::seconds(self.seconds))?;
        map.serialize_entry("missed", &self.missed)?;
        if !self.missed_by.is_empty() {
            let programs = self.missed_by.iter();
            let missed_by: BTreeMap<&str, u64> =
                programs.map(|(it, n)| (it.as_str(), *n)).collect();
            map.serialize_entry("missed_by", &missed_by)?;
        }
        for (name, lost) in [("gaps", self.gaps), ("unraised", self.unraised)] {
            if let Some(lost) = lost {
                map.serialize_entry(name, &lost)?;
            }
        }
        map.serialize_entry("incomplete", &self.incomplete.is_some())?;
        map.serialize_entry("tables", &self.tables)?;
        map.end()
    }
}

impl Serialize for TableSnapshot<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.table.name)?;
        map.serialize_entry("rows_read", &self.rows_read)?;
        map.serialize_entry("dropped", &self.dropped)?;
        map.serialize_entry("reset", &self.reset)?;
        let table = self.table;
        let other = self.other().map(|row| RowJson { table, row });
        if other.is_some() || self.leaves_out_other {
            map.serialize_entry("other", &other)?;
        }
        if self.uncertain > 0 {
            map.serialize_entry("uncertain", &self.uncertain)?;
        }
        map.serialize_entry("rows", &RowsJson(self))?;
        map.end()
    }
}

/// The same, to be changed before it is written.
pub(crate) fn json_value(value: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(value).expect("every key is text")
}

/// A row as an object.
pub(crate) fn row_value(table: &Table, row: &Row<'_>) -> serde_json::Value {
    json_value(&RowJson { table, row: *row })
}

struct RowsJson<'a>(&'a TableSnapshot<'a>);

impl Serialize for RowsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(TableSnapshot { table, rows, .. }) = self;
        serializer.collect_seq(rows.iter().map(|row| RowJson { table, row }))
    }
}

struct RowJson<'a> {
    table: &'a Table,
    row: Row<'a>,
}

impl Serialize for RowJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { table, row } = self;
        let mut map = serializer.serialize_map(None)?;
        for (label, name) in table.labels.iter().zip(row.names) {
            map.serialize_entry(&label.name, name)?;
        }
        for metric in &table.metrics {
            map.serialize_entry(&metric.name, &metric.value(row.cells))?;
        }
        for (detail, value) in table.details.iter().zip(row.details) {
            map.serialize_entry(&detail.name, value)?;
        }
        map.end()
    }
}
