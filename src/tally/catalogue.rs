//! The tallies of `src/bpf/`, which the build found, and those that a user names by the
//! path of a C file or an object.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use libbpf_rs::MapType;

use super::code;
use super::compile;
use super::follow::FOLLOWED;
use super::section::runs_on_request;
use super::skeleton::{self, Opened};
use crate::error::{unknown, usage};
use crate::schema::{Hints, Schema, kernel_btf_for, raw_btf};
use crate::sys::{self, log};

/// A tally of `src/bpf/`, with its generated skeleton.
struct Builtin {
    name: &'static str,
    open: fn(Option<File>) -> libbpf_rs::Result<Box<dyn Opened>>,
}

include!(concat!(env!("OUT_DIR"), "/catalogue.rs"));

pub(crate) fn builtin_names() -> impl Iterator<Item = &'static str> {
    CATALOGUE.iter().map(|builtin| builtin.name)
}

/// A tally: its object, and what its BTF declares.
pub struct Tally {
    /// The built-in's, or the file's without its endings.
    pub name: String,
    /// From the object's BTF.
    pub schema: Schema,
    /// The name and section of each program that counts.
    pub programs: Vec<(String, String)>,
    /// Whether to load every kind of program for an event, and not only the
    /// first that works.
    pub(crate) all_programs: bool,
    /// Whether its tables have a copy of each row for each CPU.
    pub(crate) per_cpu_rows: bool,
    /// Whether its programs are loaded with the instruction that raises maxima.
    has_maxima: bool,
    /// The initial contents of `.rodata`, where the options' defaults are.
    pub rodata: Vec<u8>,
    /// The object's own BTF, with all tags; the kernel may get less.
    pub(crate) btf: Vec<u8>,
    /// The type and key size of each map that every run needs.
    pub(super) maps: Vec<(MapType, u32)>,
    /// Of a query, the C file that says the same.
    pub(crate) as_c: Option<String>,
    object: Source,
}

enum Source {
    Builtin(&'static Builtin),
    File(Vec<u8>),
}

impl Tally {
    /// A built-in tally by its name, or a file by its path (anything with a
    /// `/` or one of the endings `.bpf.c`, `.bpf.o`, `.c`, `.o`). A C file is
    /// compiled first.
    pub fn find(name: &OsStr) -> Result<Self> {
        Self::find_with(name, &[])
    }

    /// The same, with flags for clang.
    pub fn find_with(name: &OsStr, flags: &[OsString]) -> Result<Self> {
        let path = Path::new(name);
        let extension = path.extension().and_then(OsStr::to_str);
        let is_path = path.components().count() > 1 || name.as_encoded_bytes().contains(&b'/');
        if is_path || matches!(extension, Some("c" | "o")) {
            return Self::from_file(path, flags);
        }
        Self::builtin(name)
    }

    /// A built-in tally by its name.
    pub(crate) fn builtin(name: &OsStr) -> Result<Self> {
        let text = name.to_string_lossy();
        match CATALOGUE.iter().find(|builtin| builtin.name == text) {
            Some(builtin) => Self::from_builtin(builtin),
            None => Err(match Self::like(&text)? {
                Some(hint) => usage(hint),
                None => unknown("tally", &text, builtin_names()),
            }),
        }
    }

    /// For the name of another tool, a message with the tallies for the same question.
    pub(crate) fn like(word: &str) -> Result<Option<String>> {
        let mut tallies = Self::builtins()?;
        tallies.retain(|it| it.schema.like.iter().any(|like| like == word));
        let lines = tallies.iter().map(|it| format!("`ktally run {}`", it.name));
        let lines = lines.collect::<Vec<_>>().join(" or ");
        Ok((!lines.is_empty()).then(|| format!("`{word}` is another tool; write {lines}")))
    }

    /// The built-in tallies that have this text in their names, in what they say of
    /// themselves, or in the names of other tools.
    pub(crate) fn search(text: &str) -> Result<Vec<Self>> {
        let text = text.to_lowercase();
        let has_it = |word: &str| word.to_lowercase().contains(&text);
        let mut found = Self::builtins()?;
        found.retain(|it| {
            let tables = it.schema.tables.iter();
            let words = tables.flat_map(|table| {
                let overview = table.overview.iter().map(|line| &line.what);
                let metrics = table.metrics.iter();
                let metrics = metrics.flat_map(|it| [&it.name, &it.help]);
                overview.chain(metrics).chain([&table.help])
            });
            let words = words.chain(&it.schema.like).chain([&it.name]);
            words.map(String::as_str).chain([it.summary()]).any(has_it)
        });
        Ok(found)
    }

    /// The object of a C file.
    pub(crate) fn compile(path: &Path, flags: &[OsString]) -> Result<Vec<u8>> {
        compile::compile(path, flags)
    }

    /// Every built-in tally, by name.
    pub fn builtins() -> Result<Vec<Self>> {
        CATALOGUE.iter().map(Self::from_builtin).collect()
    }

    fn from_builtin(builtin: &'static Builtin) -> Result<Self> {
        Self::open(builtin.name.to_owned(), Source::Builtin(builtin))
    }

    fn from_file(path: &Path, flags: &[OsString]) -> Result<Self> {
        let shown = path.display();
        let file_name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = file_name.split('.').next().unwrap_or_default();
        if name.is_empty() {
            return Err(usage(format!(
                "`{shown}` names no tally: the file has no name before its ending"
            )));
        }
        // Reading a pipe would wait for its writer.
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(usage(format!("`{shown}` is not a file")));
        }
        let object = match path.extension().and_then(OsStr::to_str) {
            Some("c") => compile::compile(path, flags)?,
            Some("o") => fs::read(path)
                .map_err(|error| usage(format!("failed to read `{shown}`: {error}")))?,
            _ => {
                return Err(usage(format!(
                    "`{shown}` is not a tally; name one of `ktally list`, a .bpf.c or a .bpf.o file"
                )));
            }
        };
        Self::open(name.to_owned(), Source::File(object))
            .with_context(|| format!("failed to open `{shown}`"))
    }

    /// An object of this program's own.
    pub(super) fn of_object(name: &str, object: Vec<u8>) -> Result<Self> {
        Self::open(name.to_owned(), Source::File(object))
    }

    fn open(name: String, object: Source) -> Result<Self> {
        let opened = object.open(&name, None)?;
        let mut schema = Schema::of_object(opened.object())?;
        if let (true, Source::File(object)) = (schema.is_found, &object) {
            schema.set_apart(&code::deleted_from(object));
        }
        let programs = opened
            .object()
            .progs()
            // libbpf loads programs of `SEC("?...")` only on request.
            .filter(libbpf_rs::OpenProgramImpl::autoload)
            .map(|program| (lossy(program.name()), lossy(program.section())))
            .filter(|(name, section)| !runs_on_request(section) && !schema.runs_at_start(name))
            .collect();
        let rodata = opened
            .object()
            .maps()
            .find(|map| is_section(map.name(), ".rodata"))
            .and_then(|map| map.initial_value().map(<[u8]>::to_vec))
            .unwrap_or_default();
        if let Some(fault) = schema.fault(&rodata) {
            return Err(usage(format!("tally `{name}`: {fault}")));
        }
        let btf = raw_btf(opened.object())?;
        let unneeded = schema.unneeded_maps(&rodata);
        let maps = opened
            .object()
            .maps()
            .filter(|map| map.name() != FOLLOWED && !unneeded.contains(&&*lossy(map.name())))
            .map(|map| (map.map_type(), map.key_size()))
            .collect();
        let mut tally = Self {
            name,
            schema,
            programs,
            all_programs: false,
            per_cpu_rows: false,
            has_maxima: true,
            rodata,
            btf,
            maps,
            as_c: None,
            object,
        };
        if tally.schema.maxima.is_some() && !sys::program::can_compare_and_exchange() {
            tally.leave_out_maxima();
        }
        Ok(tally)
    }

    /// For kernels that refuse the instruction that raises maxima: the tally goes on
    /// without these columns.
    pub fn leave_out_maxima(&mut self) {
        self.has_maxima = false;
        let flag = self.schema.maxima.as_ref().map(|flag| flag.bit_offset / 8);
        if let Some(flag) = flag.and_then(|flag| self.rodata.get_mut(flag)) {
            *flag = 0;
        }
    }

    /// One line; empty if the object declares none.
    pub fn summary(&self) -> &str {
        self.schema.summary.as_deref().unwrap_or_default()
    }

    /// Why this tally cannot count on any host.
    pub(super) fn flaw(&self) -> Option<String> {
        let why = if self.schema.is_found {
            "iterators and the like run only on request, and there is nothing to count"
        } else {
            "see SEC(...) in ktally.bpf.h"
        };
        self.programs.is_empty().then(|| {
            format!(
                "tally `{}` has no program that counts by itself: {why}",
                self.name
            )
        })
    }

    /// The object of a file.
    pub(super) fn object(&self) -> Option<&[u8]> {
        match &self.object {
            Source::File(object) => Some(object),
            _ => None,
        }
    }

    /// What an object of others has beside tables, in sentences.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let names = |names: Vec<&str>| format!("`{}`", names.join("`, `"));
        let Schema {
            senders, states, ..
        } = &self.schema;
        let mut remarks = Vec::new();
        if self.schema.is_found && !senders.is_empty() {
            let through = names(senders.iter().map(String::as_str).collect());
            remarks.push(format!(
                "`{}` sends events through {through}; nothing to count there",
                self.name
            ));
        }
        if !states.is_empty() {
            let states = states.iter().map(|table| table.name.as_str());
            let all: Vec<&str> = states.collect();
            remarks.push(format!(
                "{} holds what is under way, as programs delete from it: --tables {} shows it",
                names(all.clone()),
                all.join(",")
            ));
        }
        if self.schema.tables.is_empty() {
            remarks.push(format!("`{}` counts in no map and no variable", self.name));
        }
        remarks
    }

    /// Whether it has a program of this name that counts.
    pub(crate) fn has_program(&self, name: &str) -> bool {
        self.programs.iter().any(|(program, _)| program == name)
    }

    /// Follows what a user says about it in place of tags. `targets` are what programs
    /// attach to, by their names.
    pub(crate) fn adapt(&mut self, hints: &Hints, targets: &[(String, String)]) -> Result<()> {
        for (program, target) in targets {
            if !self.has_program(program) {
                let known = self.programs.iter().map(|(name, _)| name.as_str());
                return Err(unknown("program", program, known));
            }
            let tags = self.schema.functions.entry(program.clone()).or_default();
            tags.attach = Some(target.clone());
        }
        self.schema.adapt(hints)
    }

    /// Opens the object again, to load it.
    pub(super) fn reopen(&self) -> Result<Box<dyn Opened>> {
        // Files may seek types of modules.
        let btf = match self.object {
            Source::Builtin(_) => kernel_btf_for(&self.btf),
            Source::File(_) => None,
        };
        let mut opened = self.object.open(&self.name, btf)?;
        if !self.has_maxima {
            for program in opened.object_mut().progs_mut() {
                sys::program::take_out_compare_and_exchange(&program).with_context(|| {
                    format!("failed to change program `{}`", lossy(program.name()))
                })?;
            }
        }
        Ok(opened)
    }
}

impl Source {
    /// The types of the kernel are in `btf`, or in the kernel's own BTF.
    fn open(&self, name: &str, btf: Option<File>) -> Result<Box<dyn Opened>> {
        log::listen();
        let opened = match self {
            Self::Builtin(builtin) => (builtin.open)(btf),
            Self::File(object) => skeleton::open_file(name, object),
        };
        opened.map_err(|error| {
            let tail = log::tail();
            let hint = if tail.contains("legacy map definitions") {
                "; declare its maps in SEC(\".maps\"), and compile it again"
            } else if tail.contains("BTF") {
                "; compile it again with -g"
            } else {
                ""
            };
            anyhow!("tally `{name}` is not a BPF object that libbpf can open: {error}{hint}{tail}")
        })
    }
}

/// Whether a map is this section of the object: libbpf prefixes the usual sections with
/// the object's name.
pub(super) fn is_section(map: &OsStr, section: &str) -> bool {
    map.to_str().is_some_and(|map| map.ends_with(section))
}

/// Whether a table is this map of an object.
pub(super) fn is_map_of(map: &OsStr, table: &str) -> bool {
    match table.starts_with('.') {
        true => is_section(map, table),
        false => map == table,
    }
}

pub(super) fn lossy(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tally({})", self.name)
    }
}
