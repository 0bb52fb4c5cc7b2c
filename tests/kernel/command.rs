//! `ktally run NAME -- COMMAND`: what it and its children do, all of it, and
//! nothing else.

use std::fs;
use std::process::{self, Command, Stdio};

use crate::common::{end, full, json, ktally, program};
use crate::run::{Run, rows_of, sum, total};
use crate::support::{kernel_series, needs, wait_until};

/// A failing open that no program makes by itself.
const FAIL: &str = "true < /etc/passwd/x";
const ENOTDIR: (&str, &str) = ("error", "ENOTDIR");

/// Does the same outside, all the time, until it is dropped.
struct Twin(process::Child);

impl Twin {
    fn new() -> Self {
        let script = format!("while :; do {FAIL}; done");
        let twin = Command::new("sh")
            .args(["-c", &script])
            .stderr(Stdio::null())
            .spawn();
        Self(twin.unwrap())
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// `ktally run` with these arguments, of a script.
fn sh(args: &str, script: &str) -> Run {
    let mut ktally = program();
    ktally.arg("run").args(args.split_whitespace());
    Run::of(ktally.args(["--", "sh", "-c", script]))
}

#[test]
fn a_command_and_its_children_are_counted() {
    let twin = Twin::new();
    let script = format!(
        "exec 2>/dev/null
         fail() {{ i=0; while [ $i -lt 23 ]; do {FAIL}; i=$((i + 1)); done; }}
         for child in 1 2 3 4 5; do (fail; (fail) & wait) & done
         fail; wait; exec sh -c '{FAIL}; exit 0'"
    );
    let reading = sh("failures -o json", &script).end().json();
    drop(twin);
    assert_eq!(reading["incomplete"], false);
    assert_eq!(reading["tables"][0]["dropped"], 0);
    // Each of five children and their five children; it; and what it became.
    let due = (5 + 5 + 1) * 23 + 1;
    let counted = sum(&reading, ENOTDIR, "calls");
    // Two tasks on one CPU at once may miss one, also outside of the command.
    let missed = reading["missed"].as_u64().unwrap();
    let is_exact = counted <= due && counted + missed >= due;
    assert!(is_exact, "{counted} of {due}, {missed} missed");
}

/// From its first instruction on: the exec is the first call that returns.
#[test]
fn it_is_counted_from_its_exec_on() {
    let reading = ktally("run syscalls -o json -- sleep 0.05").json();
    let rows = rows_of(&reading);
    assert!(rows.iter().all(|row| row["comm"] == "sleep"), "{rows:?}");
    assert_eq!(sum(&reading, ("call", "execve"), "calls"), 1);
    let slept = sum(&reading, ("call", "clock_nanosleep"), "time");
    assert!(slept >= 50_000_000, "{slept}");
    assert_eq!(sum(&reading, ("call", "exit_group"), "calls"), 0);
}

/// A task that is not running when it is counted is known as well.
#[test]
fn waits_of_a_command() {
    let script = "for i in 1 2 3 4 5 6 7; do sleep 0.01; done";
    let reading = sh("runqlat --by-comm -o json", script).end().json();
    let rows = rows_of(&reading);
    let waits = |comm: &str| -> u64 {
        let of = rows.iter().filter(|row| row["comm"] == comm);
        of.map(|row| row["latency"]["count"].as_u64().unwrap())
            .sum()
    };
    // Each of the seven sleeps was woken at least once.
    assert!(waits("sleep") >= 7, "{rows:?}");
    assert!(waits("sh") >= 7, "{rows:?}");
    assert_eq!(rows.len(), 2, "{rows:?}");
}

/// As with `perf` and `strace`. A real-time signal has no name.
#[test]
fn its_status_is_ours() {
    for (script, code, told) in [
        ("exit 7", 7, Some("ended with exit status 7")),
        ("exit 255", 255, Some("ended with exit status 255")),
        ("kill -TERM $$", 143, Some("ended with signal 15 (SIGTERM)")),
        ("kill -40 $$", 168, Some("ended with signal 40")),
        ("exit 0", 0, None),
    ] {
        let ended = sh("failures -o json", script).end().failed(code, &[]);
        json(&ended.stdout);
        match told {
            Some(told) => drop(ended.told(&[told])),
            // Kernels since 7.0 preempt the probes of system calls.
            None if kernel_series() >= (7, 0) => {
                let skipped = |line: &str| line.contains("the kernel skipped");
                assert!(ended.stderr.lines().all(skipped), "{ended:?}");
            }
            None => assert_eq!(ended.stderr, ""),
        }
    }
    ktally("run failures -- /no/such").refused(1, &["failed to run `/no/such`: No such file"]);
}

/// The command has standard output for itself.
#[test]
fn its_output_and_the_reading_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let script = format!("echo said; exec 2>/dev/null; {FAIL}; true");
    let run = |format: &str, file: &str| {
        let args = format!("failures -o {format} --output-file {file}");
        assert_eq!(sh(&args, &script).end().done(), "said\n");
        fs::read_to_string(file).unwrap()
    };
    for _ in 0..2 {
        let reading = json(&run("json", &file("json")));
        assert_eq!(sum(&reading, ENOTDIR, "calls"), 1);
    }
    // Appended: the heading stands there once.
    for times in 1..=2 {
        let csv = run("csv", &file("csv"));
        let count = |what: &str| csv.lines().filter(|line| line.contains(what)).count();
        assert_eq!(count("\"timestamp\""), 1, "{csv}");
        assert_eq!(count("ENOTDIR"), times, "{csv}");
        assert_eq!(count("# failures: "), times, "{csv}");
    }
}

/// It says what it is, and its code is not the command's.
#[test]
fn a_failure_of_ours_is_not_the_command_s() {
    let many = format!("{FAIL} 2>/dev/null; mkdir /; exit 7");
    let words = ["had no room for", "ended with exit status 7"];
    sh("failures --max-rows 1 --strict", &many)
        .end()
        .failed(4, &words);
    let mut ktally = program();
    ktally.args(["run", "failures", "--", "sh", "-c", "exit 7"]);
    end(ktally.stdout(full())).failed(1, &["failed to write: No space"]);
}

/// One that would run for ever: it ends with a signal to us, or with our time.
/// All at once, since that time is long enough for a slow machine.
#[test]
fn a_command_does_not_outlive_the_run() {
    needs((5, 13), "task storage");
    let folder = tempfile::tempdir().unwrap();
    let runs = [
        ("signal", "", ""),
        ("time", "", "--for 3s"),
        ("stubborn", "trap '' TERM;", "--for 3s"),
    ]
    .map(|(end, trap, time)| {
        let file = folder.path().join(end);
        let script = format!(
            "{trap} {FAIL} 2>/dev/null; echo $$ > {}; exec sleep 1000",
            file.display()
        );
        let run = sh(&format!("failures -o json {time}"), &script);
        (end, file, run)
    });
    for (end, file, mut run) in runs {
        let mut pid = String::new();
        wait_until("the command runs", || {
            pid = fs::read_to_string(&file).unwrap_or_default();
            pid.ends_with('\n')
        });
        let objects = run.objects();
        if end == "signal" {
            // It, and those that follow forks and execs.
            assert_eq!(objects.programs.len(), 3, "{objects:?}");
            run.signal(libc::SIGINT);
        }
        // Its status is of use where it was not ended for our own reasons.
        let code = if end == "signal" { 130 } else { 0 };
        let reading = json(&run.end().failed(code, &[]).stdout);
        assert_eq!(sum(&reading, ENOTDIR, "calls"), 1);
        let pid: i32 = pid.trim().parse().unwrap();
        // SAFETY: asks whether there is such a process.
        assert_eq!(unsafe { libc::kill(pid, 0) }, -1, "{end}");
        objects.wait_until_gone();
    }
}

#[test]
fn intervals_of_a_command_add_up() {
    let script = format!("exec 2>/dev/null; for i in 1 2 3; do {FAIL}; sleep 0.15; done");
    let readings = sh("failures -o jsonl --every 100ms", &script)
        .end()
        .json_lines();
    assert!(readings.len() > 3, "{readings:?}");
    assert_eq!(total(&readings, ENOTDIR), 3);
}

/// Its events have no task: nothing is started.
#[test]
fn a_tally_that_knows_no_process_refuses_a_command() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ran");
    let script = format!("echo > {}", file.display());
    sh("softirqs", &script)
        .end()
        .refused(2, &["`softirqs` does not count by process"]);
    assert!(!file.exists());
}
