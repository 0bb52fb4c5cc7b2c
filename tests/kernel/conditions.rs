//! `--until` and `--alert`: what a script or a unit of systemd waits for.

use crate::common::{json_lines, ktally, program};
use crate::instances::Host;
use crate::run::{ENOENT, Run, sum};
use crate::support::{Child, fail_to_open, needs, work};
use crate::terminal::time;

fn child() -> Child {
    Child::new("kt-watched", || fail_to_open(23))
}

/// Its failures in each reading.
fn failures(stdout: &str) -> Vec<u64> {
    let readings = json_lines(stdout);
    readings.iter().map(|it| sum(it, ENOENT, "calls")).collect()
}

#[test]
fn a_run_ends_when_it_is_met() {
    let child = child();
    let until = "--until calls>=23 --total --every 50ms --for 1h -o jsonl";
    let mut run = Run::counting(&format!("failures --pid {} {until}", child.pid()));
    child.work();
    let failures = failures(&run.end().good().stdout);
    let (last, before) = failures.split_last().unwrap();
    assert_eq!(*last, 23, "{failures:?}");
    assert!(before.iter().all(|calls| *calls < 23), "{failures:?}");
}

#[test]
fn what_is_not_met_has_its_exit_code() {
    let child = child();
    let line = format!("failures --pid {} --total -o jsonl --until", child.pid());
    // In time, and before a signal.
    let mut in_time = Run::counting(&format!("{line} calls>23 --for 1500ms"));
    let mut stopped = Run::counting(&format!("{line} calls>=24"));
    child.work();
    for ended in [in_time.end(), stopped.stop()] {
        let ended = ended.failed(6, &[]);
        assert_eq!(failures(&ended.stdout).last(), Some(&23), "{ended:?}");
    }
}

/// A line each, and the exit code in the end.
#[test]
fn readings_that_meet_it_are_told() {
    let child = child();
    let line = format!("failures --pid {} --alert calls=23 -o jsonl", child.pid());
    let mut run = Run::counting(&format!("{line} --every 50ms --total --top 0"));
    child.work();
    let ended = run.stop().failed(5, &[]);
    let alerts: Vec<&str> = ended
        .stderr
        .lines()
        .filter(|it| it.contains("alert"))
        .collect();
    assert!(!alerts.is_empty(), "{ended:?}");
    let row = " failures: calls=23: comm=kt-watched call=openat error=ENOENT calls=23";
    for alert in &alerts {
        assert!(
            alert.starts_with("ktally: alert: 20") && alert.ends_with(row),
            "{alert}"
        );
    }
    // A single reading as well, of two rows.
    let twin = Child::new("kt-twin", || fail_to_open(24));
    let mut run = Run::counting("failures --where comm=kt-watched,kt-twin --alert calls>=23");
    work(&[&child, &twin]);
    let ended = run.stop().failed(5, &["(the first of 2 rows)"]);
    assert_eq!(ended.stderr.matches("alert: ").count(), 1, "{ended:?}");
}

#[test]
fn nothing_is_told_of_what_does_not_meet_it() {
    let child = child();
    let line = format!(
        "failures --pid {} --alert calls>23 --until calls=23",
        child.pid()
    );
    let mut run = Run::counting(&format!("{line} --total --every 50ms"));
    child.work();
    let ended = run.end().good();
    assert!(!ended.stderr.contains("alert"), "{ended:?}");
}

/// The condition stands for the status of the command.
#[test]
fn a_command_ends_when_it_is_met() {
    let sh = |until: &str, script: &str| {
        let mut run = program();
        run.args(["run", "failures", "-i", "50ms", "--total", "--until", until]);
        run.args(["--", "sh", "-c", script]);
        Run::of(&mut run).end()
    };
    const FAIL: &str = "exec 2>/dev/null; true < /etc/passwd/x; ";
    sh("error=ENOTDIR", &format!("{FAIL} exec sleep 3600")).good();
    sh("error=ENOTDIR", &format!("{FAIL} exit 3")).good();
    sh("error=ENOTDIR", "exit 3").failed(6, &[]);
    let line = [
        "run",
        "failures",
        "--alert",
        "error=ENOTDIR",
        "--",
        "sh",
        "-c",
    ];
    let with = |script: &str| ktally([&line[..], &[script]].concat());
    with(&format!("{FAIL} exit 3")).failed(5, &["alert"]);
    with("exit 3").failed(3, &[]);
}

#[test]
fn readers_of_instances_have_them_as_well() {
    needs((5, 11), "task storage");
    let (host, child) = (Host::new(), child());
    host.good(&format!("attach failures --pid {}", child.pid()));
    child.work();
    host.good("read failures --alert calls>23");
    let ended = host
        .ktally("read failures --alert calls>=23")
        .failed(5, &["calls=23"]);
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    // Of what is counted from now on.
    host.ktally("read failures --until calls>0 --for 100ms --every 50ms")
        .failed(6, &[]);
    let met = host.good("read failures --until calls>=23 --total --every 50ms");
    let clock = met.stdout.lines().next().unwrap();
    assert!(time(clock).is_ok(), "{met:?}");
}
