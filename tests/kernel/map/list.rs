//! `list` and `show`: what is known about a map, among maps that come and go.

use std::os::fd::AsFd;

use libbpf_rs::{MapCore, MapType, libbpf_sys};
use serde_json::{Value as Json, json};

use super::pin::Bpffs;
use super::{Maps, json_lines, map, map_json, map_lines};
use crate::common::schema::assert_valid;
use crate::common::{Args, PROGRAM, command, items};
use crate::objects::is_map;
use crate::run::Run;
use crate::support::maps::{create, create_with, id, set};
use crate::support::{beside, needs};

/// The line of this map; panics where there is none, or more.
#[track_caller]
fn listed(map: u32) -> Json {
    let mut lines = map_lines!("list");
    lines.retain(|line| line["id"] == map);
    assert_eq!(lines.len(), 1);
    lines.remove(0)
}

#[test]
fn all_that_is_known_is_listed() {
    let flags = libbpf_sys::BPF_F_NO_PREALLOC | libbpf_sys::BPF_F_ZERO_SEED;
    let hash = create_with(MapType::Hash, 4, 8, 10, flags);
    for key in 0..3u32 {
        set(&hash, &key.to_ne_bytes(), &[0; 8]);
    }
    let bpffs = Bpffs::new();
    let pin = bpffs.path("a pin");
    map!("pin", id(&hash), pin.display()).done();
    let line = listed(id(&hash));
    for (what, wanted) in [
        ("type", json!("hash")),
        ("name", json!("kt_map")),
        ("used", json!(3)),
        ("used_is_exact", json!(true)),
        ("max_entries", json!(10)),
        ("flags", json!(["no_prealloc", "zero_seed"])),
        ("pins", json!([pin])),
        ("programs", json!([])),
        ("key", json!(null)),
    ] {
        assert_eq!(line[what], wanted, "{what}: {line}");
    }
    assert!(line["memory"].as_u64().unwrap() > 0);
    let mine = |holder: &Json| holder["pid"] == std::process::id();
    assert!(items(&line["held_by"]).iter().any(mine), "{line}");
}

/// Its programs, its types as C, and its tags.
#[test]
fn a_map_is_shown_with_its_types_and_programs() {
    let maps = Maps::load(
        r#"
TALLY("shown");
OPTION(bool, by_pid, false, "");
enum how { LATE = 7, SOON };
typedef enum { ONE } short_name;
struct who {
	char comm[TASK_COMM_LEN] AS(comm);
	__u32 uid AS(uid);
	__u32 pid WITH(by_pid);
};
struct what {
	__u64 time COUNTER("time spent") UNIT(ns);
	__u32 low : 3;
	enum how how;
	short_name one;
	union { __u64 whole; struct { __u16 half[2][2]; } parts; };
	void *pointer;
};
TABLE(kt_shown_whole_name, struct who, struct what, 16, "who did what");
SEC("socket") int uses(void *ctx)
{
	struct who key = {};
	return tally_entry(kt_shown_whole_name, &key) != 0;
}
"#,
    );
    let shown = map!("show", maps.id("kt_shown_whole_name")).done();
    for words in [
        "kt_shown_whole_name",
        "0 of 16",
        "struct who {",
        "__u32 low : 3;",
        "enum how {\n\t\tLATE = 7,\n\t\tSOON = 8,\n\t} how;",
        "enum /* short_name */ {\n\t\tONE = 0,\n\t} one;",
        "union {\n\t\t__u64 whole;\n\t\tstruct {\n\t\t\t__u16 half[2][2];\n\t\t} parts;\n\t};",
        "void *pointer;",
        "uses (id ",
    ] {
        assert!(shown.contains(words), "no `{words}`: {shown}");
    }
    let line = listed(maps.id("kt_shown_whole_name"));
    assert_eq!(
        [&line["key"], &line["value"]],
        ["struct who", "struct what"]
    );
    assert_eq!(line["programs"][0]["name"], "uses");
    needs((5, 16), "a map whose fields have tags");
    for words in [
        "who did what",
        "char comm[16] AS(comm);",
        "__u32 uid AS(uid);",
        "__u64 time COUNTER(\"time spent\") UNIT(ns);",
        "__u32 pid WITH(by_pid);",
    ] {
        assert!(shown.contains(words), "no `{words}`: {shown}");
    }
}

/// Maps that vanish are notes; those that stay are all there.
#[test]
fn two_hundred_maps_come_and_go_during_a_list() {
    let stay: Vec<_> = (0..20).map(|_| create(MapType::Array, 4, 4, 1)).collect();
    let come_and_go = || {
        let brief: Vec<_> = (0..200).map(|_| create(MapType::Hash, 4, 4, 1)).collect();
        drop(brief);
    };
    let rounds = beside(come_and_go, || {
        for format in ["jsonl", "json", "csv", "table", "jsonl"] {
            let text = map!("list", "-o", format).done();
            let of_json = |line: &Json| line["id"].as_u64();
            let of_text = |line: &str| line.trim_start().split([',', ' ']).next()?.parse().ok();
            let ids: Vec<Option<u64>> = match format {
                "json" => super::json(&text)
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(of_json)
                    .collect(),
                "jsonl" => json_lines(&text).iter().map(of_json).collect(),
                _ => text.lines().map(of_text).collect(),
            };
            for map in stay.iter().map(id) {
                let times = ids.iter().filter(|found| **found == Some(map.into()));
                assert_eq!(times.count(), 1, "{format}: {map}");
            }
        }
    });
    assert!(rounds >= 5, "{rounds}");
}

/// To open an array of programs while the kernel empties it can keep it for
/// ever, so those that no process has any more are left alone, by name and in lists.
#[test]
fn an_array_of_programs_that_nobody_has_is_left_alone() {
    let mut loaded = Maps::load(
        r#"
struct {
	__uint(type, 3); /* BPF_MAP_TYPE_PROG_ARRAY */
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} kt_left_alone SEC(".maps");

SEC("raw_tp/sys_enter")
int jumps(void *ctx)
{
	bpf_tail_call(ctx, &kt_left_alone, 0);
	return 0;
}
"#,
    );
    let array = "kt_left_alone";
    let id = loaded.id(array);
    assert_eq!(listed(id)["name"], array);
    assert_eq!(map_json!("show", array)["id"], id);
    let program = loaded.program("jumps").as_fd().try_clone_to_owned();
    drop(loaded);
    assert!(is_map(id), "the program has it");
    let lines = map_lines!("list");
    assert!(lines.iter().all(|line| line["id"] != id));
    map!("show", array).failed(3, &["no map"]);
    drop(program);
}

/// An array without entries has as many indexes as another: a host that is full
/// of such maps is listed all the same.
#[test]
fn empty_indexes_are_not_walked_for_ever() {
    let [small, large] = [100, 20_000].map(|most| create(MapType::Devmap, 4, 4, most));
    let shown = |map| map_json!("show", id(map));
    let shown = [&small, &large].map(shown);
    let used = |shown: &Json| (shown["used"].clone(), shown["used_is_exact"].clone());
    assert_eq!(used(&shown[0]), (json!(0), json!(true)));
    assert_eq!(used(&shown[1]), (json!(0), json!(false)));
}

/// There may be more maps than a process may have descriptors.
#[test]
fn maps_are_opened_one_after_the_other() {
    let maps: Vec<_> = (0..100).map(|_| create(MapType::Array, 4, 4, 1)).collect();
    let script = "ulimit -n 64; exec \"$0\" map list -o jsonl";
    let ended = super::end(command("sh").args(["-c", script, PROGRAM]));
    assert!(!ended.stderr.contains("cannot be opened"), "{ended:?}");
    let listed = json_lines(&ended.done());
    let ids: Vec<u64> = listed.iter().map(|it| it["id"].as_u64().unwrap()).collect();
    let all = maps.iter().all(|map| ids.contains(&id(map).into()));
    assert!(all, "{ids:?}");
}

/// New, changed and gone keys of each interval, and by how much they grew.
#[test]
fn changes_are_watched() {
    let hash = create(MapType::Hash, 4, 8, 8);
    let put = |key: u32, value: u64| {
        set(&hash, &key.to_ne_bytes(), &value.to_ne_bytes());
    };
    put(1, 5);
    put(2, 7);
    let line = format!("map watch {} --every 300ms --strict -o jsonl", id(&hash));
    let mut watch = Run::of(&mut line.pass_to(super::program()));
    let mut next = || {
        let interval = watch.next();
        assert_valid("map-watch.json", &interval);
        interval["changes"].clone()
    };
    // Once it has written, it has read what there was.
    assert_eq!(next(), json!([]));
    put(1, 15);
    put(3, 1);
    hash.delete(&2u32.to_ne_bytes()).unwrap();
    // An interval may end between these.
    let mut changes = Vec::new();
    while changes.len() < 3 {
        changes.extend(next().as_array().unwrap().clone());
    }
    let of = |key: u32| changes.iter().find(|change| change["key"] == key).unwrap();
    let changed =
        json!({"change": "changed", "key": 1, "before": 5, "now": 15, "difference": {"value": 10}});
    assert_eq!(of(1), &changed);
    let gone = json!({"change": "gone", "key": 2, "before": 7, "now": null});
    assert_eq!(of(2), &gone);
    let new = json!({"change": "new", "key": 3, "before": null, "now": 1});
    assert_eq!(of(3), &new);
    assert_eq!(next(), json!([]));
    // Set to zero, and counted since.
    put(1, 4);
    let mut changes = json!([]);
    while changes == json!([]) {
        changes = next();
    }
    let reset =
        json!({"change": "reset", "key": 1, "before": 15, "now": 4, "difference": {"value": 4}});
    assert_eq!(changes, json!([reset]));
    watch.stop().failed(4, &[]);
}

/// In every format, to the last digit.
#[test]
fn numbers_of_128_bits_are_whole() {
    let maps = Maps::load(
        r#"
struct wide { unsigned __int128 all; __s64 other; };
MAP(ARRAY, 1, __u32, struct wide, wide);
"#,
    );
    let wide = maps.id("wide");
    let most = u128::MAX.to_string();
    map!("update", wide, 0, format!("all={most},other=-1")).done();
    for format in ["json", "jsonl", "csv", "table"] {
        let text = map!("dump", wide, "-o", format).done();
        assert!(text.contains(&most) && text.contains("-1"), "{text}");
    }
    // What is too wide stays, and is named.
    map!("drain", wide).done();
    assert!(map!("lookup", wide, 0).done().contains(&most));
}
