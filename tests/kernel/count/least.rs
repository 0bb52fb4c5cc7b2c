//! `--min`: its exact number, wherever it is shown.

use std::cell::Cell;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::common::{Args, assert_has};
use crate::instances::Host;
use crate::support::{Child, needs, wait_until};
use crate::top::Top;

/// Calls that fail, of these numbers of bytes; other ones each time that it works.
fn writes(turns: &'static [&[(i64, usize)]]) -> Child {
    let turn = Cell::new(0);
    Child::new("kt-least", move || {
        for (call, bytes) in turns[turn.get()] {
            // SAFETY: there is no such descriptor.
            unsafe { libc::syscall(*call, -1, [0u8; 99].as_ptr(), *bytes, 0) };
        }
        turn.set(turn.get() + 1);
    })
}

const WRITES: &[(i64, usize)] = &[
    (libc::SYS_write, 7),
    (libc::SYS_write, 5),
    (libc::SYS_write, 9),
    (libc::SYS_pwrite64, 37),
    (libc::SYS_pwrite64, 23),
];

fn query() -> String {
    format!(
        "count sys_enter --by comm,call --where arg2=4..99 --where id={}..{} \
         --max arg2 --min arg2 --as arg2=bytes",
        libc::SYS_write,
        libc::SYS_pwrite64
    )
}

/// The call, events, greatest and least of each row.
fn rows(reading: &Value) -> Vec<Value> {
    let rows = reading["tables"][0]["rows"].as_array().unwrap().iter();
    rows.map(|row| json!([row["call"], row["events"], row["arg2.max"], row["arg2.min"]]))
        .collect()
}

#[test]
fn the_least_number_is_exact() {
    needs((5, 12), "BPF_CMPXCHG");
    let (host, query) = (Host::new(), query());
    let child = writes(&[WRITES, &[(libc::SYS_write, 8)], &[(libc::SYS_write, 4)]]);
    let line = ["attach", &query, "--as", "kt", "--pid", &child.pid()];
    host.good(line);
    child.work();
    let read = |options: &str| rows(&host.json(&format!("read kt -o json {options}")));
    let (write, pwrite) = (json!(["write", 3, 9, 5]), json!(["pwrite64", 2, 37, 23]));
    assert_eq!(read(""), [write.clone(), pwrite.clone()]);
    assert_eq!(read("--sort arg2.min"), [pwrite.clone(), write.clone()]);
    assert_eq!(read("--sort -arg2.min"), [write.clone(), pwrite]);
    assert_eq!(
        host.json("read kt -o json --by comm")["tables"][0]["rows"][0]["arg2.min"],
        5
    );
    let small = host.json(["read", "kt", "-o", "json", "--where", "arg2.min<6"]);
    assert_eq!(rows(&small), [write]);
    let table = host.good("read kt --total").stdout;
    assert_has(
        &table,
        &[
            "ARG2.MAX  ARG2.MIN",
            "    9.00 B    5.00 B",
            "    37.0 B    23.0 B",
        ],
    );
    let csv = host.good("read kt -o csv").stdout;
    assert_has(&csv, &["\"kt-least\",\"write\",3,9,5\n"]);
    let pin = "/sys/fs/bpf/ktally/kt/maps/events";
    let dump = host.good(["map", "dump", pin, "-o", "json"]).stdout;
    assert_has(&dump, &["\"arg2_min\":5", "\"arg2_min\":23"]);
    // An interval has that since the start.
    let mut reader = host.start("read kt --every 200ms -o jsonl");
    assert!(rows(&reader.next()).is_empty());
    child.work();
    let mut next = || rows(&reader.next());
    let counted = (0..10).map(|_| next()).find(|rows| !rows.is_empty());
    assert_eq!(counted.unwrap(), [json!(["write", 1, 9, 5])]);
    child.work();
    let counted = (0..10).map(|_| next()).find(|rows| !rows.is_empty());
    assert_eq!(counted.unwrap(), [json!(["write", 1, 9, 4])]);
    drop(reader);
    let table = host.good("read kt --every 100ms --for 100ms").stdout;
    assert_has(&table, &["; since the start: arg2.max, arg2.min\n"]);
    host.good("detach kt");
}

/// Also of the events that found no row.
#[test]
fn a_full_table_has_the_least_of_the_others() {
    needs((5, 12), "BPF_CMPXCHG");
    let (host, query) = (Host::new(), query());
    let child = writes(&[WRITES]);
    let line = ["attach", &query, "--as", "kt", "--max-rows", "1", "--pid"];
    host.good([&line[..], &[&child.pid()]].concat());
    child.work();
    let reading = host.json("detach kt -o json");
    assert_eq!(rows(&reading), [json!(["write", 3, 9, 5])]);
    let other = &reading["tables"][0]["other"];
    assert_eq!([&other["events"], &other["arg2.min"]], [2, 23], "{reading}");
}

#[test]
fn recordings_and_comparisons_have_the_least() {
    needs((5, 12), "BPF_CMPXCHG");
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let child = writes(&[WRITES, &[(libc::SYS_write, 4)]]);
    let paths = ["a", "b"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    let query = query();
    let line = ["attach", &query, "--as", "kt", "--pid", &child.pid()];
    host.good(line);
    let lines = |path: &str| -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines = text.lines().skip(1);
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    };
    // The last one of each call.
    let recorded = |path: &str| -> BTreeMap<String, Value> {
        let lines = lines(path).into_iter();
        let rows = lines.flat_map(|line| line["rows"].as_array().unwrap().clone());
        rows.map(|row| (row["call"].to_string(), row["arg2.min"].clone()))
            .collect()
    };
    for (path, least) in paths.iter().zip([&[23, 5][..], &[4]]) {
        let top = ["top", "@kt", "-i", "200ms", "--record", path];
        Top::of(top.pass_to(host.program())).ends(|top| {
            // What was counted before is in no interval.
            wait_until("it records", || !lines(path).is_empty());
            child.work();
            wait_until("it is recorded", || recorded(path).values().eq(least));
            top.types("q");
        });
    }
    let replay = ["top", "--replay", &paths[0]];
    let mut replay = Top::of(replay.pass_to(host.program()));
    replay.screen();
    replay.types(" ");
    // From the first interval on, one more each time.
    let mut steps = (1..=5).cycle();
    wait_until("the interval is shown", || {
        replay.types(&",".repeat(9));
        replay.types(&".".repeat(steps.next().unwrap()));
        let screen = replay.screen().replace('\n', " ");
        screen.contains("9.00 B 5.00 B")
    });
    replay.ends(|replay| replay.types("q"));
    let sorted = ["--sort", "call", "-o", "json"];
    let compared = host.json([&["diff", &paths[0], &paths[1]], &sorted[..]].concat());
    let least = |row: usize| compared[0]["rows"][row]["numbers"][2].clone();
    let changed = json!({"column": "arg2.min", "before": 5, "after": 4, "change": 0.8});
    assert_eq!(least(1), changed, "{compared}");
    let gone = json!({"column": "arg2.min", "before": 23, "after": null, "change": null});
    assert_eq!(least(0), gone, "{compared}");
    host.good("detach kt");
}
