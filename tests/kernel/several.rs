//! `ktally run a,b`: several tallies count the same events together.

use serde_json::Value;

use crate::common::schema::assert_documented;
use crate::common::{json, json_lines, ktally};
use crate::run::{ENOENT, GETPPID, Run, rows_of, sum};
use crate::support::{Child, ask_for_parent, event, fail_to_open, needs};

/// 37 calls that succeed and 23 that fail.
fn child() -> Child {
    Child::new("kt-several", || {
        ask_for_parent(37);
        fail_to_open(23);
    })
}

/// What both tallies say of it.
#[track_caller]
fn assert_exact([syscalls, failures]: [&Value; 2]) {
    assert_eq!(
        [&syscalls["tally"], &failures["tally"]],
        ["syscalls", "failures"]
    );
    assert_eq!(sum(syscalls, GETPPID, "calls"), 37);
    assert_eq!(sum(syscalls, ("call", "openat"), "errors"), 23);
    assert_eq!(sum(failures, ENOENT, "calls"), 23);
}

/// An option of the command line is given to all of them.
#[test]
fn each_counts_all() {
    needs((5, 11), "task storage");
    let child = child();
    let mut run = Run::counting(&format!("syscalls,failures -o json --pid {}", child.pid()));
    child.work();
    let document = run.stop().json();
    let [syscalls, failures] = &document.as_array().unwrap()[..] else {
        panic!("{document}");
    };
    assert_exact([syscalls, failures]);
}

#[test]
fn each_reading_is_a_line_of_jsonl() {
    needs((5, 11), "task storage");
    let child = child();
    let line = format!(
        "syscalls,failures --every 100ms -o jsonl --pid {}",
        child.pid()
    );
    let mut run = Run::counting(&line);
    child.work();
    let mut readings = vec![run.next(), run.next()];
    readings.extend(json_lines(&run.stop().good().stdout));
    let names = readings.iter().map(|reading| &reading["tally"]);
    assert!(names.eq(["syscalls", "failures"].iter().cycle().take(readings.len())));
    let total = |nth: usize, label, column| -> u64 {
        let of = readings.iter().skip(nth).step_by(2);
        of.map(|reading| sum(reading, label, column)).sum()
    };
    assert_eq!(total(0, GETPPID, "calls"), 37);
    assert_eq!(total(1, ENOENT, "calls"), 23);
}

/// `NAME:option=value` is for one of them, and comes before the command line.
#[test]
fn an_option_may_be_for_one_tally() {
    needs((5, 11), "task storage");
    let child = child();
    let own = format!(
        "syscalls:pid={0},failures:comm=kt-nobody:pid={0}",
        child.pid()
    );
    let mut run = Run::counting(&format!("{own} --comm kt-several -o json"));
    child.work();
    let document = run.stop().json();
    assert_eq!(sum(&document[0], GETPPID, "calls"), 37);
    assert!(rows_of(&document[1]).is_empty(), "{document}");
}

#[test]
fn all_follow_a_command() {
    needs((5, 11), "task storage");
    let script = "exec 2>/dev/null; i=0
        while [ $i -lt 23 ]; do true < /etc/passwd/x; i=$((i + 1)); done
        while [ $i -lt 60 ]; do kill -0 $$; i=$((i + 1)); done; exit 7";
    let line = [
        "run",
        "failures,syscalls",
        "-o",
        "json",
        "--",
        "sh",
        "-c",
        script,
    ];
    let document = json(&ktally(line).failed(7, &[]).stdout);
    for (reading, of, due) in [
        (&document[0], ("error", "ENOTDIR"), 23),
        (&document[1], ("call", "kill"), 37),
    ] {
        // Kernels since 6.13 preempt the probes of system calls.
        let (counted, missed) = (sum(reading, of, "calls"), &reading["missed"]);
        let least = due - missed.as_u64().unwrap_or(0).min(due);
        assert!((least..=due).contains(&counted), "{document}");
    }
}

#[test]
fn a_table_each_and_records_each() {
    needs((5, 11), "task storage");
    let table = ktally("run syscalls,failures --for 50ms --top 0").done();
    let titles: Vec<&str> = table.lines().filter(|line| line.contains(" CPU")).collect();
    assert_eq!(titles.len(), 2, "{table}");
    assert!(titles[0].starts_with("syscalls: ") && titles[1].starts_with("failures: "));
    let csv = ktally("run syscalls,failures --for 50ms --every 20ms -o csv").done();
    let headers = csv.lines().filter(|line| line.starts_with("\"table\","));
    assert_eq!(headers.count(), 2, "{csv}");
    assert_documented("reading", |format| {
        ktally(["run", "syscalls,failures", "--for", "50ms", "-o", format]).good()
    });
}

/// Each is sorted by the column if it has it.
#[test]
fn sorted_each_in_its_way() {
    let child = Child::new("kt-several", || {
        event(1);
        (0..23).for_each(|_| event(2));
        fail_to_open(7);
    });
    let line = format!(
        "failures,syscalls --sort=-errors -o json --pid {}",
        child.pid()
    );
    let mut run = Run::counting(&line);
    child.work();
    let document = run.stop().json();
    let column = |nth: usize, column: &str| -> Vec<u64> {
        let rows = rows_of(&document[nth]).iter();
        rows.map(|row| row[column].as_u64().unwrap()).collect()
    };
    assert_eq!(column(0, "calls"), [24, 7]);
    // The child's last call has not ended, and stands last.
    let errors = column(1, "errors");
    let Some((0, ended)) = errors.split_last() else {
        panic!("{document}");
    };
    assert!(ended.is_sorted(), "{document}");
    assert!(ended.ends_with(&[7, 24]), "{document}");
}

/// A tally runs without what it does not have, and a message says so.
#[test]
fn what_one_of_them_lacks_is_told() {
    needs((5, 11), "task storage");
    let line = "run failures,softirqs --for 0 -o json --by comm --where comm=x --comm x";
    let ended = ktally(line).good();
    for what in [
        "tally `softirqs` has no option `--comm`: it counts without it",
        "tally `softirqs` has no field `comm`: it is shown without it",
    ] {
        assert_eq!(ended.stderr.matches(what).count(), 1, "{ended:?}");
    }
}
