//! The live view in a terminal of 80x24.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::{Pid, setsid};
use serde_json::Value;

use crate::common::{Args, program};
use crate::instances::Host;
use crate::replace::own_tally;
use crate::support::{Child as Caller, event, is_slow, resize, terminal_of, wait_until};

/// A view, and its terminal.
pub struct Top {
    child: Child,
    keyboard: File,
    slave: File,
    before: Termios,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Top {
    pub fn start(line: &str) -> Self {
        Self::of(line.pass_to(program()))
    }

    pub fn of(mut command: Command) -> Self {
        let [mut master, slave] = terminal_of(80);
        let before = tcgetattr(&slave).unwrap();
        let ends = [(); 3].map(|()| slave.try_clone().unwrap());
        let [stdin, stdout, stderr] = ends;
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        // SAFETY: two system calls.
        unsafe {
            command.pre_exec(|| {
                setsid()?;
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let child = command.env("LANG", "C.UTF-8").spawn().unwrap();
        let written = Arc::new(Mutex::new(Vec::new()));
        let keyboard = master.try_clone().unwrap();
        let all = Arc::clone(&written);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = master.read(&mut buffer) {
                all.lock().unwrap().extend_from_slice(&buffer[..len]);
            }
        });
        Self {
            child,
            keyboard,
            slave,
            before,
            written,
        }
    }

    fn written(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    /// All texts of the screen, drawn anew.
    pub fn screen(&mut self) -> String {
        self.written.lock().unwrap().clear();
        self.types("\x0c");
        wait_until("it draws", || self.written().contains("? help"));
        without_escapes(&self.written())
    }

    pub fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    fn is_raw(&self) -> bool {
        tcgetattr(&self.slave).unwrap() != self.before
    }

    /// Ends it, and finds the terminal as it was.
    pub fn ends(mut self, end: impl FnOnce(&mut Self)) {
        wait_until("it takes the terminal", || self.is_raw());
        wait_until("it draws", || self.written().contains("? help"));
        end(&mut self);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.written());
        assert!(!self.is_raw());
        // The usual screen, the cursor, no mouse.
        for wanted in ["\x1b[?1049l", "\x1b[?25h", "\x1b[?1000l"] {
            wait_until("it leaves", || self.written().contains(wanted));
        }
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line where the cursor goes elsewhere.
fn without_escapes(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| ('@'..='~').contains(&c));
        let (escape, rest) = part.split_at(end.map_or(part.len(), |end| end + 1));
        plain.push_str(if escape.ends_with('H') { "\n" } else { "" });
        plain.push_str(rest);
    }
    plain
}

/// Threads that burn, write and fail, until it is done.
fn beside_busy_threads(act: impl FnOnce()) {
    let is_done = AtomicBool::new(false);
    let file = tempfile::NamedTempFile::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let burn = || {};
    let write = || {
        let mut file = file.reopen().unwrap();
        file.set_len(0).unwrap();
        file.write_all(&vec![1; 1 << 20]).unwrap();
    };
    let fail = || {
        // SAFETY: there is no such descriptor.
        unsafe { libc::close(-1) };
    };
    let repeat = |work: &(dyn Fn() + Sync)| {
        while !is_done.load(Ordering::Relaxed) {
            work();
        }
    };
    let works: [(&str, &(dyn Fn() + Sync)); 3] = [
        ("kt-burns", &burn),
        ("kt-writes", &write),
        ("kt-fails", &fail),
    ];
    thread::scope(|scope| {
        for (name, work) in works {
            let thread = thread::Builder::new().name(name.to_owned());
            thread.spawn_scoped(scope, move || repeat(work)).unwrap();
        }
        // Also where it panics.
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        is_done.store(true, Ordering::Relaxed);
        ended.unwrap();
    });
}

#[test]
fn what_burns_writes_and_fails_is_on_the_first_screen() {
    beside_busy_threads(|| {
        let started = Instant::now();
        // Emulated machines load programs slowly.
        let most = Duration::from_secs(if is_slow() { 60 } else { 5 });
        let mut top = Top::start("top");
        let mut screen = String::new();
        let names = ["kt-burns", "kt-writes", "kt-fails"];
        while !names.iter().all(|name| screen.contains(name)) {
            assert!(started.elapsed() < most, "{screen}");
            if top.is_raw() {
                screen = top.screen();
            }
            thread::sleep(Duration::from_millis(200));
        }
        top.ends(|top| top.types("q"));
    });
}

#[test]
fn the_terminal_is_left_as_it_was() {
    Top::start("top failures").ends(|top| top.types("q"));
    Top::start("top failures").ends(|top| top.types("/\x03"));
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        Top::start("top failures").ends(|top| {
            let pid = Pid::from_raw(top.child.id().try_into().unwrap());
            kill(pid, signal).unwrap();
        });
    }
}

#[test]
fn the_view_follows_the_size_of_its_terminal() {
    Top::start("top failures").ends(|top| {
        resize(&top.slave, 97, 31);
        wait_until("the keys stand in the last line", || {
            let written = top.written();
            written.contains("\x1b[31;1H") && !written.contains("\x1b[32;")
        });
        top.types("q");
    });
}

#[test]
fn what_was_recorded_is_shown_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording");
    let path = file.to_str().unwrap();
    let lines = || {
        std::fs::read_to_string(&file)
            .unwrap_or_default()
            .lines()
            .count()
    };
    // Killed: its last line may be cut.
    let top = Top::start(&format!("top syscalls --record {path}"));
    wait_until("it records", || lines() > 3);
    drop(top);
    let mut replay = Top::start(&format!("top --replay {path}"));
    wait_until("it draws", || replay.written().contains("? help"));
    let screen = replay.screen();
    for wanted in ["REPLAY", "--replay recording", "[syscalls]", "events/s"] {
        assert!(screen.contains(wanted), "no {wanted}: {screen}");
    }
    replay.ends(|replay| replay.keyboard.write_all(b" .,q").unwrap());
}

/// The rows of a tab in all lines of a recording that pass.
fn recorded(path: &Path, tab: u64, is_wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().skip(1).filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["tab"] == tab).then(|| line["rows"].as_array().unwrap().clone())
    });
    lines.flatten().filter(is_wanted).collect()
}

#[test]
fn programs_and_maps_are_shown_with_their_runs_and_entries() {
    let host = Host::new();
    let caller = Caller::new("kt-bpf", || (0..23_000).for_each(|_| event(0)));
    let own = own_tally("__u64", 1, "");
    host.good(["attach", &own.arg(), "--as", "seen", "--pid", &caller.pid()]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording");
    let line = [
        "top",
        "--bpf",
        "-i",
        "200ms",
        "--record",
        path.to_str().unwrap(),
    ];
    let is_pinned = |row: &Value| row["pins"].as_str().unwrap().contains("/ktally/seen/");
    let runs = || -> u64 {
        let rows = recorded(&path, 0, is_pinned).into_iter();
        rows.map(|row| row["runs"].as_u64().unwrap()).sum()
    };
    let is_table = |row: &Value| is_pinned(row) && row["name"] == "events";
    Top::of(line.pass_to(host.program())).ends(|top| {
        wait_until("the program is listed", || {
            !recorded(&path, 0, is_pinned).is_empty()
        });
        assert!(top.written().contains("measures"));
        caller.work();
        wait_until("its runs are counted", || runs() >= 23_000);
        wait_until("its table is listed", || {
            let last = recorded(&path, 1, is_table).pop();
            last.is_some_and(|row| row["used"] == 1 && row["max"] == 64 && row["memory"] != 0)
        });
        top.keyboard.write_all(b"q").unwrap();
    });
    let timed = recorded(&path, 0, |row| is_pinned(row) && row["runs"] != 0);
    let mean = timed[0]["mean"].as_u64().unwrap();
    assert_eq!(
        mean,
        timed[0]["time"].as_u64().unwrap() / timed[0]["runs"].as_u64().unwrap()
    );
    assert!(mean > 1 && mean < 1_000_000, "{mean}");
    host.good("detach --all");
}
