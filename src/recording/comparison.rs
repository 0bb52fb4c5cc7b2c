//! Two files, row by row: what each counted, and by how much that changed.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Result, bail};

use super::dictionary::{Dictionary, Name, WORD, Word};
use super::document::Document;
use crate::schema::{Decoder, Label, Metric, MetricKind, Names, Place, Statistic, Table, Type};
use crate::snapshot::{Query, Rows, Sort, count};

/// A table of both files.
#[derive(Debug)]
pub(crate) struct Comparison {
    pub(crate) tally: String,
    pub(crate) table: Table,
    /// Of the file before, and of the one after.
    pub(crate) seconds: [f64; 2],
    names: Dictionary,
    rows: [Rows; 2],
}

/// A row of a comparison; `None` where a file does not have it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ComparedRow {
    pub(crate) names: Vec<Word>,
    pub(crate) cells: [Option<Vec<u64>>; 2],
}

/// A number that is compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measure<'t> {
    pub(crate) metric: &'t Metric,
    /// Of a histogram: none is how much it observed.
    pub(crate) statistic: Option<(&'static str, Statistic)>,
}

impl Comparison {
    /// The tables that both files have.
    pub(crate) fn of_all(before: Vec<Document>, after: Vec<Document>) -> Result<Vec<Self>> {
        let names = |all: &[Document]| {
            let names = all.iter().map(|it| format!("`{}`", it.tally));
            names.collect::<Vec<_>>().join(", ")
        };
        let tallies = (names(&before), names(&after));
        let mut after = after;
        let mut all = Vec::new();
        for one in before {
            let is_same = |it: &Document| it.tally == one.tally && it.table == one.table;
            if let Some(place) = after.iter().position(is_same) {
                all.push(Self::new(one, after.swap_remove(place))?);
            }
        }
        if all.is_empty() {
            let (before, after) = tallies;
            bail!("the files are of different tallies: {before} and {after}");
        }
        Ok(all)
    }

    fn new(before: Document, after: Document) -> Result<Self> {
        // A file without rows does not say what labels there are.
        let described = if before.labels.is_empty() {
            &after
        } else {
            &before
        };
        let (labels, metrics) = (described.labels.clone(), described.metrics.clone());
        let metrics: Vec<Metric> = metrics
            .into_iter()
            .filter(|it| it.kind != MetricKind::UnderWay)
            .collect();
        let are_same = |it: &Document| it.labels == labels || it.rows.is_empty();
        if !are_same(&before) || !are_same(&after) {
            let (table, before, after) = (before.table, before.labels, after.labels);
            bail!(
                "table `{table}` is by {} before and by {} after; read both with the same --by",
                before.join(", "),
                after.join(", ")
            );
        }
        let mut table = Table::of_columns((&described.table, ""), labels_of(&labels), metrics);
        table.key_size = 4 * labels.len();
        let names = Dictionary::default();
        let mut ids: HashMap<Word, u32> = HashMap::new();
        let rows = [&before, &after].map(|document| {
            let theirs = &document.metrics;
            let mut rows = Rows::of(&table);
            for (words, cells) in &document.rows {
                let mut key = Vec::new();
                for (word, label) in words.iter().zip(&table.labels) {
                    let next = ids.len() as u32;
                    let id = ids.entry(word.clone()).or_insert(next).to_le_bytes();
                    key.extend(id);
                    if let Some(decoder) = &label.decoder {
                        names.insert(
                            decoder,
                            &id,
                            Name {
                                shown: word.clone(),
                                described: None,
                            },
                        );
                    }
                }
                let target = rows.push(&key);
                for metric in &table.metrics {
                    let same = theirs
                        .iter()
                        .find(|it| it.name == metric.name && it.kind == metric.kind);
                    if let Some(same) = same {
                        target[metric.range()].copy_from_slice(&cells[same.range()]);
                    }
                }
            }
            rows
        });
        Ok(Self {
            tally: described.tally.clone(),
            seconds: [before.seconds, after.seconds],
            table,
            names,
            rows,
        })
    }

    /// The rows that a query asks for, those that changed most first.
    pub(crate) fn rows(&self, query: &Query) -> Result<(Table, Vec<ComparedRow>)> {
        query.check(std::slice::from_ref(&self.table), &self.names)?;
        let of_keys = query
            .filters
            .iter()
            .filter(|it| self.table.label(&it.field).is_some());
        let whole = Query {
            filters: of_keys.cloned().collect(),
            top: None,
            ..query.clone()
        };
        let all = Query {
            top: None,
            ..query.clone()
        };
        let mut rows: BTreeMap<Vec<u8>, [Option<Vec<u64>>; 2]> = BTreeMap::new();
        let mut table = self.table.clone();
        for side in 0..2 {
            let selection = whole.apply(&self.table, &self.rows[side], &self.names);
            for (key, cells) in selection.iter() {
                rows.entry(key.to_vec()).or_default()[side] = Some(cells.to_vec());
            }
            table = selection.table;
        }
        let asked: Vec<_> = self
            .rows
            .iter()
            .map(|rows| all.apply(&self.table, rows, &self.names))
            .collect();
        let asked: BTreeSet<&[u8]> = asked
            .iter()
            .flat_map(|it| it.iter().map(|(key, _)| key))
            .collect();
        let sorting = query.sorting(&table, &self.names);
        let label = query
            .sort
            .as_ref()
            .and_then(|sort| table.label(&sort.column));
        let mut compared: Vec<(f64, ComparedRow)> = rows
            .into_iter()
            .filter(|(key, _)| asked.contains(key.as_slice()))
            .map(|(key, cells)| {
                let labels = table.labels.iter();
                let names = labels
                    .map(|label| Word::of(&self.names.of(label, &key)))
                    .collect();
                let number = |side: usize| {
                    let seconds = if sorting.has_rate() {
                        self.seconds[side]
                    } else {
                        1.0
                    };
                    cells[side]
                        .as_ref()
                        .map_or(0.0, |it| sorting.number(it) / seconds)
                };
                ((number(1) - number(0)).abs(), ComparedRow { names, cells })
            })
            .collect();
        compared.sort_by(|(a, row_a), (b, row_b)| {
            let order = match label {
                Some(label) => row_a.names[label].cmp(&row_b.names[label]),
                None => b.partial_cmp(a).unwrap_or(Ordering::Equal),
            };
            let order = match query.sort.as_ref().is_some_and(Sort::is_reversed) {
                true => order.reverse(),
                false => order,
            };
            order.then_with(|| row_a.names.cmp(&row_b.names))
        });
        let rows = compared.into_iter().map(|(_, row)| row);
        Ok((table, rows.collect()))
    }
}

/// Labels whose bytes are numbers of words.
fn labels_of(names: &[String]) -> Vec<Label> {
    let labels = names.iter().enumerate().map(|(place, name)| Label {
        name: name.clone(),
        place: Place::whole(Type::opaque(4)).shifted(32 * place),
        decoder: Some(Decoder::from_tag(&format!("{WORD}{name}"))),
        with: None,
        idle: Vec::new(),
    });
    labels.collect()
}

impl<'t> Measure<'t> {
    /// What is compared of a table.
    pub(crate) fn of(table: &'t Table) -> Vec<Self> {
        let measures = table.metrics.iter().flat_map(|metric| {
            let parts: Vec<_> = match metric.kind {
                MetricKind::Histogram => {
                    let statistics = Statistic::ALL.into_iter().map(Some);
                    std::iter::once(None).chain(statistics).collect()
                }
                _ => vec![None],
            };
            let parts = parts.into_iter();
            parts.map(move |statistic| Self { metric, statistic })
        });
        measures.collect()
    }

    /// `latency_p99`
    pub(crate) fn name(&self) -> String {
        let metric = &self.metric.name;
        match (self.metric.kind, self.statistic) {
            (MetricKind::Histogram, None) => format!("{metric}_count"),
            (_, Some((part, _))) => format!("{metric}_{part}"),
            _ => metric.clone(),
        }
    }

    /// `latency.p99`
    pub(crate) fn path(&self) -> String {
        match self.name().strip_prefix(&format!("{}_", self.metric.name)) {
            Some(part) => format!("{}.{part}", self.metric.name),
            None => self.metric.name.clone(),
        }
    }

    /// Whether it adds up over time.
    pub(crate) fn has_rate(&self) -> bool {
        self.statistic.is_none() && self.metric.has_rate()
    }

    /// The number of a row.
    pub(crate) fn number(&self, cells: &[u64]) -> Option<f64> {
        match self.statistic {
            Some((_, statistic)) => statistic.of(&self.metric.histogram(cells)),
            None => Some(self.exact(cells)? as f64),
        }
    }

    /// The same without rounding, where it has no statistic.
    pub(crate) fn exact(&self, cells: &[u64]) -> Option<i128> {
        match self.metric.kind {
            MetricKind::Histogram => Some(count(&cells[self.metric.cell..]).into()),
            _ => self.metric.integer(cells),
        }
    }
}
