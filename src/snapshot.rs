//! Rows at one instant, and what is done with them before they are shown:
//! filter, group, subtract, sort, cut. Pure.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use anyhow::Result;

use crate::error::{unknown, usage};
use crate::schema::{
    Histogram, Kind, Label, LeftOut, Metric, MetricKind, Names, Place, Table, Tags, Type, Value,
    parse,
};

/// Rows of one table, packed: a key of fixed size and a fixed number of cells
/// each, so that a million small rows take tens of megabytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    key_size: usize,
    width: usize,
    keys: Vec<u8>,
    cells: Vec<u64>,
    /// Every copy of the value, of a table with details: a row each.
    values: Vec<Vec<u8>>,
}

impl Rows {
    /// No rows yet, for a table's keys and cells.
    pub fn of(table: &Table) -> Self {
        Self {
            key_size: table.key_size,
            width: table.cells(),
            ..Self::default()
        }
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.keys
            .len()
            .checked_div(self.key_size)
            .unwrap_or(usize::from(!self.cells.is_empty()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a row of zeroes, to be filled in. A key of no bytes stands for one
    /// row: the total.
    pub fn push(&mut self, key: &[u8]) -> &mut [u64] {
        debug_assert_eq!(key.len(), self.key_size);
        self.keys.extend_from_slice(key);
        let start = self.cells.len();
        self.cells.resize(start + self.width, 0);
        &mut self.cells[start..]
    }

    /// Takes the last row back.
    pub fn pop(&mut self) {
        self.keys
            .truncate(self.keys.len().saturating_sub(self.key_size));
        self.cells
            .truncate(self.cells.len().saturating_sub(self.width));
        self.values.truncate(self.len());
    }

    /// Keeps the value of a row, or one more copy of it.
    pub fn keep_value(&mut self, row: usize, value: &[u8]) {
        self.values.resize_with(self.len(), Vec::new);
        self.values[row].extend_from_slice(value);
    }

    /// The copies of a row's value, of so many bytes each, as far as they were kept.
    pub fn values(&self, row: usize, size: usize) -> impl Iterator<Item = &[u8]> {
        let values = self.values.get(row).map_or(&[][..], Vec::as_slice);
        values.chunks_exact(size.max(1))
    }

    /// The bytes of a row's key.
    pub fn key(&self, row: usize) -> &[u8] {
        &self.keys[row * self.key_size..][..self.key_size]
    }

    /// The numbers of a row.
    pub fn cells(&self, row: usize) -> &[u64] {
        &self.cells[row * self.width..][..self.width]
    }

    /// What was counted since `before`, and how many rows were reset meanwhile.
    fn since(&self, before: &Self, metrics: &[Metric]) -> (Self, u64) {
        let mut before: HashMap<&[u8], &[u64]> = before.iter().collect();
        let mut rows = self.clone();
        let mut reset = 0;
        for row in 0..rows.len() {
            if let Some(before) = before.remove(self.key(row)) {
                reset += u64::from(difference(metrics, rows.cells_mut(row), before));
            }
        }
        // A row that is gone has nothing in it.
        let mut gone = vec![0; self.width];
        for before in before.into_values() {
            gone.fill(0);
            reset += u64::from(difference(metrics, &mut gone, before));
        }
        (rows, reset)
    }

    fn cells_mut(&mut self, row: usize) -> &mut [u64] {
        &mut self.cells[row * self.width..][..self.width]
    }

    /// Every row: its key and its numbers.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u64])> {
        (0..self.len()).map(|row| (self.key(row), self.cells(row)))
    }

    /// These rows, in this order.
    fn pick(&self, order: impl IntoIterator<Item = usize>) -> Self {
        let mut picked = Self {
            key_size: self.key_size,
            width: self.width,
            ..Self::default()
        };
        for row in order {
            picked.push(self.key(row)).copy_from_slice(self.cells(row));
            picked.values.extend(self.values.get(row).cloned());
        }
        picked
    }
}

/// What was read of one table.
#[derive(Debug, Clone)]
pub struct TableReading {
    /// Every row that counted something.
    pub rows: Rows,
    /// Rows, and starts of events, that found no memory since counting began;
    /// `None` where the table has no counter of them.
    pub dropped: Option<u64>,
    /// Rows that were reset since the reading before.
    pub reset: u64,
}

/// What was read of a tally, at one instant.
#[derive(Debug, Clone)]
pub struct Reading {
    /// By the clock of the host.
    pub time: SystemTime,
    /// Since counting began.
    pub seconds: f64,
    /// In the order of the tally's tables.
    pub tables: Vec<TableReading>,
    /// Runs that the kernel skipped, since counting began; `None` where it does
    /// not tell (before Linux 5.12).
    pub missed: Option<u64>,
    /// Gaps in the events that the kernel reported, since counting began; `None`
    /// where the tally does not look for them.
    pub gaps: Option<u64>,
    /// Why some rows may be missing from it.
    pub incomplete: Option<String>,
}

impl Reading {
    /// What was counted since a reading `before` of the same tables. A row is
    /// reset where it had counted more: it was deleted, evicted or set to zero,
    /// and what is in it now was counted since.
    pub fn since(&self, before: &Self, tables: &[Table]) -> Self {
        let readings = self.tables.iter().zip(&before.tables);
        let tables = tables.iter().zip(readings).map(|(table, (now, before))| {
            let (rows, reset) = now.rows.since(&before.rows, &table.metrics);
            TableReading {
                rows,
                dropped: grown(now.dropped, before.dropped),
                reset,
            }
        });
        Self {
            time: self.time,
            seconds: self.seconds - before.seconds,
            tables: tables.collect(),
            missed: grown(self.missed, before.missed),
            gaps: grown(self.gaps, before.gaps),
            incomplete: self.incomplete.clone(),
        }
    }

    /// Takes the rows that it lacks from the reading before: what an incomplete
    /// reading did not come to is neither gone, nor new in the next one.
    pub fn fill_from(&mut self, before: &Self) {
        for (now, before) in self.tables.iter_mut().zip(&before.tables) {
            let known: HashSet<Vec<u8>> = now.rows.iter().map(|(key, _)| key.to_vec()).collect();
            let lacking = before.rows.iter().filter(|(key, _)| !known.contains(*key));
            for (key, cells) in lacking {
                now.rows.push(key).copy_from_slice(cells);
            }
        }
    }
}

/// By how much a counter grew; one that was reset, from zero.
fn grown(now: Option<u64>, before: Option<u64>) -> Option<u64> {
    let (now, before) = now.zip(before)?;
    Some(now.checked_sub(before).unwrap_or(now))
}

/// What is shown of a reading: all that a renderer needs.
#[derive(Debug, Clone)]
pub struct Snapshot<'s> {
    /// The tally's name.
    pub tally: String,
    /// The tally's summary.
    pub summary: String,
    /// By the clock of the host.
    pub time: SystemTime,
    /// That the numbers are about: the interval, or since counting began.
    pub seconds: f64,
    /// Runs that the kernel skipped in that time.
    pub missed: Option<u64>,
    /// Gaps in the events that the kernel reported in that time.
    pub gaps: Option<u64>,
    /// Why some rows may be missing.
    pub incomplete: Option<String>,
    /// In the order of the tally's tables.
    pub tables: Vec<TableSnapshot<'s>>,
}

/// One table of a [`Snapshot`].
#[derive(Debug, Clone)]
pub struct TableSnapshot<'s> {
    /// Its columns; grouping leaves fewer labels.
    pub table: &'s Table,
    /// With their names.
    pub rows: Vec<Row<'s>>,
    /// How many rows were read.
    pub rows_read: usize,
    /// Rows, and starts of events, that found no memory in that time.
    pub dropped: Option<u64>,
    /// Rows that were reset in that time, and may have counted more before it.
    pub reset: u64,
}

impl Snapshot<'_> {
    /// Whether every event was counted, as far as is known, and every row read.
    pub fn is_whole(&self) -> bool {
        // Unknown is no proof of a loss.
        let none = |lost: Option<u64>| lost.unwrap_or(0) == 0;
        let is_whole = |table: &TableSnapshot<'_>| none(table.dropped) && table.reset == 0;
        self.tables.iter().all(is_whole)
            && none(self.missed)
            && none(self.gaps)
            && self.incomplete.is_none()
    }

    /// Over all tables.
    pub fn reset(&self) -> u64 {
        self.tables.iter().map(|table| table.reset).sum()
    }
}

/// A row that is shown.
#[derive(Debug, Clone)]
pub struct Row<'s> {
    /// Of each label.
    pub names: Vec<Value<'s>>,
    /// Its numbers.
    pub cells: &'s [u64],
    /// Of each detail.
    pub details: Vec<Value<'s>>,
}

/// Rows of a table, filtered, grouped, sorted and cut.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Grouping leaves fewer labels.
    pub table: Table,
    /// Without their names.
    pub rows: Rows,
}

impl Selection {
    /// Every row with its names. People are told more than programs: a process's
    /// name behind its number.
    pub fn named(&self, names: &dyn Names, for_people: bool) -> Vec<Row<'_>> {
        let Self { table, rows } = self;
        let name = |row| {
            let labels = table.labels.iter();
            let labels = labels.map(|label| match for_people {
                true => names.described(label, rows.key(row)),
                false => names.of(label, rows.key(row)),
            });
            let details = table.details.iter().map(|detail| {
                let copies = rows.values(row, table.value_size);
                Value::sum(copies.map(|value| names.of(detail, value)).collect())
            });
            Row {
                names: labels.collect(),
                cells: rows.cells(row),
                details: details.collect(),
            }
        };
        (0..rows.len()).map(name).collect()
    }
}

/// What the user wants to see of a reading.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// The labels to group by; `None` keeps every label.
    pub by: Option<Vec<String>>,
    /// Labels and the text that they must have.
    pub filters: Vec<(String, String)>,
    /// The column to sort by; `None` sorts by the first column of numbers.
    pub sort: Option<String>,
    /// How many rows to show at most.
    pub top: Option<usize>,
}

/// What a row is sorted by.
#[derive(Debug, Clone, Copy, PartialEq)]
enum SortBy {
    Label(usize),
    Cell(usize, bool),
    Count(usize),
    Quantile(usize, f64),
}

impl Query {
    /// Refuses names that no table has, and filters that no row can pass, before
    /// anything is loaded.
    pub fn check(&self, tables: &[Table], names: &dyn Names) -> Result<()> {
        let labels = || {
            tables
                .iter()
                .flat_map(|table| &table.labels)
                .map(|label| label.name.as_str())
        };
        for name in self
            .by
            .iter()
            .flatten()
            .chain(self.filters.iter().map(|(name, _)| name))
        {
            if !labels().any(|label| label == name) {
                return Err(unknown("field", name, labels()));
            }
        }
        for (i, name) in self.by.iter().flatten().enumerate() {
            if self
                .by
                .iter()
                .flatten()
                .take(i)
                .any(|before| before == name)
            {
                return Err(usage(format!("`--by` names `{name}` twice")));
            }
        }
        for (field, text) in &self.filters {
            check_filter(tables, field, text, names)?;
        }
        if let Some(sort) = &self.sort
            && !tables.iter().any(|table| sort_by(table, sort).is_some())
        {
            let metrics = tables
                .iter()
                .flat_map(|table| &table.metrics)
                .map(|metric| metric.name.as_str());
            return Err(unknown("column", sort, labels().chain(metrics)));
        }
        if let (Some(by), Some(sort)) = (&self.by, &self.sort)
            && labels().any(|label| label == sort)
            && !by.contains(sort)
        {
            return Err(usage(format!(
                "rows grouped without `{sort}` cannot be sorted by it"
            )));
        }
        Ok(())
    }

    /// The rows to show of a table: only they are named.
    pub fn apply(&self, table: &Table, rows: &Rows, names: &dyn Names) -> Selection {
        let (table, rows) = self.group(table, rows, names);
        let order = self.order(&table, &rows, names);
        let rows = rows.pick(order);
        Selection { table, rows }
    }

    /// The filters, as they are asked of the rows of a table.
    pub fn filter<'q>(&'q self, table: &'q Table, names: &dyn Names) -> Filter<'q> {
        let wanted = self.filters.iter().filter_map(|(name, text)| {
            let label = &table.labels[table.label(name)?];
            let bytes = typed(label, text, names).unwrap_or_default();
            Some(Wanted { label, text, bytes })
        });
        Filter(wanted.collect())
    }

    /// What a row is ordered by, among those of its table.
    pub fn rank(&self, table: &Table, key: &[u8], cells: &[u64], names: &dyn Names) -> Rank {
        let by = match &self.sort {
            Some(name) => sort_by(table, name),
            None => table.metrics.first().map(default_order),
        };
        rank(by, table, key, cells, names)
    }

    /// Filters, then groups: the numbers of one group add up.
    fn group<'a>(
        &self,
        table: &Table,
        rows: &'a Rows,
        names: &dyn Names,
    ) -> (Table, Cow<'a, Rows>) {
        // What looks the same is one row; stacks differ by addresses, where
        // people see functions.
        let joins = table.labels.iter().any(|label| names.joins(label));
        let whole = || table.labels.iter().map(|label| label.name.clone());
        let visible = (table.hides_key || joins).then(|| whole().collect());
        let by = self.by.as_ref().or(visible.as_ref());
        if self.filters.is_empty() && by.is_none() {
            return (table.clone(), Cow::Borrowed(rows));
        }
        let filter = self.filter(table, names);
        let kept = (0..rows.len()).filter(|row| filter.keeps(rows.key(*row), names));
        let Some(by) = by else {
            return (table.clone(), Cow::Owned(rows.pick(kept)));
        };
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
            for (cell, more) in groups.cells_mut(group).iter_mut().zip(rows.cells(row)) {
                *cell = cell.wrapping_add(*more);
            }
            if has_details {
                let values = rows.values(row, table.value_size);
                values.for_each(|value| groups.keep_value(group, value));
            }
        }
        (projection.table, Cow::Owned(groups))
    }

    /// Rows that counted something, the greatest first, at most `top`.
    fn order(&self, table: &Table, rows: &Rows, names: &dyn Names) -> Vec<usize> {
        let mut order: Vec<(Rank, usize)> = (0..rows.len())
            .filter(|row| !table.counts_nothing(rows.cells(*row)))
            .map(|row| {
                let rank = self.rank(table, rows.key(row), rows.cells(row), names);
                (rank, row)
            })
            .collect();
        order.sort_unstable_by(|(rank_a, a), (rank_b, b)| {
            // By the key where ranks are equal: the same order every time.
            rank_a
                .cmp(rank_b)
                .then_with(|| rows.key(*a).cmp(rows.key(*b)))
        });
        order.truncate(self.top.unwrap_or(usize::MAX));
        order.into_iter().map(|(_, row)| row).collect()
    }
}

/// Fewer rows than there are: those that have what is wanted.
#[derive(Debug)]
pub struct Filter<'q>(Vec<Wanted<'q>>);

#[derive(Debug)]
struct Wanted<'q> {
    label: &'q Label,
    text: &'q str,
    bytes: Option<Vec<u8>>,
}

impl Filter<'_> {
    /// Whether a row of this key passes: by what its labels show, or by what was
    /// typed for it.
    pub fn keeps(&self, key: &[u8], names: &dyn Names) -> bool {
        self.0.iter().all(|Wanted { label, text, bytes }| {
            let place = label.place.at_start();
            let typed = bytes.as_ref().map(|bytes| place.decode(bytes));
            typed == Some(label.place.decode(key)) || names.of(label, key).to_string() == *text
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
pub enum Rank {
    /// The greater the number, the less its rank.
    Number(i128),
    /// By the alphabet.
    Name(String),
}

fn rank(by: Option<SortBy>, table: &Table, key: &[u8], cells: &[u64], names: &dyn Names) -> Rank {
    // Greater numbers come first, names by the alphabet.
    Rank::Number(match by {
        None => 0,
        Some(SortBy::Label(label)) => match names.of(&table.labels[label], key) {
            Value::Uint(number) => number.try_into().unwrap_or(i128::MAX),
            Value::Int(number) => number,
            value => return Rank::Name(value.to_string()),
        },
        Some(SortBy::Cell(cell, true)) => -i128::from(cells[cell] as i64),
        Some(SortBy::Cell(cell, false)) => -i128::from(cells[cell]),
        Some(SortBy::Count(cell)) => -i128::from(count(&cells[cell..])),
        Some(SortBy::Quantile(cell, q)) => {
            quantile(&cells[cell..], q).map_or(1, |edge| -i128::from(edge))
        }
    })
}

fn default_order(metric: &Metric) -> SortBy {
    match metric.kind {
        MetricKind::Histogram => SortBy::Count(metric.cell),
        _ => SortBy::Cell(metric.cell, metric.is_signed()),
    }
}

/// A label, a metric, or of a histogram `NAME.count`, `NAME.sum`, `NAME.p50`
/// and so on; the bare name of a histogram sorts by its count.
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
        _ => {
            let percent: f64 = part.strip_prefix('p')?.parse().ok()?;
            (0.0..=100.0)
                .contains(&percent)
                .then_some(SortBy::Quantile(metric.cell, percent / 100.0))
        }
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

/// Leaves in `now` what counters and histograms counted since `before`; gauges
/// stay. Whether one of them was reset: of a row with declared counters, which
/// only ever grow, all were.
pub fn difference(metrics: &[Metric], now: &mut [u64], before: &[u64]) -> bool {
    let counting = || {
        let metrics = metrics.iter();
        metrics.filter(|metric| metric.kind != MetricKind::Gauge)
    };
    let is_reset = |metric: &Metric, now: &[u64]| metric.since(now, before).is_none();
    if counting().any(|metric| metric.is_declared && is_reset(metric, now)) {
        return true;
    }
    let mut reset = false;
    for metric in counting() {
        match metric.since(now, before) {
            Some(grown) => now[metric.range()].copy_from_slice(&grown),
            None => reset = true,
        }
    }
    reset
}

/// The number of observations in a histogram's cells.
pub fn count(cells: &[u64]) -> u64 {
    cells[1..Histogram::CELLS]
        .iter()
        .fold(0, |sum, bucket| sum.wrapping_add(*bucket))
}

/// The upper edge of the bucket that holds the q-quantile: at least that share
/// of the observations is not greater. `None` where there are none.
pub fn quantile(cells: &[u64], q: f64) -> Option<u64> {
    let total = count(cells);
    if total == 0 {
        return None;
    }
    // 0.07 * 100 is a little more than 7 in binary.
    const ROUNDING: f64 = 1e-9;
    let rank = ((total as f64 * (q - ROUNDING)).ceil() as u64).clamp(1, total);
    let mut below = 0u64;
    (0..Histogram::BUCKETS).find_map(|bucket| {
        below = below.wrapping_add(cells[1 + bucket]);
        (below >= rank).then(|| Histogram::edge(bucket))
    })
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
