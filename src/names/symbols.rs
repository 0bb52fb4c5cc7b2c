//! Names for addresses of code: `vfs_read+0x1c` in the kernel, and whole stacks
//! of the kernel and of processes, root first.
//!
//! User space's addresses mean something only together with what the process
//! had mapped, which is gone when the process is. So [`Symbols::remember`]
//! takes note of it meanwhile; names are looked up when they are shown, in the
//! files. A process that was not looked at while it lived has `[unknown]`
//! frames; a stripped file's frames are `[unknown] (libc.so.6)`.

use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::fs::{self, Metadata};
use std::hash::Hash;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use blazesym::inspect::{self, Inspector};
use blazesym::symbolize::source::{Elf, Kernel, Source};
use blazesym::symbolize::{Input, Symbolizer};
use blazesym::{MaybeDefault, SymType};

use super::mappings::{Mapping, code_of};

/// The functions that the symbol tables of an ELF file name; of a stripped file
/// those that others may call.
pub(crate) fn functions_of(file: &Path) -> Result<Vec<String>> {
    let source = inspect::source::Source::Elf(inspect::source::Elf {
        debug_syms: false,
        ..inspect::source::Elf::new(file)
    });
    let mut names = Vec::new();
    Inspector::new().for_each(&source, |symbol| {
        if symbol.sym_type == SymType::Function {
            names.push(symbol.name.to_string());
        }
        ControlFlow::Continue(())
    })?;
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// What was looked up, kept for the next row.
#[derive(Default)]
pub(super) struct Symbols {
    symbolizer: OnceCell<Symbolizer>,
    kernel: Cache<u64, Option<(String, u64)>>,
    open: RefCell<OpenFiles>,
    files: Cache<(Arc<Path>, u64), String>,
    processes: Cache<u32, Vec<Mapping>>,
}

/// Emptied when it is full.
type Cache<K, V> = RefCell<HashMap<K, V>>;

/// Of each cache: some megabytes at most.
const CACHED: usize = 16 << 10;

/// A frame of user space that no file is known for.
const UNKNOWN: &str = "[unknown]";

impl Symbols {
    /// `vfs_read+0x1c`; at a function's start the bare name.
    pub(super) fn kernel(&self, address: u128) -> Option<String> {
        let (name, offset) = self.kernel_function(u64::try_from(address).ok()?)?;
        Some(match offset {
            0 => name,
            _ => format!("{name}+{offset:#x}"),
        })
    }

    /// A stack of the kernel: `struct tally_kstack`.
    pub(super) fn kernel_stack(&self, stack: &[u8]) -> String {
        join(stack, |address, known_by| {
            let function = self.kernel_function(known_by);
            function.map_or_else(|| hex(address), |(name, _)| name)
        })
    }

    /// A stack of a process: `struct tally_ustack`.
    pub(super) fn user_stack(&self, stack: &[u8]) -> String {
        let Some((pid, stack)) = process(stack) else {
            return String::new();
        };
        if !self.processes.borrow().contains_key(&pid) {
            self.look_at(pid);
        }
        let processes = self.processes.borrow();
        let mappings = processes.get(&pid).map_or(&[][..], Vec::as_slice);
        join(stack, |_, address| {
            let mapping = mappings.iter().find(|mapping| mapping.holds(address));
            mapping.map_or_else(
                || UNKNOWN.to_owned(),
                |mapping| self.in_file(&mapping.file, address - mapping.start + mapping.offset),
            )
        })
    }

    /// Takes note of what a process has mapped, while it lives, where that is
    /// not known yet: a new process, a new program, a new library.
    pub(super) fn remember(&self, pid: u32, address: u64) {
        let processes = self.processes.borrow();
        let known = processes.get(&pid).is_some_and(|mappings| {
            let mut mappings = mappings.iter();
            mappings.any(|mapping| mapping.holds(address))
        });
        drop(processes);
        if !known {
            self.look_at(pid);
        }
    }

    /// What it had mapped before stays known behind what it has now, for rows
    /// of before an exec.
    fn look_at(&self, pid: u32) {
        let Some(mut mappings) = code_of(pid) else {
            return;
        };
        let mut processes = self.processes.borrow_mut();
        if let Some(before) = processes.get(&pid) {
            let gone = before.iter().filter(|old| !mappings.contains(old));
            let gone: Vec<Mapping> = gone.cloned().collect();
            mappings.extend(gone);
        }
        mappings.truncate(CACHED / 8);
        // A process has tens of them.
        if processes.len() >= CACHED / 8 {
            processes.clear();
        }
        processes.insert(pid, mappings);
    }

    fn kernel_function(&self, address: u64) -> Option<(String, u64)> {
        if let Some(known) = self.kernel.borrow().get(&address) {
            return known.clone();
        }
        // kallsyms knows modules and BPF programs too; a vmlinux is seldom there.
        let source = Source::Kernel(Kernel {
            vmlinux: MaybeDefault::None,
            debug_syms: false,
            ..Kernel::default()
        });
        let symbolizer = self.symbolizer.get_or_init(symbolizer);
        let symbol = symbolizer.symbolize_single(&source, Input::AbsAddr(address));
        let function = symbol.ok().and_then(|symbol| {
            let symbol = symbol.as_sym()?;
            Some((symbol.name.to_string(), symbol.offset as u64))
        });
        insert(&mut self.kernel.borrow_mut(), address, function.clone());
        function
    }

    fn in_file(&self, file: &Arc<Path>, offset: u64) -> String {
        let key = (Arc::clone(file), offset);
        if let Some(known) = self.files.borrow().get(&key) {
            return known.clone();
        }
        let name = self.open.borrow_mut().name(file, offset);
        let name = name.unwrap_or_else(|| {
            let module = file.file_name().unwrap_or(file.as_os_str());
            format!("{UNKNOWN} ({})", module.to_string_lossy())
        });
        insert(&mut self.files.borrow_mut(), key, name.clone());
        name
    }
}

fn symbolizer() -> Symbolizer {
    Symbolizer::builder().enable_code_info(false).build()
}

/// Programs and libraries that names come from. They stay open, each with the
/// file of its debug information where it has one, until there are
/// [`OpenFiles::MOST`]; then all of them are let go.
#[derive(Default)]
struct OpenFiles {
    symbolizer: OnceCell<Symbolizer>,
    known: HashSet<[i64; 5]>,
}

impl OpenFiles {
    const MOST: usize = 32;

    fn name(&mut self, file: &Path, offset: u64) -> Option<String> {
        let identity = identity(&fs::metadata(file).ok()?);
        if self.known.len() >= Self::MOST && !self.known.contains(&identity) {
            *self = Self::default();
        }
        self.known.insert(identity);
        let source = Source::Elf(Elf::new(file));
        let symbolizer = self.symbolizer.get_or_init(symbolizer);
        let symbol = symbolizer.symbolize_single(&source, Input::FileOffset(offset));
        let name = symbol.ok()?.as_sym()?.name.to_string();
        (!name.is_empty()).then_some(name)
    }
}

/// What is new where a path is that of another file, or the file was changed:
/// the symbolizer opens it once more then.
fn identity(file: &Metadata) -> [i64; 5] {
    [
        file.dev() as i64,
        file.ino() as i64,
        file.size() as i64,
        file.mtime(),
        file.mtime_nsec(),
    ]
}

/// The process that a `struct tally_ustack` is of, and its addresses.
pub(super) fn process(stack: &[u8]) -> Option<(u32, &[u8])> {
    let (pid, rest) = stack.split_first_chunk()?;
    Some((u32::from_ne_bytes(*pid), rest.get(4..)?))
}

/// The addresses as they are, root first.
pub(super) fn raw(stack: &[u8]) -> String {
    let mut numbers: Vec<String> = words(stack).map(hex).collect();
    numbers.reverse();
    numbers.join(";")
}

fn hex(address: u64) -> String {
    format!("{address:#x}")
}

/// Up to the first zero, the innermost first.
fn words(stack: &[u8]) -> impl Iterator<Item = u64> {
    let words = stack.chunks_exact(8);
    words
        .map(|word| {
            word.iter()
                .rev()
                .fold(0, |n, byte| n << 8 | u64::from(*byte))
        })
        .take_while(|address| *address != 0)
}

/// Root first, as flame-graph tools want it. Callers are known by the call and
/// not by where it returns to, which may be in another function.
fn join(stack: &[u8], name: impl Fn(u64, u64) -> String) -> String {
    let mut names: Vec<String> = words(stack)
        .enumerate()
        .map(|(depth, address)| name(address, address - u64::from(depth > 0)))
        .map(|name| name.replace(';', ":"))
        .collect();
    names.reverse();
    names.join(";")
}

fn insert<K: Eq + Hash, V>(cache: &mut HashMap<K, V>, key: K, value: V) {
    if cache.len() >= CACHED {
        cache.clear();
    }
    cache.insert(key, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[unsafe(no_mangle)]
    #[inline(never)]
    extern "C" fn kt_a_function_to_find() -> u32 {
        std::process::id()
    }

    fn stack(pid: u32, addresses: &[u64]) -> Vec<u8> {
        let mut bytes = pid.to_ne_bytes().to_vec();
        bytes.extend([0; 4]);
        for address in addresses.iter().chain(&[0, 7]) {
            bytes.extend(address.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn functions_of_this_process_have_names() {
        let symbols = Symbols::default();
        let pid = kt_a_function_to_find();
        let function = kt_a_function_to_find as *const () as u64;
        // A caller is known by the address behind its call.
        let here = stack(pid, &[function, function + 1]);
        let name = "kt_a_function_to_find;kt_a_function_to_find";
        assert_eq!(symbols.user_stack(&here), name);
        assert_eq!(symbols.user_stack(&stack(pid, &[8])), "[unknown]");
        assert_eq!(symbols.user_stack(&stack(pid, &[])), "");
        assert_eq!(symbols.user_stack(&[1]), "");
        // No process has this id, and none did.
        assert_eq!(symbols.user_stack(&stack(u32::MAX, &[9])), "[unknown]");
        assert_eq!(
            raw(&here[8..]),
            format!("{:#x};{function:#x}", function + 1)
        );
    }

    #[test]
    fn functions_of_a_file_are_those_of_its_symbol_tables() {
        let own = functions_of(&std::env::current_exe().unwrap()).unwrap();
        assert!(own.iter().any(|name| name == "kt_a_function_to_find"));
        assert!(own.is_sorted() && !own.iter().any(String::is_empty));
        assert!(functions_of(Path::new("/etc/passwd")).is_err());
    }

    #[test]
    fn few_files_stay_open() {
        let folder = tempfile::tempdir().unwrap();
        let symbols = Symbols::default();
        let name = |file: &str, text: &str| {
            let path = folder.path().join(file);
            fs::write(&path, text).unwrap();
            symbols.in_file(&path.into(), text.len() as u64)
        };
        let opened = || {
            let files = fs::read_dir("/proc/self/fd").unwrap();
            let files = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
            files.filter(|it| it.starts_with(folder.path())).count()
        };
        for i in 1..=3 * OpenFiles::MOST {
            assert_eq!(name(&i.to_string(), "text"), format!("[unknown] ({i})"));
            assert_eq!(opened(), (i - 1) % OpenFiles::MOST + 1);
        }
        // One that is another each time.
        for i in 1..=3 * OpenFiles::MOST {
            assert_eq!(name("again", &"x".repeat(i)), "[unknown] (again)");
            assert!((1..=OpenFiles::MOST).contains(&opened()), "{}", opened());
        }
        drop(symbols);
        assert_eq!(opened(), 0);
    }

    #[test]
    fn what_a_process_had_mapped_stays_known() {
        let symbols = Symbols::default();
        let mut sleeper = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = sleeper.id();
        // Until it is `sleep`, and not us any more.
        let maps = || fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        while !maps().contains("/sleep") || !maps().contains("libc") {
            std::thread::yield_now();
        }
        symbols.remember(pid, 8);
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        let start = symbols.processes.borrow()[&pid]
            .iter()
            .find(|mapping| mapping.file.ends_with("sleep"))
            .map(|mapping| mapping.start)
            .unwrap();
        let frame = symbols.user_stack(&stack(pid, &[start + 1]));
        assert!(frame.contains("(sleep)"), "{frame}");
    }

    #[test]
    fn the_kernel_names_its_functions() {
        let symbols = Symbols::default();
        let kallsyms = fs::read_to_string("/proc/kallsyms").unwrap();
        let line = kallsyms.lines().find(|line| line.ends_with(" T vfs_read"));
        let address = line
            .and_then(|line| line.split_once(' '))
            .map(|(hex, _)| hex);
        let address = u64::from_str_radix(address.unwrap(), 16).unwrap();
        if address == 0 {
            // Hidden from this user (kptr_restrict): no names, but numbers.
            assert_eq!(symbols.kernel(0xffff_ffff_8100_0000), None);
            return;
        }
        assert_eq!(symbols.kernel(address.into()).as_deref(), Some("vfs_read"));
        let inside = symbols.kernel(u128::from(address) + 4);
        assert_eq!(inside.as_deref(), Some("vfs_read+0x4"));
        assert_eq!(symbols.kernel(8), None);
        let mut stack = (address + 4).to_ne_bytes().to_vec();
        stack.extend((address + 1).to_ne_bytes());
        stack.extend(9u64.to_ne_bytes());
        assert_eq!(symbols.kernel_stack(&stack), "0x9;vfs_read;vfs_read");
    }
}
