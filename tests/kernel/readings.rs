//! Readings of tallies that run or are attached: intervals, and what they say of
//! rows that were reset or dropped and of events that are missing.

use std::cell::Cell;
use std::thread;
use std::time::Duration;

use ktally::map::Map;
use ktally::sys;
use serde_json::Value;

use crate::common::{assert_has, json, json_lines, ktally, rows};
use crate::instances::Host;
use crate::objects::maps_called;
use crate::run::{ENOENT, GETPPID, Run, rows_of, sum, total};
use crate::support::{Child, Source, ask_for_parent, event, fail_to_open, missed, pin};

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
    let rows = readings.iter().flat_map(|reading| rows_of(reading));
    let timed = rows.filter(|row| row["call"] == "getppid");
    let timed = timed.map(|row| row["latency"]["count"].as_u64().unwrap());
    assert_eq!(timed.sum::<u64>(), 7 * 23);
}

#[test]
fn totals_only_grow() {
    let readings = readings("--total", 7);
    let calls = readings.iter().map(|it| sum(it, GETPPID, "calls"));
    let calls: Vec<u64> = calls.collect();
    assert!(calls.is_sorted(), "{calls:?}");
    assert_eq!(calls.last(), Some(&(7 * 23)));
}

#[test]
fn readings_of_an_instance_are_differences() {
    let host = Host::new();
    let child = Child::new("kt-every", || ask_for_parent(23));
    host.good(&format!("attach syscalls --pid {}", child.pid()));
    child.work();
    let read = "read syscalls --every 300ms --for 3s -o jsonl --where call=getppid";
    let mut reader = host.start(read);
    // What was counted before is not in it.
    let first = reader.next();
    assert_eq!(sum(&first, GETPPID, "calls"), 0);
    child.work();
    let readings = reader.end().json_lines();
    assert_eq!(total(&readings, GETPPID), 23);
    // On a busy machine intervals are longer and shorter, but leave no gap.
    let all = readings.iter().chain([&first]);
    let seconds: f64 = all.map(|it| it["seconds"].as_f64().unwrap()).sum();
    assert!((2.99..60.0).contains(&seconds), "{seconds}");
    for (line, words) in rows(
        "
read syscalls --max-rows 3 => --max-rows
read syscalls --by nope => nope
read syscalls --every 1s -o json => jsonl
attach @syscalls => attached already",
    ) {
        host.ktally(line).refused(2, &words);
    }
    host.good("detach syscalls");
}

/// A row that is deleted is made anew: what is in it then was counted since,
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
EVENT(enter, number)
{
	__u32 key = 1;
	struct seen *seen = tally_entry(kt_reset, &key);

	if (!seen)
		return;
	__sync_fetch_and_add(&seen->calls, 1);
	tally_observe(&seen->numbers, number);
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
        let (counted, reset) = match format {
            "jsonl" => (r#""calls":23"#, r#""reset":1"#),
            "csv" => ("1 of 1 row;", ", 1 reset"),
            _ => ("1 row;", ", 1 reset"),
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
                let row = rows_of(&it).first()?;
                assert_eq!(row["numbers"]["count"], row["calls"], "{said}");
                row["calls"].as_u64()
            });
            let mut calls: Vec<u64> = calls.collect();
            calls.dedup();
            assert_eq!(calls, [23, 11], "{said}");
        }
    }
}

/// One row fits; the events of the other key are reported, and `--strict` fails.
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
        assert_eq!(reading["tables"][0]["other"]["calls"], 29);
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

/// Of each event, what came before it and what comes next, to this CPU.
const CHAIN: &str = r#"
TALLY("events, of which each says where it comes from and where it goes");
CPU_FILTER;
ARRAY_TABLE(chain, struct hits, 1, "events");
CPU_STATE(last, __u32);
EVENT(enter, number)
{
	__u32 zero = 0;

	tally_switched(tally_cpu_state(last), (void *)(number / 10),
		       (void *)(number % 10));
	hit(chain, &zero);
}
"#;

/// Events that the kernel did not report are in no counter of it: a chain that
/// breaks tells of them, in every output.
#[test]
fn gaps_in_the_events_are_told() {
    let host = Host::new();
    let source = Source::new(CHAIN);
    // Two of five do not go on where the last one went.
    let child = Child::new("kt-gaps", || {
        pin(0);
        [11, 12, 93, 31, 91].into_iter().for_each(event);
    });
    let (path, pid) = (source.arg(), child.pid());
    let attach = format!("attach {path} --pid {pid} --as kt");
    host.good(&attach);
    host.good(&format!("{attach}-other --cpu 1"));
    child.work();

    let reading = host.json("read kt -o json");
    assert_eq!(rows_of(&reading)[0]["count"], 5);
    assert_eq!(reading["gaps"], 2);
    assert_eq!(reading["missed"], Value::from(missed(0)));
    for line in ["read kt", "read kt -o csv"] {
        let ended = host.good(line).told(&["it left 2 gaps"]);
        assert_has(&ended.stdout, &[" missed, 2 gaps\n"]);
    }
    host.ktally("read kt --strict").failed(4, &[]);
    // Those of another CPU are not asked for.
    let other = host.good("read kt-other --strict");
    assert!(!other.stdout.contains("gap"), "{other:?}");
    assert_eq!(host.json("read kt-other -o json")["gaps"], 0);

    let status = host.json("status -o json");
    assert_eq!([&status[0]["gaps"], &status[1]["gaps"]], [2, 0]);
    let status = host.good("status").stdout;
    assert!(status.contains(" MISSED  GAPS "), "{status}");
    // A reading of an interval has those of the interval.
    let mut reader = host.start("read kt --every 100ms -o jsonl");
    let mut next = || reader.next();
    assert_eq!(next()["gaps"], 0);
    child.work();
    let gaps: u64 = (0..10).map(|_| next()["gaps"].as_u64().unwrap()).sum();
    assert_eq!(gaps, 2);
    host.good("detach kt-other");
    assert_eq!(host.json("detach kt -o json")["gaps"], 4);
    drop(reader);

    // A tally that does not look for them does not know.
    host.good("attach failures");
    assert_eq!(host.json("read failures -o json").get("gaps"), None);
    let status = host.json("status -o json");
    assert_eq!(status[0].get("gaps"), None);
    assert!(!host.good("status").stdout.contains("GAPS"));
    host.good("detach failures");
}

/// It attaches, reads and ends; nothing happened meanwhile.
#[test]
fn a_run_of_no_time_reads_and_ends() {
    let child = Child::new("kt-none", || ask_for_parent(23));
    let args = format!("run syscalls --for 0s -o json --pid {}", child.pid());
    let reading = ktally(&args).json();
    assert_eq!(rows_of(&reading), [Value::Null; 0]);
}
