//! What libbpf says: kept, so that a failure can show the part that helps, and
//! printed at once where the user asked for it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use libbpf_rs::{PrintLevel, set_print};

static VERBOSE: AtomicBool = AtomicBool::new(false);
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The verifier can say a lot; what matters is at its end.
const KEPT: usize = 4096;
const TAIL: usize = 12;

/// Whether libbpf's log goes to stderr as it comes.
pub fn set_verbose(verbose: bool) {
    VERBOSE.store(verbose, Ordering::Relaxed);
}

/// Starts to listen, with nothing kept.
pub fn listen() {
    set_print(Some((PrintLevel::Debug, receive)));
    if let Ok(mut lines) = LINES.lock() {
        lines.clear();
    }
}

fn receive(level: PrintLevel, message: String) {
    if VERBOSE.load(Ordering::Relaxed) {
        eprint!("{message}");
    }
    if matches!(level, PrintLevel::Debug) {
        return;
    }
    if let Ok(mut lines) = LINES.lock() {
        lines.extend(message.lines().map(str::to_owned));
        let surplus = lines.len().saturating_sub(KEPT);
        lines.drain(..surplus);
    }
}

/// The end of what libbpf warned about, an indented line each; empty if it was
/// printed already.
pub fn tail() -> String {
    if VERBOSE.load(Ordering::Relaxed) {
        return String::new();
    }
    let Ok(lines) = LINES.lock() else {
        return String::new();
    };
    let useful: Vec<&String> = lines
        .iter()
        .filter(|line| {
            !line.trim().is_empty()
                && !line.contains("-- BEGIN PROG LOAD LOG --")
                && !line.contains("-- END PROG LOAD LOG --")
        })
        .collect();
    useful[useful.len().saturating_sub(TAIL)..]
        .iter()
        .map(|line| format!("\n    {line}"))
        .collect()
}
