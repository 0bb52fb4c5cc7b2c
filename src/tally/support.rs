//! Whether this kernel can run a tally, and if not, why.

use std::cell::OnceCell;
use std::mem::MaybeUninit;
use std::path::Path;

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapType, ProgramType};

use super::binary;
use super::catalogue::Tally;
use super::section::{self, Program};
use crate::error::did_you_mean;
use crate::host::{self, Fact};
use crate::internal::probe::ProbeSkelBuilder;
use crate::schema::KernelBtf;
use crate::sys::map::NewMap;
use crate::sys::{self, log};

/// What the running kernel offers to attach to.
#[derive(Default)]
pub struct Support {
    has_btf: bool,
    btf: Option<KernelBtf>,
    lacks_capabilities: Option<String>,
    functions: OnceCell<Option<Vec<String>>>,
    fentry: OnceCell<Result<(), String>>,
    task_storage: OnceCell<bool>,
    long_keys: OnceCell<bool>,
}

impl Support {
    /// Reads the kernel's BTF, and this process's capabilities.
    pub fn probe() -> Self {
        Self {
            has_btf: host::has_btf(),
            btf: KernelBtf::load().ok(),
            lacks_capabilities: host::lacks_capabilities(),
            ..Self::default()
        }
    }

    /// The kernel's BTF, which it has read anyhow.
    pub(super) fn kernel(&self) -> Result<&KernelBtf> {
        self.btf
            .as_ref()
            .with_context(|| format!("this kernel has no BTF; {}", host::BTF_FIX))
    }

    /// Why a program of this section cannot attach here; `None` if nothing is known
    /// against it before loading.
    pub(crate) fn lacks(&self, section: &str) -> Option<String> {
        let (kind, target) = section::parse(section);
        match kind {
            _ if !section::is_attached(kind) => {
                Some(format!("ktally does not attach programs of `{section}`"))
            }
            // BTF that could not be read for another reason says nothing.
            "tp_btf" | "fentry" | "fexit" if !self.has_btf => {
                Some(format!("this kernel has no BTF; {}", host::BTF_FIX))
            }
            "tp_btf" | "raw_tp" | "raw_tracepoint" => match &self.btf {
                Some(btf) if !btf.has_tracepoint(target) => {
                    let known = btf.tracepoints();
                    let near = did_you_mean(target, known.iter().map(String::as_str));
                    Some(format!("this kernel has no tracepoint `{target}`{near}"))
                }
                _ => None,
            },
            "tracepoint" | "tp" => self.lacks_event(target),
            "kprobe" | "kretprobe" | "kprobe.multi" | "ksyscall" if !host::has_kprobes() => {
                Some("this kernel has no kprobes (CONFIG_KPROBES)".to_owned())
            }
            "kprobe" | "kretprobe" => self.lacks_function(target),
            "uprobe" | "uretprobe" => lacks_user_function(target),
            "fentry" | "fexit" => match &self.btf {
                Some(btf) if !btf.has_function(target) => {
                    let known = btf.functions();
                    let near = did_you_mean(target, known.iter().map(String::as_str));
                    Some(format!(
                        "this kernel has no function `{target}` to trace{near}"
                    ))
                }
                _ => self.lacks_fentry(),
            },
            _ => None,
        }
    }

    /// The same for a program of a tally, whose tags may say more than its section.
    pub(super) fn lacks_for(&self, tally: &Tally, (name, section): &Program) -> Option<String> {
        let (kind, target) = section::parse(section);
        let tags = tally.schema.functions.get(name);
        if tags.is_some_and(|tags| tags.attach.is_some()) {
            // Targets are checked before anything is loaded.
            let is_probe = ["kprobe", "kretprobe", "uprobe", "uretprobe", "perf_event"];
            return if is_probe.contains(&kind) {
                self.lacks(section)
            } else {
                None
            };
        }
        if !target.is_empty() && section::is_attached(kind) {
            return self.lacks(section);
        }
        let Some(form) = section::target_form(kind) else {
            return self.lacks(section);
        };
        let tag = match section::is_attached(kind) && !tally.schema.is_found {
            true => format!("write SEC(\"{kind}/TARGET\") or ATTACH(...), or "),
            false => String::new(),
        };
        Some(format!(
            "program `{name}` does not say what it attaches to: {tag}run with --attach {name}={form}"
        ))
    }

    fn lacks_event(&self, target: &str) -> Option<String> {
        let Some(tracefs) = host::tracefs_path() else {
            return Some(format!(
                "tracefs is not mounted: mount -t tracefs tracefs {}",
                host::TRACEFS[0]
            ));
        };
        let found = Path::new(tracefs).join("events").join(target).exists();
        (!found).then(|| format!("this kernel has no tracepoint `{target}`"))
    }

    fn lacks_function(&self, target: &str) -> Option<String> {
        let function = target.split('+').next().unwrap_or_default();
        let functions = self.functions.get_or_init(|| host::kernel_functions().ok());
        let known = functions
            .as_ref()?
            .binary_search_by(|it| it.as_str().cmp(function));
        let is_known = function.is_empty() || known.is_ok();
        (!is_known).then(|| {
            let names = functions.iter().flatten().map(String::as_str);
            let near = did_you_mean(function, names);
            format!("this kernel has no function `{function}` to probe{near}")
        })
    }

    fn lacks_fentry(&self) -> Option<String> {
        // Without privileges the attempt fails for that reason alone.
        if self.lacks_capabilities.is_some() {
            return None;
        }
        let tried = self
            .fentry
            .get_or_init(|| try_fentry().map_err(|error| format!("{error:#}")));
        let error = tried.as_ref().err()?;
        Some(format!(
            "this kernel refuses fentry programs ({error}); {FENTRY_FIX}"
        ))
    }

    /// Why a map of this type and key size cannot be created here.
    pub(super) fn lacks_map(&self, kind: MapType, key_size: u32) -> Option<String> {
        // Without privileges every kernel refuses all maps.
        if self.lacks_capabilities.is_some() {
            return None;
        }
        let lacks = |tried: &OnceCell<bool>, works: fn() -> bool| !tried.get_or_init(works);
        match kind {
            MapType::TaskStorage if lacks(&self.task_storage, has_task_storage) => Some(
                "this kernel has no task storage for tracing programs: it needs Linux 5.13"
                    .to_owned(),
            ),
            MapType::Hash | MapType::PercpuHash
                if key_size > SHORT_KEY && lacks(&self.long_keys, has_long_keys) =>
            {
                Some(format!(
                    "this kernel has no keys of more than {SHORT_KEY} bytes: they need Linux 5.11"
                ))
            }
            _ => None,
        }
    }

    /// The capabilities that every tally needs and this process lacks.
    pub(crate) fn lacks_capabilities(&self) -> Option<String> {
        self.lacks_capabilities.clone()
    }

    /// Why a tally cannot run here: missing capabilities, and a reason for each
    /// program and map that it needs.
    pub fn obstacles(&self, tally: &Tally) -> Vec<String> {
        let works = |programs: &[&Program]| self.can_attach(tally, programs);
        let duplicates = section::duplicates(tally, works);
        let is_needed = |program: &&Program| {
            !tally.is_optional(&program.0)
                && !self.is_replaced(tally, &program.0)
                && !duplicates.iter().any(|(other, _)| other == program)
        };
        let needed = tally.programs.iter().filter(is_needed);
        let lacks = |program| self.lacks_for(tally, program);
        let all = tally.programs.iter().map(lacks);
        let all: Option<Vec<String>> = all.filter(|_| tally.schema.is_found).collect();
        let maps = tally.maps.iter();
        let mut obstacles: Vec<String> = self
            .lacks_capabilities()
            .into_iter()
            .chain(tally.flaw())
            .chain(needed.filter_map(lacks))
            .chain(all.unwrap_or_default())
            .chain(maps.filter_map(|(kind, key_size)| self.lacks_map(*kind, *key_size)))
            .collect();
        obstacles.dedup();
        obstacles
    }

    /// Whether the kernel has what these programs attach to.
    pub(super) fn can_attach(&self, tally: &Tally, programs: &[&Program]) -> bool {
        let mut programs = programs.iter();
        programs.all(|program| self.lacks_for(tally, program).is_none())
    }

    /// Whether another of the program's alternatives is used here: the first
    /// whose event the kernel has, or else the last.
    pub(super) fn is_replaced(&self, tally: &Tally, program: &str) -> bool {
        let Some(group) = tally.alternative(program) else {
            return false;
        };
        let mut group = tally
            .programs
            .iter()
            .filter(|(name, _)| tally.alternative(name) == Some(group));
        let last = group.clone().next_back();
        let first = group.find(|(_, section)| self.lacks(section).is_none());
        first.or(last).is_some_and(|(name, _)| name != program)
    }
}

/// `PATH:FUNCTION`, and perhaps `+OFFSET`.
fn lacks_user_function(target: &str) -> Option<String> {
    let (path, function) = target.split_once(':')?;
    let function = function.split('+').next().unwrap_or_default();
    let found = binary::find(path).and_then(|file| binary::check_function(&file, function));
    found.err().map(|error| format!("{error:#}"))
}

/// MAX_BPF_STACK: the longest key of a hash before Linux 5.11.
const SHORT_KEY: u32 = 512;

/// Linux 5.11 and 5.12 have the map, but only for LSM programs: a10787e6d58c
/// ("bpf: Enable task local storage for tracing programs").
fn has_task_storage() -> bool {
    /// `BPF_FUNC_task_storage_get` of include/uapi/linux/bpf.h.
    const TASK_STORAGE_GET: u32 = 156;
    // Where the answer is unknown, loading will give it.
    let helper = ProgramType::Kprobe.is_helper_supported(TASK_STORAGE_GET);
    helper.unwrap_or(true)
}

fn has_long_keys() -> bool {
    let made = sys::map::create(
        &NewMap {
            type_number: MapType::Hash as u32,
            name: "long".to_owned(),
            key_size: SHORT_KEY + 1,
            value_size: 4,
            max_entries: 1,
            flags: 0,
        },
        None,
        None,
    );
    // Another error, like ENOMEM, says nothing about keys.
    !made.is_err_and(|error| error.raw_os_error() == Some(libc::E2BIG))
}

/// What a kernel needs for fentry programs.
const FENTRY_FIX: &str = if cfg!(target_arch = "aarch64") {
    "they need Linux 6.4 or later, built with CONFIG_FUNCTION_TRACER=y"
} else {
    "they need a kernel built with CONFIG_FUNCTION_TRACER=y"
};

impl Tally {
    /// Whether the tally goes on without this program. Objects of others do: their
    /// loaders choose among their programs.
    pub(crate) fn is_optional(&self, program: &str) -> bool {
        let tags = self.schema.functions.get(program);
        self.schema.is_found || tags.is_some_and(|tags| tags.optional)
    }

    /// The group of alternatives that this program belongs to.
    pub(super) fn alternative(&self, program: &str) -> Option<&str> {
        self.schema.functions.get(program)?.alternative.as_deref()
    }
}

/// Tries whether fentry programs attach.
pub fn fentry_fact() -> Fact {
    match try_fentry() {
        Ok(()) => Fact::good("fentry", "available"),
        Err(error) => {
            let fix = if host::lacks_capabilities().is_none() {
                FENTRY_FIX
            } else {
                "run ktally as root to find out more"
            };
            Fact::bad(
                "fentry",
                format!("this kernel refuses it: {error:#}"),
                format!("only for C files with fentry/ programs: {fix}"),
            )
        }
    }
}

fn try_fentry() -> Result<()> {
    log::listen();
    let mut storage = MaybeUninit::uninit();
    let loaded = ProbeSkelBuilder::default().open(&mut storage)?.load()?;
    drop(loaded.progs.fentry.attach()?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_btf_tp_btf_programs_cannot_attach() {
        let support = Support::default();
        let lack = support.lacks("tp_btf/sys_enter").unwrap();
        assert!(lack.contains("no BTF"), "{lack}");
        assert!(lack.contains("CONFIG_DEBUG_INFO_BTF"), "{lack}");
        // The kernel is asked for these when they are attached.
        assert_eq!(support.lacks("raw_tp/sys_enter"), None);
        assert_eq!(support.lacks("perf_event"), None);
    }

    #[test]
    fn functions_to_probe_are_looked_for() {
        let support = Support::probe();
        assert_eq!(support.lacks_function("vfs_read"), None);
        assert_eq!(support.lacks_function("vfs_read+0x10"), None);
        let lack = support.lacks_function("no_such_function").unwrap();
        assert!(lack.contains("no function `no_such_function`"), "{lack}");
        assert_eq!(support.lacks("uprobe/libc.so.6:malloc"), None);
        let lack = support.lacks("uretprobe/libc.so.6:no_such").unwrap();
        assert!(lack.contains("no function named `no_such`"), "{lack}");
        let lack = support.lacks("uprobe//no/such:main").unwrap();
        assert!(lack.contains("failed to open `/no/such`"), "{lack}");
    }
}
