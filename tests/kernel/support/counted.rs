//! Tallies that count inside this process, and what they have counted.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;

use anyhow::Result;
use ktally::names::HostNames;
use ktally::schema::{MetricKind, Names, Table};
use ktally::snapshot::{self, Reading};
use ktally::tally::{RawOption, ResolvedOption, Session, Tally, resolve};

use super::{Child, Impossible, is_slow, kernel_series, missed, require_root};

/// Counts what a child does when it works, by its process.
#[track_caller]
pub fn count(name: impl AsRef<OsStr>, child: &Child, options: &[(&str, &str)]) -> Counted {
    let pid = child.pid();
    let options = [&[("pid", &*pid)], options].concat();
    run(name, &options, || child.work())
}

/// Counts while `work` runs: every event, and every row is read.
#[track_caller]
pub fn run(name: impl AsRef<OsStr>, options: &[(&str, &str)], work: impl FnMut()) -> Counted {
    let counted = run_with(name, options, None, work);
    counted.assert_whole();
    counted
}

/// The same where something may be lost, with this many rows in each table.
pub fn run_with(
    name: impl AsRef<OsStr>,
    options: &[(&str, &str)],
    max_rows: Option<u32>,
    mut work: impl FnMut(),
) -> Counted {
    // Since 6.13 a kernel may preempt the probes of system calls. A task that
    // comes there meanwhile is missed, and every reading says so: another one is
    // taken. In an emulated machine packets arrive amid a probe of the network.
    let may_miss = kernel_series() >= (6, 13) || is_slow();
    let attempts = if may_miss { 10 } else { 1 };
    let mut runs = (0..attempts).map(|_| run_once(name.as_ref(), options, max_rows, &mut work));
    let first = runs.next().unwrap();
    match first.reading.missed {
        Some(1..) => runs
            .find(|it| it.reading.missed == Some(0))
            .unwrap_or(first),
        _ => first,
    }
}

pub fn run_once(
    name: &OsStr,
    options: &[(&str, &str)],
    max_rows: Option<u32>,
    work: &mut impl FnMut(),
) -> Counted {
    require_root();
    let tally = ktally::cli::find(name, &[]).unwrap();
    let options = options_of(&tally, options).unwrap();
    let tables = tally.tables(&options).unwrap();
    let mut session = Session::start(&tally, &options, max_rows)
        .unwrap_or_else(|error| Impossible::of(&tally, &error).end());
    note_counting(&tally.name);
    let lacks = [
        "this kernel has no tracepoint",
        "as this kernel is older than",
    ];
    let is_lack = |warning: &String| lacks.iter().any(|lack| warning.contains(lack));
    let warnings = session.warnings();
    assert!(warnings.iter().all(is_lack), "{warnings:?}");
    work();
    session.detach();
    let reading = session.read().unwrap();
    drop(session);
    Counted { tables, reading }
}

/// A tally's options, as the command line gives them.
pub fn options_of(tally: &Tally, given: &[(&str, &str)]) -> Result<Vec<ResolvedOption>> {
    let owned = |(name, text): &(&str, &str)| -> RawOption { ((*name).into(), (*text).into()) };
    let given: Vec<_> = given.iter().map(owned).collect();
    resolve(&tally.schema.options, &given)
}

/// For the table of what was counted on which kernel.
fn note_counting(name: &str) {
    if let Some(path) = std::env::var_os("KTALLY_COUNTED") {
        let file = File::options().append(true).create(true).open(path);
        writeln!(file.unwrap(), "{name}").unwrap();
    }
}

/// The tables of a tally, and its final reading.
pub struct Counted {
    tables: Vec<Table>,
    pub reading: Reading,
}

impl Counted {
    /// What the first table shows; few tallies have another.
    pub fn table(&self) -> &Table {
        &self.tables[0]
    }

    /// Every row, with its labels as a user sees them.
    pub fn rows(&self) -> Vec<Row<'_>> {
        let (table, labels) = (self.table(), HostNames::new());
        let rows = self.reading.tables[0].rows.iter();
        rows.map(|(key, cells)| {
            let text = |label| labels.of(label, key).to_string();
            let labels = table.labels.iter().map(text).collect();
            Row {
                table,
                labels,
                cells,
            }
        })
        .collect()
    }

    /// The one row with these labels.
    pub fn row(&self, labels: &[&str]) -> Row<'_> {
        let mut rows = self.rows();
        let seen: Vec<_> = rows.iter().map(|row| row.labels.clone()).collect();
        rows.retain(|row| row.labels == labels);
        assert_eq!(rows.len(), 1, "rows of {labels:?} among {seen:?}");
        rows.remove(0)
    }

    /// The only row, which has these labels.
    pub fn only_row(&self, labels: &[&str]) -> Row<'_> {
        assert_eq!(self.rows().len(), 1, "{:?}", self.rows());
        self.row(labels)
    }

    /// The sum of a counter over all rows.
    pub fn sum(&self, metric: &str) -> u64 {
        self.rows().iter().map(|row| row.number(metric)).sum()
    }

    /// What was under way when counting ended.
    pub fn under_way(&self) -> u64 {
        let mut metrics = self.table().metrics.iter();
        let metric = metrics.find(|it| it.name == "under_way").unwrap();
        let all = self.reading.in_all(&self.tables);
        let rows = all.tables[0].rows.iter();
        rows.map(|(_, cells)| cells[metric.cell]).sum()
    }

    /// Events whose rows found no space.
    pub fn dropped(&self) -> u64 {
        self.reading.tables[0].dropped.unwrap()
    }

    /// Every event was counted, and every row read.
    #[track_caller]
    pub fn assert_whole(&self) {
        assert_eq!(self.dropped(), 0);
        let other = self.reading.tables[0].other_events(self.table());
        assert_eq!(other.unwrap_or_default(), 0);
        assert_eq!(self.reading.missed, missed(0));
        assert_eq!(self.reading.incomplete, None);
        if kernel_series() >= (5, 12) {
            self.rows().iter().for_each(Row::check_maximum);
        }
    }
}

/// A row of [`Counted`].
#[derive(Debug)]
pub struct Row<'a> {
    table: &'a Table,
    pub labels: Vec<String>,
    cells: &'a [u64],
}

impl Row<'_> {
    fn cells(&self, metric: &str) -> &[u64] {
        let mut metrics = self.table.metrics.iter();
        let metric = metrics.find(|it| it.name == metric).expect(metric);
        &self.cells[metric.cell..][..metric.cells()]
    }

    /// A counter, or a gauge.
    pub fn number(&self, metric: &str) -> u64 {
        let [number] = *self.cells(metric) else {
            panic!("`{metric}` is a histogram");
        };
        number
    }

    /// Several of these.
    pub fn numbers<const N: usize>(&self, metrics: [&str; N]) -> [u64; N] {
        metrics.map(|metric| self.number(metric))
    }

    /// How many observations, and their sum.
    pub fn histogram(&self, metric: &str) -> (u64, u64) {
        let cells = self.cells(metric);
        (snapshot::count(cells), cells[0])
    }

    /// The greatest observation is in the last bucket that holds any, and is the sum
    /// of a single one.
    fn check_maximum(&self) {
        let metrics = &self.table.metrics;
        let of = |kind| metrics.iter().find(|metric| metric.kind == kind);
        let pair = of(MetricKind::Histogram).zip(of(MetricKind::Maximum));
        let Some((histogram, maximum)) = pair else {
            return;
        };
        let (count, sum) = self.histogram(&histogram.name);
        let most = self.number(&maximum.name);
        let mut filled = self.buckets(&histogram.name).iter();
        let last = filled.rposition(|count| *count > 0).unwrap_or(0);
        let edge = |bucket| histogram.scale().edge(bucket);
        let least = last.checked_sub(1).map_or(0, edge);
        assert!((least..=edge(last)).contains(&most), "{most}: {self:?}");
        assert!(count != 1 || most == sum, "{most}: {self:?}");
    }

    /// How many observations each bucket holds.
    pub fn buckets(&self, metric: &str) -> &[u64] {
        &self.cells(metric)[1..]
    }
}
