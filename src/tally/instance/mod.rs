//! Instances: tallies that count without a process. Everything that belongs to
//! one is pinned in a folder of bpffs, what its readers need to know included,
//! so that it comes and goes by one rename, and no reader needs the tally's
//! file, this version of ktally, or privileges beyond those of its pins.

mod folder;
mod make;
mod meta;
mod remove;
mod replace;
mod slots;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow};
use nix::time::{ClockId, clock_gettime};

pub use folder::{Folder, Label};
pub use make::{Attached, Plan, group_id};
pub use meta::{Member, Meta};

use self::folder::{ENTRIES, MAPS, PROGRAMS};
use self::meta::{BTF, Goal, META, State, first, open_map, read_bytes};
use super::session::{dropped_of, rows_of};
use crate::error::{not_found, unknown_text};
use crate::map::{Census, Map, Outcome, Used};
use crate::schema::{Schema, Table};
use crate::snapshot::{Reading, TableReading};
use crate::sys;

/// An instance, opened to be read.
#[derive(Debug)]
pub struct Instance {
    /// Its name.
    pub label: Label,
    /// What it says of itself.
    pub meta: Meta,
    /// From the BTF of its object.
    pub schema: Schema,
    /// The contents of `.rodata`: the options in force.
    pub rodata: Vec<u8>,
    /// How much memory its maps take, in bytes.
    pub memory: u64,
    folder: PathBuf,
    tables: Vec<(Table, Map)>,
    health: Option<Map>,
    state: Map,
    // None where they are not ours to open.
    entries: Option<Vec<OwnedFd>>,
}

/// How full a table of an instance is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fill {
    /// Of the table.
    pub table: String,
    /// Rows.
    pub used: Used,
    /// How many fit.
    pub max: u32,
}

/// What the runs of an instance's programs cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// While they were measured.
    pub runs: u64,
    /// In nanoseconds.
    pub time: u64,
}

impl Instance {
    /// The instance of this name.
    pub fn open(label: &Label) -> Result<Self> {
        let folder = Folder::path().join(label.as_str());
        if !folder.join(META).try_exists().unwrap_or(true) {
            return Err(unknown_instance(label, &folder));
        }
        Self::open_at(label, folder.clone()).map_err(|error| {
            // It may be detached at this moment.
            match folder.join(META).try_exists() {
                Ok(false) => unknown_instance(label, &folder),
                _ => error.context(format!("failed to open instance `{label}`")),
            }
        })
    }

    fn open_at(label: &Label, folder: PathBuf) -> Result<Self> {
        let meta = Meta::open(&folder)?;
        let (state, _) = State::open(&folder)?;
        let schema = Schema::of_raw(&read_bytes(&folder.join(BTF))?)?;
        let maps = folder.join(MAPS);
        let open = |pin: &str| open_map(&maps.join(pin), true);
        let is_pinned = |pin: &str| meta.pins.contains(&format!("{MAPS}/{pin}"));
        let section = |pin: &str| is_pinned(pin).then(|| open(pin)).transpose();
        let rodata = match section("@rodata")? {
            Some(rodata) => first(&rodata)?,
            None => Vec::new(),
        };
        let mut tables = Vec::new();
        for table in &schema.tables {
            let map = open(&table.name)?;
            if (map.key_size, map.value_size) != (table.key_size, table.value_size) {
                return Err(anyhow!("table `{}` is not of its own types", table.name));
            }
            let mut table = table.clone();
            table.max_entries = map.max_entries;
            tables.push((table, map));
        }
        let mut memory = 0;
        for pin in meta.pins.iter().filter_map(|pin| pin.strip_prefix("maps/")) {
            memory += open(pin)?.memlock().unwrap_or(0);
        }
        Ok(Self {
            health: section("@bss@ktally")?,
            entries: open_programs(&folder, &meta),
            label: label.clone(),
            meta,
            schema,
            rodata,
            memory,
            folder,
            tables,
            state,
        })
    }

    /// The tally's summary.
    pub fn summary(&self) -> &str {
        self.schema.summary.as_deref().unwrap_or_default()
    }

    /// The columns that there are with the options in force.
    pub fn tables(&self) -> Vec<Table> {
        let tables = self.tables.iter().map(|(table, _)| table.clone());
        self.schema.with_options(tables.collect(), &self.rodata)
    }

    /// Whether its counts change no more.
    pub fn has_stopped(&self) -> Result<bool> {
        Ok(State::read(&self.state)?.stopped_at.is_some())
    }

    /// How long it has counted, or did.
    pub fn counted_for(&self) -> Result<Duration> {
        let end = State::read(&self.state)?.stopped_at;
        let nanos = end
            .unwrap_or_else(monotonic_now)
            .saturating_sub(self.meta.attached_at);
        Ok(Duration::from_nanos(nanos))
    }

    /// All tables, and what is known about the events that are not in them.
    pub fn read(&self) -> Result<Reading> {
        let (seconds, time) = (self.counted_for()?.as_secs_f64(), SystemTime::now());
        let health = self.health.as_ref().map_or(Ok(Vec::new()), first)?;
        let mut incomplete = None;
        let mut tables = Vec::new();
        for (table, map) in &self.tables {
            let (rows, outcome) = rows_of(map, table)?;
            if let Outcome::Incomplete(why) = outcome {
                incomplete = Some(format!("table `{}`: {why}", table.name));
            }
            let dropped = dropped_of(&self.schema, &health, &table.name);
            tables.push(TableReading { rows, dropped });
        }
        Ok(Reading {
            time,
            seconds,
            tables,
            missed: self.missed()?,
            incomplete,
        })
    }

    /// `None` where the kernel does not tell, or not without privileges.
    fn missed(&self) -> Result<Option<u64>> {
        let state = State::read(&self.state)?;
        match (state.stopped_at, &self.entries) {
            (Some(_), _) => Ok(state.missed),
            (None, Some(entries)) => sum_of_missed(entries),
            (None, None) => Ok(None),
        }
    }

    /// Which rows there are, counted or not; an array has all of its own.
    pub fn fill(&self, census: &Census) -> Vec<Fill> {
        self.tables
            .iter()
            .map(|(table, map)| Fill {
                table: table.name.clone(),
                used: census.used(map),
                max: map.max_entries,
            })
            .collect()
    }

    /// What its programs have cost so far, while the kernel measured: an entry's
    /// run is also that of its program. `None` without privileges.
    pub fn cost(&self) -> Result<Option<Cost>> {
        let Some(entries) = &self.entries else {
            return Ok(None);
        };
        let mut cost = Cost::default();
        for program in entries {
            let info = sys::program::info(program.as_fd())
                .context("failed to ask what a program costs")?;
            cost.runs += info.run_cnt;
            cost.time += info.run_time_ns;
        }
        Ok(Some(cost))
    }

    /// Cuts its links; what is read afterwards is final. With `keep` it can be
    /// read from then on, else it is to be removed.
    pub fn stop(&mut self, _held: &Folder, keep: bool) -> Result<()> {
        let state = State::read(&self.state)?;
        let goal = if keep { Goal::Keep } else { Goal::Remove };
        State { goal, ..state }.write(&self.folder)?;
        remove::stop(&self.folder)
            .with_context(|| format!("failed to stop instance `{}`", self.label))
    }

    /// Removes all that is pinned of it.
    pub fn remove(self, held: &mut Folder) -> Result<()> {
        let left = remove::remove(&self.folder)
            .with_context(|| format!("failed to remove instance `{}`", self.label))?;
        held.note_strangers(&left);
        Ok(())
    }
}

fn unknown_instance(label: &Label, folder: &Path) -> anyhow::Error {
    if folder.exists() {
        return not_found(format!("`{}` is no instance of ktally", folder.display()));
    }
    let known = match Folder::look() {
        Ok(Some(root)) => root.labels().unwrap_or_default(),
        _ => Vec::new(),
    };
    let known = known.iter().map(Label::as_str);
    not_found(unknown_text("instance", label.as_str(), known))
}

/// What its links run. Root only: a descriptor of a program
/// can be used to run it.
fn open_programs(folder: &Path, meta: &Meta) -> Option<Vec<OwnedFd>> {
    let open = |member: &Member| {
        let kind = match member.has_entry {
            true => ENTRIES,
            false => PROGRAMS,
        };
        sys::map::open_pin(&folder.join(kind).join(&member.name), false).ok()
    };
    meta.programs.iter().map(open).collect()
}

fn sum_of_missed(programs: &[OwnedFd]) -> Result<Option<u64>> {
    let mut sum = Some(0);
    for program in programs {
        let missed = sys::program::info(program.as_fd())
            .context("failed to ask for missed runs")?
            .recursion_misses;
        sum = sum.zip(missed).map(|(sum, missed)| sum + missed);
    }
    Ok(sum)
}

/// The same of what is pinned.
fn missed_of(folder: &Path, meta: &Meta) -> Result<Option<u64>> {
    match open_programs(folder, meta) {
        Some(programs) => sum_of_missed(&programs),
        None => Ok(None),
    }
}

/// A file of bpffs has no dot in its name, nor has an object's name: a section
/// is `@rodata`, whatever its object is called.
fn pin_name(map: &str) -> String {
    match map.find('.') {
        Some(dot) => map[dot..].replace('.', "@"),
        None => map.to_owned(),
    }
}

/// The clock of an instance goes on while the host sleeps, and stops with it.
fn monotonic_now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// While this is held, the kernel measures what programs cost.
pub fn measure() -> Result<OwnedFd> {
    sys::program::enable_stats().context("failed to have the kernel measure its programs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_pinned_without_dots() {
        assert_eq!(pin_name("syscalls.rodata"), "@rodata");
        assert_eq!(pin_name(".bss.ktally"), "@bss@ktally");
        assert_eq!(pin_name("counts"), "counts");
    }
}
