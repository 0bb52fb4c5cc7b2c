//! `ktally run` as a process: how it ends, and that nothing outlives it.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ktally::map::Map;
use ktally::sys;
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

use crate::common::{
    Args, Ended, PROGRAM, assert_has, command, end, full, json, json_lines, ktally, program,
};
use crate::instances::Host;
use crate::objects::{Objects, maps_called};
use crate::support::{
    Child, Impossible, Source, ask_for_parent, event, fail_to_open, mount_new, needs, own_mounts,
    require_root, wait_until,
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A program in the background, killed when dropped.
pub struct Run {
    args: Vec<OsString>,
    process: process::Child,
    stdout: Option<BufReader<ChildStdout>>,
    // Drained all along: libbpf's log fills a pipe.
    stderr: Option<JoinHandle<String>>,
    counting: Receiver<Result<(), Impossible>>,
}

impl Run {
    /// `ktally run`.
    pub fn start(args: impl Args) -> Self {
        require_root();
        let mut ktally = program();
        ktally.arg("run");
        Self::of(&mut args.pass_to(ktally))
    }

    pub fn of(command: &mut Command) -> Self {
        Self::with_output(command, Stdio::piped())
    }

    pub fn with_output(command: &mut Command, output: impl Into<Stdio>) -> Self {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = process.stdout.take().map(BufReader::new);
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let (tell, counting) = channel();
        let stderr = thread::spawn(move || {
            let mut said = String::new();
            for line in stderr.lines() {
                let line = line.unwrap();
                if line.contains("counting") {
                    let _ = tell.send(Ok(()));
                } else if let Some(impossible) = Impossible::told_by(&line) {
                    let _ = tell.send(Err(impossible));
                }
                said += &line;
                said += "\n";
            }
            said
        });
        Self {
            args: command.get_args().map(Into::into).collect(),
            process,
            stdout,
            stderr: Some(stderr),
            counting,
        }
    }

    /// Goes on once it counts.
    #[track_caller]
    pub fn counting(args: impl Args) -> Self {
        require_root();
        let mut ktally = program();
        ktally.args(["run", "-v"]);
        let run = Self::of(&mut args.pass_to(ktally));
        run.wait_until_counting();
        run
    }

    /// As `-v` makes it say.
    #[track_caller]
    pub fn wait_until_counting(&self) {
        let told = self.counting.recv_timeout(PATIENCE);
        if let Err(impossible) = told.expect("no word that it is counting") {
            impossible.end();
        }
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: a process of ours that is not reaped yet.
        let ret = unsafe { libc::kill(self.process.id() as i32, signal) };
        assert_eq!(ret, 0);
    }

    /// Its next line on stdout.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        line
    }

    /// Its next reading.
    #[track_caller]
    pub fn next(&mut self) -> Value {
        json(&self.line())
    }

    /// Waits for its end; then also what it still wrote.
    pub fn end(&mut self) -> Ended {
        let stdout = self.stdout.take();
        let stdout = thread::spawn(move || {
            let mut rest = Vec::new();
            stdout.map(|mut it| it.read_to_end(&mut rest).unwrap());
            rest
        });
        let mut status = None;
        wait_until("ktally ends", || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        });
        let output = Output {
            status: status.unwrap(),
            stdout: stdout.join().unwrap(),
            stderr: self.stderr.take().unwrap().join().unwrap().into(),
        };
        Ended::new(self.args.iter(), output)
    }

    /// Interrupts it, and waits for its end.
    pub fn stop(&mut self) -> Ended {
        self.signal(libc::SIGINT);
        self.end()
    }

    /// What it holds in the kernel.
    pub fn objects(&self) -> Objects {
        let mut objects = Objects::default();
        let folder = format!("/proc/{}/fdinfo", self.process.id());
        for file in fs::read_dir(folder).unwrap() {
            let info = fs::read_to_string(file.unwrap().path()).unwrap_or_default();
            for line in info.lines() {
                let Some((name, id)) = line.split_once(":\t") else {
                    continue;
                };
                let ids = match name {
                    "prog_id" => &mut objects.programs,
                    "map_id" => &mut objects.maps,
                    _ => continue,
                };
                ids.insert(id.trim().parse().unwrap());
            }
        }
        objects
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Those of `syscalls`: two programs; the table, the task storage, .rodata and
/// .bss.ktally.
fn assert_those_of_syscalls(objects: &Objects) {
    assert_eq!(objects.programs.len(), 2, "{objects:?}");
    objects.assert_alive();
}

/// The sum of a column over the rows of a reading whose label is this.
pub fn sum(reading: &Value, (label, text): (&str, &str), column: &str) -> u64 {
    let rows = reading["tables"][0]["rows"].as_array().unwrap();
    rows.iter()
        .filter(|row| row[label] == text)
        .map(|row| row[column].as_u64().unwrap())
        .sum()
}

/// The same over all readings of a run.
pub fn total(readings: &[Value], label: (&str, &str)) -> u64 {
    readings.iter().map(|it| sum(it, label, "calls")).sum()
}

const GETPPID: (&str, &str) = ("call", "getppid");
const ENOENT: (&str, &str) = ("error", "ENOENT");

#[test]
fn nothing_is_left_when_it_is_killed() {
    let child = Child::new("kt-kill", || ask_for_parent(23));
    let mut run = Run::counting(["syscalls", "--pid", &child.pid()]);
    child.work();
    let objects = run.objects();
    assert_those_of_syscalls(&objects);
    run.signal(libc::SIGKILL);
    run.end().refused(-libc::SIGKILL, &[]);
    objects.wait_until_gone();
}

#[test]
fn signals_end_it_with_a_last_reading() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let child = Child::new("kt-signal", || ask_for_parent(23));
        let mut run = Run::counting(["syscalls", "-o", "json", "--pid", &child.pid()]);
        let objects = run.objects();
        assert_those_of_syscalls(&objects);
        child.work();
        run.signal(signal);
        let reading = run.end().json();
        assert_eq!(reading["tally"], "syscalls");
        assert_eq!(reading["missed"], 0);
        assert_eq!(reading["incomplete"], false);
        assert_eq!(reading["tables"][0]["dropped"], 0);
        assert_eq!(sum(&reading, GETPPID, "calls"), 23);
        assert_eq!(sum(&reading, ("comm", "kt-signal"), "calls"), 23 + 2);
        objects.wait_until_gone();
    }
}

/// Eight programs, and the verifier takes half a second for each.
const LONG_TO_VERIFY: &str = r#"
TALLY("much work for the verifier");
struct seen { __u64 calls COUNTER("calls"); };
TABLE(calls, __u32, struct seen, 8, "calls");
#define LONG(name)						\
SEC("tp_btf/sys_exit")						\
int BPF_PROG(name, struct pt_regs *regs, long ret)		\
{								\
	__u32 key = 0;						\
	struct seen *seen;					\
	for (__u64 i = 0; i < 150000; i++) {			\
		ret += i;					\
		asm volatile("" : "+r"(ret));			\
	}							\
	seen = tally_entry(calls, &key);			\
	if (seen && wanted_task())				\
		__sync_fetch_and_add(&seen->calls, ret);	\
	return 0;						\
}
LONG(a) LONG(b) LONG(c) LONG(d) LONG(e) LONG(f) LONG(g) LONG(h)
"#;

/// Nothing counts before all of it is loaded, so there is nothing to wait for.
#[test]
fn a_signal_ends_a_load_at_once() {
    let source = Source::new(LONG_TO_VERIFY);
    let path = source.arg();
    let host = Host::new();
    for (verb, signal) in [
        ("run", libc::SIGINT),
        ("run", libc::SIGTERM),
        ("attach", libc::SIGINT),
        ("attach", libc::SIGTERM),
    ] {
        let mut run = host.start([verb, &path]);
        let mut objects = Objects::default();
        wait_until("one program is loaded", || {
            objects = run.objects();
            !objects.programs.is_empty()
        });
        run.signal(signal);
        run.end().refused(-signal, &[]);
        objects.wait_until_gone();
        // At most the folder of instances, which is made before.
        host.good("detach --all");
        assert_eq!(host.pins(), [""; 0], "{verb}");
    }
}

#[test]
fn two_runs_do_not_disturb_each_other() {
    let child = Child::new("kt-two", || fail_to_open(23));
    let pid = child.pid();
    let args = format!("failures -o json --pid {pid}");
    let (mut first, mut second) = (Run::counting(&args), Run::counting(&args));
    child.work();
    assert_eq!(sum(&first.stop().json(), ENOENT, "calls"), 23);
    // The other goes on.
    child.work();
    assert_eq!(sum(&second.stop().json(), ENOENT, "calls"), 46);
}

#[test]
fn it_ends_in_silence_when_nobody_reads() {
    needs((5, 13), "task storage");
    let child = Child::new("kt-pipe", || ask_for_parent(23));
    let args = format!("syscalls --every 50ms -o jsonl --pid {}", child.pid());
    let mut run = Run::start(&args);
    run.next();
    let objects = run.objects();
    run.stdout = None;
    assert_eq!(run.end().good().stderr, "");
    objects.wait_until_gone();
}

impl Run {
    /// Waits until it has filled its output and can write no more.
    fn wait_until_stalled(&self) {
        // Ours is the other end of the pipe.
        let end = format!("/proc/{}/fd/1", self.process.id());
        let end = fs::File::options().write(true).open(end).unwrap();
        // As small as a pipe can be, unless it holds more already: slow machines
        // have few readings in a second.
        // SAFETY: takes no address.
        unsafe { libc::fcntl(end.as_raw_fd(), libc::F_SETPIPE_SZ, libc::PIPE_BUF) };
        let mut room = libc::pollfd {
            fd: end.as_raw_fd(),
            events: libc::POLLOUT,
            revents: 0,
        };
        // SAFETY: one descriptor, as it says.
        wait_until("the output is full", || unsafe {
            libc::poll(&raw mut room, 1, 0) == 0
        });
    }

    /// How many programs it has attached.
    fn links(&self) -> usize {
        let folder = format!("/proc/{}/fdinfo", self.process.id());
        let files = fs::read_dir(folder).unwrap();
        let infos = files.filter_map(|file| fs::read_to_string(file.unwrap().path()).ok());
        infos.filter(|info| info.contains("link_type:")).count()
    }
}

/// Every interval more than a page.
const CHATTY: &str = "syscalls --every 1ms -o jsonl";

#[test]
fn signals_end_it_though_nobody_reads_on() {
    needs((5, 13), "task storage");
    for signals in [&[libc::SIGTERM][..], &[libc::SIGINT, libc::SIGTERM]] {
        let mut run = Run::start(CHATTY);
        run.wait_until_stalled();
        let objects = run.objects();
        assert_those_of_syscalls(&objects);
        signals.iter().for_each(|signal| run.signal(*signal));
        wait_until("it ends", || run.process.try_wait().unwrap().is_some());
        run.end().failed(4, &["the output is incomplete"]);
        objects.wait_until_gone();
    }
}

/// The reader may take its time; what counts is over when it should be.
#[test]
fn a_stalled_output_does_not_count_on() {
    needs((5, 13), "task storage");
    let mut run = Run::start(&format!("{CHATTY} --for 700ms"));
    run.wait_until_stalled();
    wait_until("it detaches", || run.links() == 0);
    assert_eq!(run.process.try_wait().unwrap(), None);
    let last = run.stdout.take().unwrap().lines().last().unwrap().unwrap();
    assert_eq!(json(&last)["incomplete"], false);
    run.end().good().told(&["left out: a reading takes longer"]);
}

/// As under `nohup`, or in the background of a script.
#[test]
fn signals_that_were_ignored_stay_so() {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "trap '' HUP INT; exec \"$@\"", "sh"])
        .args([PROGRAM, "run"]);
    let child = Child::new("kt-nohup", || ask_for_parent(23));
    let args = ["syscalls", "-v", "-o", "json", "--pid", &child.pid()];
    let mut run = Run::of(shell.args(args));
    run.wait_until_counting();
    run.signal(libc::SIGHUP);
    run.signal(libc::SIGINT);
    child.work();
    run.signal(libc::SIGTERM);
    assert_eq!(sum(&run.end().json(), GETPPID, "calls"), 23);
}

/// In a mount namespace of its own, where the kernel's BTF is out of sight.
#[test]
fn a_kernel_without_btf_is_told() {
    let mut command = "run failures".pass_to(program());
    let hide = || {
        own_mounts()?;
        Ok(mount_new("tmpfs", Path::new("/sys/kernel/btf"), None)?)
    };
    // SAFETY: only system calls, on strings of ours.
    unsafe { command.pre_exec(hide) };
    end(&mut command).refused(1, &["`failures`", "no BTF", "CONFIG_DEBUG_INFO_BTF"]);
}

/// Its root has every capability, but none that counts.
#[test]
fn check_tells_of_a_user_namespace() {
    let mut command = "check -o json".pass_to(program());
    let enter = || {
        unshare(CloneFlags::CLONE_NEWUSER)?;
        // SAFETY: system calls alone, on static text.
        unsafe {
            let map = libc::open(c"/proc/self/uid_map".as_ptr(), libc::O_WRONLY);
            match libc::write(map, c"0 0 1".as_ptr().cast(), 5) {
                5 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        }
    };
    // SAFETY: only system calls.
    unsafe { command.pre_exec(enter) };
    let checked = end(&mut command).json();
    let facts = checked["facts"].as_array().unwrap();
    let fact = facts.iter().find(|fact| fact["name"] == "capabilities");
    let fact = fact.unwrap();
    assert_eq!(fact["ok"], false, "{fact}");
    assert!(fact["found"].as_str().unwrap().contains("user namespace"));
    let obstacle = checked["tallies"][0]["obstacles"][0].as_str();
    assert_has(obstacle.unwrap(), &["CAP_BPF"]);
}

#[test]
fn an_error_leaves_nothing() {
    needs((5, 13), "task storage");
    let mut run = Run::with_output(&mut "run syscalls -v".pass_to(program()), full());
    run.wait_until_counting();
    let objects = run.objects();
    assert_those_of_syscalls(&objects);
    run.stop().failed(1, &["No space left"]);
    objects.wait_until_gone();
}

/// Readings while the child works, from before its first event to after its
/// last.
fn readings(more: &str, bursts: u64) -> Vec<Value> {
    let child = Child::new("kt-every", || {
        for _ in 0..23 {
            ask_for_parent(1);
            crate::support::nap(1);
        }
    });
    let args = format!(
        "syscalls --every 100ms -o jsonl --pid {} {more}",
        child.pid()
    );
    let mut run = Run::counting(&args);
    for _ in 0..bursts {
        child.work();
        thread::sleep(Duration::from_millis(60));
    }
    run.signal(libc::SIGTERM);
    let readings = run.end().json_lines();
    assert!(readings.len() >= 3, "{readings:?}");
    readings
}

#[test]
fn differences_add_up() {
    let readings = readings("", 7);
    assert_eq!(total(&readings, GETPPID), 7 * 23);
    // The histograms are differences, too.
    let timed = |reading: &Value| {
        let rows = reading["tables"][0]["rows"].as_array().unwrap();
        let row = rows.iter().find(|row| row["call"] == "getppid")?;
        row["latency"]["count"].as_u64()
    };
    assert_eq!(readings.iter().filter_map(timed).sum::<u64>(), 7 * 23);
}

#[test]
fn totals_only_grow() {
    let readings = readings("--total", 7);
    let calls = readings.iter().map(|it| sum(it, GETPPID, "calls"));
    let calls: Vec<u64> = calls.collect();
    assert!(calls.is_sorted(), "{calls:?}");
    assert_eq!(calls.last(), Some(&(7 * 23)));
}

/// A row that somebody deletes is made anew: what is in it then was counted since,
/// and the reading says so.
#[test]
fn rows_that_are_reset_are_told() {
    let program = r#"
TALLY("a test's own");
struct seen {
	__u64 calls COUNTER("calls");
	struct tally_histogram numbers HISTOGRAM("their numbers");
};
TABLE(kt_reset, __u32, struct seen, 8, "calls");
SEC("tp_btf/sys_enter")
int BPF_PROG(enter, struct pt_regs *regs, long id)
{
	__u32 key = 1;
	struct seen *seen;

	if (!is_event(regs, id))
		return 0;
	seen = tally_entry(kt_reset, &key);
	if (!seen)
		return 0;
	__sync_fetch_and_add(&seen->calls, 1);
	tally_observe(&seen->numbers, number(regs));
	return 0;
}
"#;
    let source = Source::new(program);
    let path = source.arg();
    let delete = || {
        for map in maps_called("kt_reset") {
            let map =
                Map::from_fd(sys::map::open_id(map.id, sys::map::Access::Write).unwrap()).unwrap();
            assert!(map.delete(&1u32.to_ne_bytes()).unwrap());
        }
    };
    for (format, strict, code) in [
        ("jsonl", "--strict", 4),
        ("jsonl", "--total", 0),
        ("csv", "", 0),
        ("table", "--strict --total", 4),
    ] {
        // Fewer events the second time: a row that counts more again hides it.
        let round = Cell::new(23);
        let child = Child::new("kt-reset", || (0..round.replace(11)).for_each(event));
        let args = format!(
            "{path} --every 300ms -o {format} --pid {} {strict}",
            child.pid()
        );
        let mut run = Run::counting(&args);
        child.work();
        // A reading is an interval; its last line tells of it.
        let mut said = String::new();
        let is_last = |line: &str| line.contains("dropped");
        let mut until = |run: &mut Run, words: &str| {
            while !said
                .lines()
                .any(|line| is_last(line) && line.contains(words))
            {
                let line = run.line();
                assert_ne!(line, "", "{said}");
                said += &line;
            }
        };
        let is_json = format == "jsonl";
        let (counted, reset) = if is_json {
            (r#""calls":23"#, r#""reset":1"#)
        } else {
            ("1 of 1 row;", ", 1 reset")
        };
        until(&mut run, counted);
        delete();
        child.work();
        until(&mut run, reset);
        let ended = run.stop().failed(code, &["1 row was reset"]);
        if is_json {
            said += &ended.stdout;
            let readings = json_lines(&said).into_iter();
            let calls = readings.filter_map(|it| {
                let row = it["tables"][0]["rows"].get(0)?;
                assert_eq!(row["numbers"]["count"], row["calls"], "{said}");
                row["calls"].as_u64()
            });
            let mut calls: Vec<u64> = calls.collect();
            calls.dedup();
            assert_eq!(calls, [23, 11], "{said}");
        }
    }
}

/// One row fits; the events of the other key are told, and `--strict` minds.
#[test]
fn dropped_rows_are_told() {
    let child = Child::new("kt-strict", || {
        fail_to_open(23);
        (0..29).for_each(event);
    });
    let args = format!("failures -o json --pid {}", child.pid());
    for (more, code) in [("", 0), ("--strict", 4)] {
        let mut run = Run::counting(&format!("{args} --max-rows 1 {more}"));
        child.work();
        let ended = run.stop().failed(code, &[]);
        let reading = json(&ended.stdout);
        assert_eq!(reading["tables"][0]["rows_read"], 1);
        assert_eq!(reading["tables"][0]["dropped"], 29);
        assert_eq!(sum(&reading, ENOENT, "calls"), 23);
        let warning = ended.stderr.lines().find(|line| line.contains("no room"));
        assert_has(warning.expect(&ended.stderr), &["`failures`", " 29 "]);
    }
    // With room for all, `--strict` is content.
    let mut run = Run::counting(&format!("{args} --strict"));
    child.work();
    let reading = run.stop().json();
    assert_eq!(sum(&reading, ENOENT, "calls"), 23);
    assert_eq!(sum(&reading, ("error", "EINVAL"), "calls"), 29);
}

/// It attaches, reads and ends; nothing happened meanwhile.
#[test]
fn a_run_of_no_time_reads_and_ends() {
    let child = Child::new("kt-none", || ask_for_parent(23));
    let args = format!("run syscalls --for 0s -o json --pid {}", child.pid());
    let reading = ktally(&args).json();
    assert_eq!(reading["tables"][0]["rows"], Value::Array(vec![]));
}

/// With fewer file descriptors than it needs, whichever it lacks.
#[test]
fn a_lack_of_file_descriptors_is_named() {
    require_root();
    for (refused, limit) in (10..=40).enumerate() {
        let script = format!("ulimit -n {limit}; exec \"$0\" run syscalls --for 0");
        let ended = end(command("sh").args(["-c", &script, PROGRAM]));
        if ended.code == 0 {
            assert!(refused > 3, "{refused}");
            return;
        }
        let code = ended.code;
        let ended = ended.failed(code, &["oo many open files"]);
        assert!(!ended.stderr.contains("no BTF"), "{limit}: {ended:?}");
    }
    panic!("40 descriptors are not enough");
}
