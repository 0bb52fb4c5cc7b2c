//! All programs and maps of the host, looked at repeatedly: the iterators stay loaded,
//! and the kernel measures programs as long as the survey lives.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use libbpf_rs::query::ProgInfoIter;

use super::inventory::{Holder, Inventory, Used};
use super::iterator::{MapRecord, Walks};
use super::{name_of_type, open};
use crate::sys;

/// Who holds something, and where it is pinned.
#[derive(Debug, Clone, Default)]
pub(crate) struct Owners {
    pub(crate) holders: BTreeSet<Holder>,
    pub(crate) pins: Vec<PathBuf>,
}

impl Owners {
    fn this_process() -> Self {
        let holder = Holder {
            pid: std::process::id(),
            comm: env!("CARGO_PKG_NAME").to_owned(),
        };
        Self {
            holders: BTreeSet::from([holder]),
            pins: Vec::new(),
        }
    }
}

/// A loaded program.
#[derive(Debug)]
pub(crate) struct SeenProgram {
    pub(crate) id: u32,
    /// At most 15 characters of it.
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) runs: u64,
    /// In nanoseconds.
    pub(crate) time: u64,
    pub(crate) missed: u64,
    pub(crate) owners: Owners,
}

/// A map.
#[derive(Debug)]
pub(crate) struct SeenMap {
    pub(crate) id: u32,
    /// At most 15 characters of it.
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) used: u64,
    pub(crate) max_entries: u64,
    /// In bytes; 0 of an array of programs, which is not opened.
    pub(crate) memory: u64,
    pub(crate) owners: Owners,
}

/// What looks at them.
#[derive(Debug)]
pub(crate) struct Survey {
    walks: Walks,
    _measures: OwnedFd,
    details: Details,
}

/// What takes longer to find out. A look uses it until it is old.
#[derive(Debug)]
struct Details {
    inventory: Inventory,
    /// Entries and memory.
    maps: HashMap<u32, (u64, u64)>,
    since: Instant,
    took: Duration,
}

impl Survey {
    pub(crate) fn start() -> Result<Self> {
        let measures = sys::program::enable_stats();
        let walks = Walks::load().context("failed to list maps")?;
        Ok(Self {
            details: Details::look(&walks)?,
            walks,
            _measures: measures.context("failed to have the kernel measure its programs")?,
        })
    }

    /// Looks at all programs and maps.
    pub(crate) fn look(&mut self) -> Result<(Vec<SeenProgram>, Vec<SeenMap>)> {
        if self.details.are_old() {
            self.details = Details::look(&self.walks)?;
        }
        let maps = self.walks.maps()?;
        let maps = maps.iter().map(|map| self.details.map(map));
        // The iterators do not list this process as a holder.
        let own = self.walks.programs();
        let programs = ProgInfoIter::default().map(|program| SeenProgram {
            id: program.id,
            name: program.name.to_string_lossy().into_owned(),
            kind: format!("{:?}", program.ty),
            runs: program.run_cnt,
            time: program.run_time_ns,
            missed: program.recursion_misses,
            owners: match own.contains(&program.id) {
                true => Owners::this_process(),
                false => self.details.inventory.owners_of_program(program.id),
            },
        });
        Ok((programs.collect(), maps.collect()))
    }
}

impl Details {
    fn look(walks: &Walks) -> Result<Self> {
        let since = Instant::now();
        let inventory = Inventory::of(Ok(walks));
        let maps = walks.maps()?;
        let maps = maps.iter().filter(|map| !map.is_of_programs());
        let maps = maps.filter_map(|map| {
            let map = open::open(map.id).ok()?;
            let used = match inventory.used(&map) {
                Used::Exactly(used) | Used::AtLeast(used) => used,
                Used::Unknown => 0,
            };
            Some((map.id, (used, map.memlock().unwrap_or(0))))
        });
        Ok(Self {
            maps: maps.collect(),
            inventory,
            since,
            took: since.elapsed(),
        })
    }

    /// Finding them out takes a twentieth of the time at most.
    fn are_old(&self) -> bool {
        self.since.elapsed() > (20 * self.took).max(Duration::from_secs(2))
    }

    fn map(&self, map: &MapRecord) -> SeenMap {
        let (used, memory) = self.maps.get(&map.id).copied().unwrap_or_default();
        SeenMap {
            id: map.id,
            name: map.name(),
            kind: name_of_type(map.ty),
            used: map.entries().unwrap_or(used),
            max_entries: map.max_entries,
            memory,
            owners: self.inventory.owners_of_map(map.id),
        }
    }
}
