//! A tally that is counting: load, attach, read, detach. Dropping the session
//! removes all of it from the kernel, as does the end of the process.

use std::cell::LazyCell;
use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, bail, ensure};
use libbpf_rs::query::ProgInfoIter;
use libbpf_rs::{Link, MapCore, MapType, Object, Program, ProgramImpl, ProgramMut};
use plain::Plain;

use super::attach;
use super::catalogue::{Loaded, Opened, Storage, Tally, is_section, lossy};
use super::follow::{self, Command};
use super::namespaces;
use super::options::ResolvedOption;
use super::section::{self, Program as Named};
use super::sightings::{self, Sighting, Sightings};
use super::support::Support;
use crate::error::usage;
use crate::host;
use crate::map::{Map, Outcome, Reader};
use crate::schema::{Schema, Table};
use crate::snapshot::{Reading, Rows, TableReading};
use crate::sys::{self, log};

/// Counts until it is dropped or detached.
pub struct Session<'o> {
    // Links go first: no program may outlive what it writes to.
    links: Vec<(String, Link)>,
    object: Box<dyn Loaded + 'o>,
    sightings: Option<Sightings>,
    schema: Schema,
    tables: Vec<Table>,
    rodata: Vec<u8>,
    started: Instant,
    stopped: Option<Instant>,
    warnings: Vec<String>,
}

/// `struct tally_health` of `ktally.bpf.h`.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
struct Health {
    dropped: u64,
}

// SAFETY: a C struct of one integer.
unsafe impl Plain for Health {}

impl<'o> Session<'o> {
    /// Loads a tally with these options, its tables resized to `max_rows`, and
    /// attaches every program of it.
    pub fn start(
        tally: &Tally,
        storage: &'o mut Storage,
        options: &[ResolvedOption],
        max_rows: Option<u32>,
    ) -> Result<Self> {
        let mut session = Self::load_for(tally, storage, options, max_rows, None)?;
        session.attach(tally)?;
        Ok(session)
    }

    /// Loads it only. With a command, it counts what the command and its
    /// children do, from the exec on: attach it, then release the command.
    pub fn load_for(
        tally: &Tally,
        storage: &'o mut Storage,
        options: &[ResolvedOption],
        max_rows: Option<u32>,
        command: Option<&Command>,
    ) -> Result<Self> {
        let session = Self::load(tally, storage, options, max_rows, command, |_| Ok(()))?;
        if let Some(command) = command {
            follow::follow(session.object.object(), command)?;
        }
        Ok(session)
    }

    /// Loads a tally and attaches nothing, to see what the verifier makes of it:
    /// a name and the number of instructions that it looked at for each program,
    /// 0 where the kernel does not tell (before Linux 5.16).
    pub fn verify(tally: &Tally, options: &[ResolvedOption]) -> Result<Vec<(String, u32)>> {
        let mut storage = Storage::uninit();
        let session = Session::load(tally, &mut storage, options, None, None, |_| Ok(()))?;
        let ids = session.program_ids()?;
        let programs = ProgInfoIter::default().filter(|program| ids.contains(&program.id));
        let verified: HashMap<u32, u32> = programs
            .map(|program| (program.id, program.verified_insns))
            .collect();
        let programs = session.object.object().progs();
        programs
            .filter(ProgramImpl::autoload)
            .map(|program| {
                let id = Program::id_from_fd(program.as_fd())?;
                let instructions = verified.get(&id).copied().unwrap_or_default();
                Ok((lossy(program.name()), instructions))
            })
            .collect()
    }

    /// As far as nothing counts yet. What is open is handed out before that, to
    /// be given the maps of another.
    pub(super) fn load(
        tally: &Tally,
        storage: &'o mut Storage,
        options: &[ResolvedOption],
        max_rows: Option<u32>,
        command: Option<&Command>,
        prepare: impl FnOnce(&mut dyn Opened<'o>) -> Result<()>,
    ) -> Result<Self> {
        if let Some(flaw) = tally.flaw() {
            return Err(usage(flaw));
        }
        let mut options = options.to_vec();
        if command.is_some() {
            options.push(follow::flag(tally)?);
        }
        options.extend(namespaces::pids(tally)?);
        let rodata = rodata_with(tally, &options)?;
        attach::check_targets(tally, &rodata)?;
        let follows = command.is_some();
        let mut warnings = Vec::new();
        let mut opened = open(tally, storage, &options, follows, &mut warnings)?;
        if let Some(max_rows) = max_rows {
            resize(&mut *opened, &tally.schema.tables, max_rows)?;
        }
        leave_out(&mut *opened, tally, &options, follows, &mut warnings)?;
        prepare(&mut *opened)?;
        let object = opened
            .load()
            // libbpf leaves it in errno; the errors of libbpf-rs hide it.
            .map_err(|_| load_error(tally, follows, &io::Error::last_os_error()))?;
        let session = Self {
            links: Vec::new(),
            sightings: Sightings::of(object.object(), tally)?,
            object,
            schema: tally.schema.clone(),
            tables: tally.schema.tables.clone(),
            rodata,
            started: Instant::now(),
            stopped: None,
            warnings,
        };
        Ok(session)
    }

    /// Program by program, so that a failure names the one.
    pub fn attach(&mut self, tally: &Tally) -> Result<()> {
        for program in self.object.object_mut().progs_mut() {
            if !program.autoload() {
                continue;
            }
            let name = lossy(program.name());
            let links = attach::target(tally, &name, &self.rodata)
                .and_then(|target| attach_one(&program, target.as_deref()));
            match links {
                Ok(links) => {
                    let links = links.into_iter().map(|link| (name.clone(), link));
                    self.links.extend(links);
                }
                Err(error) if tally.is_optional(&name) => {
                    self.warnings
                        .push(format!("goes on without program `{name}`: {error:#}"));
                }
                Err(error) => {
                    let section = lossy(program.section());
                    let program = (name.clone(), section.clone());
                    let lack = Support::probe().lacks_for(tally, &program);
                    let error = lack.map_or(error, anyhow::Error::msg);
                    return Err(error.context(format!(
                        "failed to attach program `{name}` ({section}) of tally `{}`",
                        tally.name
                    )));
                }
            }
        }
        if self.links.is_empty() {
            bail!("no program of tally `{}` could be attached", tally.name);
        }
        self.started = Instant::now();
        Ok(())
    }

    /// What the user should know, though counting goes on.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What is loaded.
    pub(super) fn object(&self) -> &Object {
        self.object.object()
    }

    pub(super) fn object_mut(&mut self) -> &mut Object {
        self.object.object_mut()
    }

    /// With the program's name. Whoever pins them may let go of them.
    pub(super) fn links_mut(&mut self) -> &mut [(String, Link)] {
        &mut self.links
    }

    /// What `ATTACH(...)` of a program comes to, with the options as they are.
    pub(super) fn target(&self, tally: &Tally, program: &str) -> Result<Option<String>> {
        attach::target(tally, program, &self.rodata)
    }

    /// Readable when a process's stack was taken; `None` where none are.
    pub fn sightings_fd(&self) -> Option<BorrowedFd<'_>> {
        self.sightings.as_ref().map(Sightings::fd)
    }

    /// Processes whose stacks were taken since the last time: look at them while
    /// they live.
    pub fn take_sightings(&self) -> Result<Vec<Sighting>> {
        self.sightings
            .as_ref()
            .map_or(Ok(Vec::new()), Sightings::take)
    }

    /// Since every program was attached, until they were detached.
    pub fn elapsed(&self) -> Duration {
        self.stopped.unwrap_or_else(Instant::now) - self.started
    }

    /// The kernel's numbers of the programs that count.
    pub fn program_ids(&self) -> Result<Vec<u32>> {
        let programs = self.object.object().progs();
        programs
            .filter(ProgramImpl::autoload)
            .map(|program| Ok(Program::id_from_fd(program.as_fd())?))
            .collect()
    }

    /// Cuts every link, then waits for programs that were already running: the
    /// reading that follows is final. Once is enough.
    pub fn detach(&mut self) {
        if self.stopped.is_some() {
            return;
        }
        self.links.clear();
        self.stopped = Some(Instant::now());
        if sys::rcu_grace_period().is_err() {
            // Kernels with nohz_full CPUs refuse it. No program runs this long.
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// All tables, and what is known about the events that are not in them.
    pub fn read(&self) -> Result<Reading> {
        let (seconds, time) = (self.elapsed().as_secs_f64(), SystemTime::now());
        let health = self.health()?;
        let mut incomplete = None;
        let mut tables = Vec::new();
        for table in &self.tables {
            let (rows, outcome) = self.rows(table)?;
            if let Outcome::Incomplete(why) = outcome {
                incomplete = Some(format!("table `{}`: {why}", table.name));
            }
            let dropped = self.dropped(&health, &table.name);
            tables.push(TableReading {
                rows,
                dropped,
                reset: 0,
            });
        }
        if let Some(lost @ 1..) = self.dropped(&health, follow::FOLLOWED) {
            incomplete = Some(format!(
                "{lost} children of the command could not be followed (out of memory)"
            ));
        }
        Ok(Reading {
            time,
            seconds,
            tables,
            missed: self.missed()?,
            gaps: gaps_of(&self.schema, &health),
            incomplete,
        })
    }

    fn rows(&self, table: &Table) -> Result<(Rows, Outcome)> {
        let map = self
            .object
            .object()
            .maps()
            .find(|map| map.name() == table.name.as_str());
        let map = map.ok_or_else(|| anyhow!("table `{}` has no map", table.name))?;
        let map = Map::new(map.as_fd())?;
        rows_of(&map, table)
    }

    /// The contents of `.bss.ktally`: every table's health.
    fn health(&self) -> Result<Vec<u8>> {
        let map = self
            .object
            .object()
            .maps()
            .find(|map| is_section(map.name(), ".bss.ktally"));
        let Some(map) = map else {
            return Ok(Vec::new());
        };
        let value = Map::new(map.as_fd())?.lookup(&[0; 4]);
        let value = value.context("failed to read dropped counters")?;
        Ok(value.unwrap_or_default())
    }

    fn dropped(&self, section: &[u8], table: &str) -> Option<u64> {
        dropped_of(&self.schema, section, table)
    }

    fn missed(&self) -> Result<Option<u64>> {
        let mut sum = Some(0);
        for program in self.object.object().progs().filter(ProgramImpl::autoload) {
            let missed =
                sys::recursion_misses(program.as_fd()).context("failed to ask for missed runs")?;
            sum = sum.zip(missed).map(|(sum, missed)| sum + missed);
        }
        Ok(sum)
    }
}

/// Not those that count nothing: a row that is just being made, or an index of
/// an array that no event had.
pub(super) fn rows_of(map: &Map, table: &Table) -> Result<(Rows, Outcome)> {
    let mut rows = Rows::of(table);
    let outcome = Reader::new(map)
        .read(|key, copied| {
            let cells = rows.push(key);
            for value in map.values(copied) {
                table.add_cells(value, cells);
            }
            if table.counts_nothing(cells) {
                rows.pop();
            } else if !table.details.is_empty() {
                let last = rows.len() - 1;
                map.values(copied)
                    .for_each(|value| rows.keep_value(last, value));
            }
            ControlFlow::Continue(())
        })
        .with_context(|| format!("failed to read table `{}`", table.name))?;
    Ok((rows, outcome))
}

/// What a table had to turn away, out of the contents of `.bss.ktally`; `None`
/// where it has no counter there.
pub(super) fn dropped_of(schema: &Schema, section: &[u8], table: &str) -> Option<u64> {
    let mut health = Health::default();
    let bytes = schema.health.get(table)?.bytes(section)?;
    health.copy_from_bytes(bytes).ok()?;
    Some(health.dropped)
}

/// How often a chain of its events broke, out of the same.
pub(super) fn gaps_of(schema: &Schema, section: &[u8]) -> Option<u64> {
    u64::try_from(schema.gaps.as_ref()?.raw(section)?).ok()
}

fn attach_one(program: &ProgramMut<'_>, target: Option<&str>) -> Result<Vec<Link>> {
    log::listen();
    attach::attach(program, target).map_err(|error| {
        let tail = log::tail();
        anyhow!("{error:#}{tail}")
    })
}

/// `.rodata` as it will be loaded.
fn rodata_with(tally: &Tally, options: &[ResolvedOption]) -> Result<Vec<u8>> {
    let mut rodata = tally.rodata.clone();
    options
        .iter()
        .try_for_each(|option| option.write(&mut rodata))?;
    Ok(rodata)
}

impl Tally {
    /// Its tables as they are with these options: some columns need one.
    pub fn tables(&self, options: &[ResolvedOption]) -> Result<Vec<Table>> {
        let rodata = rodata_with(self, options)?;
        Ok(self
            .schema
            .with_options(self.schema.tables.clone(), &rodata))
    }
}

fn set_options(opened: &mut dyn Opened<'_>, options: &[ResolvedOption]) -> Result<()> {
    if options.is_empty() {
        return Ok(());
    }
    let mut maps = opened.object_mut().maps_mut();
    let mut map = maps
        .find(|map| is_section(map.name(), ".rodata"))
        .ok_or_else(|| anyhow!("the object has options but no .rodata"))?;
    let rodata = map.initial_value_mut().unwrap_or_default();
    options.iter().try_for_each(|option| option.write(rodata))
}

/// Arrays keep their size: their rows are the numbers of something.
fn resize(opened: &mut dyn Opened<'_>, tables: &[Table], max_rows: u32) -> Result<()> {
    for mut map in opened.object_mut().maps_mut() {
        let name = lossy(map.name());
        let is_table = tables.iter().any(|table| table.name == name);
        if is_table && !matches!(map.map_type(), MapType::Array | MapType::PercpuArray) {
            map.set_max_entries(max_rows)
                .with_context(|| format!("failed to resize table `{name}` to {max_rows} rows"))?;
        }
    }
    Ok(())
}

/// What an object pins outlives the run, and the next one goes on with its counts.
fn pin_nothing(opened: &mut dyn Opened<'_>, warnings: &mut Vec<String>) -> Result<()> {
    for mut map in opened.object_mut().maps_mut() {
        let name = lossy(map.name());
        let path = sys::map::take_pin_path(&mut map)
            .with_context(|| format!("failed to set up map `{name}`"))?;
        if let Some(path) = path {
            warnings.push(format!(
                "map `{name}` is not pinned at `{}`, as the object asks: ktally pins only what it attaches",
                path.display()
            ));
        }
    }
    Ok(())
}

/// Opened once more, with all that does not depend on which programs are loaded.
fn open<'o>(
    tally: &Tally,
    storage: &'o mut Storage,
    options: &[ResolvedOption],
    follows: bool,
    warnings: &mut Vec<String>,
) -> Result<Box<dyn Opened<'o> + 'o>> {
    let mut opened = tally.reopen(storage)?;
    set_options(&mut *opened, options)?;
    follow::prepare(&mut *opened, follows)?;
    sightings::prepare(&mut *opened, tally)?;
    pin_nothing(&mut *opened, warnings)?;
    Ok(opened)
}

/// Whether the kernel takes these programs of a tally, without the others.
fn loads_alone(
    tally: &Tally,
    options: &[ResolvedOption],
    follows: bool,
    programs: &[&Named],
) -> Result<bool> {
    let mut storage = Storage::uninit();
    let mut opened = open(tally, &mut storage, options, follows, &mut Vec::new())?;
    for mut program in opened.object_mut().progs_mut() {
        let name = lossy(program.name());
        program.set_autoload(programs.iter().any(|(known, _)| *known == name));
    }
    let loads = opened.load().is_ok();
    // What was said about these is no part of a later error.
    log::listen();
    Ok(loads)
}

/// Optional programs whose event this kernel lacks are not even loaded. Of
/// alternatives only one is, and only one kind of programs for each event.
fn leave_out(
    opened: &mut dyn Opened<'_>,
    tally: &Tally,
    options: &[ResolvedOption],
    follows: bool,
    warnings: &mut Vec<String>,
) -> Result<()> {
    // Reads the kernel's BTF: only where it has to be asked.
    let support = LazyCell::new(Support::probe);
    let duplicates = section::duplicates(tally, |programs| {
        support.can_attach(tally, programs)
            && loads_alone(tally, options, follows, programs).unwrap_or(false)
    });
    let mut is_left = false;
    for mut program in opened.object_mut().progs_mut() {
        if !program.autoload() {
            continue;
        }
        let (name, section) = (lossy(program.name()), lossy(program.section()));
        if tally.alternative(&name).is_some() && support.is_replaced(tally, &name) {
            program.set_autoload(false);
            continue;
        }
        let duplicate = duplicates.iter().find(|(program, _)| program.0 == name);
        let reason = if let Some((_, used)) = duplicate {
            Some(format!(
                "program `{name}` ({section}) is left out, as `{}` ({}) counts the same event; --all-programs loads both",
                used.0, used.1
            ))
        } else if section::runs_on_request(&section) {
            Some(format!(
                "program `{name}` ({section}) is left out, as it runs only on request"
            ))
        } else if tally.is_optional(&name) {
            let lack = support.lacks_for(tally, &(name.clone(), section));
            lack.map(|lack| format!("goes on without program `{name}`: {lack}"))
        } else {
            None
        };
        match reason {
            Some(reason) => {
                program.set_autoload(false);
                warnings.push(reason);
            }
            None => is_left |= tally.programs.iter().any(|(known, _)| *known == name),
        }
    }
    ensure!(
        is_left,
        "no program of tally `{}` can be attached: {}",
        tally.name,
        warnings.join("; ")
    );
    Ok(())
}

/// Why loading failed: the tally, the reason, and what helps.
fn load_error(tally: &Tally, follows: bool, error: &io::Error) -> anyhow::Error {
    // What follows may load programs of its own.
    let (refusal, tail) = (log::refusal(), log::tail());
    let failed = format!("failed to load tally `{}`", tally.name);
    let support = Support::probe();
    let following = follows.then(|| support.lacks_map(MapType::TaskStorage, 4));
    let obstacles = support.obstacles(tally).into_iter();
    if let Some(obstacle) = obstacles.chain(following.flatten()).next() {
        return anyhow!("{failed}: {obstacle}");
    }
    // libbpf fills in the maps' descriptors, but for those that it did not get.
    let no_map = |it: &log::Refusal| it.reason.ends_with("is not pointing to valid bpf_map");
    if refusal.as_ref().is_some_and(no_map) {
        return anyhow!("{failed}: {}", host::advice(libc::EMFILE));
    }
    if let Some(refusal) = refusal {
        let (program, reason, place) = (refusal.program, refusal.reason, refusal.place);
        let hint = match reason.contains("bpf_probe_read") {
            true => " (lockdown=confidentiality forbids it)",
            false => "",
        };
        return anyhow!(
            "{failed}: the verifier refused program `{program}`: {reason}{hint}{place}"
        );
    }
    let reason = host::advice(error.raw_os_error().unwrap_or_default());
    anyhow!("{failed}: {reason}{tail}")
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("links", &self.links.len())
            .finish_non_exhaustive()
    }
}
