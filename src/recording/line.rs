//! A line of a recording: one interval of a tab, as JSON, and back.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value as Json};

use super::dictionary::{Dictionary, Name, Word, bytes_of};
use crate::schema::{Form, Histogram, Label, Metric, MetricKind, Names, Table};
use crate::snapshot::{Lost, Rows};

/// Fields that no column is named as.
const KEY: &str = "@key";
const DESCRIBED: &str = "@described";

/// Rows by their keys.
pub(super) type ByKey = BTreeMap<Vec<u8>, Vec<u64>>;

/// A line, as it is written.
#[derive(Serialize)]
pub(super) struct Written<'l> {
    #[serde(flatten)]
    pub(super) mark: Mark,
    pub(super) total_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) incomplete: Option<&'l str>,
    /// What was counted in the interval.
    pub(super) rows: WrittenRows<'l>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) other: Option<WrittenRow<'l>>,
    /// What rows have since counting began, where that does not follow from the line
    /// before and `rows`; all of them in a whole line.
    pub(super) totals: WrittenRows<'l>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) total_other: Option<WrittenRow<'l>>,
    /// Keys of rows that are not there any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) gone: Vec<String>,
}

/// What an index has of a line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) tab: usize,
    pub(super) time: String,
    pub(super) seconds: f64,
    /// Counted in the interval.
    pub(super) events: u64,
    /// Whether it has all totals.
    #[serde(default)]
    pub(super) whole: bool,
    pub(super) lost: Lost,
}

/// A line, as it is read.
#[derive(Deserialize)]
pub(super) struct Read {
    pub(super) total_seconds: f64,
    pub(super) incomplete: Option<String>,
    pub(super) rows: Vec<Map<String, Json>>,
    pub(super) other: Option<Map<String, Json>>,
    pub(super) totals: Vec<Map<String, Json>>,
    pub(super) total_other: Option<Map<String, Json>>,
    #[serde(default)]
    pub(super) gone: Vec<String>,
}

/// Rows of a table.
pub(super) struct WrittenRows<'l> {
    pub(super) table: &'l Table,
    pub(super) names: &'l dyn Names,
    pub(super) rows: Vec<(&'l [u8], &'l [u64])>,
}

/// One row; the row `other` has no key.
pub(super) struct WrittenRow<'l> {
    pub(super) table: &'l Table,
    pub(super) key: Option<(&'l [u8], &'l dyn Names)>,
    pub(super) cells: &'l [u64],
}

impl Serialize for WrittenRows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rows = serializer.serialize_seq(Some(self.rows.len()))?;
        for (key, cells) in &self.rows {
            rows.serialize_element(&WrittenRow {
                table: self.table,
                key: Some((key, self.names)),
                cells,
            })?;
        }
        rows.end()
    }
}

impl Serialize for WrittenRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_map(None)?;
        if let Some((key, names)) = self.key {
            row.serialize_entry(KEY, &hex(key))?;
            let mut described = BTreeMap::new();
            for label in &self.table.labels {
                let shown = names.of(label, key);
                let people = names.described(label, key);
                if people != shown {
                    described.insert(&label.name, people.to_string());
                }
                row.serialize_entry(&label.name, &shown)?;
            }
            if !described.is_empty() {
                row.serialize_entry(DESCRIBED, &described)?;
            }
        }
        for metric in &self.table.metrics {
            if metric.kind == MetricKind::Histogram {
                let histogram = metric.histogram(self.cells);
                row.serialize_entry(&metric.name, &Sparse(&histogram))?;
            } else {
                row.serialize_entry(&metric.name, &metric.value(self.cells))?;
            }
        }
        row.end()
    }
}

struct Sparse<'h>(&'h Histogram);

impl Serialize for Sparse<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("sum", &self.0.sum)?;
        let pairs: Vec<[u64; 2]> = self.0.pairs().collect();
        map.serialize_entry("buckets", &pairs)?;
        map.end()
    }
}

/// The rows of a list; their names go into the dictionary.
pub(super) fn rows(
    table: &Table,
    list: &[Map<String, Json>],
    names: &Dictionary,
) -> Result<Vec<(Vec<u8>, Vec<u64>)>> {
    let rows = list.iter().map(|object| {
        let key = object.get(KEY).and_then(Json::as_str);
        let key = unhex(key.with_context(|| format!("a row has no `{KEY}`"))?)?;
        ensure!(
            key.len() == table.key_size,
            "a key has {} bytes, and table `{}` has keys of {}",
            key.len(),
            table.name,
            table.key_size
        );
        for label in &table.labels {
            learn(label, &key, object, names)?;
        }
        Ok((key, cells(&table.metrics, object)?))
    });
    rows.collect()
}

/// Takes the name of a label, where the key alone does not have it.
fn learn(label: &Label, key: &[u8], object: &Map<String, Json>, names: &Dictionary) -> Result<()> {
    let Some(decoder) = &label.decoder else {
        return Ok(());
    };
    let shown = object.get(&label.name);
    let shown = shown.with_context(|| format!("a row has no `{}`", label.name))?;
    let described = object.get(DESCRIBED).and_then(|all| all.get(&label.name));
    let name = Name {
        shown: word(shown),
        described: described.and_then(Json::as_str).map(str::to_owned),
    };
    names.insert(decoder, &bytes_of(&label.place, key), name);
    Ok(())
}

/// What stands for a label.
pub(super) fn word(value: &Json) -> Word {
    match value {
        Json::String(text) => Word::Text(text.clone()),
        Json::Number(number) => match number.to_string().parse() {
            Ok(number) => Word::Number(number),
            Err(_) => Word::Text(number.to_string()),
        },
        other => Word::Text(other.to_string()),
    }
}

/// The numbers of a row; what is not there is zero.
pub(super) fn cells(metrics: &[Metric], object: &Map<String, Json>) -> Result<Vec<u64>> {
    let mut cells = vec![0; metrics.last().map_or(0, |last| last.range().end)];
    for metric in metrics {
        if let Some(value) = object.get(&metric.name) {
            let target = &mut cells[metric.range()];
            read_metric(metric, value, target).with_context(|| format!("`{}`", metric.name))?;
        }
    }
    Ok(cells)
}

fn read_metric(metric: &Metric, value: &Json, cells: &mut [u64]) -> Result<()> {
    if value.is_null() {
        return Ok(());
    }
    if metric.kind != MetricKind::Histogram {
        let number = value.as_u64();
        let signed = value.as_i64().filter(|_| metric.is_signed());
        let number = number.or(signed.map(|it| it as u64));
        let number = number.with_context(|| format!("{} is not a count", brief(value)))?;
        let is_complement = metric.form() == Form::Complement;
        cells[0] = if is_complement { !number } else { number };
        return Ok(());
    }
    let is_histogram = value.get("sum").zip(value.get("buckets"));
    // Slots have no sum.
    let number = |sum: &Json| if sum.is_null() { Some(0) } else { sum.as_u64() };
    let parts = is_histogram.and_then(|(sum, buckets)| number(sum).zip(buckets.as_array()));
    let (sum, buckets) = parts.context("a histogram has `sum` and `buckets`")?;
    cells[0] = sum;
    let scale = metric.scale();
    for pair in buckets {
        let pair = pair.as_array().map(Vec::as_slice);
        let Some([edge, count]) = pair else {
            bail!("`buckets` is a list of [edge, count] pairs");
        };
        let edge = edge.as_u64().context("an edge is a whole number")?;
        let bucket = scale.bucket(edge)?;
        cells[1 + bucket] = count.as_u64().context("a count is a whole number")?;
    }
    Ok(())
}

/// Of a value that may be anything, enough to find it.
fn brief(value: &Json) -> String {
    let text = value.to_string();
    text.chars().take(40).collect()
}

/// Adds an interval's numbers of a row to those since counting began: counters and
/// histograms add up, and the others are what they are now.
pub(super) fn follow(metrics: &[Metric], cells: &mut [u64], now: &[u64]) {
    for metric in metrics {
        if metric.has_rate() {
            metric.add(cells, now);
        } else {
            cells[metric.cell] = now[metric.cell];
        }
    }
}

pub(super) fn packed(
    table: &Table,
    rows: impl IntoIterator<Item = (impl AsRef<[u8]>, impl AsRef<[u64]>)>,
) -> Rows {
    let mut packed = Rows::of(table);
    for (key, cells) in rows {
        packed.push(key.as_ref()).copy_from_slice(cells.as_ref());
    }
    packed
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

pub(super) fn unhex(text: &str) -> Result<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some((digit(high)? << 4 | digit(low)?) as u8),
        _ => None,
    });
    let bytes: Option<Vec<u8>> = pairs.collect();
    bytes.ok_or_else(|| anyhow!("a key is not hexadecimal"))
}
