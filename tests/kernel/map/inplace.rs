//! `add` and `drain`: in the kernel, in place, and without losing an increment.

use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use ktally::map::{Drained, Map, Reader, drain};
use libbpf_rs::{Link, MapCore, MapFlags, MapType, num_possible_cpus};
use serde_json::{Value as Json, json};

use super::sizes::NUMBER;
use super::{Maps, map, map_json, program};
use crate::common::items;
use crate::support::maps::{create, id, set, set_on_cpus};
use crate::support::{CALLS, Child, event, needs, on_two_cpus};

/// Numbers of every kind, and a program that counts a child's events into them.
const COUNTED: &str = r#"
TALLY("events of a child");
const volatile __u32 child SEC(".rodata.child") = 1;
struct inner { __u32 a; __s32 b; };
struct counted {
	__u64 calls COUNTER("");
	__s64 balance GAUGE("");
	__u32 narrow;
	__s32 below;
	struct inner inner[2];
	__u32 list[3];
	char text[4];
	struct tally_histogram sizes HISTOGRAM("");
};
TABLE(counted, __u64, struct counted, 2, "");
PERCPU_TABLE(percpu, __u64, struct counted, 2, "");
MAP(HASH, 1, __u32, struct { __u16 odd; __u16 even; }, narrow);
SEC("tp_btf/sys_enter")
int BPF_PROG(enter, struct pt_regs *regs, long call)
{
	__u64 key = 0;
	struct counted *row;

	if (call != NR_getpriority || bpf_get_current_pid_tgid() >> 32 != child)
		return 0;
	row = tally_entry(counted, &key);
	if (row) {
		__sync_fetch_and_add(&row->calls, 1);
		__sync_fetch_and_add(&row->narrow, 1);
		__sync_fetch_and_add(&row->list[1], 3);
		tally_observe(&row->sizes, 5);
	}
	row = tally_entry(percpu, &key);
	if (row)
		__sync_fetch_and_add(&row->calls, 1);
	return 0;
}
"#;

/// Loaded, and attached if there is a child to count.
struct Counted {
    maps: Maps,
    _link: Option<Link>,
}

impl Counted {
    fn of(child: Option<&Child>) -> Self {
        let c = [CALLS, COUNTED].concat();
        let mut maps = Maps::load_with(&c, |object| {
            if let Some(child) = child {
                let pid: u32 = child.pid().parse().unwrap();
                let mut maps = object.maps_mut();
                let mut rodata = maps.find(|it| it.name() == ".rodata.child");
                let child = rodata.as_mut().unwrap().initial_value_mut().unwrap();
                child.copy_from_slice(&pid.to_ne_bytes());
            }
        });
        let link = child.map(|_| maps.program("enter").attach().unwrap());
        Self { maps, _link: link }
    }

    fn id(&self, name: &str) -> u32 {
        self.maps.id(name)
    }
}

/// The value of key 0.
#[track_caller]
fn value(map: u32) -> Json {
    map_json!("lookup", map, 0)
}

#[test]
fn four_processes_and_a_program_add_at_once() {
    const EACH: u64 = 20_011;
    const EVENTS: u64 = 50_021;
    let child = Child::new("kt-map-add", || (0..EVENTS).for_each(event));
    let counted = Counted::of(Some(&child));
    let map = counted.id("counted").to_string();
    map!("add", map, 0, "calls=0", "--create").done();
    let each = EACH.to_string();
    let adders = ["calls=1", "calls=1", "narrow=1", "calls=-1"].map(|delta| {
        let mut adder = program();
        adder.args(["map", "add", &map, "0", delta, "--repeat", &each]);
        adder.stdout(Stdio::null()).stderr(Stdio::null());
        adder.spawn().unwrap()
    });
    child.work();
    for mut adder in adders {
        assert!(adder.wait().unwrap().success());
    }
    let value = value(counted.id("counted"));
    assert_eq!(value["calls"], EVENTS + EACH);
    assert_eq!(value["narrow"], EVENTS + EACH);
    assert_eq!(value["list"], json!([0, 3 * EVENTS, 0]));
    assert_eq!(value["sizes"]["count"], EVENTS);
}

/// Each kind of number by its path, with what it was and what it is.
#[test]
fn every_kind_of_number_is_added_to_in_place() {
    let counted = Counted::of(None);
    let map = counted.id("counted");
    map!("update", map, 0, "text=abc", "--zero").done();
    for (delta, said) in [
        ("calls=5", "calls: 0 -> 5"),
        ("calls=-2", "calls: 5 -> 3"),
        ("balance=-7", "balance: 0 -> -7"),
        ("balance=9", "balance: -7 -> 2"),
        ("narrow=0x10", "narrow: 0 -> 16"),
        ("below=-1", "below: 0 -> -1"),
        ("inner[1].b=-3", "inner[1].b: 0 -> -3"),
        ("inner.0.a=4", "inner.0.a: 0 -> 4"),
        ("list[2]=6", "list[2]: 0 -> 6"),
        ("sizes.sum=12", "sizes.sum: 0 -> 12"),
        ("sizes.buckets[3]=2", "sizes.buckets[3]: 0 -> 2"),
        (
            "calls=18446744073709551612",
            "calls: 3 -> 18446744073709551615",
        ),
    ] {
        let ended = map!("add", map, 0, delta);
        assert!(!ended.stderr.contains("wrapped"), "{delta}: {ended:?}");
        assert_eq!(ended.done().trim(), said);
    }
    let wanted = json!({
        "calls": u64::MAX, "balance": 2, "narrow": 16, "below": -1,
        "inner": [{"a": 4, "b": 0}, {"a": 0, "b": -3}], "list": [0, 0, 6], "text": "abc",
        "sizes": {
            "count": 2, "sum": 12, "mean": 6.0, "p50": 6.0, "p90": 7.6, "p99": 7.96, "buckets": [[8, 2]],
        },
    });
    assert_eq!(value(map), wanted);
    let added = map_json!("add", map, 0, "narrow=2", "--repeat", 3);
    let wanted = json!({
        "key": 0, "field": "narrow", "before": 16, "after": 22, "wrapped": false, "one_cpu": false,
    });
    assert_eq!(added, wanted);
    for (delta, code, words) in [
        ("1", 2, &["say which number", "calls"][..]),
        ("calls", 2, &["FIELD=DELTA"]),
        ("calls=1.5", 2, &["whole number"]),
        ("calls=18446744073709551616", 2, &["whole number"]),
        ("narrow=4294967296", 2, &["whole number"]),
        ("nothing=1", 2, &["no field named `nothing`"]),
        ("list[3]=1", 2, &["no element `3`"]),
        ("text=1", 2, &["`text`", "not an aligned integer"]),
        ("inner=1", 2, &["`inner`", "not an aligned integer"]),
    ] {
        let ended = map!("add", map, 0, delta).failed(code, words);
        assert!(!ended.stderr.contains("adding to"), "{ended:?}");
    }
    map!("add", map, 7, "calls=1").failed(3, &["no key `7`", "--create"]);
    let narrow = counted.id("narrow");
    map!("update", narrow, 1, "odd=1,even=2").done();
    map!("add", narrow, 1, "odd=1").failed(2, &["`odd`", "4 or 8 bytes"]);
}

/// Modulo the width, and said so.
#[test]
fn wrapping_around_is_said() {
    let counted = Counted::of(None);
    let map = counted.id("counted");
    let edges = "narrow=4294967295,below=2147483647,balance=-9223372036854775808";
    map!("update", map, 0, edges, "--zero").done();
    for (delta, said, bits) in [
        ("narrow=2", "narrow: 4294967295 -> 1", "32 bits"),
        ("narrow=-2", "narrow: 1 -> 4294967295", "32 bits"),
        ("below=1", "below: 2147483647 -> -2147483648", "32 bits"),
        ("calls=-1", "calls: 0 -> 18446744073709551615", "64 bits"),
        (
            "balance=-1",
            "balance: -9223372036854775808 -> 9223372036854775807",
            "64 bits",
        ),
    ] {
        let ended = map!("add", map, 0, delta).good().told(&[bits, "wrapped"]);
        assert_eq!(ended.stdout.trim(), said);
    }
    // Around and past the start once more, in one command.
    let added = map_json!("add", map, 0, "list[0]=2147483648", "--repeat", 3);
    assert_eq!(added["after"], 2_147_483_648u64);
    assert_eq!(added["wrapped"], true);
    let added = map_json!("add", map, 0, "list[2]=2147483648", "--repeat", 2);
    assert_eq!(added["after"], 0);
    assert_eq!(added["wrapped"], true);
    // Neighbours are as they were.
    assert_eq!(value(map)["list"], json!([2_147_483_648u64, 0, 0]));
}

#[test]
fn create_makes_a_row_of_zeroes_where_there_is_room() {
    let hash = create(MapType::Hash, 4, 8, 1);
    let hash = id(&hash);
    map!("add", hash, 5, 3).failed(3, &["no key `5`"]);
    map!("add", hash, 5, 3, "--create").prints("value: 0 -> 3\n");
    map!("add", hash, 5, 3, "--create").prints("value: 3 -> 6\n");
    map!("add", hash, 6, 3, "--create").failed(1, &["full", "1 of 1"]);
    map!("lookup", hash, 6).failed(3, &["no key"]);
    let array = create(MapType::Array, 4, 8, 2);
    map!("add", id(&array), 1, 7, "--create").prints("value: 0 -> 7\n");
    map!("add", id(&array), 2, 7, "--create").failed(1, &["no such index"]);
    let lru = create(MapType::LruHash, 4, 4, 64);
    map!("add", id(&lru), 1, 7, "--create").prints("value: 0 -> 7\n");
    // What programs cannot change in place is refused by name, and left alone.
    let trie = create(MapType::LpmTrie, 8, 8, 2);
    map!("add", id(&trie), "hex:0000000000000000", 7, "--create").failed(1, &["type lpm_trie"]);
    assert_eq!(trie.keys().count(), 0);
    let queue = create(MapType::Queue, 0, 8, 2);
    map!("add", id(&queue), "hex:", 7).failed(1, &["type queue"]);
    let stacks = create(MapType::StackTrace, 4, 128, 2);
    map!("add", id(&stacks), 0, 7).failed(1, &["type stack_trace"]);
}

/// This CPU's copy gets it, and the sum is exact.
#[test]
fn a_per_cpu_number_is_added_to_on_one_cpu() {
    let counted = Counted::of(None);
    let percpu = counted.id("percpu");
    for sum in 1..=5 {
        let said = map!("add", percpu, 0, "calls=1", "--create").done();
        assert!(said.contains("(this CPU's copy)"), "{said}");
        assert_eq!(value(percpu)["calls"], sum);
    }
    let added = map_json!("add", percpu, 0, "calls=-5");
    assert_eq!(added["one_cpu"], true);
    assert_eq!(value(percpu)["calls"], 0);
}

// ---- drain ------------------------------------------------------------------

/// Of the only entry, or zeroes.
fn taken(map: u32) -> [u64; 3] {
    let taken = map_json!("drain", map);
    let entries = items(&taken);
    assert!(entries.len() <= 1, "{taken}");
    entries
        .first()
        .map_or([0; 3], |entry| counts_of(&entry["value"]))
}

fn counts_of(value: &Json) -> [u64; 3] {
    let counts = [&value["calls"], &value["list"][1], &value["sizes"]["count"]];
    counts.map(|number| number.as_u64().unwrap())
}

/// What is taken and what is left are what was issued, however often it is
/// drained meanwhile.
#[test]
fn draining_a_running_counter_loses_nothing() {
    const EVENTS: u64 = 1_000_003;
    let child = Child::new("kt-map-drain", || (0..EVENTS).for_each(event));
    let counted = Counted::of(Some(&child));
    let map = counted.id("counted");
    let mut sum = [0; 3];
    let while_running = AtomicU64::new(0);
    let rounds = thread::scope(|scope| {
        let worker = scope.spawn(|| {
            // A drain may take longer than a round.
            (1..=20).find(|_| {
                child.work();
                while_running.load(Ordering::Relaxed) >= 2
            })
        });
        while !worker.is_finished() {
            let now = taken(map);
            while_running.fetch_add(u64::from(now[0] > 0), Ordering::Relaxed);
            sum = std::array::from_fn(|i| sum[i] + now[i]);
        }
        worker.join().unwrap()
    });
    let events = EVENTS * rounds.expect("two drains while it counts");
    let left = counts_of(&value(map));
    let whole: [u64; 3] = std::array::from_fn(|i| sum[i] + left[i]);
    let issued = [events, 3 * events, events];
    assert_eq!(whole, issued, "taken {sum:?}, left {left:?}");
    // And the last of it.
    assert_eq!(taken(map), left);
    assert_eq!(taken(map), [0; 3]);
}

#[test]
fn draining_every_cpu_loses_nothing() {
    const ROUNDS: u64 = 100_003;
    let child = Child::new("kt-map-percpu", || {
        on_two_cpus(ROUNDS, |_, round| event(round));
    });
    let counted = Counted::of(Some(&child));
    let map = counted.id("percpu");
    let mut sum = 0;
    thread::scope(|scope| {
        let worker = scope.spawn(|| child.work());
        while !worker.is_finished() {
            sum += taken(map)[0];
        }
    });
    let left = value(map)["calls"].as_u64().unwrap();
    assert_eq!(sum + left, 2 * ROUNDS, "taken {sum}, left {left}");
    assert_eq!(taken(map)[0], left);
    assert_eq!(value(map)["calls"], 0);
}

/// Only what counts is taken.
#[test]
fn gauges_and_text_stay() {
    let counted = Counted::of(None);
    let map = counted.id("counted");
    let whole = r#"{"calls":1,"balance":-2,"narrow":3,"below":-4,"inner":[{"a":5,"b":6},{"a":7,"b":8}],
        "list":[9,10,11],"text":"abc","sizes":{"count":2,"sum":12,
        "mean":6.0,"p50":6.0,"p90":7.6,"p99":7.96,"buckets":[[8,2]]}}"#;
    map!("update", map, 0, whole).done();
    let taken = map_json!("drain", map);
    let left = value(map);
    let (taken, whole) = (&taken[0]["value"], super::json(whole));
    for name in ["balance", "text"] {
        assert_eq!(left[name], whole[name], "{name} is left: {left}");
    }
    for name in ["calls", "narrow", "below", "list", "sizes"] {
        assert_eq!(taken[name], whole[name], "{name} is taken: {taken}");
    }
    assert_eq!(left["calls"], 0);
    assert_eq!(left["list"], json!([0, 0, 0]));
    assert_eq!(left["sizes"]["count"], 0);
    // What it cannot take exactly it does not touch.
    let narrow = counted.id("narrow");
    map!("update", narrow, 1, "odd=1,even=2").done();
    map!("drain", narrow).failed(1, &["`odd`", "4 or 8 bytes"]);
    assert_eq!(map_json!("lookup", narrow, 1), json!({"odd": 1, "even": 2}));
}

/// More than the records of one walk hold: each entry is taken once.
#[test]
fn a_map_larger_than_the_ring_is_drained_in_several_walks() {
    needs((5, 14), "a program that a system call runs");
    const ENTRIES: u64 = 80_000;
    const KEY: usize = 504;
    let large = create(MapType::Hash, KEY as u32, 8, ENTRIES as u32);
    let mut keys = vec![0; ENTRIES as usize * KEY];
    let mut values = Vec::new();
    for (i, key) in (0u64..).zip(keys.chunks_mut(KEY)) {
        key[KEY - 8..].copy_from_slice(&i.to_ne_bytes());
        values.extend((i + 1).to_ne_bytes());
    }
    large
        .update_batch(&keys, &values, ENTRIES as u32, MapFlags::ANY, MapFlags::ANY)
        .unwrap();
    let map = Map::new(large.as_fd()).unwrap();
    let drained = drain(&map, &[NUMBER]).unwrap();
    assert_eq!(drained.incomplete, None);
    let entries = entries_of(&drained);
    assert_eq!(entries.len(), ENTRIES as usize);
    for (key, value) in &entries {
        let i = u64::from_ne_bytes(key[KEY - 8..].try_into().unwrap());
        assert_eq!(value, &(i + 1).to_ne_bytes());
    }
    let mut left = 0;
    Reader::new(&map)
        .read(|_, value| {
            assert_eq!(value, [0; 8]);
            left += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(left, ENTRIES);
}

/// By type, sizes and formats.
#[test]
fn maps_of_other_types_are_drained_or_refused_by_name() {
    for ty in [
        MapType::Hash,
        MapType::LruHash,
        MapType::Array,
        MapType::PercpuArray,
        MapType::PercpuHash,
        MapType::LruPercpuHash,
    ] {
        let some = create(ty, 4, 8, 64);
        let (key, value) = (1u32.to_ne_bytes(), 7u64.to_ne_bytes());
        let sum = if ty.is_percpu() {
            set_on_cpus(&some, &key, |_| value.to_vec());
            7 * num_possible_cpus().unwrap()
        } else {
            set(&some, &key, &value);
            7
        };
        let taken = map!("drain", id(&some), "-o", "csv").done();
        let wanted = format!("\"key\",\"value\"\n1,{sum}\n# 1 entry taken\n");
        assert_eq!(taken, wanted, "{ty:?}");
        assert_eq!(map!("drain", id(&some), "-o", "jsonl").done(), "", "{ty:?}");
        assert_eq!(map_json!("drain", id(&some)), json!([]), "{ty:?}");
    }
    let trie = create(MapType::LpmTrie, 8, 8, 2);
    map!("drain", id(&trie)).failed(1, &["failed to drain", "type lpm_trie"]);
}

/// What was taken, by its keys.
pub(super) fn entries_of(drained: &Drained) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries = Vec::new();
    let taken: Result<(), ()> = drained.each(|key, value| {
        entries.push((key.to_vec(), value.to_vec()));
        Ok(())
    });
    taken.unwrap();
    entries
}
