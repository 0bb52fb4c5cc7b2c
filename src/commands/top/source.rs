//! What the tabs are of: tallies that count for this view, instances, and maps.

use std::time::{Instant, SystemTime};

use anyhow::{Context, Result};
use caps::Capability;

use super::bpf::{self, Page, Shared};
use crate::cli::{Chosen, TopArgs};
use crate::map::{Access, Map, MapRef};
use crate::schema::{MapBtf, MetricKind, Table};
use crate::snapshot::Reading;
use crate::tally::{
    Instance, InstanceName, RawOption, Session, Tally, read_map, resolve, with_fields,
};
use crate::tui::{Feed, Overview, Tab};

/// What is asked for.
pub(super) struct Wanted {
    tallies: Vec<Chosen>,
    instances: Vec<String>,
    maps: Vec<String>,
    max_rows: Option<u32>,
    is_light: bool,
    /// The page of programs and maps, where that is asked for.
    page: Option<Shared>,
}

/// What is read.
pub(super) struct Opened {
    pub(super) sources: Vec<Source>,
    /// Of an overview: what cannot count here, and why.
    pub(super) absent: Option<Vec<String>>,
    /// What reading takes.
    pub(super) capabilities: Vec<Capability>,
}

/// What counts.
enum Counts {
    Here(Box<Session>),
    Attached(Box<Instance>),
    /// Since it was opened.
    Map(Box<Map>, Instant),
    Bpf(Box<Page>),
}

/// What is read, in as many tabs as it has tables.
pub(super) struct Source {
    counts: Counts,
    name: String,
    /// How `ktally` prints it.
    command: String,
    summary: String,
    pub(super) tables: Vec<Table>,
}

impl Wanted {
    pub(super) fn of(args: &TopArgs, tallies: Vec<Chosen>, texts: Shared) -> Self {
        let operands = args.tally.iter().map(|it| it.to_string_lossy());
        let instances = operands.filter_map(|it| it.strip_prefix('@').map(str::to_owned));
        Self {
            tallies,
            instances: instances.collect(),
            maps: args.maps.clone(),
            max_rows: args.loading.max_rows,
            is_light: args.light,
            page: args.bpf.then_some(texts),
        }
    }

    /// Loads, attaches and opens all of it.
    pub(super) fn open(&self) -> Result<Opened> {
        if let Some(texts) = &self.page {
            return Ok(Opened {
                sources: vec![Source::bpf(texts)?],
                absent: None,
                capabilities: Page::CAPABILITIES.to_vec(),
            });
        }
        if self.tallies.is_empty() && self.instances.is_empty() && self.maps.is_empty() {
            return self.overview();
        }
        let tallies = self.tallies.iter();
        let tallies = tallies.map(|it| Source::run(&it.tally, &it.given, self.max_rows));
        let instances = self.instances.iter().map(|it| Source::attached(it));
        let btf = MapBtf::default();
        let maps = self.maps.iter().map(|it| Source::map(it, &btf));
        Ok(Opened {
            sources: tallies
                .chain(instances)
                .chain(maps)
                .collect::<Result<_>>()?,
            absent: None,
            capabilities: Vec::new(),
        })
    }

    /// Of each tally that says so, in the order of their places.
    fn overview(&self) -> Result<Opened> {
        let mut tallies = Tally::builtins()?;
        tallies.retain(|tally| {
            let tables = &tally.schema.tables;
            let is_dear = tables.iter().any(|table| table.is_dear);
            tables.iter().any(|table| !table.overview.is_empty()) && !(self.is_light && is_dear)
        });
        tallies.sort_by_key(|tally| {
            let tables = tally.schema.tables.iter();
            tables.flat_map(|table| table.overview.clone()).min()
        });
        let (mut sources, mut absent) = (Vec::new(), Vec::new());
        let mut last_error = None;
        for tally in tallies {
            let given = with_fields(&tally.schema, &[], &[Overview::PROCESS]);
            match Source::run(&tally, &given, self.max_rows) {
                Ok(source) => sources.push(source),
                Err(error) => {
                    absent.push(format!("{} ({})", tally.name, error.root_cause()));
                    last_error = Some(error);
                }
            }
        }
        match (sources.is_empty(), last_error) {
            (true, Some(error)) => Err(error),
            _ => Ok(Opened {
                sources,
                absent: Some(absent),
                capabilities: Vec::new(),
            }),
        }
    }
}

impl Source {
    fn run(tally: &Tally, given: &[RawOption], max_rows: Option<u32>) -> Result<Self> {
        let options = resolve(&tally.schema.options, given)?;
        let session = Session::start(tally, &options, max_rows);
        let session = session.with_context(|| format!("failed to start `{}`", tally.name))?;
        Ok(Self {
            name: tally.name.clone(),
            command: format!("run {}", tally.name),
            summary: tally.summary().to_owned(),
            tables: tally.tables(&options)?,
            counts: Counts::Here(Box::new(session)),
        })
    }

    fn attached(name: &str) -> Result<Self> {
        let instance = Instance::open(&InstanceName::parse(name)?)?;
        Ok(Self {
            name: name.to_owned(),
            command: format!("read {name}"),
            summary: instance.summary().to_owned(),
            tables: instance.tables(&[])?,
            counts: Counts::Attached(Box::new(instance)),
        })
    }

    /// Numbers that are not declared as counters are shown as they are.
    fn map(name: &str, btf: &MapBtf) -> Result<Self> {
        let (map, declaration) = MapRef::parse(name)?.open(Access::Read, btf)?;
        map.check_readable()?;
        let mut table = declaration.table;
        let counters = table.metrics.iter_mut();
        for number in counters.filter(|it| !it.is_declared && it.kind == MetricKind::Counter) {
            number.kind = MetricKind::Gauge;
        }
        Ok(Self {
            name: declaration.name,
            command: format!("map dump {name}"),
            summary: table.help.clone(),
            tables: vec![table],
            counts: Counts::Map(Box::new(map), Instant::now()),
        })
    }

    fn bpf(texts: &Shared) -> Result<Self> {
        Ok(Self {
            name: "bpf".to_owned(),
            command: "top --bpf".to_owned(),
            summary: bpf::MEASURES.to_owned(),
            tables: bpf::tables(),
            counts: Counts::Bpf(Box::new(Page::open(texts)?)),
        })
    }

    pub(super) fn tabs(&self) -> Vec<Tab> {
        let tabs = self.tables.iter().map(|table| {
            let name = match self.tables.len() {
                1 => self.name.clone(),
                _ => format!("{}.{}", self.name, table.name),
            };
            let (command, summary) = (self.command.clone(), self.summary.clone());
            Tab::new(Feed::new(command, name, summary, table.clone()))
        });
        tabs.collect()
    }

    pub(super) fn read(&mut self) -> Result<Reading> {
        match &mut self.counts {
            Counts::Here(session) => session.read(),
            Counts::Attached(instance) => instance.read(),
            Counts::Map(map, since) => Ok(Reading {
                time: SystemTime::now(),
                seconds: since.elapsed().as_secs_f64(),
                ..read_map(map, &self.tables[0])?
            }),
            Counts::Bpf(page) => page.read(&self.tables),
        }
    }
}
