//! `dump` of much, of maps that go meanwhile, and of maps inside of maps.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::thread;

use libbpf_rs::MapType;
use serde_json::{Value as Json, json};

use super::{Maps, map, map_json, map_lines, program, words};
use crate::support::maps::{create, fill, id};
use crate::support::{amount, needs};

fn value_of(key: u64) -> u64 {
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The two numbers of a line; `None` for lines around the entries.
fn numbers(line: &str) -> Option<(u32, u64)> {
    let numbers = line.split(|c: char| !c.is_ascii_digit());
    let mut numbers = numbers.filter(|digits| !digits.is_empty());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[test]
fn a_million_entries_are_complete_in_every_format() {
    let million = amount(1_000_000) as u32;
    let large = create(MapType::Hash, 4, 8, million);
    fill(&large, million.into(), value_of);
    let map = id(&large).to_string();
    let dump = |format: &str| {
        let mut process = program()
            .args(["map", "dump", &map, "-o", format])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut seen = vec![false; million as usize];
        let mut others = Vec::new();
        for line in BufReader::new(process.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            match numbers(&line).filter(|_| !line.contains("entries")) {
                Some((key, value)) => {
                    assert!(value == value_of(key.into()) || format == "table", "{line}");
                    let is_second = std::mem::replace(&mut seen[key as usize], true);
                    assert!(!is_second, "{line} twice");
                }
                None => others.push(line),
            }
        }
        assert!(process.wait().unwrap().success());
        assert!(seen.iter().all(|seen| *seen), "{format}");
        others
    };
    thread::scope(|scope| {
        let one = scope.spawn(|| (dump("json"), dump("csv")));
        assert_eq!(dump("jsonl"), [""; 0]);
        let table = dump("table");
        assert_eq!(table.len(), 2, "{table:?}");
        assert!(table[1].contains(",000 entries"), "{table:?}");
        assert_eq!(table[1].replace(',', ""), format!("{million} entries"));
        let (json, csv) = one.join().unwrap();
        assert_eq!(json, ["[", "]"]);
        let footer = format!("# {million} entries");
        assert_eq!(csv, ["\"key\",\"value\"", &footer]);
    });
}

// ---- a map whose creator exits ----------------------------------------------

/// Names the child that a test starts to have a process of its own.
const CREATOR: &str = "KTALLY_TEST_CREATOR";

#[test]
fn a_map_is_dumped_to_its_end_when_its_creator_exits() {
    const ENTRIES: u32 = 100_000;
    if std::env::var_os(CREATOR).is_some() {
        let map = create(MapType::Hash, 4, 8, ENTRIES);
        fill(&map, ENTRIES.into(), value_of);
        println!("map={}", id(&map));
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    let mut creator = Command::new(std::env::current_exe().unwrap())
        .args(["map::dump::a_map_is_dumped_to_its_end_when_its_creator_exits"])
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .env(CREATOR, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(creator.stdout.take().unwrap()).lines();
    let map = said
        .find_map(|line| Some(line.unwrap().split_once("map=")?.1.to_owned()))
        .expect("the creator made its map");
    let mut dump = program()
        .args(["map", "dump", &map, "-o", "jsonl"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It has begun, and waits for the pipe to be read.
    let mut lines = BufReader::new(dump.stdout.take().unwrap()).lines();
    let mut count = u32::from(lines.next().unwrap().is_ok());
    creator.stdin.take().unwrap().write_all(b"x").unwrap();
    said.for_each(drop);
    assert!(creator.wait().unwrap().success());
    count += lines.map(Result::unwrap).count() as u32;
    assert_eq!(count, ENTRIES);
    assert!(dump.wait().unwrap().success());
    crate::support::wait_until("the map has gone", || map!("show", map).code == 3);
}

// ---- maps inside of maps ----------------------------------------------------

pub(super) const NESTED: &str = r#"
struct value { __u32 reads; __s32 left; };
struct inner {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, char[8]);
	__type(value, struct value);
} first SEC(".maps"), second SEC(".maps");
struct {
	__uint(type, 13);
	__uint(max_entries, 4);
	__type(key, __u16);
	__array(values, struct inner);
} outer SEC(".maps");
struct {
	__uint(type, 12);
	__uint(max_entries, 3);
	__type(key, __u32);
	__array(values, struct inner);
} outer_array SEC(".maps");
MAP(ARRAY, 1, __u32, __u32, stranger);
"#;

/// Their ids, or their entries; and an id puts a map there.
#[test]
fn maps_inside_are_told_by_id_put_there_and_dumped() {
    let maps = Maps::load(NESTED);
    let [outer, array, first, second, stranger] =
        ["outer", "outer_array", "first", "second", "stranger"].map(|name| maps.id(name));
    map!("update", first, "a", "reads=1,left=-1").done();
    map!("update", first, "b", "reads=2,left=-2").done();
    map!("update", second, "c", "reads=3,left=-3").done();

    assert_eq!(map_json!("dump", outer), json!([]));
    assert_eq!(map_json!("dump", outer, "--recurse"), json!([]));
    map!("update", outer, 10, first).done();
    map!("update", outer, 20, second, "--noexist").done();
    map!("update", outer, 20, second, "--noexist").failed(1, &["there already"]);
    map!("update", array, 2, second).done();
    map!("update", outer, 30, stranger).failed(1, &["outer"]);
    map!("update", outer, 30, u32::MAX).failed(3, &["no map with id"]);
    assert_eq!(map!("lookup", outer, 10).done(), format!("{first}\n"));
    let mut ids = map_lines!("dump", outer);
    ids.sort_by_key(|entry| entry["key"].as_u64());
    let entry = |key: u32, value: u32| json!({"key": key, "value": value});
    assert_eq!(ids, [entry(10, first), entry(20, second)]);
    map!("dump", array, "-o", "json").prints_json(json!([{"key": 2, "value": second}]));

    let mut inside = map_lines!("dump", outer, "--recurse");
    inside.sort_by_key(|entry| entry["key"].as_str().map(str::to_owned));
    let entry = |outer: u32, map: u32, key: &str, n: i64| json!({"outer": outer, "map": map, "key": key, "value": {"reads": n, "left": -n}});
    let wanted = [
        entry(10, first, "a", 1),
        entry(10, first, "b", 2),
        entry(20, second, "c", 3),
    ];
    assert_eq!(inside, wanted);
    let csv = map!("dump", array, "--recurse", "-o", "csv").done();
    assert_eq!(
        csv,
        format!(
            "\"outer\",\"map\",\"key\",\"reads\",\"left\"\n2,{second},\"c\",3,-3\n# 1 entry of 1 map inside\n"
        )
    );
    for limit in 0..=4usize {
        let lines = map!("dump", outer, "--recurse", "--limit", limit, "-o", "jsonl").done();
        assert_eq!(lines.lines().count(), limit.min(3), "--limit {limit}");
    }
    map!("dump", first, "--recurse").failed(1, &["no maps inside"]);
    map!("delete", outer, 10).done();
    map!("save", outer, "-").failed(1, &["cannot be saved"]);
    map!("add", outer, 20, 1).failed(1, &["type hash_of_maps"]);
}

/// The first by an order, of some keys, in groups: as `run` shows its rows.
#[test]
fn entries_are_chosen_sorted_and_grouped() {
    let maps = Maps::load(
        r#"
struct key { char comm[8]; __u32 call AS(errno); };
struct value { __u64 calls; __u32 bytes; };
MAP(HASH, 16, struct key, struct value, seen);
"#,
    );
    let seen = maps.id("seen");
    for (comm, call, calls, bytes) in [
        ("a", 2, 5, 1),
        ("a", 13, 7, 2),
        ("b", 2, 9, 3),
        ("c", 1, 1, 4),
    ] {
        let key = format!("comm={comm},call={call}");
        map!("update", seen, key, format!("calls={calls},bytes={bytes}")).done();
    }
    let rows = |args: &str| {
        let line = format!("dump {seen} -o jsonl {args}");
        super::run(words(&line)).json_lines()
    };
    let calls = |rows: &[Json]| -> Vec<u64> {
        rows.iter()
            .map(|row| row["value"]["calls"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(calls(&rows("--sort calls")), [9, 7, 5, 1]);
    assert_eq!(calls(&rows("--top 2")), [9, 7]);
    assert_eq!(calls(&rows("--sort bytes --top 1")), [1]);
    assert_eq!(calls(&rows("--where comm=a --sort calls")), [7, 5]);
    assert_eq!(calls(&rows("--where comm=a --where call=13")), [7]);
    assert_eq!(rows("--limit 3").len(), 3);
    assert_eq!(rows("--limit 0").len(), 0);
    let grouped = rows("--by comm --sort calls");
    let group = |comm: &str, calls: u64, bytes: u64| json!({"key": {"comm": comm}, "value": {"calls": calls, "bytes": bytes}});
    let groups = [group("a", 12, 3), group("b", 9, 3), group("c", 1, 4)];
    assert_eq!(grouped, groups);
    for (args, word) in [
        (["--by", "cmm"], "cmm"),
        (["--sort", "nothing"], "nothing"),
        (["--where", "x=1"], "x"),
    ] {
        let id = seen.to_string();
        super::run(["dump", &id].into_iter().chain(args)).failed(2, &[word]);
    }
    needs((5, 16), "a map whose fields have tags");
    assert_eq!(calls(&rows("--where call=EACCES")), [7]);
}
