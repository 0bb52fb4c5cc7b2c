//! The BTF of modules. It goes on where that of the kernel ends: the number of its first
//! type is the next one, and so is the place of its first name.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};
use libbpf_rs::btf::{BtfKind, types};

use super::raw::{Head, Raw, text, written};
use super::walk::TRACEPOINT;
use super::{KernelBtf, parse_btf};
use crate::error::usage;
use crate::sys;

/// A loaded module, and what it adds to the kernel.
#[derive(Debug)]
pub(crate) struct Module {
    name: String,
    raw: Vec<u8>,
    pub(super) tracepoints: BTreeSet<String>,
    pub(super) functions: BTreeSet<String>,
    pub(super) enums: BTreeSet<String>,
}

impl Module {
    pub(crate) fn has(&self, event: &str) -> bool {
        self.tracepoints.contains(event) || self.functions.contains(event)
    }

    /// Without its types: those may be of the kernel.
    fn new(name: String, raw: Vec<u8>, kernel: &Raw<'_>) -> Option<Self> {
        let own = Raw::of(&raw)?;
        let name_at = |at: u32| {
            let at = at as usize;
            let text = match at.checked_sub(kernel.names.len()) {
                Some(at) => text(own.names, at)?,
                None => text(kernel.names, at)?,
            };
            std::str::from_utf8(text).ok()
        };
        let [mut tracepoints, mut functions, mut enums] = [(); 3].map(|()| BTreeSet::new());
        for Head { kind, name, .. } in own.heads() {
            match kind {
                BtfKind::Func => functions.extend(name_at(name).map(str::to_owned)),
                BtfKind::Enum | BtfKind::Enum64 => enums.extend(name_at(name).map(str::to_owned)),
                BtfKind::Typedef => {
                    let name = name_at(name).and_then(|it| it.strip_prefix(TRACEPOINT));
                    tracepoints.extend(name.map(str::to_owned));
                }
                _ => {}
            }
        }
        Some(Self {
            name,
            tracepoints,
            functions,
            enums,
            raw,
        })
    }
}

impl KernelBtf {
    /// The modules that are loaded and have BTF.
    pub(crate) fn modules(&self) -> &[Module] {
        self.modules.get_or_init(|| {
            let raw = sys::program::raw_btf(&self.btf);
            let Some(kernel) = Raw::of(&raw) else {
                return Vec::new();
            };
            let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
            let files = entries.filter(|it| it.file_name() != "vmlinux");
            // One that is unloaded meanwhile is none.
            let modules = files.filter_map(|file| {
                let name = file.file_name().into_string().ok()?;
                Module::new(name, fs::read(file.path()).ok()?, &kernel)
            });
            modules.collect()
        })
    }

    /// Those with such an event.
    pub(crate) fn modules_with(
        &self,
        with_functions: bool,
        is_wanted: &dyn Fn(&str) -> bool,
    ) -> impl Iterator<Item = &Module> {
        self.modules().iter().filter(move |it| {
            let functions = it.functions.iter().filter(|_| with_functions);
            it.tracepoints
                .iter()
                .chain(functions)
                .any(|name| is_wanted(name))
        })
    }

    /// The kernel's BTF together with that of the module that has one of these events;
    /// `None` where the kernel itself has them.
    pub(crate) fn with_module_of(&self, events: &[&str]) -> Result<Option<Self>> {
        let mut found: Option<(&Module, &str)> = None;
        for event in events.iter().filter(|event| !self.has_itself(event)) {
            let Some(module) = self.modules().iter().find(|it| it.has(event)) else {
                continue;
            };
            match found {
                Some((first, other)) if first.name != module.name => {
                    return Err(usage(format!(
                        "`{other}` is an event of module `{}`, and `{event}` of module `{}`; \
                         both have to be of one module, or one of the kernel itself",
                        first.name, module.name
                    )));
                }
                _ => found = Some((module, event)),
            }
        }
        found.map(|(module, _)| self.with(module)).transpose()
    }

    /// Its types are after those of the kernel.
    pub(crate) fn with(&self, module: &Module) -> Result<Self> {
        let raw = sys::program::raw_btf(&self.btf);
        let joined = Raw::of(&raw).zip(Raw::of(&module.raw));
        let (kernel, own) = joined.context("the BTF has no header")?;
        let types = [kernel.types, own.types].concat();
        let names = [kernel.names, own.names].concat();
        let btf = parse_btf(&written(&types, &names));
        Ok(Self {
            first: self.btf.len(),
            ..Self::new(btf.with_context(|| format!("the BTF of module `{}`", module.name))?)
        })
    }

    /// Whether this is an event of the kernel without its modules.
    fn has_itself(&self, event: &str) -> bool {
        self.has::<types::Func<'_>>(event)
            || self.has::<types::Typedef<'_>>(&format!("{TRACEPOINT}{event}"))
    }

    /// What a name alone means: functions of the kernel come before what modules have.
    pub(crate) fn means_tracepoint(&self, event: &str) -> bool {
        self.has::<types::Typedef<'_>>(&format!("{TRACEPOINT}{event}"))
            || !self.has::<types::Func<'_>>(event) && self.has_tracepoint(event)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::walk::Shape;
    use super::*;

    /// BTF as words and names, behind names that others have.
    struct Written {
        types: Vec<u32>,
        names: Vec<u8>,
        before: usize,
    }

    impl Written {
        fn behind(before: usize) -> Self {
            let (types, names) = (Vec::new(), Vec::new());
            Self {
                types,
                names,
                before,
            }
        }

        fn name(&mut self, name: &str) -> u32 {
            let at = self.before + self.names.len();
            self.names.extend([name.as_bytes(), &[0]].concat());
            at as u32
        }

        fn ty(&mut self, name: u32, kind: BtfKind, count: u32, size_or_type: u32, more: &[u32]) {
            let info = (kind as u32) << 24 | count;
            self.types
                .extend([&[name, info, size_or_type], more].concat());
        }

        fn raw(&self) -> Vec<u8> {
            let (types, names) = (4 * self.types.len() as u32, self.names.len() as u32);
            let header = [0x0001_eb9f, 24, 0, types, types, names];
            let words = header.iter().chain(&self.types);
            let words = words.flat_map(|word| word.to_le_bytes());
            words.chain(self.names.iter().copied()).collect()
        }
    }

    const INT: u32 = 1;
    const TASK: u32 = 2;

    /// `struct task { int pid; }`; also where the name of `pid` is.
    fn kernel() -> (Written, u32) {
        let mut kernel = Written::behind(0);
        kernel.name("");
        let [int, task, pid] = ["int", "task", "pid"].map(|name| kernel.name(name));
        kernel.ty(int, BtfKind::Int, 0, 4, &[1 << 24 | 32]);
        kernel.ty(task, BtfKind::Struct, 1, 4, &[pid, INT, 0]);
        (kernel, pid)
    }

    /// A tracepoint with a `struct made { struct task *owner; int pid; } *` and a function
    /// that is called `pid`.
    fn module(kernel: &(Written, u32), tracepoint: &str) -> Vec<u8> {
        const FIRST: u32 = TASK + 1;
        let (kernel, pid) = kernel;
        let mut own = Written::behind(kernel.names.len());
        let [made, owner, mode, fast] =
            ["made", "owner", "mode", "FAST"].map(|name| own.name(name));
        let event = own.name(&format!("btf_trace_{tracepoint}"));
        let caller = own.name(&format!("__traceiter_{tracepoint}"));
        own.ty(0, BtfKind::Ptr, 0, TASK, &[]);
        let members = [owner, FIRST, 0, *pid, INT, 64];
        own.ty(made, BtfKind::Struct, 2, 16, &members);
        own.ty(0, BtfKind::Ptr, 0, FIRST + 1, &[]);
        own.ty(0, BtfKind::FuncProto, 2, INT, &[0, FIRST, made, FIRST + 2]);
        own.ty(0, BtfKind::Ptr, 0, FIRST + 3, &[]);
        own.ty(event, BtfKind::Typedef, 0, FIRST + 4, &[]);
        own.ty(caller, BtfKind::Func, 0, FIRST + 3, &[]);
        own.ty(*pid, BtfKind::Func, 0, FIRST + 3, &[]);
        own.ty(mode, BtfKind::Enum, 1, 4, &[fast, 7]);
        own.raw()
    }

    /// With these modules loaded.
    fn host(modules: &[(&str, &[u8])]) -> (KernelBtf, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        for (name, raw) in modules {
            fs::write(folder.path().join(name), raw).unwrap();
        }
        let kernel = KernelBtf {
            folder: folder.path().into(),
            ..KernelBtf::new(parse_btf(&kernel().0.raw()).unwrap())
        };
        (kernel, folder)
    }

    #[test]
    fn types_of_a_module_lead_to_those_of_the_kernel() {
        let raw = module(&kernel(), "event");
        let (host, _folder) = host(&[("of_mine", &raw), ("vmlinux", b"")]);
        assert_eq!(host.tracepoints(), ["event"]);
        assert_eq!(host.functions(), ["__traceiter_event", "pid"]);
        assert!(host.has_tracepoint("event") && host.has_function("pid"));
        assert!(host.means_tracepoint("event") && !host.means_tracepoint("pid"));
        assert!(!host.has_tracepoint("pid") && !host.has_function("event"));
        assert!(host.tracepoint("event").is_none());
        let [fast] = &host.enum_variants("mode")[..] else {
            panic!("not one variant");
        };
        assert_eq!((&*fast.name, fast.value), ("FAST", 7));
        assert!(host.enum_variants("FAST").is_empty());
        assert!(host.with_module_of(&["task", "even"]).unwrap().is_none());

        let whole = host.with_module_of(&["task", "event"]).unwrap().unwrap();
        let [argument] = &whole.tracepoint("event").unwrap().arguments[..] else {
            panic!("not one argument");
        };
        assert_eq!(
            (&*argument.name, &*whole.c_name(argument.ty)),
            ("made", "struct made *")
        );
        let Shape::Pointer(made) = whole.node(argument.ty).shape else {
            panic!("not a pointer");
        };
        let members = whole.members(made);
        let members = members
            .iter()
            .map(|it| (&*it.name, whole.c_name(it.ty), it.bit_offset));
        let expected = [
            ("owner", "struct task *".to_owned(), 0),
            ("pid", "int".to_owned(), 64),
        ];
        assert!(members.eq(expected));
        let [tracepoints, functions] = whole.events();
        assert!(
            tracepoints.keys().eq(["event"]) && functions.keys().eq(["__traceiter_event", "pid"])
        );
    }

    #[test]
    fn two_events_are_of_one_module() {
        let raw = ["one", "two"].map(|event| module(&kernel(), event));
        let (host, _folder) = host(&[("first", &raw[0]), ("second", &raw[1])]);
        assert_eq!(host.tracepoints(), ["one", "two"]);
        assert!(host.with_module_of(&["one", "one"]).unwrap().is_some());
        let error = host.with_module_of(&["one", "two"]).err().unwrap();
        assert!(
            error
                .to_string()
                .starts_with("`one` is an event of module `first`, and `two` of module `second`")
        );
    }

    /// Whatever libbpf will say of their types.
    #[test]
    fn damaged_modules_are_passed_over() {
        let kernel = kernel();
        let (raw, of_kernel) = (module(&kernel, "event"), kernel.0.raw());
        let of_kernel = Raw::of(&of_kernel).unwrap();
        for len in 0..raw.len() {
            assert!(Module::new(String::new(), raw[..len].to_vec(), &of_kernel).is_none());
        }
        for at in 24..raw.len() {
            for byte in [0, 3, 0x7f, 0xff] {
                let mut raw = raw.clone();
                raw[at] = byte;
                let damaged = Module::new(String::new(), raw, &of_kernel);
                assert!(damaged.is_some_and(|it| it.functions.len() <= 8));
            }
        }
    }
}
