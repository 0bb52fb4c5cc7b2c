//! What is read again and again: tallies that count for this process, instances, maps.

use std::ffi::OsString;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result};

use crate::cli::Chosen;
use crate::map::{Access, Map, MapRef};
use crate::schema::{Hints, MapBtf, Table};
use crate::snapshot::Reading;
use crate::tally::{
    Cost, Instance, InstanceName, RawOption, Session, StackProcess, Tally, read_map, resolve,
};

/// What counts.
enum Counts {
    Here(Box<Session>),
    Attached(Box<Instance>),
    /// Since it was opened.
    Map(Box<Map>, Instant),
}

/// What is read, and what it is called.
pub(super) struct Source {
    counts: Counts,
    pub(super) name: String,
    /// How `ktally` prints it.
    pub(super) command: String,
    pub(super) summary: String,
    pub(super) tables: Vec<Table>,
}

/// The tallies, instances and maps that a command line names.
pub(super) struct Operands {
    pub(super) tallies: Vec<Chosen>,
    pub(super) instances: Vec<InstanceName>,
    pub(super) maps: Vec<String>,
    pub(super) as_counters: bool,
    pub(super) hints: Hints,
    pub(super) max_rows: Option<u32>,
}

impl Operands {
    /// The instances among these words: those with an `@`.
    pub(super) fn instances(words: &[OsString]) -> Result<Vec<InstanceName>> {
        let words = words.iter().map(|it| it.to_string_lossy());
        words
            .filter_map(|it| it.strip_prefix('@').map(InstanceName::parse))
            .collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tallies.is_empty() && self.instances.is_empty() && self.maps.is_empty()
    }

    /// Loads, attaches and opens all of them.
    pub(super) fn open(&self) -> Result<Vec<Source>> {
        let tallies = self.tallies.iter();
        let tallies = tallies.map(|it| Source::run(&it.tally, &it.given, self.max_rows));
        let instances = self.instances.iter();
        let instances = instances.map(|it| Source::attached(it, &self.hints));
        let btf = MapBtf::default();
        let maps = self.maps.iter();
        let maps = maps.map(|it| Source::map(it, &btf, self.as_counters, &self.hints));
        tallies.chain(instances).chain(maps).collect()
    }
}

impl Source {
    pub(super) fn run(tally: &Tally, given: &[RawOption], max_rows: Option<u32>) -> Result<Self> {
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

    pub(super) fn attached(name: &InstanceName, hints: &Hints) -> Result<Self> {
        let instance = Instance::open_with(name, hints)?;
        Ok(Self {
            name: name.to_string(),
            command: format!("read {name}"),
            summary: instance.summary().to_owned(),
            tables: instance.tables(&[])?,
            counts: Counts::Attached(Box::new(instance)),
        })
    }

    /// Numbers that are not declared as counters are shown as they are, unless
    /// `as_counters`.
    pub(super) fn map(name: &str, btf: &MapBtf, as_counters: bool, hints: &Hints) -> Result<Self> {
        let (map, declaration) = MapRef::parse(name)?.open(Access::Read, btf)?;
        map.check_readable()?;
        let mut tables = vec![declaration.table.found()];
        let hints = Hints {
            tables: Vec::new(),
            ..hints.clone()
        };
        tables = hints.apply(tables)?;
        if as_counters {
            tables.iter_mut().for_each(Table::count_up_all);
        }
        Ok(Self {
            name: declaration.name,
            command: format!("map dump {name}"),
            summary: tables[0].help.clone(),
            tables,
            counts: Counts::Map(Box::new(map), Instant::now()),
        })
    }

    pub(super) fn instance(&self) -> Option<&Instance> {
        match &self.counts {
            Counts::Attached(instance) => Some(instance),
            _ => None,
        }
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self.counts, Counts::Map(..))
    }

    /// How many rows each of its tables has room for; `None` of arrays, which are always
    /// full.
    pub(super) fn max_rows(&self) -> Vec<Option<u32>> {
        match &self.counts {
            Counts::Here(session) => session.max_rows(),
            Counts::Attached(instance) => instance.max_rows(),
            Counts::Map(map, _) => vec![map.max_rows()],
        }
    }

    /// What each of its programs has cost while the kernel measured, if that is known.
    pub(super) fn costs(&self) -> Result<Option<Vec<(String, Cost)>>> {
        match &self.counts {
            Counts::Here(session) => session.costs(),
            Counts::Attached(instance) => instance.costs(),
            Counts::Map(..) => Ok(None),
        }
    }

    pub(super) fn warnings(&self) -> &[String] {
        match &self.counts {
            Counts::Here(session) => session.warnings(),
            _ => &[],
        }
    }

    /// Processes whose stacks were taken since the last call.
    pub(super) fn take_stack_processes(&self) -> Result<Vec<StackProcess>> {
        match &self.counts {
            Counts::Here(session) => session.take_stack_processes(),
            _ => Ok(Vec::new()),
        }
    }

    pub(super) fn read(&self) -> Result<Reading> {
        match &self.counts {
            Counts::Here(session) => session.read(),
            Counts::Attached(instance) => instance.read(),
            Counts::Map(map, since) => Ok(Reading {
                time: SystemTime::now(),
                seconds: since.elapsed().as_secs_f64(),
                ..read_map(map, &self.tables[0])?
            }),
        }
    }
}
