//! What changed in a map over an interval.

use std::io::{self, Write};
use std::time::SystemTime;

use csv::{QuoteStyle, WriterBuilder};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::json;

use super::text::{metric_cells, metric_heads};
use super::{Format, Style, columns, heading, json, span};
use crate::schema::{Column, Declaration, Metric, Names, Value};
use crate::snapshot::difference;

/// A key whose value is not what it was. Of a per-CPU map, a value a CPU.
#[derive(Debug)]
pub struct Change<'e> {
    /// The whole key.
    pub key: &'e [u8],
    /// `None` where the key is new.
    pub before: Option<Vec<&'e [u8]>>,
    /// `None` where the key is gone.
    pub now: Option<Vec<&'e [u8]>>,
}

/// Writes changes, interval by interval.
pub struct Changes<'d> {
    format: Format,
    style: Style,
    declaration: &'d Declaration,
    /// Of the table's value.
    parts: Vec<Column<'d>>,
    labels: &'d dyn Names,
    written: bool,
    reset: usize,
}

impl<'d> Changes<'d> {
    /// Of a map that is declared like this.
    pub fn new(
        format: Format,
        style: Style,
        declaration: &'d Declaration,
        labels: &'d dyn Names,
    ) -> Self {
        Self {
            format,
            style,
            declaration,
            parts: declaration.table.columns(),
            labels,
            written: false,
            reset: 0,
        }
    }

    /// How many keys' counters were reset so far.
    pub fn reset(&self) -> usize {
        self.reset
    }

    /// One interval of so many seconds.
    pub fn render(
        &mut self,
        out: &mut dyn Write,
        time: SystemTime,
        seconds: f64,
        changes: &[Change<'_>],
    ) -> io::Result<()> {
        let time = humantime::format_rfc3339_millis(time).to_string();
        let reset = self.count("reset", changes);
        self.reset += reset;
        match self.format {
            Format::Json | Format::Jsonl => {
                let changes = changes.iter();
                let changes: Vec<_> = changes.map(|change| ChangeJson(self, change)).collect();
                let seconds = json::round_to_microseconds(seconds);
                let object =
                    json!({"time": time, "seconds": seconds, "reset": reset, "changes": changes});
                json::write(&mut *out, &object)?;
                writeln!(out)?;
            }
            Format::Csv => self.csv(out, &time, seconds, changes)?,
            // Pictures are of tallies alone.
            Format::Table | Format::Folded | Format::Svg => {
                self.table(out, &time, seconds, changes)?;
            }
        }
        self.written = true;
        Ok(())
    }

    fn table(
        &self,
        out: &mut dyn Write,
        time: &str,
        seconds: f64,
        changes: &[Change<'_>],
    ) -> io::Result<()> {
        let table = &self.declaration.table;
        let style = &self.style.over(seconds);
        if self.written {
            writeln!(out)?;
        }
        if !self.style.no_header {
            let title = format!("{}: {time}, {}", self.declaration.name, span(seconds));
            heading(out, &title, &self.style)?;
        }
        let upper = |name: &String| name.to_uppercase();
        let mut head = vec!["CHANGE".to_owned()];
        head.extend(table.labels.iter().map(|label| upper(&label.name)));
        let mut right = vec![false; head.len()];
        for part in &self.parts {
            match part {
                Column::Metric(metric) => {
                    head.extend(metric_heads(metric, &table.metrics, style));
                    right.resize(head.len(), true);
                }
                Column::Detail(detail) => {
                    head.push(upper(&detail.name));
                    right.push(false);
                }
            }
        }
        let rows: Vec<Vec<String>> = changes
            .iter()
            .map(|change| {
                let number = |metric: &_, cells: &_| metric_cells(metric, cells, seconds, style);
                let mut row = self.names(change);
                row.extend(self.parts_of(change, number));
                row
            })
            .collect();
        if !rows.is_empty() {
            columns(out, &head, &right, &rows, &self.style)?;
        }
        let [new, changed, reset, gone] =
            ["new", "changed", "reset", "gone"].map(|kind| self.count(kind, changes));
        let reset = match reset {
            0 => String::new(),
            reset => format!("{reset} reset, "),
        };
        writeln!(out, "{new} new, {changed} changed, {reset}{gone} gone")
    }

    fn count(&self, kind: &str, changes: &[Change<'_>]) -> usize {
        let changes = changes.iter();
        changes.filter(|change| self.kind(change) == kind).count()
    }

    fn csv(
        &self,
        out: &mut dyn Write,
        time: &str,
        seconds: f64,
        changes: &[Change<'_>],
    ) -> io::Result<()> {
        let table = &self.declaration.table;
        let mut writer = WriterBuilder::new()
            .quote_style(QuoteStyle::NonNumeric)
            .from_writer(out);
        if !self.written && !self.style.no_header {
            let mut head: Vec<String> = ["time", "seconds", "change"].map(str::to_owned).into();
            head.extend(table.labels.iter().map(|label| label.name.clone()));
            head.extend(self.parts.iter().flat_map(|part| match part {
                Column::Metric(metric) => super::csv::heads(metric),
                Column::Detail(detail) => vec![detail.name.clone()],
            }));
            writer.write_record(head)?;
        }
        for change in changes {
            let mut row = vec![
                time.to_owned(),
                json::round_to_microseconds(seconds).to_string(),
            ];
            row.extend(self.names(change));
            row.extend(self.parts_of(change, super::csv::fields));
            writer.write_record(super::csv::cells(row))?;
        }
        writer.flush()
    }

    fn names(&self, change: &Change<'_>) -> Vec<String> {
        let labels = self.declaration.table.labels.iter();
        let names = labels.map(|label| self.labels.of(label, change.key).to_string());
        std::iter::once(self.kind(change).to_owned())
            .chain(names)
            .collect()
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

    /// Under the columns of a value; numbers as this writes them.
    fn parts_of(
        &self,
        change: &Change<'_>,
        number: impl Fn(&Metric, &[u64]) -> Vec<String>,
    ) -> Vec<String> {
        let (cells, _) = self.growth(change);
        let values = change.now.as_ref().or(change.before.as_ref());
        let parts = self.parts.iter().flat_map(|part| match part {
            Column::Metric(metric) => number(metric, &cells),
            Column::Detail(detail) => {
                let copies = values.into_iter().flatten();
                let copies = copies.map(|value| self.labels.of(detail, value));
                vec![Value::sum(copies.collect()).to_string()]
            }
        });
        parts.collect()
    }

    fn value<'v>(&'v self, values: &Option<Vec<&'v [u8]>>) -> Option<Value<'v>> {
        let tags = self.declaration.value_tags();
        let copies = values.as_ref()?.iter();
        let copies = copies.map(|value| self.labels.whole(&self.declaration.value, &tags, value));
        Some(Value::sum(copies.collect()))
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
