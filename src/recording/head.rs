//! The first line of a recording: what was watched, and the columns of each tab.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::schema::{
    Decoder, Kind, Label, Metric, MetricKind, Overview, Place, Scale, Table, Type, Unit,
};

/// The form of the lines. A later one reads earlier ones.
pub(super) const FORM: u32 = 1;

/// More than any tally has.
const MOST_COLUMNS: usize = 1000;
const MOST_TABS: usize = 256;
const MOST_BYTES: usize = 1 << 16;

/// The first line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) recording: u32,
    /// The version that wrote it.
    pub(crate) ktally: String,
    pub(crate) host: String,
    pub(crate) kernel: String,
    pub(crate) cpus: usize,
    /// Seconds between two readings, as asked for.
    pub(crate) every: f64,
    /// What an overview lacks, and why; null where the first tab is not an overview.
    #[serde(default)]
    pub(crate) absent: Option<Vec<String>>,
    pub(crate) tabs: Vec<TabHead>,
}

/// A tab: one table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TabHead {
    pub(crate) name: String,
    /// `run syscalls`
    pub(crate) source: String,
    pub(crate) summary: String,
    /// How many rows it has room for.
    pub(crate) room: u32,
    pub(crate) table: String,
    help: String,
    sort_by: Option<String>,
    /// Its lines in an overview.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    overview: Vec<Overview>,
    key_size: usize,
    hides_key: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    shows_idle: bool,
    labels: Vec<LabelHead>,
    metrics: Vec<MetricHead>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct LabelHead {
    name: String,
    #[serde(rename = "type")]
    ty: LabelType,
    /// In bits, from the start of the key.
    offset: usize,
    /// In bytes.
    size: usize,
    /// Of a bitfield.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bits: Option<u8>,
    /// What shows its numbers as names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decoder: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    idle: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LabelType {
    Unsigned,
    Signed,
    Text,
    Bytes,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct MetricHead {
    name: String,
    kind: MetricKind,
    help: String,
    unit: Option<String>,
    signed: bool,
    /// Of a linear histogram.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    step: Option<u64>,
    /// Of a histogram without a sum: see [`Scale::Slots`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    slots: bool,
}

impl Head {
    /// From the first line of a file.
    pub(super) fn parse(line: &[u8]) -> Result<Self> {
        let head: Self = serde_json::from_slice(line)
            .context("it is not the first line of a recording of `ktally top --record`")?;
        ensure!(
            head.recording <= FORM,
            "a later version of ktally, {}, wrote it; use that version to read it",
            head.ktally
        );
        ensure!(
            (1..=MOST_TABS).contains(&head.tabs.len()),
            "it has {} tabs; 1 to {MOST_TABS} are possible",
            head.tabs.len()
        );
        ensure!(
            head.every.is_finite() && head.every >= 0.001 && head.every < 1e6,
            "`every` is not an interval"
        );
        head.tables()?;
        Ok(head)
    }

    /// The table of each tab.
    pub(crate) fn tables(&self) -> Result<Vec<Table>> {
        let tabs = self.tabs.iter();
        let tables = tabs.map(|tab| {
            let table = tab.table();
            table.with_context(|| format!("tab `{}`", tab.name))
        });
        tables.collect()
    }
}

impl TabHead {
    pub(crate) fn new(
        (source, name, summary): (&str, &str, &str),
        room: u32,
        table: &Table,
    ) -> Self {
        Self {
            name: name.to_owned(),
            source: source.to_owned(),
            summary: summary.to_owned(),
            room,
            table: table.name.clone(),
            help: table.help.clone(),
            sort_by: table.sort_by.clone(),
            overview: table.overview.clone(),
            key_size: table.key_size,
            hides_key: table.hides_key,
            shows_idle: table.shows_idle,
            labels: table.labels.iter().map(LabelHead::new).collect(),
            metrics: table.metrics.iter().map(MetricHead::new).collect(),
        }
    }

    /// The table that it describes: its keys have the bytes of the original ones.
    fn table(&self) -> Result<Table> {
        ensure!(
            self.labels.len() + self.metrics.len() <= MOST_COLUMNS,
            "it has more than {MOST_COLUMNS} columns"
        );
        ensure!(self.key_size <= MOST_BYTES, "its keys are too large");
        let labels = self.labels.iter().map(|it| it.label(self.key_size));
        let metrics = self.metrics.iter().map(MetricHead::metric);
        let mut table = Table::of_columns(
            (&self.table, &self.help),
            labels.collect::<Result<_>>()?,
            metrics.collect::<Result<_>>()?,
        );
        table.key_size = self.key_size;
        table.hides_key = self.hides_key;
        table.shows_idle = self.shows_idle;
        table.max_entries = self.room;
        table.sort_by.clone_from(&self.sort_by);
        table.overview.clone_from(&self.overview);
        match table.fault() {
            Some(fault) => bail!("{fault}"),
            None => Ok(table),
        }
    }
}

impl LabelHead {
    fn new(label: &Label) -> Self {
        let place = &label.place;
        let kind = match place.ty.kind {
            Kind::Int { signed: false } => LabelType::Unsigned,
            Kind::Int { signed: true } => LabelType::Signed,
            _ if place.ty.is_text() => LabelType::Text,
            _ => LabelType::Bytes,
        };
        // What is shown of other types is recorded as names.
        let own = || (kind == LabelType::Bytes).then(|| format!("label:{}", label.name));
        let decoder = label.decoder.as_ref().map(|it| it.tag().to_owned());
        Self {
            name: label.name.clone(),
            ty: kind,
            offset: place.bit_offset,
            size: place.ty.size,
            bits: place.bits,
            decoder: decoder.or_else(own),
            idle: label.idle.clone(),
        }
    }

    fn label(&self, key_size: usize) -> Result<Label> {
        let size = self.size;
        ensure!(size <= MOST_BYTES, "`{}` is too large", self.name);
        let ty = match self.ty {
            LabelType::Unsigned => Type::unsigned(size),
            LabelType::Signed => Type::new("", size, Kind::Int { signed: true }),
            LabelType::Text => Type::array(Type::new("char", 1, Kind::Char), size),
            LabelType::Bytes => Type::opaque(size),
        };
        let place = Place {
            bit_offset: self.offset,
            bits: self.bits,
            ty,
        };
        let end = self.offset.checked_add(place.width());
        let is_whole = self.bits.is_some() || self.offset.is_multiple_of(8);
        let is_within = end.is_some_and(|end| end <= key_size * 8);
        ensure!(
            !self.name.is_empty() && is_whole && is_within,
            "`{}` is not within its key",
            self.name
        );
        Ok(Label {
            name: self.name.clone(),
            place,
            decoder: self.decoder.as_deref().map(Decoder::from_tag),
            with: None,
            idle: self.idle.clone(),
        })
    }
}

impl MetricHead {
    fn new(metric: &Metric) -> Self {
        let step = match metric.scale() {
            Scale::Linear(step) => Some(step),
            Scale::Log2 | Scale::Slots => None,
        };
        let is_histogram = metric.kind == MetricKind::Histogram;
        Self {
            name: metric.name.clone(),
            kind: metric.kind,
            help: metric.help.clone(),
            unit: metric.unit.as_ref().map(|unit| unit.name().to_owned()),
            signed: metric.is_signed(),
            step: step.filter(|_| is_histogram),
            slots: is_histogram && metric.scale() == Scale::Slots,
        }
    }

    fn metric(&self) -> Result<Metric> {
        ensure!(!self.name.is_empty(), "a column has no name");
        ensure!(
            self.step.is_none_or(|step| (1..1 << 32).contains(&step)),
            "the step of `{}` is out of range",
            self.name
        );
        let signed = self.signed;
        let ty = match self.kind {
            MetricKind::Histogram if self.slots => Scale::Slots.ty(),
            MetricKind::Histogram => self.step.map_or(Scale::Log2, Scale::Linear).ty(),
            _ => Type::new("", 8, Kind::Int { signed }),
        };
        Ok(Metric {
            name: self.name.clone(),
            help: self.help.clone(),
            kind: self.kind,
            is_declared: true,
            place: Place::whole(ty),
            unit: self.unit.as_deref().map(Unit::from_tag),
            cell: 0,
            greatest: None,
            with: None,
        })
    }
}
