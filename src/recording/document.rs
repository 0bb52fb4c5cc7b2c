//! What a file counts in all: a recording, or documents of `-o json` and `-o jsonl`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Deserializer, Map, Value as Json};

use super::dictionary::Word;
use super::file::Recording;
use super::line::{cells, word};
use crate::schema::{Metric, MetricKind, Names, Place, Scale, Table, Type};

/// What a table counted, by the names of its labels.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) tally: String,
    pub(crate) table: String,
    pub(crate) seconds: f64,
    pub(crate) labels: Vec<String>,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) rows: BTreeMap<Vec<Word>, Vec<u64>>,
    /// What this version knows of the table, if a document of it is read.
    schema: Option<Table>,
}

/// The tables of a tally that this version has; none of one that it does not know.
pub(crate) type Known<'k> = &'k dyn Fn(&str) -> Vec<Table>;

impl Document {
    /// All tables of a file, each with the sum of its readings.
    pub(crate) fn read(path: &Path, known: Known<'_>) -> Result<Vec<Self>> {
        let name = path.display();
        let mut file = File::open(path).with_context(|| format!("failed to open `{name}`"))?;
        let mut first = Vec::new();
        // Enough for the word that a recording begins with. A pipe has it only once.
        file.by_ref()
            .take(64)
            .read_to_end(&mut first)
            .with_context(|| format!("failed to read `{name}`"))?;
        if first.starts_with(b"{\"recording\":") {
            return Self::of_recording(path);
        }
        ensure!(!first.is_empty(), "`{name}` is empty");
        let text = BufReader::new(first.chain(file));
        let mut all: Vec<Self> = Vec::new();
        for value in Deserializer::from_reader(text).into_iter::<Json>() {
            let value = value.with_context(|| format!("`{name}` is not a document of ktally"))?;
            let readings = match value {
                Json::Array(readings) => readings,
                reading => vec![reading],
            };
            for reading in &readings {
                Self::take(&mut all, reading, known).with_context(|| format!("`{name}`"))?;
            }
        }
        Ok(all)
    }

    fn of_recording(path: &Path) -> Result<Vec<Self>> {
        let mut recording = Recording::open(path)?;
        let tabs = recording.head.tabs.iter().zip(&recording.tables);
        let mut all: Vec<Self> = tabs
            .map(|(tab, table)| Self {
                tally: tab.name.clone(),
                table: tab.table.clone(),
                seconds: 0.0,
                labels: table.labels.iter().map(|it| it.name.clone()).collect(),
                metrics: table.metrics.clone(),
                rows: BTreeMap::new(),
                schema: None,
            })
            .collect();
        let (names, tables) = (recording.names.clone(), recording.tables.clone());
        for frame in 0..recording.frames.len() {
            recording.read(frame, 1, |tab, interval| {
                let (all, table) = (&mut all[tab], &tables[tab]);
                all.seconds += interval.seconds;
                for (key, cells) in interval.rows.iter() {
                    let labels = table.labels.iter();
                    let labels = labels.map(|label| Word::of(&names.of(label, key)));
                    let sum = all.rows.entry(labels.collect());
                    let sum = sum.or_insert_with(|| vec![0; cells.len()]);
                    add_up(&table.metrics, sum, cells);
                }
            })?;
        }
        Ok(all)
    }

    /// Adds one reading of `-o json`.
    fn take(all: &mut Vec<Self>, reading: &Json, known: Known<'_>) -> Result<()> {
        let text = |value: &Json, field: &str| value.get(field)?.as_str().map(str::to_owned);
        let tally = text(reading, "tally");
        let seconds = reading.get("seconds").and_then(Json::as_f64);
        let tables = reading.get("tables").and_then(Json::as_array);
        let (Some(tally), Some(seconds), Some(tables)) = (tally, seconds, tables) else {
            bail!("it is not a reading of ktally: those have `tally`, `seconds` and `tables`");
        };
        ensure!(seconds >= 0.0, "`seconds` of a reading is below 0");
        for table in tables {
            let name = text(table, "name").context("a table has no name")?;
            let rows = table.get("rows").and_then(Json::as_array);
            let rows = rows.with_context(|| format!("table `{name}` has no `rows`"))?;
            let rows: Option<Vec<_>> = rows.iter().map(Json::as_object).collect();
            let rows = rows.with_context(|| format!("a row of `{name}` is not an object"))?;
            let same = all
                .iter()
                .position(|it| it.tally == tally && it.table == name);
            let at = same.unwrap_or_else(|| {
                all.push(Self {
                    tally: tally.clone(),
                    table: name.clone(),
                    seconds: 0.0,
                    labels: Vec::new(),
                    metrics: Vec::new(),
                    rows: BTreeMap::new(),
                    schema: known(&tally).into_iter().find(|it| it.name == name),
                });
                all.len() - 1
            });
            all[at].seconds += seconds;
            for row in rows {
                let taken = all[at].take_row(row);
                taken.with_context(|| format!("table `{name}`"))?;
            }
        }
        Ok(())
    }

    fn take_row(&mut self, row: &Map<String, Json>) -> Result<()> {
        if self.labels.is_empty() && self.metrics.is_empty() {
            self.find_columns(row);
        }
        let labels = self.labels.iter().map(|label| row.get(label).map(word));
        let labels: Option<Vec<Word>> = labels.collect();
        let labels = labels.context("a row lacks a field that the first one has")?;
        let cells = cells(&self.metrics, row)?;
        let sum = self.rows.entry(labels);
        let sum = sum.or_insert_with(|| vec![0; cells.len()]);
        add_up(&self.metrics, sum, &cells);
        Ok(())
    }

    /// Of a tally that is not known, text is a label and a number is counted.
    fn find_columns(&mut self, row: &Map<String, Json>) {
        let schema = self.schema.as_ref();
        let mut metrics = Vec::new();
        for (name, value) in row {
            let is_label = match schema {
                Some(table) => table.label(name).is_some(),
                None => value.is_string(),
            };
            let known = schema.and_then(|it| it.metrics.iter().find(|it| it.name == *name));
            match (is_label, known) {
                (true, _) => self.labels.push(name.clone()),
                (false, Some(metric)) => metrics.push(metric.clone()),
                (false, None) if schema.is_none() => metrics.extend(guessed(name, value)),
                _ => {}
            }
        }
        self.metrics = Table::of_columns(("", ""), Vec::new(), metrics).metrics;
    }
}

/// Adds one reading of a row to those before: what goes up and down is as it was last.
fn add_up(metrics: &[Metric], sum: &mut [u64], cells: &[u64]) {
    for metric in metrics {
        match metric.kind {
            MetricKind::Gauge | MetricKind::UnderWay => sum[metric.cell] = cells[metric.cell],
            _ => metric.add(sum, cells),
        }
    }
}

fn guessed(name: &str, value: &Json) -> Option<Metric> {
    let (kind, ty) = match value {
        // As `ktally count` calls them.
        Json::Number(_) if name.ends_with(".max") => (MetricKind::Maximum, Type::unsigned(8)),
        Json::Number(_) if name.ends_with(".min") => (MetricKind::Minimum, Type::unsigned(8)),
        Json::Number(_) => (MetricKind::Counter, Type::unsigned(8)),
        Json::Object(it) if it.get("sum") == Some(&Json::Null) => {
            (MetricKind::Histogram, Scale::Slots.ty())
        }
        Json::Object(_) => (MetricKind::Histogram, Scale::Log2.ty()),
        _ => return None,
    };
    Some(Metric {
        name: name.to_owned(),
        help: String::new(),
        kind,
        is_declared: true,
        place: Place::whole(ty),
        unit: None,
        cell: 0,
        greatest: None,
        with: None,
    })
}
