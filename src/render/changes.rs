//! What changed in a map over an interval.

use std::io::{self, Write};
use std::time::SystemTime;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::json;

use super::metric::Numbers;
use super::parts::Parts;
use super::writer::RowWriter;
use super::{Format, Style, heading, json, span};
use crate::schema::{Declaration, Names, Value, whole_number};
use crate::snapshot::difference;

/// A key whose value is not what it was. Of a per-CPU map, a value a CPU.
#[derive(Debug)]
pub(crate) struct Change<'e> {
    /// The whole key.
    pub(crate) key: &'e [u8],
    /// `None` where the key is new.
    pub(crate) before: Option<Vec<&'e [u8]>>,
    /// `None` where the key is gone.
    pub(crate) now: Option<Vec<&'e [u8]>>,
}

/// Writes changes, interval by interval.
pub(crate) struct Changes<'d> {
    format: Format,
    style: Style,
    declaration: &'d Declaration,
    parts: Parts<'d>,
    labels: &'d dyn Names,
    written: bool,
    reset: usize,
}

impl<'d> Changes<'d> {
    /// Of a map that is declared like this.
    pub(crate) fn new(
        format: Format,
        style: Style,
        declaration: &'d Declaration,
        labels: &'d dyn Names,
    ) -> Self {
        Self {
            format,
            style,
            declaration,
            parts: Parts::new(&declaration.table, labels),
            labels,
            written: false,
            reset: 0,
        }
    }

    /// How many keys' counters were reset so far.
    pub(crate) fn reset(&self) -> usize {
        self.reset
    }

    /// One interval of so many seconds.
    pub(crate) fn render(
        &mut self,
        out: &mut dyn Write,
        time: SystemTime,
        seconds: f64,
        changes: &[Change<'_>],
    ) -> io::Result<()> {
        let time = humantime::format_rfc3339_millis(time).to_string();
        let reset = self.count("reset", changes);
        self.reset += reset;
        if self.format.is_json() {
            let changes = changes.iter();
            let changes: Vec<_> = changes.map(|change| ChangeJson(self, change)).collect();
            let seconds = super::seconds(seconds);
            let object =
                json!({"time": time, "seconds": seconds, "reset": reset, "changes": changes});
            writeln!(out, "{}", json::text(&object))?;
        } else {
            self.rows(out, &time, seconds, changes)?;
        }
        self.written = true;
        Ok(())
    }

    /// A table for each interval, or one of CSV for all.
    fn rows(
        &self,
        out: &mut dyn Write,
        time: &str,
        seconds: f64,
        changes: &[Change<'_>],
    ) -> io::Result<()> {
        let mut style = self.style.over(seconds);
        let mut heads = Vec::new();
        let is_csv = self.format == Format::Csv;
        if is_csv {
            style.no_header |= self.written;
            heads.extend(["timestamp", "seconds"].map(|name| self.format.head(name)));
        } else {
            self.title(out, time, seconds)?;
        }
        let numbers = Numbers {
            format: self.format,
            style: &style,
            seconds,
            has_counts: false,
        };
        let labels = self.declaration.table.labels.iter();
        heads.push(self.format.head("change"));
        heads.extend(labels.clone().map(|label| self.format.head(&label.name)));
        heads.extend(self.parts.heads(numbers));
        let leading = [time.into(), super::seconds(seconds)];
        let mut writer = RowWriter::new(self.format, style, heads).leading(&leading);
        for change in changes {
            writer.cell(&self.kind(change).into());
            for label in labels.clone() {
                writer.cell(&self.labels.of(label, change.key));
            }
            let values = change.now.as_ref().or(change.before.as_ref());
            let values = values.map_or(&[][..], Vec::as_slice);
            let (cells, _) = self.growth(change);
            self.parts.write(&mut writer, numbers, &cells, values);
            writer.end_row(out)?;
        }
        let footer = (!is_csv).then(|| self.footer(changes));
        writer.end(out, footer.as_deref())
    }

    fn title(&self, out: &mut dyn Write, time: &str, seconds: f64) -> io::Result<()> {
        if self.written {
            writeln!(out)?;
        }
        if self.style.no_header {
            return Ok(());
        }
        let span = span(seconds);
        let title = format!(
            "{}: {time}, {}",
            self.declaration.name,
            self.style.glyphs(&span)
        );
        heading(out, &title, &self.style)
    }

    fn footer(&self, changes: &[Change<'_>]) -> String {
        let [new, changed, reset, gone] =
            ["new", "changed", "reset", "gone"].map(|kind| self.count(kind, changes) as i128);
        let [new, changed, gone] = [new, changed, gone].map(whole_number);
        let reset = match reset {
            0 => String::new(),
            reset => format!("{} reset, ", whole_number(reset)),
        };
        format!("{new} new, {changed} changed, {reset}{gone} gone")
    }

    fn count(&self, kind: &str, changes: &[Change<'_>]) -> usize {
        let changes = changes.iter();
        changes.filter(|change| self.kind(change) == kind).count()
    }

    fn kind(&self, change: &Change<'_>) -> &'static str {
        match (&change.before, &change.now) {
            (None, _) => "new",
            (_, None) => "gone",
            _ if self.growth(change).1 => "reset",
            _ => "changed",
        }
    }

    /// By how much the numbers grew, and whether some were reset; of a key that is
    /// gone, zeroes.
    fn growth(&self, change: &Change<'_>) -> (Vec<u64>, bool) {
        let table = &self.declaration.table;
        let sum = |values: &Option<Vec<&[u8]>>| {
            let mut cells = vec![0; table.cells()];
            for value in values.iter().flatten() {
                table.add_cells(value, &mut cells);
            }
            cells
        };
        let mut cells = sum(&change.now);
        let is_reset =
            change.now.is_some() && difference(&table.metrics, &mut cells, &sum(&change.before));
        (cells, is_reset)
    }

    fn value<'v>(&'v self, values: &Option<Vec<&'v [u8]>>) -> Option<Value<'v>> {
        Some(self.declaration.sum(values.as_ref()?, self.labels))
    }
}

struct ChangeJson<'c>(&'c Changes<'c>, &'c Change<'c>);

impl Serialize for ChangeJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(face, change) = self;
        let Declaration { key, table, .. } = face.declaration;
        let key_tags = face.declaration.key_tags();
        let mut map = serializer.serialize_map(None)?;
        let kind = face.kind(change);
        map.serialize_entry("change", kind)?;
        map.serialize_entry("key", &face.labels.whole(key, &key_tags, change.key))?;
        map.serialize_entry("before", &face.value(&change.before))?;
        map.serialize_entry("now", &face.value(&change.now))?;
        if matches!(kind, "changed" | "reset") {
            let (cells, _) = face.growth(change);
            let metrics = table.metrics.iter();
            let deltas = metrics.map(|metric| (metric.name.as_str(), metric.value(&cells)));
            map.serialize_entry("difference", &Value::Fields(deltas.collect()))?;
        }
        map.end()
    }
}
