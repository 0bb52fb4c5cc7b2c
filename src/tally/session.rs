//! A tally that is counting: load, attach, read, detach. Dropping the session
//! removes all of it from the kernel, as does the end of the process.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use libbpf_rs::{Link, MapCore, Object, OpenObject, Program, ProgramImpl, ProgramMut, ProgramType};

use super::attach;
use super::catalogue::{Tally, is_map_of, is_section, lossy};
use super::follow::{self, Command};
use super::load::Loader;
use super::options::ResolvedOption;
use super::reader::{Cost, TallyReader};
use super::skeleton::Loaded;
use super::stack_processes::{StackProcess, StackProcesses};
use super::support::Support;
use super::under_way::{Source, States, monotonic_now};
use crate::host;
use crate::map::Map;
use crate::schema::Schema;
use crate::snapshot::Reading;
use crate::sys::program::IterateOver;
use crate::sys::{self, log};

/// Counts until it is dropped or detached.
pub struct Session {
    // Links go first: no program may outlive what it writes to.
    links: Vec<(String, Link)>,
    object: Loaded,
    stack_processes: Option<StackProcesses>,
    schema: Schema,
    reader: TallyReader,
    rodata: Vec<u8>,
    /// When counting began, and ended: before the programs ran for the last time. Both
    /// by `CLOCK_MONOTONIC`.
    started_at: u64,
    stopped_at: Option<u64>,
    warnings: Vec<String>,
}

impl Session {
    /// Loads a tally with these options, its tables resized to `max_rows`, and
    /// attaches every program of it.
    pub fn start(tally: &Tally, options: &[ResolvedOption], max_rows: Option<u32>) -> Result<Self> {
        let loader = Loader::new(tally, options, false)?;
        let mut session = Self::load(loader, max_rows, None)?;
        session.attach(tally)?;
        Ok(session)
    }

    /// Loads it without attaching. With a command, it counts what the command and its
    /// children do from the exec on: attach the tally, then release the command.
    pub(crate) fn load(
        mut loader: Loader<'_>,
        max_rows: Option<u32>,
        command: Option<&Command>,
    ) -> Result<Self> {
        let session = Self::load_with(&mut loader, max_rows, |_| Ok(()))?;
        if let Some(command) = command {
            follow::follow(session.object(), command)?;
        }
        Ok(session)
    }

    /// `prepare` may change the open object before it is loaded.
    pub(super) fn load_with(
        loader: &mut Loader<'_>,
        max_rows: Option<u32>,
        prepare: impl Fn(&mut OpenObject) -> Result<()>,
    ) -> Result<Self> {
        let object = loader.load(max_rows, prepare)?;
        Ok(Self {
            links: Vec::new(),
            stack_processes: StackProcesses::new(object.object(), &loader.schema)?,
            schema: loader.schema.clone(),
            reader: reader_of(object.object(), &loader.schema)?,
            object,
            rodata: loader.rodata.clone(),
            started_at: monotonic_now(),
            stopped_at: None,
            warnings: std::mem::take(&mut loader.warnings),
        })
    }

    /// Loads a tally without attaching it. Returns each program's name and the number
    /// of instructions that the verifier processed, 0 before Linux 5.16.
    pub fn verify(tally: &Tally, options: &[ResolvedOption]) -> Result<Vec<(String, u32)>> {
        let session = Self::load(Loader::new(tally, options, false)?, None, None)?;
        let programs = session.object().progs().filter(ProgramImpl::autoload);
        programs
            .map(|program| {
                let info = sys::program::info(program.as_fd())?;
                Ok((lossy(program.name()), info.verified_instructions))
            })
            .collect()
    }

    /// Attaches program by program, so that an error names the one that failed.
    pub(crate) fn attach(&mut self, tally: &Tally) -> Result<()> {
        let programs = self.object.object_mut().progs_mut();
        for program in programs.filter(|program| program.autoload()) {
            let name = lossy(program.name());
            if self.schema.runs_on_request(&name) {
                continue;
            }
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
                Err(error) => return Err(attach_error(tally, &program, error)),
            }
        }
        if self.links.is_empty() {
            let why = self.warnings.join("; ");
            bail!(
                "no program of tally `{}` could be attached: {why}",
                tally.name
            );
        }
        self.started_at = monotonic_now();
        self.run_at_start()
    }

    /// Has what is under way noted by the programs that are for that.
    fn run_at_start(&mut self) -> Result<()> {
        let schema = &self.schema;
        let programs = self.object.object_mut().progs_mut();
        for program in
            programs.filter(|it| it.autoload() && schema.runs_at_start(&lossy(it.name())))
        {
            let ran = if program.prog_type() == ProgramType::RawTracepoint {
                let kernel = host::kernel_version(&host::kernel_release());
                self.warnings.extend(unseen_at_start(kernel));
                sys::program::run_on_each_cpu(&program)
            } else {
                sys::program::iterate(program.as_fd(), IterateOver::All)
                    .and_then(|walk| std::io::copy(&mut File::from(walk), &mut std::io::sink()))
                    .map(drop)
            };
            ran.with_context(|| format!("failed to run program `{}`", lossy(program.name())))?;
        }
        Ok(())
    }

    /// Warnings for the user; counting goes on.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(super) fn object(&self) -> &Object {
        self.object.object()
    }

    pub(super) fn object_mut(&mut self) -> &mut Object {
        self.object.object_mut()
    }

    /// Each link with the name of its program.
    pub(super) fn links_mut(&mut self) -> &mut [(String, Link)] {
        &mut self.links
    }

    /// The target that `ATTACH(...)` of a program gives with the options of this
    /// session.
    pub(super) fn target(&self, tally: &Tally, program: &str) -> Result<Option<String>> {
        attach::target(tally, program, &self.rodata)
    }

    /// Readable when a process's stack was taken; `None` if the tally takes none.
    pub(crate) fn stack_processes_fd(&self) -> Option<BorrowedFd<'_>> {
        self.stack_processes.as_ref().map(StackProcesses::fd)
    }

    /// Processes whose stacks were taken since the last call. Look at them while they
    /// live.
    pub(crate) fn take_stack_processes(&self) -> Result<Vec<StackProcess>> {
        self.stack_processes
            .as_ref()
            .map_or(Ok(Vec::new()), StackProcesses::take)
    }

    /// The ids of the programs that count.
    pub fn program_ids(&self) -> Result<Vec<u32>> {
        let programs = self.object().progs().filter(ProgramImpl::autoload);
        programs
            .map(|program| Ok(sys::program::info(program.as_fd())?.id))
            .collect()
    }

    /// Cuts every link, then waits for running programs: the next reading is final. A
    /// second call does nothing.
    pub fn detach(&mut self) {
        if self.stopped_at.is_none() {
            self.stopped_at = Some(monotonic_now());
            self.links.clear();
            if sys::wait_for_programs().is_err() {
                // No program runs this long.
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }

    /// What its programs have cost while the kernel measured.
    pub(crate) fn costs(&self) -> Result<Option<Vec<(String, Cost)>>> {
        self.reader.costs()
    }

    /// How many rows each of its tables has room for; `None` of arrays.
    pub(crate) fn max_rows(&self) -> Vec<Option<u32>> {
        self.reader.max_rows()
    }

    pub(super) fn reader(&self) -> &TallyReader {
        &self.reader
    }

    /// Reads all tables, and the counts of events that are not in them.
    pub fn read(&self) -> Result<Reading> {
        self.reader
            .read(&self.schema, self.started_at, self.stopped_at, None)
    }
}

/// What the programs that run on each CPU at the start do not see.
fn unseen_at_start(kernel: (u32, u32)) -> Option<String> {
    let (major, minor) = host::CURRENT_TASK;
    (kernel < host::CURRENT_TASK).then(|| {
        format!(
            "tasks that are on a CPU at the start have no time until they leave it, as this kernel is older than {major}.{minor}"
        )
    })
}

fn reader_of(object: &Object, schema: &Schema) -> Result<TallyReader> {
    let map = |name: &str| {
        let map = object.maps().find(|map| is_map_of(map.name(), name));
        let map = map.ok_or_else(|| anyhow!("there is no map `{name}`"))?;
        Map::new(map.as_fd())
    };
    let tables = schema.tables.iter();
    let tables = tables.map(|table| Ok((table.clone(), map(&table.name)?)));
    let health = object
        .maps()
        .find(|map| is_section(map.name(), ".bss.ktally"));
    let counts = |it: &Program<'_>| it.autoload() && !schema.runs_on_request(&lossy(it.name()));
    let programs = object.progs().filter(counts);
    let programs = programs.map(|program| {
        let fd = program.as_fd().try_clone_to_owned();
        let fd = fd.context("failed to duplicate a program's descriptor")?;
        Ok((lossy(program.name()), fd))
    });
    Ok(TallyReader {
        tables: tables.collect::<Result<_>>()?,
        health: health.map(|map| Map::new(map.as_fd())).transpose()?,
        states: States::new(schema, |it| {
            let walk = it.walk();
            let walk = object.progs().find(|program| program.name() == &*walk);
            Source::of(map(&it.map)?, walk.as_ref().map(AsFd::as_fd))
        })?,
        programs: Some(programs.collect::<Result<_>>()?),
    })
}

fn attach_one(program: &ProgramMut<'_>, target: Option<&str>) -> Result<Vec<Link>> {
    log::listen();
    attach::attach(program, target).map_err(|error| {
        let tail = log::tail();
        anyhow!("{error:#}{tail}")
    })
}

fn attach_error(tally: &Tally, program: &ProgramMut<'_>, error: anyhow::Error) -> anyhow::Error {
    let (name, section) = (lossy(program.name()), lossy(program.section()));
    let failed = format!(
        "failed to attach program `{name}` ({section}) of tally `{}`",
        tally.name
    );
    let lack = Support::probe().lacks_for(tally, &(name, section));
    lack.map_or(error, anyhow::Error::msg).context(failed)
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("links", &self.links.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kernels_that_do_not_see_what_runs_at_the_start_are_warned_of() {
        let warning = unseen_at_start((5, 10)).unwrap();
        assert!(warning.ends_with("older than 5.11"), "{warning}");
        assert_eq!(unseen_at_start((5, 11)), None);
        assert_eq!(unseen_at_start((6, 1)), None);
    }
}
