//! One source that is exported: its readings, shared for a moment, and its series.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::viewing::Seen;
use crate::commands::source::Source;
use crate::export::Served;
use crate::names::HostNames;
use crate::render::{Counted, CountedTable, Families, FamilyKind, labels};
use crate::schema::Hints;
use crate::snapshot::Reading;
use crate::tally::{Instance, InstanceName};

/// For how long a reading is shared: there are at most two in a second.
pub(super) const SHARED: Duration = Duration::from_millis(500);

/// A source, which is not there while an instance is detached.
pub(super) struct Exported {
    source: Option<Source>,
    /// Of an instance, by which it is found again.
    instance: Option<InstanceName>,
    /// What its metrics are of.
    tally: String,
    served: Vec<Served>,
    latest: Option<Latest>,
    incomplete: u64,
    /// How often it was opened, and read.
    opened: u64,
    seq: u64,
}

/// A reading, and how long it took.
struct Latest {
    at: Instant,
    took: Duration,
    reading: Arc<Reading>,
}

/// What holds for all sources: how many series a table may have, when this exporter
/// began.
pub(super) struct Limits {
    pub(super) most: usize,
    pub(super) start: String,
    /// What is said of columns, also of instances that are attached later.
    pub(super) hints: Hints,
}

impl Exported {
    pub(super) fn new(source: Source, limits: &Limits) -> Self {
        let instance = source.instance();
        let mut exported = Self {
            instance: instance.map(|instance| instance.name.clone()),
            tally: instance.map_or(&source.name, |it| &it.meta.tally).clone(),
            source: None,
            served: Vec::new(),
            latest: None,
            incomplete: 0,
            opened: 0,
            seq: 0,
        };
        exported.take(source, limits);
        exported
    }

    fn take(&mut self, source: Source, limits: &Limits) {
        let tables = source.tables.iter();
        let served = tables.map(|table| Served::new(table, limits.most, &limits.start));
        self.served = served.collect();
        self.source = Some(source);
        self.latest = None;
        self.opened += 1;
    }

    /// What it is called among the sources.
    pub(super) fn name(&self) -> &str {
        let instance = self.instance.as_ref();
        instance.map_or(&self.tally, InstanceName::as_str)
    }

    pub(super) fn tally(&self) -> &str {
        &self.tally
    }

    pub(super) fn source(&self) -> Option<&Source> {
        self.source.as_ref()
    }

    /// Follows an instance that was detached, and attached anew.
    pub(super) fn follow(&mut self, attached: &[InstanceName], limits: &Limits) -> Result<()> {
        let Some(name) = &self.instance else {
            return Ok(());
        };
        let instance = self.source.as_ref().and_then(Source::instance);
        let is_counting = instance.map(|it| Ok::<_, anyhow::Error>(!it.has_stopped()?));
        if is_counting.transpose()? == Some(true) {
            return Ok(());
        }
        if !attached.contains(name) {
            self.source = None;
            self.latest = None;
            return Ok(());
        }
        let since = |it: &Instance| it.meta.attached_at;
        let before = instance.map(since);
        let now = Source::attached(name, &limits.hints)?;
        if now.instance().map(since) != before {
            self.take(now, limits);
        }
        Ok(())
    }

    /// A reading of this moment, or one that is shared.
    pub(super) fn read(&mut self) -> Result<Option<Arc<Reading>>> {
        let Some(source) = &self.source else {
            return Ok(None);
        };
        if let Some(latest) = &self.latest
            && latest.at.elapsed() < SHARED
        {
            return Ok(Some(Arc::clone(&latest.reading)));
        }
        let at = Instant::now();
        let mut reading = source.read()?;
        self.seq += 1;
        self.incomplete += u64::from(reading.incomplete.is_some());
        if let (Some(_), Some(before)) = (&reading.incomplete, &self.latest) {
            reading.fill_from(&before.reading);
        }
        let latest = self.latest.insert(Latest {
            at,
            took: at.elapsed(),
            reading: Arc::new(reading),
        });
        Ok(Some(Arc::clone(&latest.reading)))
    }

    /// The same, to be compared with later ones.
    pub(super) fn see(&mut self) -> Result<Option<Seen>> {
        let reading = self.read()?;
        Ok(reading.map(|reading| Seen {
            opened: self.opened,
            seq: self.seq,
            reading,
        }))
    }

    /// Gives up a reading that is not shared any more.
    pub(super) fn rest(&mut self) {
        self.latest = None;
    }

    /// Adds what a scrape has of it.
    pub(super) fn add_to(&mut self, families: &mut Families, names: &HostNames, is_measured: bool) {
        let read = self.read();
        let tally = self.name().to_owned();
        let is_up = matches!(read, Ok(Some(_)));
        let labels = labels(&[("tally", &*tally)]);
        families.add(UP, labels, is_up);
        let (Some(source), Ok(Some(reading)), Some(latest)) = (&self.source, read, &self.latest)
        else {
            return;
        };
        let reading = reading.in_all(&source.tables);
        let tables = source.tables.iter().zip(&reading.tables);
        let tables = tables.zip(&mut self.served).zip(source.max_rows());
        let tables = tables.map(|(((table, reading), served), max)| {
            let (series, folded) = served.series(table, reading, names);
            CountedTable {
                table,
                series: series.into(),
                used: reading.rows.len() as u64,
                max,
                dropped: reading.dropped,
                uncertain: reading.uncertain,
                folded: Some(folded),
            }
        });
        let counted = Counted {
            prefix: if source.is_map() { "map_" } else { "" },
            tally: &self.tally,
            instance: Some(&*tally).filter(|name| *name != self.tally),
            time: reading.time,
            seconds: reading.seconds,
            missed_by: &reading.missed_by,
            gaps: reading.gaps,
            unraised: reading.unraised,
            tables: tables.collect(),
        };
        families.add_tally(&counted);
        families.add(READ, counted.labels(&[]), latest.took);
        families.add(INCOMPLETE, counted.labels(&[]), self.incomplete);
        let costs = is_measured.then(|| source.costs().ok().flatten()).flatten();
        for (program, cost) in costs.into_iter().flatten() {
            let labels = || counted.labels(&[("program", &program)]);
            families.add(RUNS, labels(), cost.runs);
            families.add(RUN_TIME, labels(), Duration::from_nanos(cost.time));
        }
    }
}

const UP: (FamilyKind, &str, &str) = (FamilyKind::Gauge, "ktally_up", "whether it could be read");
const READ: (FamilyKind, &str, &str) = (
    FamilyKind::Gauge,
    "ktally_read_seconds",
    "how long the last reading took",
);
const RUNS: (FamilyKind, &str, &str) = (
    FamilyKind::Counter,
    "ktally_program_runs",
    "runs of a program, while the kernel measures",
);
const RUN_TIME: (FamilyKind, &str, &str) = (
    FamilyKind::Counter,
    "ktally_program_run_time_seconds",
    "time that a program ran, while the kernel measures",
);
const INCOMPLETE: (FamilyKind, &str, &str) = (
    FamilyKind::Counter,
    "ktally_incomplete_readings",
    "readings that may lack rows",
);
