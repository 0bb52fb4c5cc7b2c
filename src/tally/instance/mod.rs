//! Instances: tallies that count without a process. All of an instance is pinned in one
//! folder of bpffs, with its description for readers. So one rename adds or removes it,
//! and a reader needs neither the tally's file nor this version of ktally, and no
//! privileges beyond access to the pins.

mod access;
mod attach;
mod dispatch;
mod layout;
mod lock;
mod meta;
mod pinned;
mod pinned_maps;
mod recovery;
mod remove;
mod replace;
mod rotate;
mod rotation;
mod spare;
mod state;

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub(crate) use access::{group_id, pinnable_by_others};
pub(crate) use attach::AttachOptions;
pub(crate) use layout::InstanceName;
pub(crate) use lock::Instances;
pub use meta::Meta;

use self::layout::{BTF, DISPATCHERS, MAPS, MAPS_OF, META, PROGRAMS, STARTS};
use self::pinned::if_found;
use self::pinned_maps::PinnedMaps;
use self::rotation::Rotation;
use self::state::State;
use super::reader::{Cost, TallyReader};
use super::under_way::{Kept, States, monotonic_now};
use crate::error::{not_found, unknown_text, usage};
use crate::map::{Inventory, Map, Used};
use crate::schema::{Hints, OptionSpec, Schema, Table};
use crate::snapshot::Reading;
use crate::sys;

/// An instance that is open for reading.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) name: InstanceName,
    pub(crate) meta: Meta,
    pub(crate) schema: Schema,
    /// The contents of `.rodata`: the options in force.
    pub(crate) rodata: Vec<u8>,
    /// The memory of its maps, in bytes.
    pub(crate) memory: u64,
    folder: PathBuf,
    /// One, or the two that take turns.
    sets: Vec<TallyReader>,
    rotation: Option<Map>,
    // Set once its counts are final.
    stopped: OnceCell<State>,
}

/// How full a table of an instance is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TableUsage {
    pub(crate) table: Table,
    pub(crate) used: Used,
    pub(crate) max: u32,
}

impl Instance {
    pub(crate) fn open(name: &InstanceName) -> Result<Self> {
        Self::open_with(name, &Hints::default())
    }

    /// The same, with what a user says about its tables.
    pub(crate) fn open_with(name: &InstanceName, hints: &Hints) -> Result<Self> {
        let folder = Instances::path().join(name.as_str());
        Self::open_at(name, folder.clone(), hints).map_err(|error| {
            // It may just have been detached.
            match folder.join(META).try_exists() {
                Ok(false) => unknown_instance(name, &folder),
                _ => error.context(format!("failed to open instance `{name}`")),
            }
        })
    }

    fn open_at(name: &InstanceName, folder: PathBuf, hints: &Hints) -> Result<Self> {
        // In a folder of another user the pins could say anything.
        for folder in [&Instances::path(), &folder, &folder.join(MAPS)] {
            lock::check(folder)?;
        }
        let meta = Meta::open(&folder)?;
        let (mut schema, rodata) = schema_of(&folder, &meta)?;
        schema.adapt(hints)?;
        let rotation = Rotation::open_map(&folder)?;
        let set = |kind: &&'static str| {
            let of_set = PinnedMaps::new(&folder, &meta, kind);
            let tables = schema.tables.iter().map(|table| of_set.table(table));
            Ok(TallyReader {
                tables: tables.collect::<Result<_>>()?,
                health: of_set.section("@bss@ktally")?,
                states: states_of(&schema, &folder, &meta)?,
                programs: open_programs(&folder, &meta)?,
            })
        };
        let sets = if rotation.is_some() { 2 } else { 1 };
        let kinds = &MAPS_OF[..sets];
        let memory = |kind: &&'static str| PinnedMaps::new(&folder, &meta, kind).memory();
        Ok(Self {
            memory: kinds.iter().map(memory).sum::<Result<_>>()?,
            sets: kinds.iter().map(set).collect::<Result<_>>()?,
            rotation,
            name: name.clone(),
            meta,
            schema,
            rodata,
            folder,
            stopped: OnceCell::new(),
        })
    }

    pub(crate) fn summary(&self) -> &str {
        self.schema.summary.as_deref().unwrap_or_default()
    }

    /// The tables with the columns that its options turn on. An error if these fields
    /// need others.
    pub(crate) fn tables(&self, fields: &[&str]) -> Result<Vec<Table>> {
        for (field, option) in self.schema.options_for(fields) {
            if option.is_off(&self.rodata) {
                return Err(self.is_without(field, option));
            }
        }
        let tables = self.sets[0].tables.iter().map(|(table, _)| table.clone());
        Ok(self.schema.with_options(tables.collect(), &self.rodata))
    }

    fn is_without(&self, field: &str, option: &OptionSpec) -> anyhow::Error {
        let (name, tally) = (&self.name, &self.meta.tally);
        let flag = option.flag();
        let (how, when) = match self.schema.selects_maps(option) {
            false => (format!("--as {name} --replace --{flag}"), "from now on"),
            true => (format!("--as NAME --{flag}"), "in another instance"),
        };
        usage(format!(
            "instance `{name}` does not count by `{field}`: it is attached without `--{flag}`; to count by it {when}, run `ktally attach {tally} {how}` with the options that `ktally status` shows"
        ))
    }

    /// Whether its counts are final.
    pub(crate) fn has_stopped(&self) -> Result<bool> {
        Ok(self.stopped()?.is_some())
    }

    fn rotation(&self) -> Result<Rotation> {
        let at_first = || Ok(Rotation::first(&self.meta));
        self.rotation.as_ref().map_or_else(at_first, Rotation::read)
    }

    /// Readers may not open the state, so they look into the folder. If the instance is
    /// gone or another one has its place, it has stopped.
    fn stopped(&self) -> Result<Option<&State>> {
        if let Some(state) = self.stopped.get() {
            return Ok(Some(state));
        }
        let state = if self.is_there()? {
            State::open_stopped(&self.folder)?
        } else {
            Some(State {
                stopped_at: Some(monotonic_now()),
                ..State::default()
            })
        };
        Ok(state.map(|state| self.stopped.get_or_init(|| state)))
    }

    /// Before Linux 5.17 a replacement moves it aside for a moment.
    fn is_there(&self) -> Result<bool> {
        let aside = Instances::path().join(format!("+{}+old", self.name));
        for folder in [&self.folder, &aside, &self.folder] {
            let meta = if_found(Meta::open(folder))?;
            if meta.is_some_and(|meta| meta.attached_at == self.meta.attached_at) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads all tables, and the counts of events that are not in them: what no
    /// rotation has printed.
    pub(crate) fn read(&self) -> Result<Reading> {
        loop {
            let rotation = self.rotation()?;
            let reading = self.read_unprinted(&rotation)?;
            if self.rotation()? == rotation {
                return Ok(reading);
            }
        }
    }

    /// The ended set comes first: what is under way may end in there.
    fn read_unprinted(&self, rotation: &Rotation) -> Result<Reading> {
        let ended = rotation.ended();
        let first = ended.unwrap_or(rotation.live());
        let ended = ended.map(|set| self.sets[set].read_tables(&self.schema));
        let ended = ended.transpose()?;
        let stopped = self.stopped()?;
        let at = stopped.and_then(|state| state.stopped_at);
        let kept = stopped.map_or(Ok(None), |_| read_kept(&self.folder))?;
        let live = &self.sets[rotation.live()];
        let mut reading = live.read(&self.schema, rotation.began[first], at, kept.as_ref())?;
        // The programs are gone.
        if let Some(state) = stopped {
            reading.missed = state.missed;
            let programs = self.meta.programs.iter().map(|it| it.name.clone());
            let missed_by = programs.zip(state.missed_by.iter().copied());
            reading.missed_by = state.missed.map_or(Vec::new(), |_| missed_by.collect());
        }
        if let Some(ended) = ended {
            reading.add(&ended, &self.schema.tables);
        }
        reading.take_missed(&self.missed_before(rotation, first));
        Ok(reading)
    }

    /// The runs that the kernel had missed of each program when a set began to count.
    fn missed_before(&self, rotation: &Rotation, set: usize) -> Vec<(String, u64)> {
        let programs = self.meta.programs.iter().map(|it| it.name.clone());
        let programs: BTreeSet<String> = programs.collect();
        let missed = rotation.missed[set].iter().copied();
        programs.into_iter().zip(missed).collect()
    }

    /// How many rows its tables have, counted or not; an array has all of its rows.
    pub(crate) fn usage(&self, inventory: &Inventory) -> Vec<TableUsage> {
        let live = self.rotation().map_or(0, |rotation| rotation.live());
        let tables = self.sets[live].tables.iter();
        tables
            .map(|(table, map)| TableUsage {
                table: table.clone(),
                used: inventory.used(map),
                max: map.max_entries,
            })
            .collect()
    }

    /// How many rows each of its tables has room for; `None` of arrays.
    pub(crate) fn max_rows(&self) -> Vec<Option<u32>> {
        self.sets[0].max_rows()
    }

    /// What its programs have cost while the kernel measured. `None` without privileges.
    pub(crate) fn cost(&self) -> Result<Option<Cost>> {
        let costs = self.costs()?;
        Ok(costs.map(|costs| costs.into_iter().map(|(_, cost)| cost).sum()))
    }

    /// The same of each program. A dispatcher's run includes that of its program.
    pub(crate) fn costs(&self) -> Result<Option<Vec<(String, Cost)>>> {
        self.sets[0].costs()
    }

    /// Ends counting. The final counts stay readable.
    pub(crate) fn stop(&mut self, _held: &Instances) -> Result<()> {
        if self.has_stopped()? {
            return Ok(());
        }
        remove::stop(&self.folder)
            .with_context(|| format!("failed to stop instance `{}`", self.name))
    }

    pub(crate) fn remove(self, held: &mut Instances) -> Result<()> {
        let left = remove::remove(held, &self.name)
            .with_context(|| format!("failed to remove instance `{}`", self.name))?;
        held.note_strangers(&left);
        held.restore_modes();
        Ok(())
    }

    /// The group whose members may read it, beside its owner.
    pub(crate) fn readable_by(&self) -> Result<Option<u32>> {
        access::reader_of(&self.folder)
    }
}

fn unknown_instance(name: &InstanceName, folder: &Path) -> anyhow::Error {
    if folder.exists() {
        return not_found(format!(
            "`{}` is not an instance of ktally",
            folder.display()
        ));
    }
    let known = match Instances::look() {
        Ok(Some(root)) => root.names().unwrap_or_default(),
        _ => Vec::new(),
    };
    let known = known.iter().map(InstanceName::as_str);
    not_found(unknown_text("instance", name.as_str(), known))
}

/// What is declared of the maps that its options need, and the contents of `.rodata`.
fn schema_of(folder: &Path, meta: &Meta) -> Result<(Schema, Vec<u8>)> {
    let schema = Schema::of_raw(&pinned::read(&folder.join(BTF))?)?;
    let rodata = PinnedMaps::new(folder, meta, MAPS).section("@rodata")?;
    let rodata = rodata.map_or(Ok(Vec::new()), |rodata| pinned::value(&rodata))?;
    Ok((schema.in_force(&rodata), rodata))
}

fn states_of(schema: &Schema, folder: &Path, meta: &Meta) -> Result<States> {
    let pins = PinnedMaps::new(folder, meta, MAPS);
    States::new(schema, |it| pins.state(folder, &it.map))
}

/// What was under way when it stopped; `None` for an instance of an earlier version,
/// or one that is gone.
fn read_kept(folder: &Path) -> Result<Option<Kept>> {
    let bytes = if_found(pinned::read(&folder.join(STARTS)))?;
    let kept = bytes.map(|bytes| serde_json::from_slice(&bytes));
    Ok(kept.transpose()?)
}

/// Opens the programs that its links run. `None` without privileges, or if they are
/// gone.
fn open_programs(folder: &Path, meta: &Meta) -> Result<Option<Vec<(String, OwnedFd)>>> {
    let mut programs = Vec::new();
    for program in &meta.programs {
        let kind = if program.has_dispatcher {
            DISPATCHERS
        } else {
            PROGRAMS
        };
        let pin = folder.join(kind).join(&program.name);
        match sys::program::open_pin(&pin) {
            Ok(opened) => programs.push((program.name.clone(), opened)),
            Err(error) if is_closed_to_us(&error) => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("failed to open `{}`", pin.display()));
            }
        }
    }
    Ok(Some(programs))
}

/// A program can only be opened with write access, as its descriptor can run it.
fn is_closed_to_us(error: &io::Error) -> bool {
    use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
    matches!(
        error.kind(),
        NotFound | PermissionDenied | ReadOnlyFilesystem
    )
}

/// The kernel measures what programs cost while this descriptor is open.
pub(crate) fn measure() -> Result<OwnedFd> {
    sys::program::enable_stats().context("failed to have the kernel measure its programs")
}
