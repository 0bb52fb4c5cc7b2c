//! Families: what a tally counts, and how well, under the names that Prometheus'
//! conventions give them.

use std::sync::Arc;
use std::time::SystemTime;

use super::number::Number;
use super::series::{Series, identifier, push_label};
use crate::schema::{Metric, MetricKind, Table, Unit};

/// What is served: each family once, with the samples of all tallies.
#[derive(Debug, Default)]
pub(crate) struct Families(pub(super) Vec<Family>);

/// Metrics of one name.
#[derive(Debug)]
pub(super) struct Family {
    /// Without `_total`.
    pub(super) name: String,
    pub(super) kind: FamilyKind,
    pub(super) unit: Option<String>,
    pub(super) help: String,
    pub(super) samples: Vec<Samples>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FamilyKind {
    Counter,
    Gauge,
    Histogram,
}

#[derive(Debug)]
pub(super) enum Samples {
    /// One metric of each row. `more` are labels behind those of the row.
    Rows {
        series: Arc<Series>,
        metric: Metric,
        decimals: usize,
        more: String,
    },
    One {
        labels: String,
        value: Number,
    },
}

/// What was counted, of one tally.
pub(crate) struct Counted<'s> {
    /// What stands before its name in the names of metrics.
    pub(crate) prefix: &'s str,
    pub(crate) tally: &'s str,
    /// Of an instance with another name than its tally.
    pub(crate) instance: Option<&'s str>,
    pub(crate) time: SystemTime,
    pub(crate) seconds: f64,
    pub(crate) missed_by: &'s [(String, u64)],
    pub(crate) gaps: Option<u64>,
    pub(crate) unraised: Option<u64>,
    pub(crate) tables: Vec<CountedTable<'s>>,
}

/// The same of one table.
pub(crate) struct CountedTable<'s> {
    pub(crate) table: &'s Table,
    pub(crate) series: Arc<Series>,
    /// Rows, and how many there can be.
    pub(crate) used: u64,
    pub(crate) max: Option<u32>,
    pub(crate) dropped: Option<u64>,
    pub(crate) uncertain: u64,
    /// Rows without a series.
    pub(crate) folded: Option<u64>,
}

impl Counted<'_> {
    /// The labels of what is known about it.
    pub(crate) fn labels(&self, more: &[(&str, &str)]) -> String {
        let name = self.instance.unwrap_or(self.tally);
        labels([("tally", name)].iter().chain(more))
    }
}

/// `a="b",c="d"`.
pub fn labels<'l>(all: impl IntoIterator<Item = &'l (&'l str, &'l str)>) -> String {
    let mut text = String::new();
    for (name, value) in all {
        push_label(&mut text, name, value);
    }
    text
}

impl Families {
    /// A sample of a family, which is new with its first one. The unit is the end of
    /// the name.
    pub(crate) fn add(
        &mut self,
        (kind, name, help): (FamilyKind, &str, &str),
        labels: String,
        value: impl Into<Number>,
    ) {
        let units = ["seconds", "bytes"];
        let unit = units.into_iter().find(|it| name.ends_with(it));
        let family = (kind, name.to_owned(), unit.map(str::to_owned));
        let value = value.into();
        self.push(family, help, Samples::One { labels, value });
    }

    fn push(
        &mut self,
        (kind, name, unit): (FamilyKind, String, Option<String>),
        help: &str,
        samples: Samples,
    ) {
        let known = self.0.iter_mut().find(|family| family.name == name);
        match known {
            Some(family) => family.samples.push(samples),
            None => self.0.push(Family {
                name,
                kind,
                unit,
                help: help.to_owned(),
                samples: vec![samples],
            }),
        }
    }

    /// All of one tally.
    pub(crate) fn add_tally(&mut self, counted: &Counted<'_>) {
        use FamilyKind::{Counter, Gauge};
        for table in &counted.tables {
            for metric in &table.table.metrics {
                self.add_metric(counted, table, metric);
            }
        }
        let began = counted.time - std::time::Duration::from_secs_f64(counted.seconds.max(0.0));
        self.add(COUNTING_SINCE, counted.labels(&[]), began);
        for (program, missed) in counted.missed_by {
            self.add(MISSED, counted.labels(&[("program", program)]), *missed);
        }
        for (family, lost) in [(GAPS, counted.gaps), (UNRAISED, counted.unraised)] {
            if let Some(lost) = lost {
                self.add((Counter, family.0, family.1), counted.labels(&[]), lost);
            }
        }
        for table in &counted.tables {
            let labels = || counted.labels(&[("table", &table.table.name)]);
            if let Some(dropped) = table.dropped {
                self.add(DROPPED, labels(), dropped);
            }
            let gauges = [
                (ROWS, Some(table.used)),
                (MAX_ROWS, table.max.map(u64::from)),
                (UNCERTAIN, Some(table.uncertain)),
                (FOLDED, table.folded),
            ];
            for (family, number) in gauges {
                if let Some(number) = number {
                    self.add((Gauge, family.0, family.1), labels(), number);
                }
            }
        }
    }

    fn add_metric(&mut self, counted: &Counted<'_>, table: &CountedTable<'_>, metric: &Metric) {
        let kind = match metric.kind {
            MetricKind::Histogram => FamilyKind::Histogram,
            MetricKind::Counter if !metric.is_signed() => FamilyKind::Counter,
            _ => FamilyKind::Gauge,
        };
        let (unit, decimals) = base_unit(metric.unit.as_ref());
        let mut place = place(counted, table.table);
        let mut name = family_name(&place, &metric.name, unit.as_deref());
        // Two tallies may mean different things by one name.
        while self.means_another(&name, kind, unit.as_deref()) {
            place = format!("{place}_{}", table.table.name);
            name = family_name(&place, &metric.name, unit.as_deref());
        }
        let help = match &*metric.help {
            "" => &table.table.help,
            help => help,
        };
        let mut more = String::new();
        if let Some(instance) = counted.instance {
            push_label(&mut more, "tally", instance);
        }
        let samples = Samples::Rows {
            series: Arc::clone(&table.series),
            metric: metric.clone(),
            decimals,
            more,
        };
        self.push((kind, name, unit), help, samples);
    }

    fn means_another(&self, name: &str, kind: FamilyKind, unit: Option<&str>) -> bool {
        let mut families = self.0.iter();
        let known = families.find(|family| family.name == name);
        known.is_some_and(|it| it.kind != kind || it.unit.as_deref() != unit)
    }
}

const COUNTING_SINCE: (FamilyKind, &str, &str) = (
    FamilyKind::Gauge,
    "ktally_counting_since_timestamp_seconds",
    "when counting began",
);
const MISSED: (FamilyKind, &str, &str) = (
    FamilyKind::Counter,
    "ktally_missed",
    "runs of a program that the kernel skipped",
);
const DROPPED: (FamilyKind, &str, &str) = (
    FamilyKind::Counter,
    "ktally_dropped",
    "events whose start found no memory, so that their time is unknown",
);
const GAPS: (&str, &str) = ("ktally_gaps", "gaps in the events that the kernel reported");
const UNRAISED: (&str, &str) = (
    "ktally_unraised",
    "attempts to raise a maximum that were given up",
);
const ROWS: (&str, &str) = ("ktally_table_rows", "rows that a table has");
const MAX_ROWS: (&str, &str) = ("ktally_table_max_rows", "rows that a table has room for");
const UNCERTAIN: (&str, &str) = (
    "ktally_table_uncertain_rows",
    "rows that lack the time of events which ended while they were read",
);
const FOLDED: (&str, &str) = (
    "ktally_table_folded_rows",
    "rows without series, which are part of the series `other`",
);

/// The middle of a metric's name: the tally, and its table where that is another.
fn place(counted: &Counted<'_>, table: &Table) -> String {
    let Counted { prefix, tally, .. } = counted;
    // Sections of variables begin with a dot.
    let name = table.name.trim_start_matches('.');
    let rest = name.strip_prefix(tally);
    let is_of = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
    match is_of {
        true => format!("{prefix}{name}"),
        false => format!("{prefix}{tally}_{name}"),
    }
}

fn family_name(place: &str, metric: &str, unit: Option<&str>) -> String {
    let name = identifier(&format!("ktally_{place}_{metric}"));
    match unit.map(|unit| format!("_{unit}")) {
        Some(unit) if !name.ends_with(&unit) => name + &unit,
        _ => name,
    }
}

/// The base unit's name, and by how many digits the point moves.
fn base_unit(unit: Option<&Unit>) -> (Option<String>, usize) {
    match unit {
        None => (None, 0),
        Some(Unit::Bytes) => (Some("bytes".to_owned()), 0),
        Some(Unit::Time(each)) => (Some("seconds".to_owned()), 9 - each.ilog10() as usize),
        Some(Unit::Other(name)) if name == "percent" => (Some("ratio".to_owned()), 2),
        Some(Unit::Other(name)) => (Some(identifier(name)), 0),
    }
}
