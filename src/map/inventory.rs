//! Every map of the host, with what only others know about it: how full it is,
//! who holds it, which programs use it, where it is pinned.
//!
//! Each of these may be refused without harm: it is a note then, never the end
//! of the list.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::fs;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions};
use libbpf_rs::{MapFdInfo, MapType};

use super::iterator::{self, MapRecord, Walks};
use super::survey::Owners;
use super::{Access, Map, Outcome, Reader, open};
use crate::host;
use crate::schema::{Declaration, MapBtf, whole_number};
use crate::sys;

/// How many entries a map has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Used {
    /// So many.
    Exactly(u64),
    /// So many were counted before it took too long.
    AtLeast(u64),
    /// The kernel has no count, and the map cannot be walked.
    Unknown,
}

impl fmt::Display for Used {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(used) => f.write_str(&whole_number((*used).into())),
            Self::AtLeast(used) => write!(f, "{}+", whole_number((*used).into())),
            Self::Unknown => f.write_str("-"),
        }
    }
}

/// A process that has a descriptor of a map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Holder {
    pub(crate) pid: u32,
    pub(crate) comm: String,
}

/// A loaded program that uses a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) id: u32,
    /// At most 15 characters of it.
    pub(crate) name: String,
    /// `Tracing`, `Xdp` and so on, as libbpf calls them.
    pub(crate) kind: String,
}

/// One map of a [`Inventory`].
#[derive(Debug)]
pub(crate) struct Listed {
    /// Opened to be read.
    pub(crate) map: Map,
    /// Name and types.
    pub(crate) declaration: Declaration,
    pub(crate) used: Used,
    pub(crate) pins: Vec<PathBuf>,
    pub(crate) holders: BTreeSet<Holder>,
    pub(crate) programs: Vec<Program>,
}

/// What all maps have in common that is asked for once.
#[derive(Debug, Default)]
pub struct Inventory {
    /// Found before anything else, as asking makes maps of its own.
    found: Vec<u32>,
    usage: HashMap<u32, u64>,
    pins: BTreeMap<u32, Vec<PathBuf>>,
    holders: BTreeMap<u32, BTreeSet<Holder>>,
    programs: BTreeMap<u32, Vec<Program>>,
    program_pins: BTreeMap<u32, Vec<PathBuf>>,
    program_holders: BTreeMap<u32, BTreeSet<Holder>>,
    /// How many entries were counted by walking.
    walked: Cell<usize>,
    /// What could not be found out, and why.
    pub(crate) notes: Vec<String>,
}

/// Entries are counted by walking up to this many, where the kernel has no
/// count of them; and so many in all of a list.
const MOST_COUNTED: usize = 10_000;
const MOST_WALKED: usize = 200_000;

const NOT_KNOWN: &str =
    "entries were counted by walking them, and the processes that hold maps are not known";

impl Inventory {
    /// Finds all maps, and asks about them at once.
    pub(crate) fn collect() -> Result<Self> {
        let walks = Walks::load();
        let maps = walks.as_ref().ok().and_then(|walks| walks.maps().ok());
        let found = match maps {
            Some(maps) => maps.iter().map(|map| map.id).collect(),
            None => open::ids()?,
        };
        Ok(Self {
            found,
            ..Self::of(walks.as_ref())
        })
    }

    /// Asks about the maps of others, without looking for them.
    pub(crate) fn details_only() -> Self {
        Self::of(Walks::load().as_ref())
    }

    /// How full maps are, and nothing else.
    pub(crate) fn counts_only() -> Self {
        // Without it they are walked.
        let maps = iterator::maps().unwrap_or_default();
        Self {
            usage: counts(&maps),
            ..Self::default()
        }
    }

    pub(super) fn of(walks: Result<&Walks, &anyhow::Error>) -> Self {
        let mut inventory = Self::default();
        match walks.map(|walks| inventory.read(walks)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => inventory.note(NOT_KNOWN, &error),
            Err(error) => inventory.note(NOT_KNOWN, error),
        }
        inventory.read_programs();
        for mount in bpffs_mounts() {
            inventory.find_pins(&mount, 0);
        }
        inventory
    }

    fn read(&mut self, walks: &Walks) -> Result<()> {
        self.usage = counts(&walks.maps()?);
        for holder in walks.holders()? {
            let of = match holder.is_of_map() {
                true => &mut self.holders,
                false => &mut self.program_holders,
            };
            let (pid, comm) = (holder.pid, holder.comm());
            let held = of.entry(holder.id).or_default();
            held.insert(Holder { pid, comm });
        }
        Ok(())
    }

    fn note(&mut self, what: &str, why: &anyhow::Error) {
        self.notes.push(format!("{what}: {why:#}"));
    }

    /// Every map that can be opened, by id. Those that vanish meanwhile, or are
    /// forbidden, become notes.
    pub(crate) fn maps<'a>(&'a mut self, btf: &'a MapBtf) -> impl Iterator<Item = Listed> + 'a {
        let found = std::mem::take(&mut self.found);
        found.into_iter().filter_map(|id| match open::open(id) {
            Ok(map) => {
                let declaration = btf.declaration(&map.facts);
                Some(self.describe(map, declaration))
            }
            Err(error) => {
                self.notes.push(match error.raw_os_error() {
                    Some(libc::ENOENT) => format!("map {id} has vanished"),
                    _ => format!("map {id} cannot be opened: {error}"),
                });
                None
            }
        })
    }

    pub(crate) fn describe(&self, map: Map, declaration: Declaration) -> Listed {
        Listed {
            used: self.used(&map),
            pins: self.pins.get(&map.id).cloned().unwrap_or_default(),
            holders: self.holders.get(&map.id).cloned().unwrap_or_default(),
            programs: self.programs.get(&map.id).cloned().unwrap_or_default(),
            declaration,
            map,
        }
    }

    pub(crate) fn used(&self, map: &Map) -> Used {
        match (self.usage.get(&map.id), map.ty) {
            (Some(used), _) => Used::Exactly(*used),
            (None, MapType::Array | MapType::PercpuArray) => Used::Exactly(map.max_entries.into()),
            (
                None,
                MapType::Hash
                | MapType::LruHash
                | MapType::PercpuHash
                | MapType::LruPercpuHash
                | MapType::LpmTrie
                | MapType::HashOfMaps
                | MapType::ArrayOfMaps
                | MapType::ProgArray
                | MapType::StackTrace
                | MapType::DevmapHash
                | MapType::Devmap
                | MapType::Cpumap,
            ) => self.count(map),
            _ => Used::Unknown,
        }
    }

    /// By walking, as long as that does not take too long for all of them. Each
    /// index of an array is a step, whether or not there is something.
    fn count(&self, map: &Map) -> Used {
        let most = MOST_COUNTED.min(MOST_WALKED.saturating_sub(self.walked.get()));
        if most == 0 {
            return Used::Unknown;
        }
        let mut entries = 0;
        let reader = Reader::new(map).with_most_steps(most);
        let outcome = reader.read(|_, _| {
            entries += 1;
            if entries > most {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        let indexes = if map.is_indexed() {
            map.max_entries as usize
        } else {
            0
        };
        let steps = entries.max(indexes).clamp(1, most);
        self.walked.set(self.walked.get() + steps);
        match outcome {
            Ok(Outcome::Complete) => Used::Exactly(entries as u64),
            Ok(Outcome::Stopped) => Used::AtLeast(entries as u64 - 1),
            Ok(Outcome::Incomplete(_)) => Used::AtLeast(entries as u64),
            Err(_) => Used::Unknown,
        }
    }

    pub(super) fn owners_of_map(&self, id: u32) -> Owners {
        Owners {
            holders: self.holders.get(&id).cloned().unwrap_or_default(),
            pins: self.pins.get(&id).cloned().unwrap_or_default(),
        }
    }

    /// Its links are among what is pinned and held.
    pub(super) fn owners_of_program(&self, id: u32) -> Owners {
        Owners {
            holders: self.program_holders.get(&id).cloned().unwrap_or_default(),
            pins: self.program_pins.get(&id).cloned().unwrap_or_default(),
        }
    }

    pub(crate) fn programs_using(map: u32) -> Vec<Program> {
        let mut inventory = Self::default();
        inventory.read_programs();
        inventory.programs.remove(&map).unwrap_or_default()
    }

    fn read_programs(&mut self) {
        let opts = ProgInfoQueryOptions::default().include_map_ids(true);
        for program in ProgInfoIter::with_query_opts(opts) {
            for map in &program.map_ids {
                self.programs.entry(*map).or_default().push(Program {
                    id: program.id,
                    name: program.name.to_string_lossy().into_owned(),
                    kind: format!("{:?}", program.ty),
                });
            }
        }
    }

    /// bpffs has no links, so a walk ends; no tree is this deep.
    fn find_pins(&mut self, folder: &Path, depth: usize) {
        const DEEPEST: usize = 32;
        let what = || format!("failed to look below `{}`", folder.display());
        let entries = match fs::read_dir(folder).with_context(what) {
            Ok(entries) => entries,
            Err(error) => return self.note("pins are not known", &error),
        };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.is_dir() && depth < DEEPEST {
                self.find_pins(&path, depth + 1);
            } else if let Ok(fd) = sys::map::open_pin(&path, Access::Read)
                && let Ok(info) = MapFdInfo::from_fd(fd.as_fd())
                && let Some(id) = info.map_id
            {
                self.pins.entry(id).or_default().push(path);
            } else if let Ok(id) = sys::program::pinned(&path) {
                self.program_pins.entry(id).or_default().push(path);
            }
        }
    }
}

/// Of the maps whose entries the kernel counts.
fn counts(maps: &[MapRecord]) -> HashMap<u32, u64> {
    let counts = maps.iter().map(|map| Some((map.id, map.entries()?)));
    counts.flatten().collect()
}

/// Where bpffs is mounted.
fn bpffs_mounts() -> Vec<PathBuf> {
    let mut found = host::mounts_of("bpf");
    found.sort();
    found.dedup();
    found
}
