//! What is done with rows before they are shown: filter, group, sort, cut.

use std::borrow::Cow;
use std::collections::HashMap;

use anyhow::Result;

use super::{Rows, Selection, add, count};
use crate::error::{unknown, usage};
use crate::schema::{
    Histogram, Kind, Label, LeftOut, Metric, MetricKind, Names, Place, Statistic, Table, Tags,
    Type, Value, parse,
};

/// What the user wants to see of a reading.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    /// The labels to group by; `None` keeps every label.
    pub(crate) by: Option<Vec<String>>,
    /// Labels and the text that they must have.
    pub(crate) filters: Vec<(String, String)>,
    /// The column to sort by; `None` sorts by the first column of numbers.
    pub(crate) sort: Option<String>,
    /// How many rows to show at most.
    pub(crate) top: Option<usize>,
}

/// What a row is sorted by.
#[derive(Debug, Clone, Copy, PartialEq)]
enum SortBy {
    Label(usize),
    Cell(usize, bool),
    Count(usize),
    Statistic(usize, Statistic),
}

impl Query {
    /// Refuses names that no table has, and filters that no row can pass, before
    /// anything is loaded.
    pub(crate) fn check(&self, tables: &[Table], names: &dyn Names) -> Result<()> {
        let labels = tables.iter().flat_map(|table| &table.labels);
        let labels: Vec<&str> = labels.map(|label| label.name.as_str()).collect();
        let by = self.by.as_deref().unwrap_or_default();
        let filtered = self.filters.iter().map(|(name, _)| name);
        for name in by.iter().chain(filtered) {
            if !labels.contains(&name.as_str()) {
                return Err(unknown("field", name, labels));
            }
        }
        for (i, name) in by.iter().enumerate() {
            if by[..i].contains(name) {
                return Err(usage(format!("`--by` names `{name}` twice")));
            }
        }
        for (field, text) in &self.filters {
            check_filter(tables, field, text, names)?;
        }
        self.check_sort(tables, &labels)
    }

    fn check_sort(&self, tables: &[Table], labels: &[&str]) -> Result<()> {
        let Some(sort) = &self.sort else {
            return Ok(());
        };
        if !tables.iter().any(|table| sort_by(table, sort).is_some()) {
            let metrics = tables.iter().flat_map(|table| &table.metrics);
            let metrics = metrics.map(|metric| metric.name.as_str());
            return Err(unknown(
                "column",
                sort,
                labels.iter().copied().chain(metrics),
            ));
        }
        let is_left_out = self.by.as_ref().is_some_and(|by| !by.contains(sort));
        if is_left_out && labels.contains(&sort.as_str()) {
            return Err(usage(format!(
                "rows grouped without `{sort}` cannot be sorted by it"
            )));
        }
        Ok(())
    }

    /// The rows to show of a table: only they are named.
    pub(crate) fn apply<'r>(
        &self,
        table: &Table,
        rows: &'r Rows,
        names: &dyn Names,
    ) -> Selection<'r> {
        let filter = self.filter(table, names);
        let kept = (0..rows.len()).filter(|row| filter.keeps(rows.key(*row), names));
        if let Some(by) = self.grouping(table, names) {
            let (table, rows) = self.group(table, rows, kept, &by, names);
            let order = self.order(&table, &rows, 0..rows.len(), names);
            return Selection::new(table, Cow::Owned(rows), order);
        }
        let order = self.order(table, rows, kept, names);
        Selection::new(table.clone(), Cow::Borrowed(rows), order)
    }

    /// The filters, as they are asked of the rows of a table.
    pub(crate) fn filter<'q>(&'q self, table: &'q Table, names: &dyn Names) -> Filter<'q> {
        let wanted = self.filters.iter().filter_map(|(name, text)| {
            let label = &table.labels[table.label(name)?];
            let bytes = typed(label, text, names).unwrap_or_default();
            Some(Wanted { label, text, bytes })
        });
        Filter(wanted.collect())
    }

    /// What the rows of a table are ordered by.
    pub(crate) fn sorting<'t>(&self, table: &'t Table) -> Sorting<'t> {
        let by = match &self.sort {
            Some(name) => sort_by(table, name),
            None => table.metrics.first().map(default_order),
        };
        Sorting { table, by }
    }

    /// The labels to group by: what looks the same is one row.
    fn grouping(&self, table: &Table, names: &dyn Names) -> Option<Vec<String>> {
        let mut labels = table.labels.iter();
        let looks_same = table.hides_key || labels.any(|label| names.joins(label));
        let whole = || table.labels.iter().map(|label| label.name.clone());
        let by = self.by.clone();
        by.or_else(|| looks_same.then(|| whole().collect()))
    }

    /// The numbers of one group are added up.
    fn group(
        &self,
        table: &Table,
        rows: &Rows,
        kept: impl Iterator<Item = usize>,
        by: &[String],
        names: &dyn Names,
    ) -> (Table, Rows) {
        let mut projection = Projection::new(table, by);
        if self.by.is_some() {
            // Text has no sum.
            projection.table.details.clear();
        }
        let has_details = !projection.table.details.is_empty();
        let mut groups = Rows::of(&projection.table);
        let mut known: HashMap<Vec<u8>, usize> = HashMap::new();
        for row in kept {
            let key = projection.key(rows.key(row));
            let identity = projection.identity(&key, names);
            let group = *known.entry(identity).or_insert_with(|| {
                groups.push(&key);
                groups.len() - 1
            });
            add(&table.metrics, groups.cells_mut(group), rows.cells(row));
            if has_details {
                let values = rows.values(row, table.value_size);
                values.for_each(|value| groups.keep_value(group, value));
            }
        }
        (projection.table, groups)
    }

    /// Rows that counted something, the greatest first, at most `top`.
    fn order(
        &self,
        table: &Table,
        rows: &Rows,
        kept: impl Iterator<Item = usize>,
        names: &dyn Names,
    ) -> Vec<usize> {
        let sorting = self.sorting(table);
        let mut order: Vec<(Rank, usize)> = kept
            .filter(|row| !table.counts_nothing(rows.cells(*row)))
            .map(|row| (sorting.rank(rows.key(row), rows.cells(row), names), row))
            .collect();
        order.sort_unstable_by(|(rank_a, a), (rank_b, b)| {
            // By the key where ranks are equal: the same order every time.
            rank_a
                .cmp(rank_b)
                .then_with(|| rows.key(*a).cmp(rows.key(*b)))
        });
        order.truncate(self.top.unwrap_or(usize::MAX));
        // Not `into_iter`, which would keep the memory of the ranks.
        order.iter().map(|(_, row)| *row).collect()
    }
}

/// Fewer rows than there are: those that have what is wanted.
#[derive(Debug)]
pub(crate) struct Filter<'q>(Vec<Wanted<'q>>);

#[derive(Debug)]
struct Wanted<'q> {
    label: &'q Label,
    text: &'q str,
    bytes: Option<Vec<u8>>,
}

impl Filter<'_> {
    /// Whether a row of this key passes: by what its labels show, or by what was
    /// typed for it.
    pub(crate) fn keeps(&self, key: &[u8], names: &dyn Names) -> bool {
        self.0.iter().all(|Wanted { label, text, bytes }| {
            let place = label.place.at_start();
            let typed = bytes.as_ref().map(|bytes| place.decode(bytes));
            typed == Some(label.place.decode(key))
                || names.of(label, key).to_string() == *text
                || bytes.is_none() && names.described(label, key).to_string() == *text
        })
    }
}

fn check_filter(tables: &[Table], field: &str, text: &str, names: &dyn Names) -> Result<()> {
    let labels = || tables.iter().flat_map(|table| &table.labels);
    let is_another = |part: &str| {
        let name = part.split_once('=').map(|(name, _)| name);
        labels().any(|label| Some(label.name.as_str()) == name)
    };
    if text.split(',').skip(1).any(is_another) {
        let all = text.replace(',', " --where ");
        return Err(usage(format!(
            "`--where` takes one field; write --where {field}={all}"
        )));
    }
    let mut refused = None;
    for label in labels().filter(|label| label.name == field) {
        match typed(label, text, names) {
            // A row of this table may pass.
            Ok(_) => return Ok(()),
            Err(error) => refused = Some(error),
        }
    }
    let Some(error) = refused else {
        return Ok(());
    };
    Err(usage(format!("`--where {field}={text}`: {error:#}")))
}

/// The bytes of a label, at its own size, that this text stands for; `None` for
/// what may get that name later. An error says why nothing can have it.
fn typed(label: &Label, text: &str, names: &dyn Names) -> Result<Option<Vec<u8>>> {
    let place = label.place.at_start();
    let tags = Tags {
        decoder: label.decoder.clone(),
        ..Tags::default()
    };
    let mut bytes = vec![0; place.ty.size];
    match parse(&place, &tags, text, LeftOut::Refused, names, &mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(_) if names.comes_and_goes(label) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What rows are ordered by, computed once a row; the least comes first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// The greater the number, the less its rank.
    Number(i128),
    /// By the alphabet.
    Name(String),
}

/// What the rows of one table are ordered by.
#[derive(Debug)]
pub(crate) struct Sorting<'t> {
    table: &'t Table,
    by: Option<SortBy>,
}

impl Sorting<'_> {
    /// The rank of a row: greater numbers come first, names by the alphabet.
    pub(crate) fn rank(&self, key: &[u8], cells: &[u64], names: &dyn Names) -> Rank {
        Rank::Number(match self.by {
            None => 0,
            Some(SortBy::Label(label)) => match names.of(&self.table.labels[label], key) {
                Value::Uint(number) => number.try_into().unwrap_or(i128::MAX),
                Value::Int(number) => number,
                value => return Rank::Name(value.to_string()),
            },
            Some(SortBy::Cell(cell, true)) => -i128::from(cells[cell] as i64),
            Some(SortBy::Cell(cell, false)) => -i128::from(cells[cell]),
            Some(SortBy::Count(cell)) => -i128::from(count(&cells[cell..])),
            // To a thousandth, as it is shown; one that has none comes last.
            Some(SortBy::Statistic(cell, statistic)) => statistic
                .of(&Histogram::of_cells(&cells[cell..]))
                .map_or(1, |number| -((number * 1e3).round() as i128)),
        })
    }
}

fn default_order(metric: &Metric) -> SortBy {
    match metric.kind {
        MetricKind::Histogram => SortBy::Count(metric.cell),
        _ => SortBy::Cell(metric.cell, metric.is_signed()),
    }
}

/// A label, a metric, or of a histogram `NAME.count`, `NAME.sum`, `NAME.mean`,
/// `NAME.p50` and so on; the bare name of a histogram sorts by its count.
fn sort_by(table: &Table, name: &str) -> Option<SortBy> {
    if let Some(label) = table.label(name) {
        return Some(SortBy::Label(label));
    }
    if let Some(metric) = table.metrics.iter().find(|metric| metric.name == name) {
        return Some(default_order(metric));
    }
    let histograms = || {
        table
            .metrics
            .iter()
            .filter(|metric| metric.kind == MetricKind::Histogram)
    };
    // `p99` is enough where there is one histogram.
    let (metric, part) = match histograms().find_map(|metric| {
        let part = name.strip_prefix(&metric.name)?.strip_prefix('.')?;
        Some((metric, part))
    }) {
        Some(found) => found,
        None if histograms().count() == 1 => (histograms().next()?, name),
        None => return None,
    };
    match part {
        "count" => Some(SortBy::Count(metric.cell)),
        "sum" => Some(SortBy::Cell(metric.cell, false)),
        _ => Statistic::by_name(part).map(|it| SortBy::Statistic(metric.cell, it)),
    }
}

/// A table with fewer labels, and how its keys come from those of the whole.
struct Projection {
    table: Table,
    sources: Vec<Place>,
}

impl Projection {
    fn new(table: &Table, by: &[String]) -> Self {
        let mut projected = table.clone();
        projected.labels.clear();
        projected.hides_key = false;
        projected.key_size = 0;
        let mut sources = Vec::new();
        for label in by.iter().filter_map(|name| table.label(name)) {
            let mut label = table.labels[label].clone();
            sources.push(label.place.clone());
            // A bitfield gets bytes of its own.
            let ty = match label.place.bits {
                Some(_) if matches!(label.place.ty.kind, Kind::Int { signed: false }) => {
                    Type::unsigned(label.place.ty.size)
                }
                _ => label.place.ty.clone(),
            };
            label.place = Place {
                bit_offset: projected.key_size * 8,
                bits: label.place.bits,
                ty,
            };
            projected.key_size += label.place.ty.size;
            projected.labels.push(label);
        }
        Self {
            table: projected,
            sources,
        }
    }

    /// Rows of one identity are one row.
    fn identity(&self, key: &[u8], names: &dyn Names) -> Vec<u8> {
        let mut identity = key.to_vec();
        let labels = self.table.labels.iter();
        for label in labels.filter(|label| names.joins(label)) {
            let start = label.place.bit_offset / 8;
            identity[start..start + label.place.ty.size].fill(0);
            identity.extend(names.of(label, key).to_string().bytes().chain([0]));
        }
        identity
    }

    fn key(&self, key: &[u8]) -> Vec<u8> {
        let mut projected = Vec::with_capacity(self.table.key_size);
        for source in &self.sources {
            match (source.bits, source.raw(key)) {
                (Some(_), Some(raw)) => {
                    let mut bytes = raw.to_le_bytes().to_vec();
                    bytes.resize(source.ty.size, 0);
                    projected.extend(bytes);
                }
                _ => projected.extend(source.bytes(key).unwrap_or_default()),
            }
        }
        projected.resize(self.table.key_size, 0);
        projected
    }
}

#[cfg(test)]
mod tests;
