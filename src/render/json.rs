//! JSON: exact integers in base units, names as strings.

use std::io::{self, Write};

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::ser::Formatter;

use crate::names::HostNames;
use crate::schema::Value;
use crate::snapshot::{Snapshot, TableSnapshot};
use crate::text::is_control;

/// One object, and the end of its line.
pub(super) fn render(
    out: &mut dyn Write,
    snapshot: &Snapshot,
    labels: &HostNames,
) -> io::Result<()> {
    let mut buffered = io::BufWriter::with_capacity(64 << 10, out);
    write(&mut buffered, &SnapshotJson { snapshot, labels })?;
    writeln!(buffered)?;
    buffered.flush()
}

/// A value, without the end of its line. It is written in small pieces: `out` is
/// better a buffer.
pub(super) fn write(out: impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(out, Harmless);
    Ok(value.serialize(&mut serializer)?)
}

/// JSON lets some control characters through as they are; a terminal would obey
/// them. `\u009b` is the same text.
struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let is_plain = fragment.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if is_plain || !fragment.chars().any(is_control) {
            return writer.write_all(fragment.as_bytes());
        }
        for c in fragment.chars() {
            match is_control(c) {
                true => write!(writer, "\\u{:04x}", u32::from(c))?,
                false => write!(writer, "{c}")?,
            }
        }
        Ok(())
    }
}

struct SnapshotJson<'a> {
    snapshot: &'a Snapshot,
    labels: &'a HostNames,
}

struct TableJson<'a> {
    snapshot: &'a TableSnapshot,
    labels: &'a HostNames,
}

struct RowsJson<'a>(&'a TableJson<'a>);

struct RowJson<'a> {
    table: &'a TableJson<'a>,
    row: usize,
}

impl Serialize for SnapshotJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { snapshot, labels } = self;
        let tables: Vec<TableJson<'_>> = snapshot
            .tables
            .iter()
            .map(|snapshot| TableJson { snapshot, labels })
            .collect();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("tally", &snapshot.tally)?;
        map.serialize_entry(
            "time",
            &humantime::format_rfc3339_millis(snapshot.time).to_string(),
        )?;
        map.serialize_entry("seconds", &round_to_microseconds(snapshot.seconds))?;
        map.serialize_entry("missed", &snapshot.missed)?;
        if let Some(gaps) = snapshot.gaps {
            map.serialize_entry("gaps", &gaps)?;
        }
        map.serialize_entry("incomplete", &snapshot.incomplete.is_some())?;
        map.serialize_entry("tables", &tables)?;
        map.end()
    }
}

pub(super) fn round_to_microseconds(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e6
}

impl Serialize for TableJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(5))?;
        map.serialize_entry("name", &self.snapshot.table.name)?;
        map.serialize_entry("rows_read", &self.snapshot.rows_read)?;
        map.serialize_entry("dropped", &self.snapshot.dropped)?;
        map.serialize_entry("reset", &self.snapshot.reset)?;
        map.serialize_entry("rows", &RowsJson(self))?;
        map.end()
    }
}

impl Serialize for RowsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rows = &self.0.snapshot.rows;
        let mut seq = serializer.serialize_seq(Some(rows.len()))?;
        for row in 0..rows.len() {
            seq.serialize_element(&RowJson { table: self.0, row })?;
        }
        seq.end()
    }
}

impl Serialize for RowJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let TableSnapshot { table, rows, .. } = self.table.snapshot;
        let (labels, key, cells) = (self.table.labels, rows.key(self.row), rows.cells(self.row));
        let mut map = serializer.serialize_map(None)?;
        for label in &table.labels {
            map.serialize_entry(&label.name, &labels.of(label, key))?;
        }
        for metric in &table.metrics {
            map.serialize_entry(&metric.name, &metric.value(cells))?;
        }
        for detail in &table.details {
            let copies = rows.values(self.row, table.value_size);
            let copies = copies.map(|value| labels.of(detail, value));
            map.serialize_entry(&detail.name, &Value::sum(copies.collect()))?;
        }
        map.end()
    }
}
