//! `lookup`, `update`, `delete`, `clear` and `next-key`, flag by flag.

use libbpf_rs::{MapCore, MapType, num_possible_cpus};
use serde_json::json;

use super::{Maps, hex, map, map_json, words};
use crate::support::maps::{create, get, id, set};

const PAIRS: &str = r#"
enum mode { SLOW = -2, OFF = 0, FAST = 7 };
struct key {
	char comm[TASK_COMM_LEN];
	__u16 port;
	__s16 level;
};
struct value {
	__u64 calls;
	__s32 balance;
	enum mode mode;
	__u8 bytes[4];
	struct { __u32 low : 3, high : 5; } bits;
	union { __u32 word; __u8 first; };
	bool on;
};
MAP(HASH, 3, struct key, struct value, pairs);
MAP(ARRAY, 4, __u32, __s8, small);
MAP(PERCPU_ARRAY, 2, __u32, __u32, percpu);
struct bpf_spin_lock {
	__u32 val;
};
struct locked {
	struct bpf_spin_lock lock;
	__u32 number;
};
MAP(HASH, 2, __u32, struct locked, locked);
"#;

const WHOLE: &str = "calls=18446744073709551615,balance=-3,mode=FAST,bytes=[1,2,3,4],bits.low=5,bits.high=17,word=513,on=true";

/// Every field that is written comes back, as text and as JSON.
#[test]
fn typed_values_come_back() {
    let maps = Maps::load(PAIRS);
    let pairs = maps.id("pairs");
    map!("update", pairs, "comm=bash,port=80,level=-1", WHOLE).done();
    let seen = map_json!("lookup", pairs, "comm=bash,port=0x50,level=-1");
    let value = json!({
        "calls": 18446744073709551615u64, "balance": -3, "mode": "FAST", "bytes": [1, 2, 3, 4],
        "bits": {"low": 5, "high": 17}, "word": 513, "first": 1, "on": true,
    });
    assert_eq!(seen, value);
    // What it prints is what it reads.
    let key = r#"{"comm":"zsh","port":0,"level":32767}"#;
    map!("update", pairs, key, value).done();
    assert_eq!(map_json!("lookup", pairs, key), value);
    // The same bytes as the C compiler would have written.
    let raw = map!("lookup", "--raw", pairs, key_bytes("zsh", 0, 32767)).done();
    let bytes = "fffffffffffffffffdffffff07000000010203048d0000000102000001000000";
    assert_eq!(raw.trim(), format!("hex:{bytes}"));
}

fn key_bytes(comm: &str, port: u16, level: i16) -> String {
    let mut bytes = comm.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes.extend(port.to_ne_bytes());
    bytes.extend(level.to_ne_bytes());
    hex(&bytes)
}

/// Mistakes are named by field and range, and nothing is written.
#[test]
fn mistakes_are_named_and_change_nothing() {
    let maps = Maps::load(PAIRS);
    let (pairs, small) = (maps.id("pairs"), maps.id("small"));
    let key = "comm=a,port=1,level=1";
    for (key, value, words) in [
        (
            "comm=a,port=65536,level=1",
            WHOLE,
            &["`port`", "0 to 65535"][..],
        ),
        ("comm=a,port=1", WHOLE, &["left out", "`level`"]),
        ("comm=a,port=1,level=1,x=2", WHOLE, &["`x`"]),
        (
            "comm=seventeen letters,port=1,level=1",
            WHOLE,
            &["`comm`", "at most 16"],
        ),
        (key, "calls=1", &["left out", "--merge", "--zero"]),
        (key, "calls=-1", &["`calls`", "18446744073709551615"]),
        (key, "mode=WILD", &["SLOW", "OFF", "FAST"]),
        (key, "bits.low=8", &["`bits.low`", "0 to 7"]),
        (key, "bytes=[1,2,3]", &["`bytes`", "3 elements"]),
        (key, "on=2", &["`on`"]),
        (key, "hex:00", &["1 bytes"]),
        (key, "word=1,first=2,calls=1", &["disagree"]),
    ] {
        map!("update", pairs, key, value).failed(2, words);
    }
    for (value, words) in [
        ("128", "-128 to 127"),
        ("-129", "-128 to 127"),
        ("1.5", "whole"),
        ("", "whole"),
    ] {
        map!("update", small, 0, value).failed(2, &[words]);
    }
    map!("update", small, "x", "1").failed(2, &["key", "whole"]);
    map!("lookup", pairs, key).failed(3, &["no key"]);
    assert_eq!(map!("lookup", small, 0).done(), "0\n");
    map!("next-key", pairs).failed(3, &["empty"]);
}

#[test]
fn exist_and_noexist_are_kept_apart() {
    let hash = create(MapType::Hash, 4, 4, 1);
    let hash_id = id(&hash);
    map!("update", hash_id, 1, 10, "--exist").failed(3, &["no such key"]);
    map!("update", hash_id, 1, 10, "--noexist").done();
    map!("update", hash_id, 1, 11, "--noexist").failed(1, &["there already"]);
    assert_eq!(map!("lookup", hash_id, 1).done(), "10\n");
    map!("update", hash_id, 1, 12, "--exist").done();
    assert_eq!(map!("lookup", hash_id, 1).done(), "12\n");
    map!("update", hash_id, 1, 13).done();
    assert_eq!(map!("lookup", hash_id, 1).done(), "13\n");
    map!("update", hash_id, 2, 1).failed(1, &["full", "1 of 1"]);
    map!("update", hash_id, 1, 1, "--exist", "--noexist").failed(2, &["cannot be used with"]);
    map!("lookup", 0xffff_fff0u32, 1).failed(3, &["no map with id"]);

    let array = create(MapType::Array, 4, 8, 3);
    let array = id(&array);
    map!("update", array, 2, 5, "--exist").done();
    map!("update", array, 2, 5, "--noexist").failed(1, &["every index of an array exists"]);
    map!("update", array, 3, 5).failed(1, &["no such index", "3"]);
    map!("lookup", array, 3).failed(3, &["no key"]);
    map!("delete", array, 2).failed(1, &["cannot be deleted"]);
}

/// `--lock` works where there is a lock, and only there; the lock itself is
/// the kernel's, and no field.
#[test]
fn a_value_is_updated_under_its_lock() {
    let maps = Maps::load(PAIRS);
    let locked = maps.id("locked");
    map!("update", locked, 1, "number=7", "--lock").done();
    let update = |args: &str| {
        let line = format!("update {locked} 1 {args}");
        super::run(words(&line))
    };
    update("number=8 --lock --exist --merge").done();
    let seen = map_json!("lookup", locked, 1);
    assert_eq!(seen["number"], 8);
    update("number=9 --lock --noexist --zero").failed(1, &["there already"]);
    let plain = create(MapType::Hash, 4, 4, 1);
    map!("update", id(&plain), 1, 1, "--lock").failed(1, &["no bpf_spin_lock"]);
}

/// The whole name, wherever the kernel cuts it.
#[test]
fn maps_are_told_by_their_whole_names() {
    let maps = Maps::load(
        r#"
MAP(HASH, 1, __u32, __u32, a_name_of_more_than_15_letters);
"#,
    );
    let (map, name) = (
        maps.id("a_name_of_more_than_15_letters"),
        "`a_name_of_more_than_15_letters`",
    );
    for ended in [
        map!("next-key", map).failed(3, &[]),
        map!("lookup", map, 1).failed(3, &[]),
        map!("add", map, 1, 1).failed(3, &[]),
        map!("update", map, 1, 1, "--exist").failed(3, &[]),
        map!("update", map, 1, 1),
        map!("update", map, 2, 1).failed(1, &["full"]),
        map!("push", map, 1).failed(1, &["has keys"]),
        map!("drain", map),
        map!("delete", map, 1),
        map!("clear", map, "--yes"),
        map!("freeze", map),
        map!("freeze", map).failed(1, &["frozen already"]),
        map!("add", map, 1, 1).failed(1, &["frozen"]),
        map!("drain", map).failed(1, &["frozen"]),
        map!("update", map, 1, 1).failed(1, &["frozen"]),
    ] {
        for (at, _) in ended.stderr.match_indices("a_name") {
            assert!(ended.stderr[at - 1..].starts_with(name), "{ended:?}");
        }
        assert!(ended.stderr.contains(name), "{ended:?}");
    }
}

/// A value longer than an argument can be comes from a file.
#[test]
fn values_come_from_files_too() {
    let large = create(MapType::Array, 4, 200_000, 1);
    let queue = create(MapType::Queue, 0, 4, 2);
    let bytes: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
    let mut hex = hex(&bytes);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("hex:{hex}\n")).unwrap();
    let at = format!("@{}", file.path().display());
    let seen = || get(&large, &[0; 4]).unwrap();
    map!("update", id(&large), 0, at).done();
    assert_eq!(seen(), bytes);
    hex.replace_range(..2, "ff");
    let map = id(&large).to_string();
    super::map_reading(&["update", &map, "00000000", "-", "--raw"], &hex).done();
    assert_eq!((seen()[0], &seen()[1..]), (0xff, &bytes[1..]));
    super::map_reading(&["push", &id(&queue).to_string(), "-"], "77\n").done();
    assert_eq!(map!("pop", id(&queue)).done(), "77\n");
    map!("update", map, 0, "@/no/such/file").failed(2, &["failed to read `/no/such/file`"]);
    // In quotes it is itself.
    let maps = Maps::load(
        r#"
MAP(HASH, 1, __u32, char[8], texts);
"#,
    );
    let texts = maps.id("texts");
    map!("update", texts, 1, "\"@me\"").done();
    assert_eq!(map!("lookup", texts, 1).done(), "@me\n");
}

#[test]
fn fields_left_out_are_kept_or_become_zero() {
    let maps = Maps::load(PAIRS);
    let pairs = maps.id("pairs");
    let key = "comm=a,port=1,level=1";
    let calls_and_balance = || {
        let seen = map_json!("lookup", pairs, key);
        [seen["calls"].as_i64(), seen["balance"].as_i64()].map(Option::unwrap)
    };
    map!("update", pairs, key, "calls=1", "--merge").failed(3, &["nothing to merge with"]);
    map!("update", pairs, key, "calls=1", "--zero").done();
    assert_eq!(calls_and_balance(), [1, 0]);
    map!("update", pairs, key, "balance=-5", "--merge").done();
    assert_eq!(calls_and_balance(), [1, -5]);
    map!("update", pairs, key, "calls=2", "--zero").done();
    assert_eq!(calls_and_balance(), [2, 0]);
    map!("update", pairs, key, "calls=2", "--zero", "--merge").failed(2, &["cannot be used with"]);
}

/// A total goes to one CPU and the others become zero, unless told otherwise.
#[test]
fn values_of_cpus_are_updated_together_or_alone() {
    let maps = Maps::load(PAIRS);
    let percpu = maps.id("percpu");
    let cpus = num_possible_cpus().unwrap();
    let each = || {
        let seen = map_json!("lookup", percpu, 0, "--per-cpu");
        serde_json::from_value::<Vec<u32>>(seen).unwrap()
    };
    let of = |first: u32, others: u32| {
        let mut all = vec![others; cpus];
        all[0] = first;
        all
    };
    map!("update", percpu, 0, 5, "--all-cpus").done();
    assert_eq!(each(), of(5, 5));
    map!("update", percpu, 0, 9).done();
    assert_eq!(each(), of(9, 0));
    assert_eq!(map!("lookup", percpu, 0).done(), "9\n");
    map!("update", percpu, 0, 4, "--all-cpus").done();
    map!("update", percpu, 0, 7, "--cpu", 0).done();
    assert_eq!(each(), of(7, 4));
    let sum = 7 + 4 * (cpus as u32 - 1);
    assert_eq!(map_json!("lookup", percpu, 0), sum);
    map!("update", percpu, 0, 1, "--cpu", cpus).failed(2, &["no CPU"]);
    map!("update", percpu, 0, 1, "--cpu", 0, "--all-cpus").failed(2, &["cannot be used with"]);
    map!("update", maps.id("small"), 0, 1, "--cpu", 0).failed(2, &["one value for all CPUs"]);
    map!("update", maps.id("small"), 0, 1, "--all-cpus").failed(2, &["one value for all CPUs"]);
}

#[test]
fn every_deleted_key_has_a_fate() {
    let hash = create(MapType::Hash, 4, 4, 8);
    let hash_id = id(&hash);
    for key in 1..=5u32 {
        set(&hash, &key.to_ne_bytes(), &key.to_ne_bytes());
    }
    assert_eq!(map!("delete", hash_id, 1).done(), "1: deleted\n");
    let ended = map!("delete", hash_id, 1, 2, "0x3").failed(3, &[]);
    assert_eq!(ended.stdout, "1: absent\n2: deleted\n0x3: deleted\n");
    let ended = map!("delete", hash_id, 4, 4, "-o", "json").failed(3, &[]);
    let fates = json!([{"key": 4, "deleted": true}, {"key": 4, "deleted": false}]);
    assert_eq!(super::json(&ended.stdout), fates);
    // A key that makes no sense: nothing is deleted at all.
    let ended = map!("delete", hash_id, 5, "x").failed(2, &["whole"]);
    assert!(!ended.stderr.contains("deleting from"), "{ended:?}");
    assert_eq!(map!("lookup", hash_id, 5).done(), "5\n");
}

#[test]
fn clear_deletes_all_when_it_is_meant() {
    let hash = create(MapType::Hash, 4, 4, 100);
    let hash_id = id(&hash);
    for key in 0..100u32 {
        set(&hash, &key.to_ne_bytes(), &[0; 4]);
    }
    map!("clear", hash_id).failed(2, &["--yes"]);
    assert_eq!(hash.keys().count(), 100);
    let ended = map!("clear", hash_id, "--yes");
    assert!(ended.stderr.contains("100 entries"), "{ended:?}");
    ended.done();
    assert_eq!(hash.keys().count(), 0);
    map!("clear", hash_id, "--yes").done();
    let array = create(MapType::Array, 4, 4, 1);
    map!("clear", id(&array), "--yes").failed(1, &["cannot be deleted"]);
    // Indexes that are not used are walked, and there is nothing to delete.
    let cpus = create(MapType::Cpumap, 4, 4, 8);
    set(&cpus, &[0; 4], &[64, 0, 0, 0]);
    for deleted in ["deleted 1 entry", "deleted 0 entries"] {
        let ended = map!("clear", id(&cpus), "--yes");
        assert!(ended.stderr.contains(deleted), "{ended:?}");
        ended.done();
    }
    let ended = map!("delete", id(&cpus), 0).failed(3, &[]);
    assert_eq!(ended.stdout, "0: absent\n");
    for ty in [MapType::ProgArray, MapType::Sockmap] {
        let empty = create(ty, 4, 4, 4);
        map!("clear", id(&empty), "--yes").done();
        map!("delete", id(&empty), 1).failed(3, &[]);
    }
}

/// From the first key to the last, each of them once; after a key that is not
/// there comes the first, as the kernel has it.
#[test]
fn keys_are_walked_one_by_one() {
    let hash = create(MapType::Hash, 4, 4, 8);
    let hash_id = id(&hash);
    map!("next-key", hash_id).failed(3, &["is empty"]);
    let ended = map!("next-key", hash_id, "-o", "json").failed(3, &["is empty"]);
    assert_eq!(ended.stdout, "null\n");
    for key in [3u32, 5, 7] {
        set(&hash, &key.to_ne_bytes(), &[0; 4]);
    }
    let mut keys = vec![map!("next-key", hash_id).done()];
    for _ in 0..2 {
        keys.push(map!("next-key", hash_id, keys.last().unwrap().trim()).done());
    }
    let last = keys.last().unwrap().trim();
    map!("next-key", hash_id, last).failed(3, &["is the last key"]);
    assert_eq!(map!("next-key", hash_id, 99).done(), keys[0]);
    keys.sort();
    assert_eq!(keys, ["3\n", "5\n", "7\n"]);

    // Of an array they are the indexes; a key of fields can be typed again.
    let maps = Maps::load(PAIRS);
    let (pairs, small) = (maps.id("pairs"), maps.id("small"));
    assert_eq!(map!("next-key", small).done(), "0\n");
    assert_eq!(map!("next-key", small, 2).done(), "3\n");
    map!("next-key", small, 3).failed(3, &["is the last key"]);
    let key = "comm=\"a, b\",port=1,level=-1";
    map!("update", pairs, key, "calls=1", "--zero").done();
    let key = map!("next-key", pairs).done();
    let key = key.trim();
    let fields = json!({"comm": "a, b", "port": 1, "level": -1});
    assert_eq!(super::json(key), fields);
    map!("next-key", pairs, key).failed(3, &["is the last key"]);
}

/// The flags that help are named where fields are missing, and nowhere else.
#[test]
fn missing_fields_are_told_from_wrong_ones() {
    let maps = Maps::load(
        r#"
struct pair { __u32 a; __u32 b; };
MAP(HASH, 1, __u32, struct pair, pairs);
"#,
    );
    let map = maps.id("pairs");
    map!("update", map, 1, "a=1").failed(2, &["left out: `b`", "say --merge or --zero"]);
    for wrong in ["a=left out", "c=left out", "a=left out,b=1"] {
        let ended = map!("update", map, 1, wrong).failed(2, &["left out"]);
        assert!(!ended.stderr.contains("--merge"), "{ended:?}");
    }
}
