//! What libbpf says: kept, so that a failure can show the part that helps, and
//! printed at once where the user asked for it.

use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_void};
use std::io::{self, Write};
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};

use libbpf_rs::libbpf_sys;

use crate::text::{NEXT_LINE, escape};

static VERBOSE: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// libbpf speaks on the thread that loads: others may load meanwhile.
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// The verifier can say a lot; what matters is at its end.
const KEPT: usize = 4096;
const TAIL: usize = 12;
/// Of its instructions, the last ones.
const MOST_SHOWN: usize = 3;
const LOG_BEGINS: &str = "-- BEGIN PROG LOAD LOG --";
const LOG_ENDS: &str = "-- END PROG LOAD LOG --";
/// What comes behind the reason: statistics, and since 7.3 a report of a page.
const BEHIND: [&str; 2] = ["processed ", "Verification failed: "];

/// Whether libbpf's log goes to stderr as it comes.
pub(crate) fn set_verbose(verbose: bool) {
    VERBOSE.store(verbose, Ordering::Relaxed);
}

/// Prints what only those who ask for more want to know.
pub(crate) fn detail(message: &str) {
    if VERBOSE.load(Ordering::Relaxed) {
        let _ = writeln!(io::stderr(), "ktally: {}", escape(message));
    }
}

/// Starts to listen, with nothing kept.
pub(crate) fn listen() {
    let print: unsafe extern "C" fn(u32, *const c_char, *mut c_void) -> c_int = print;
    // SAFETY: only the type of a va_list has another name: see `btf_as_c`.
    let print: libbpf_sys::libbpf_print_fn_t = unsafe { mem::transmute(print) };
    // SAFETY: libbpf keeps a function that is always there.
    unsafe { libbpf_sys::libbpf_set_print(print) };
    LINES.with_borrow_mut(Vec::clear);
}

/// The one of libbpf-rs panics if a name in an object is not UTF-8.
unsafe extern "C" fn print(level: u32, format: *const c_char, args: *mut c_void) -> c_int {
    if level == libbpf_sys::LIBBPF_DEBUG && !VERBOSE.load(Ordering::Relaxed) {
        return 0;
    }
    // SAFETY: libbpf hands over a format and the arguments that fit it.
    let message = unsafe { vsprintf::vsprintf_raw(format, args) };
    receive(
        level,
        &String::from_utf8_lossy(&message.unwrap_or_default()),
    );
    0
}

fn receive(level: u32, message: &str) {
    let mut lines: Vec<String> = message.lines().map(escape).collect();
    if VERBOSE.load(Ordering::Relaxed) {
        // Without stderr there is nothing to print to.
        let _ = writeln!(io::stderr(), "{}", lines.join("\n"));
    }
    if level == libbpf_sys::LIBBPF_DEBUG {
        return;
    }
    LINES.with_borrow_mut(|kept| {
        kept.append(&mut lines);
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    });
}

/// What the verifier had against a program.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) program: String,
    /// On one line.
    pub(crate) reason: String,
    /// The line of C and the last instructions, an indented line
    /// each; empty if the whole log was printed already.
    pub(crate) place: String,
}

/// Whether it was the verifier that said no, and why.
pub(crate) fn refusal() -> Option<Refusal> {
    let mut refusal = LINES.with_borrow(|lines| refusal_in(lines))?;
    if VERBOSE.load(Ordering::Relaxed) {
        refusal.place.clear();
    }
    Some(refusal)
}

/// The verifier tells what it does instruction by instruction, then what it
/// stumbled over, then statistics. libbpf puts a line before and after it.
fn refusal_in(lines: &[String]) -> Option<Refusal> {
    let end = lines.iter().rposition(|line| line.contains(LOG_ENDS))?;
    let named = lines.iter().rfind(|line| line.contains("prog '"))?;
    let program = named.split('\'').nth(1)?.to_owned();
    let start = lines[..end]
        .iter()
        .rposition(|line| line.contains(LOG_BEGINS));
    // Of a long log the beginning is gone.
    let log = &lines[start.map_or(0, |start| start + 1)..end];
    let log: Vec<&str> = log
        .iter()
        .map(|line| line.trim())
        .filter(|line| !line.is_empty())
        .take_while(|line| !BEHIND.iter().any(|it| line.starts_with(it)))
        .collect();
    let is_trace = |line: &&str| line.starts_with([';', '(']) || is_instruction(line);
    let traced = log.iter().rposition(is_trace).map_or(0, |last| last + 1);
    let reason = match &log[traced..] {
        [] => return None,
        [.., a, b, c] => [*a, b, c].join(", "),
        few => few.join(", "),
    };
    let line = log[..traced]
        .iter()
        .rev()
        .find(|line| line.starts_with(';'));
    let is_shown = |line: &&&str| {
        line.split_once(": ")
            .is_some_and(|it| it.1.starts_with('('))
    };
    let instructions = log[..traced].iter().filter(is_shown);
    let last: Vec<&&str> = instructions.rev().take(MOST_SHOWN).collect();
    let place = line.into_iter().chain(last.into_iter().rev());
    Some(Refusal {
        program,
        reason,
        place: place.map(|line| format!("{NEXT_LINE}{line}")).collect(),
    })
}

/// `12: (85) call ...`, and `from 3 to 12: R0=...` where a branch is taken up.
fn is_instruction(line: &str) -> bool {
    let before = line.strip_prefix("from ").unwrap_or(line);
    before.starts_with(|c: char| c.is_ascii_digit()) && line.contains(": ")
}

/// The end of what libbpf warned about, an indented line each; empty if it was
/// printed already.
pub(crate) fn tail() -> String {
    if VERBOSE.load(Ordering::Relaxed) {
        return String::new();
    }
    // Its guess about memory locks is of kernels before 5.11.
    let noise = [LOG_BEGINS, LOG_ENDS, "try raising 'ulimit -l'"];
    LINES.with_borrow(|lines| {
        let useful: Vec<&String> = lines
            .iter()
            .filter(|line| !line.trim().is_empty())
            .filter(|line| !noise.iter().any(|noise| line.contains(noise)))
            .collect();
        useful[useful.len().saturating_sub(TAIL)..]
            .iter()
            .map(|line| format!("{NEXT_LINE}{line}"))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use libbpf_rs::ObjectBuilder;

    use super::*;

    fn refusal(log: &str) -> Option<Refusal> {
        let lines: Vec<String> = log.lines().map(str::to_owned).collect();
        refusal_in(&lines)
    }

    #[test]
    fn the_verifier_s_reason_is_found_in_its_log() {
        let log = "\
libbpf: prog 'p': BPF program load failed: -EACCES
libbpf: prog 'p': -- BEGIN PROG LOAD LOG --
0: R1=ctx() R10=fp0
; *v = 1; @ e4.bpf.c:4
22: (7b) *(u64 *)(r0 +0) = r1
R0 invalid mem access 'map_value_or_null'
processed 19 insns (limit 1000000)
-- END PROG LOAD LOG --
libbpf: prog 'p': failed to load: -EACCES";
        let found = refusal(log).unwrap();
        assert_eq!(found.program, "p");
        assert_eq!(found.reason, "R0 invalid mem access 'map_value_or_null'");
        assert_eq!(
            found.place,
            "\n    ; *v = 1; @ e4.bpf.c:4\n    22: (7b) *(u64 *)(r0 +0) = r1"
        );
        // Only its end is there.
        let cut = log.split_once("22: ").unwrap().1;
        assert_eq!(refusal(cut).unwrap().reason, found.reason);
        let report = "Verification failed: Register Type Safety: Invalid dereference\n\n\
                      At:\n  p @ e4.bpf.c:4:7\n  >>> 22 | (7b) *(u64 *)(r0 +0) = r1\n\n\
                      Suggestion:\n  Add a NULL check.\n\nprocessed 19";
        let explained = log.replace("processed 19", report);
        assert_eq!(refusal(&explained), Some(found));
    }

    #[test]
    fn names_of_strangers_are_no_danger() {
        // A field of its maps, which libbpf does not know.
        let object = include_bytes!(concat!(env!("OUT_DIR"), "/failures.bpf.o"));
        let mut object = object.to_vec();
        let at = object.windows(12).position(|it| it == b"max_entries\0");
        let at = at.unwrap();
        object[at..at + 11].copy_from_slice(b"max\xff\x1b[2J\rxx");
        listen();
        let opened = ObjectBuilder::default().open_memory(&object);
        assert!(opened.is_err());
        let tail = tail();
        assert!(tail.contains("\u{fffd}\\u{1b}[2J"), "{tail}");
        assert!(!tail.contains(['\x1b', '\r']), "{tail:?}");
    }

    #[test]
    fn without_a_log_it_was_not_the_verifier() {
        assert_eq!(refusal(""), None);
        assert_eq!(refusal("libbpf: prog 'p': failed to load: -EPERM"), None);
        let empty = "libbpf: prog 'p': -- BEGIN PROG LOAD LOG --\nprocessed 0 insns\n-- END PROG LOAD LOG --";
        assert_eq!(refusal(empty), None);
    }
}
