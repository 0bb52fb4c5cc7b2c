//! From a tally to an object that is loaded: options, sizes, and which of its
//! programs and maps this kernel and this run need.

use std::cell::LazyCell;
use std::io;

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapType, OpenObject};

use super::attach;
use super::catalogue::{Tally, is_section, lossy};
use super::follow;
use super::load_error;
use super::namespaces;
use super::options::ResolvedOption;
use super::section::{self, Program};
use super::sizes;
use super::skeleton::{Loaded, Opened};
use super::stack_processes;
use super::support::Support;
use super::target;
use super::under_way;
use crate::error::usage;
use crate::schema::{Schema, Table};
use crate::sys::{self, log};

/// A tally that can be loaded, as far as can be told before.
pub(crate) struct Loader<'a> {
    pub(super) tally: &'a Tally,
    /// Of the maps that its options need.
    pub(super) schema: Schema,
    with_command: bool,
    /// `.rodata` as it will be loaded.
    pub(super) rodata: Vec<u8>,
    /// Warnings for the user; the tally is loaded all the same.
    pub(super) warnings: Vec<String>,
    /// Programs of an object of others that the verifier refused, and why.
    refused: Vec<(String, String)>,
}

impl<'a> Loader<'a> {
    /// Checks all that is wrong with what the user gave.
    pub(crate) fn new(
        tally: &'a Tally,
        options: &[ResolvedOption],
        with_command: bool,
    ) -> Result<Self> {
        if let Some(flaw) = tally.flaw() {
            return Err(usage(flaw));
        }
        let mut options = options.to_vec();
        if with_command {
            options.push(follow::flag(tally)?);
        }
        options.extend(namespaces::pids(tally)?);
        let rodata = rodata_with(tally, &options)?;
        attach::check_targets(tally, &rodata)?;
        Ok(Self {
            tally,
            schema: tally.schema.in_force(&rodata),
            with_command,
            rodata,
            warnings: Vec::new(),
            refused: Vec::new(),
        })
    }

    /// Loads the object, after `prepare` has changed what is open. Objects of others go on
    /// without programs that the verifier refuses.
    pub(super) fn load(
        &mut self,
        max_rows: Option<u32>,
        prepare: impl Fn(&mut OpenObject) -> Result<()>,
    ) -> Result<Loaded> {
        loop {
            // Each attempt says again what it leaves out.
            let told = self.warnings.len();
            let refused = self.refused.len();
            let loaded = self.load_once(max_rows, &prepare);
            if loaded.is_ok() || refused == self.refused.len() {
                return loaded;
            }
            self.warnings.truncate(told);
        }
    }

    /// One attempt; a program that may be left out in the next one is noted.
    fn load_once(
        &mut self,
        max_rows: Option<u32>,
        prepare: impl Fn(&mut OpenObject) -> Result<()>,
    ) -> Result<Loaded> {
        let mut opened = self.open()?;
        let object = opened.object_mut();
        pin_nothing(object, &mut self.warnings)?;
        if let Some(max_rows) = max_rows {
            resize(object, &self.tally.schema.tables, max_rows)?;
        }
        if self.tally.per_cpu_rows {
            sizes::copy_for_each_cpu(object, &self.tally.schema.tables)?;
        }
        sizes::set_missing(object)?;
        self.leave_out_programs(object)?;
        prepare(object)?;
        let has_others = object
            .progs()
            .filter(libbpf_rs::OpenProgramImpl::autoload)
            .count()
            > 1;
        opened.load().map_err(|_| {
            // libbpf leaves it in errno; the errors of libbpf-rs hide it.
            let error = io::Error::last_os_error();
            if let Some(refusal) = log::refusal()
                && self.tally.schema.is_found
                && has_others
            {
                self.refused.push((refusal.program, refusal.reason));
            }
            load_error::explain(self.tally, self.with_command, &error)
        })
    }

    /// Opens the object, sets its options and selects the maps of this run.
    fn open(&self) -> Result<Box<dyn Opened>> {
        let mut opened = self.tally.reopen()?;
        let object = opened.object_mut();
        let rodata = object
            .maps_mut()
            .find(|map| is_section(map.name(), ".rodata"));
        if let Some(mut rodata) = rodata
            && let Some(bytes) = rodata.initial_value_mut()
        {
            bytes.copy_from_slice(&self.rodata);
        }
        follow::prepare(object, self.with_command)?;
        target::prepare(object, self.tally)?;
        under_way::prepare(object, &self.schema);
        stack_processes::prepare(object, &self.schema)?;
        for map in self.tally.schema.unneeded_maps(&self.rodata) {
            set_needed(object, map, false)?;
        }
        Ok(opened)
    }

    /// Whether the kernel loads these programs of the tally, without the others.
    fn loads_alone(&self, programs: &[&Program]) -> Result<bool> {
        let mut opened = self.open()?;
        let object = opened.object_mut();
        pin_nothing(object, &mut Vec::new())?;
        sizes::set_missing(object)?;
        for mut program in object.progs_mut() {
            let name = lossy(program.name());
            program.set_autoload(programs.iter().any(|(known, _)| *known == name));
        }
        let loads = opened.load().is_ok();
        // Drops libbpf's messages about this attempt, so that no later error has them.
        log::listen();
        Ok(loads)
    }

    /// Loads no optional program whose event this kernel lacks, one program of each
    /// group of alternatives, and one kind of programs for each event.
    fn leave_out_programs(&mut self, object: &mut OpenObject) -> Result<()> {
        let tally = self.tally;
        // Probing reads the kernel's BTF, so it waits until it is needed.
        let support: LazyCell<Support> = LazyCell::new(Support::probe);
        let duplicates = section::duplicates(tally, |programs| {
            support.can_attach(tally, programs) && self.loads_alone(programs).unwrap_or(false)
        });
        let (mut is_left, mut lacks) = (false, Vec::new());
        for mut program in object.progs_mut().filter(|program| program.autoload()) {
            let known = (lossy(program.name()), lossy(program.section()));
            if tally.schema.runs_on_request(&known.0) {
                continue;
            }
            if tally.schema.is_program_off(&known.0, &self.rodata) {
                program.set_autoload(false);
                continue;
            }
            let is_replaced =
                tally.alternative(&known.0).is_some() && support.is_replaced(tally, &known.0);
            let reason = match is_replaced {
                true => None,
                false => self
                    .why_refused(&known.0)
                    .or_else(|| why_left_out(tally, &support, &duplicates, &known)),
            };
            program.set_autoload(!is_replaced && reason.is_none());
            is_left |= program.autoload() && tally.programs.contains(&known);
            if let Some(reason) = reason {
                self.warnings.push(reason.warning(&known.0));
                lacks.push(reason.0);
            }
        }
        lacks.dedup();
        ensure!(
            is_left,
            "no program of tally `{}` can be attached: {}",
            tally.name,
            lacks.join("; ")
        );
        Ok(())
    }
}

impl Loader<'_> {
    fn why_refused(&self, program: &str) -> Option<LeftOut> {
        let (_, reason) = self.refused.iter().find(|(name, _)| name == program)?;
        Some(LeftOut(format!("the verifier refuses it: {reason}"), true))
    }
}

/// Why a program is not loaded, and whether something is lacking.
struct LeftOut(String, bool);

impl LeftOut {
    fn warning(&self, program: &str) -> String {
        let Self(reason, is_lack) = self;
        match is_lack {
            true if reason.starts_with("program") => format!("{reason}; it is left out"),
            true => format!("goes on without program `{program}`: {reason}"),
            false => reason.clone(),
        }
    }
}

/// `None` for a program that is loaded.
fn why_left_out(
    tally: &Tally,
    support: &LazyCell<Support>,
    duplicates: &[(&Program, &Program)],
    program: &Program,
) -> Option<LeftOut> {
    let (name, section) = program;
    let mut duplicates = duplicates.iter();
    if let Some((_, (used, of))) = duplicates.find(|(it, _)| it.0 == *name) {
        let reason = format!(
            "program `{name}` ({section}) is left out, as `{used}` ({of}) counts the same event; --all-programs loads both"
        );
        Some(LeftOut(reason, false))
    } else if section::runs_on_request(section) {
        let reason =
            format!("program `{name}` ({section}) is left out, as it runs only on request");
        Some(LeftOut(reason, false))
    } else if tally.is_optional(name) {
        Some(LeftOut(support.lacks_for(tally, program)?, true))
    } else {
        None
    }
}

fn rodata_with(tally: &Tally, options: &[ResolvedOption]) -> Result<Vec<u8>> {
    let mut rodata = tally.rodata.clone();
    options
        .iter()
        .try_for_each(|option| option.write(&mut rodata))?;
    Ok(rodata)
}

impl Tally {
    /// The tables with the columns that these options turn on.
    pub fn tables(&self, options: &[ResolvedOption]) -> Result<Vec<Table>> {
        let rodata = rodata_with(self, options)?;
        let tables = self.schema.in_force(&rodata).tables;
        Ok(self.schema.with_options(tables, &rodata))
    }
}

/// Arrays keep their size, because their keys are numbers of something.
fn resize(object: &mut OpenObject, tables: &[Table], max_rows: u32) -> Result<()> {
    for mut map in object.maps_mut() {
        let name = lossy(map.name());
        let is_table = tables.iter().any(|table| table.name == name);
        if is_table && !matches!(map.map_type(), MapType::Array | MapType::PercpuArray) {
            map.set_max_entries(max_rows)
                .with_context(|| format!("failed to resize table `{name}` to {max_rows} rows"))?;
        }
    }
    Ok(())
}

/// Pins of the object would outlive the run, and the next run would add to them.
fn pin_nothing(object: &mut OpenObject, warnings: &mut Vec<String>) -> Result<()> {
    for mut map in object.maps_mut() {
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

/// Selects whether a map is created that only some runs need.
pub(super) fn set_needed(object: &mut OpenObject, name: &str, is_needed: bool) -> Result<()> {
    let map = object.maps_mut().find(|map| map.name() == name);
    map.map_or(Ok(()), |mut map| map.set_autocreate(is_needed))
        .with_context(|| format!("failed to set up map `{name}`"))
}
