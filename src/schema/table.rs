//! A table's rows and columns, from the types and tags of its key and value.

use std::collections::HashSet;
use std::sync::Arc;

use super::found::Origin;
use super::histogram::Scale;
use super::label::Label;
use super::metric::{self, Metric, MetricKind};
use super::tags::{Decoder, Overview, Tags};
use super::types::{Kind, Member, Place, Type};
use crate::error::unknown_text;

/// An array of more numbers than this is one detail rather than columns, unless
/// it is tagged.
const MOST_COLUMNS: usize = 16;

/// A table: what `TABLE(...)` and its kin declared.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// The map's name in C.
    pub name: String,
    /// One line.
    pub help: String,
    /// In bytes.
    pub key_size: usize,
    /// In bytes, of one CPU's value.
    pub value_size: usize,
    /// As declared; the loaded map may have been given another.
    pub max_entries: u32,
    /// `SORT_BY(column)`: the column that rows are sorted by, unless another is asked for.
    pub sort_by: Option<String>,
    /// `OVERVIEW(...)`: what the overview shows of it.
    pub(crate) overview: Vec<Overview>,
    /// `DEAR`: what it costs is felt by all that runs.
    pub(crate) is_dear: bool,
    /// Whether rows that count nothing are rows all the same.
    pub(crate) shows_idle: bool,
    /// The parts of the key, each a column.
    pub labels: Vec<Label>,
    /// Whether the key has parts that are not among them: rows that differ only
    /// there look the same.
    pub(crate) hides_key: bool,
    /// The names of labels that are there only with an option, which is off.
    pub(crate) off: Vec<String>,
    /// The counted columns.
    pub metrics: Vec<Metric>,
    /// What else is in the value: text, names, and what has no number.
    pub details: Vec<Label>,
    /// Why members that are marked as columns cannot be.
    refused: Vec<String>,
    /// Whether no author described it: see [`Table::found`].
    pub(crate) is_found: bool,
    /// Where a key has the index of a bucket: see [`Table::bucket_by`].
    pub(super) bucket: Option<Place>,
    /// What it was made from.
    pub(super) origin: Option<Origin>,
}

/// Part of the value, as it is shown: a number or something else.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part<'t> {
    /// A number that adds up.
    Metric(&'t Metric),
    /// Anything else.
    Detail(&'t Label),
}

impl Table {
    /// From a map's key and value types, and the tags on the map itself.
    pub fn new(
        name: &str,
        tags: &Tags,
        max_entries: u32,
        key: &Arc<Type>,
        value: &Arc<Type>,
    ) -> Self {
        let mut table = Self {
            name: name.to_owned(),
            help: tags.table.clone().unwrap_or_default(),
            key_size: key.size,
            value_size: value.size,
            max_entries,
            sort_by: tags.sort_by.clone(),
            overview: tags.overview.clone(),
            is_dear: tags.dear,
            off: Vec::new(),
            shows_idle: false,
            labels: Vec::new(),
            hides_key: false,
            metrics: Vec::new(),
            details: Vec::new(),
            refused: Vec::new(),
            is_found: false,
            bucket: None,
            origin: Some(Origin {
                tags: tags.clone(),
                key: Arc::clone(key),
                value: Arc::clone(value),
            }),
        };
        match &key.kind {
            Kind::Struct(members) => table.add_labels("", 0, members),
            _ => {
                let name = tags.decoder.as_ref().map_or("key", Decoder::name);
                let place = Place::whole(Arc::clone(key));
                table.labels.push(Label::new(name.to_owned(), place, tags));
            }
        }
        match &value.kind {
            Kind::Struct(members) if Scale::of(value).is_none() => {
                table.add_metrics("", 0, members);
            }
            _ => {
                // The map's decoder is for its key.
                let tags = Tags {
                    decoder: None,
                    ..tags.clone()
                };
                table.add_metric("value".to_owned(), Place::whole(Arc::clone(value)), &tags);
            }
        }
        metric::pair_maxima(&mut table.metrics);
        table
    }

    /// Of these columns, whose cells follow one another.
    pub(crate) fn of_columns(
        (name, help): (&str, &str),
        labels: Vec<Label>,
        mut metrics: Vec<Metric>,
    ) -> Self {
        let mut cell = 0;
        for metric in &mut metrics {
            metric.cell = cell;
            cell += metric.cells();
        }
        metric::pair_maxima(&mut metrics);
        Self {
            name: name.to_owned(),
            help: help.to_owned(),
            key_size: 0,
            value_size: 0,
            max_entries: 0,
            sort_by: None,
            labels,
            hides_key: false,
            metrics,
            details: Vec::new(),
            overview: Vec::new(),
            is_dear: false,
            off: Vec::new(),
            shows_idle: false,
            refused: Vec::new(),
            is_found: false,
            bucket: None,
            origin: None,
        }
    }

    fn add_labels(&mut self, prefix: &str, bits: usize, members: &[Member]) {
        for member in members {
            let place = member.place.shifted(bits);
            let inner = place.ty.struct_members();
            if member.is_hidden() {
                self.hides_key = true;
            } else if is_anonymous_union(member) {
                let members = place.ty.members().to_vec();
                self.add_labels(prefix, place.bit_offset, &members);
            } else if inner.is_empty() || member.tags.decoder.is_some() {
                match member.shown_name() {
                    // An anonymous bitfield is padding.
                    "" => self.hides_key |= place.bits.is_none(),
                    name => {
                        let name = format!("{prefix}{name}");
                        self.labels.push(Label::new(name, place, &member.tags));
                    }
                }
            } else {
                let inner = inner.to_vec();
                self.add_labels(&nested(prefix, &member.name), place.bit_offset, &inner);
            }
        }
    }

    fn add_metrics(&mut self, prefix: &str, bits: usize, members: &[Member]) {
        for member in members.iter().filter(|member| !member.is_hidden()) {
            let place = member.place.shifted(bits);
            let inner = place.ty.struct_members();
            if !inner.is_empty() && Scale::of(&place.ty).is_none() {
                let inner = inner.to_vec();
                self.add_metrics(&nested(prefix, &member.name), place.bit_offset, &inner);
            } else if is_anonymous_union(member) {
                // The same bytes several times: nothing to add up.
                for either in place.ty.members().iter().filter(|it| !it.name.is_empty()) {
                    let name = format!("{prefix}{}", either.name);
                    let place = either.place.shifted(place.bit_offset);
                    self.details.push(Label::new(name, place, &either.tags));
                }
            } else if !member.name.is_empty() {
                let name = format!("{prefix}{}", member.shown_name());
                self.add_metric(name, place, &member.tags);
            }
        }
    }

    /// Numbers and histograms become columns; of a short array, each element
    /// does. The rest are details.
    fn add_metric(&mut self, name: String, place: Place, tags: &Tags) {
        let ty = &place.ty;
        let is_array = matches!(ty.kind, Kind::Array { .. });
        let is_unsigned = ty.size == 8 && ty.kind == Kind::Int { signed: false };
        let kind = match tags {
            _ if Scale::of(ty).is_some() => MetricKind::Histogram,
            Tags {
                histogram: Some(_), ..
            } => {
                let message =
                    format!("`{name}` is tagged HISTOGRAM, but is not a struct tally_histogram");
                return self.refused.push(message);
            }
            Tags {
                maximum: Some(_), ..
            } if is_array || is_unsigned => MetricKind::Maximum,
            Tags {
                minimum: Some(_), ..
            } if is_array || is_unsigned => MetricKind::Minimum,
            Tags {
                maximum, minimum, ..
            } if maximum.is_some() || minimum.is_some() => {
                let tag = maximum.as_ref().map_or("MINIMUM", |_| "MAXIMUM");
                let message = format!("`{name}` is tagged {tag}, but is not a __u64");
                return self.refused.push(message);
            }
            Tags { gauge: Some(_), .. } => MetricKind::Gauge,
            _ => MetricKind::Counter,
        };
        let is_one = tags.decoder.as_ref().is_some_and(Decoder::is_of_arrays);
        if let Kind::Array { element, len } = &ty.kind
            && kind != MetricKind::Histogram
            && element.is_number()
            && !is_one
            && (*len <= MOST_COLUMNS || tags.is_metric())
        {
            for i in 0..*len {
                self.add_metric(format!("{name}.{i}"), place.element(element, i), tags);
            }
        } else if kind == MetricKind::Histogram || ty.is_number() && tags.decoder.is_none() {
            self.push_metric(kind, name, place, tags);
        } else if !tags.is_metric() {
            self.details.push(Label::new(name, place, tags));
        } else if ty.is_scalar() {
            self.push_metric(kind, name, place, tags);
        } else {
            let ty = &ty.name;
            let message = format!("`{name}` is marked as a column, but a `{ty}` is not an integer");
            self.refused.push(message);
        }
    }

    fn push_metric(&mut self, kind: MetricKind, name: String, place: Place, tags: &Tags) {
        self.metrics.push(Metric {
            name,
            help: tags.help_of(kind).cloned().unwrap_or_default(),
            kind,
            is_declared: kind == MetricKind::Histogram || tags.is_metric(),
            place,
            unit: tags.unit.clone(),
            cell: self.cells(),
            greatest: None,
            with: tags.with.clone(),
        });
    }

    /// Values are names, not numbers that count.
    pub(super) fn name_values(&mut self, decoder: &Decoder) {
        for detail in &mut self.details {
            detail.decoder = Some(decoder.clone());
        }
        let values = self.metrics.drain(..).map(|metric| Label {
            name: metric.name,
            place: metric.place,
            decoder: Some(decoder.clone()),
            with: None,
            idle: Vec::new(),
        });
        self.details.extend(values);
    }

    /// The columns of the value in the order of its members.
    pub(crate) fn parts(&self) -> Vec<Part<'_>> {
        let metrics = self.metrics.iter().map(Part::Metric);
        let details = self.details.iter().map(Part::Detail);
        let mut columns: Vec<_> = metrics.chain(details).collect();
        columns.sort_by_key(|column| match column {
            Part::Metric(metric) => metric.place.bit_offset,
            Part::Detail(detail) => detail.place.bit_offset,
        });
        columns
    }

    /// How many numbers a row has.
    pub fn cells(&self) -> usize {
        self.metrics
            .last()
            .map_or(0, |last| last.cell + last.cells())
    }

    /// Adds the numbers of one value (one CPU's, of a per-CPU map) to a row's
    /// cells. What the bytes are too short for counts as zero.
    pub fn add_cells(&self, value: &[u8], cells: &mut [u64]) {
        for metric in &self.metrics {
            metric.add_value(value, cells);
        }
    }

    pub(crate) fn fault(&self) -> Option<String> {
        if let Some(refused) = self.refused.first() {
            return Some(refused.clone());
        }
        let sorts = self.sort_by.iter().map(|column| ("SORT_BY", column));
        let lines = self.overview.iter().map(|line| ("OVERVIEW", &line.column));
        for (tag, column) in sorts.chain(lines) {
            if !self.columns().any(|name| is_of(column, name)) {
                let unknown = unknown_text("column", column, self.columns());
                return Some(format!("{tag}({column}): {unknown}"));
            }
        }
        let mut seen = HashSet::new();
        let twice = self.columns().find(|name| !seen.insert(*name))?;
        Some(format!("two columns are named `{twice}`; rename one"))
    }

    /// Whether a row of these cells has nothing to show: its counters and
    /// histograms are all zero. A row of gauges and maxima alone always has.
    pub(crate) fn counts_nothing(&self, cells: &[u64]) -> bool {
        if self.shows_idle {
            return false;
        }
        let mut counting = self
            .metrics
            .iter()
            .filter(|it| self.is_found || it.kind != MetricKind::Gauge && !it.kind.is_extreme())
            .map(|metric| &cells[metric.cell..][..metric.cells()])
            .peekable();
        counting.peek().is_some() && counting.flatten().all(|cell| *cell == 0)
    }

    /// The metric that a column is of, as rows are sorted by it.
    pub(crate) fn metric(&self, column: &str) -> Option<&Metric> {
        self.metrics.iter().find(|it| is_of(column, &it.name))
    }

    /// The names of labels and metrics.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        self.fields()
            .chain(self.metrics.iter().map(|metric| &*metric.name))
    }

    /// The names of labels, with those that an option would add.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        let labels = self.labels.iter().map(|label| &label.name);
        labels.chain(&self.off).map(String::as_str)
    }

    /// The label of this name.
    pub fn label(&self, name: &str) -> Option<usize> {
        self.labels.iter().position(|label| label.name == name)
    }
}

/// Its members are its parent's, on top of each other.
fn is_anonymous_union(member: &Member) -> bool {
    member.name.is_empty() && matches!(member.place.ty.kind, Kind::Union(_))
}

/// Whether a column, as rows are sorted by it, is this one or a part of it: `latency.p99`
/// is of `latency`.
pub(super) fn is_of(column: &str, name: &str) -> bool {
    let part = column.strip_prefix(name);
    part.is_some_and(|part| part.is_empty() || part.starts_with('.'))
}

fn nested(prefix: &str, name: &str) -> String {
    if name.is_empty() {
        prefix.to_owned()
    } else {
        format!("{prefix}{name}.")
    }
}
