//! Every type of map that the kernel has: made, listed, shown, and dumped or
//! refused by name.

use std::collections::HashSet;
use std::os::fd::AsFd;

use ktally::map::type_names;
use libbpf_rs::btf::types::Enum;
use libbpf_rs::{Btf, MapCore, MapHandle, MapType};
use serde_json::json;

use super::pin::{Bpffs, create_at};
use super::{Maps, map, map_json, map_lines};
use crate::support::maps::{create, id, set, set_on_cpus};
use crate::support::needs;

/// What libbpf makes from C better than bpf(2) does from numbers: maps that
/// need BTF, or another map.
const SPECIAL: &str = r#"
#define STORAGE(type_, name)                   \
	struct {                               \
		__uint(type, type_);           \
		__uint(map_flags, 1);          \
		__type(key, int);              \
		__type(value, __u64);          \
	} name SEC(".maps")
STORAGE(24, sk_storage);
STORAGE(28, inode_storage);
STORAGE(29, task_storage);
STORAGE(32, cgrp_storage);
struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} inside SEC(".maps");
struct {
	__uint(type, 12);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct inner);
} array_of_maps SEC(".maps") = { .values = { &inside } };
struct {
	__uint(type, 13);
	__uint(max_entries, 2);
	__type(key, __u64);
	__array(values, struct inner);
} hash_of_maps SEC(".maps");
struct {
	__uint(type, 33);
	__uint(map_flags, 1 << 10);
	__uint(max_entries, 2);
} arena SEC(".maps");
"#;

/// A type that the kernel registers; made, but never registered.
const STRUCT_OPS: &str = r#"
struct tcp_congestion_ops {
	__u32 flags;
	char name[16];
};
SEC(".struct_ops") struct tcp_congestion_ops struct_ops = { .name = "kt_map" };
"#;

/// What `dump` makes of a map.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Dumped {
    Entries(usize),
    Refused,
}
use Dumped::{Entries, Refused};

/// A map of this type, as small as it can be, and what `dump` makes of it.
fn made(name: &str, special: &Maps, struct_ops: &Maps) -> Option<(MapHandle, Dumped)> {
    let of_one = |ty, key: usize, value: usize| {
        let map = create(ty, key as u32, value as u32, 64);
        set(&map, &vec![0; key], &vec![0; value]);
        map
    };
    let of_cpus = |ty| {
        let map = create(ty, 4, 8, 64);
        set_on_cpus(&map, &[0; 4], |_| vec![0; 8]);
        map
    };
    Some(match name {
        "hash" => (of_one(MapType::Hash, 4, 8), Entries(1)),
        "array" => (create(MapType::Array, 4, 8, 3), Entries(3)),
        "prog_array" => (create(MapType::ProgArray, 4, 4, 2), Entries(0)),
        "perf_event_array" => (create(MapType::PerfEventArray, 4, 4, 2), Refused),
        "percpu_hash" => (of_cpus(MapType::PercpuHash), Entries(1)),
        "percpu_array" => (create(MapType::PercpuArray, 4, 8, 3), Entries(3)),
        "stack_trace" => (create(MapType::StackTrace, 4, 8 * 16, 2), Entries(0)),
        "cgroup_array" => (create(MapType::CgroupArray, 4, 4, 2), Refused),
        "lru_hash" => (of_one(MapType::LruHash, 4, 8), Entries(1)),
        "lru_percpu_hash" => (of_cpus(MapType::LruPercpuHash), Entries(1)),
        "lpm_trie" => {
            let map = create(MapType::LpmTrie, 8, 4, 8);
            set(&map, &[8, 0, 0, 0, 10, 0, 0, 0], &[1; 4]);
            (map, Entries(1))
        }
        "array_of_maps" => (special.handle(name), Entries(1)),
        "hash_of_maps" => (special.handle(name), Entries(0)),
        "devmap" => (create(MapType::Devmap, 4, 8, 2), Entries(0)),
        "sockmap" => (create(MapType::Sockmap, 4, 8, 2), Entries(0)),
        "cpumap" => {
            let map = create(MapType::Cpumap, 4, 4, 2);
            set(&map, &[0; 4], &192u32.to_ne_bytes());
            (map, Entries(1))
        }
        "xskmap" => (create(MapType::Xskmap, 4, 4, 2), Refused),
        "sockhash" => (create(MapType::Sockhash, 4, 8, 2), Entries(0)),
        "cgroup_storage" => (create(MapType::CgroupStorage, 16, 8, 0), Entries(0)),
        "percpu_cgroup_storage" => (create(MapType::PercpuCgroupStorage, 16, 8, 0), Entries(0)),
        "reuseport_sockarray" => (create(MapType::ReuseportSockarray, 4, 8, 2), Entries(0)),
        "queue" => (create(MapType::Queue, 0, 4, 2), Refused),
        "stack" => (create(MapType::Stack, 0, 4, 2), Refused),
        "devmap_hash" => (create(MapType::DevmapHash, 4, 8, 2), Entries(0)),
        "ringbuf" => (create(MapType::RingBuf, 0, 0, 4096), Refused),
        "user_ringbuf" => (create(MapType::UserRingBuf, 0, 0, 4096), Refused),
        "bloom_filter" => (create(MapType::BloomFilter, 0, 4, 2), Refused),
        "struct_ops" => (struct_ops.handle(name), Entries(1)),
        "sk_storage" | "task_storage" | "cgrp_storage" => (special.handle(name), Entries(0)),
        "inode_storage" | "arena" => (special.handle(name), Refused),
        _ => return None,
    })
}

/// The types of the running kernel's `enum bpf_map_type`, in libbpf's spelling.
fn known_to_the_kernel() -> HashSet<String> {
    let btf = Btf::from_vmlinux().unwrap();
    let types = btf.type_by_name::<Enum<'_>>("bpf_map_type").unwrap();
    let names = types
        .iter()
        .map(|variant| variant.name.unwrap().to_str().unwrap());
    let names = names.filter_map(|name| name.strip_prefix("BPF_MAP_TYPE_"));
    names
        .map(|name| name.trim_end_matches("_DEPRECATED").to_lowercase())
        .collect()
}

/// Where programs can change values in place.
const IN_PLACE: [&str; 6] = [
    "hash",
    "array",
    "percpu_hash",
    "percpu_array",
    "lru_hash",
    "lru_percpu_hash",
];

/// In one line, by the kernel's name of the type, and without errnos.
#[track_caller]
fn refuses(map: u32, name: &str, args: &[&str]) {
    let map = map.to_string();
    let args = args
        .iter()
        .map(|arg| if *arg == "MAP" { &map } else { *arg });
    let ended = super::run(args).failed(1, &[&format!("type {name}")]);
    assert_eq!(ended.stdout, "", "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert!(!ended.stderr.contains("os error"), "{ended:?}");
}

#[test]
fn every_type_is_listed_and_dumped_or_refused_by_name() {
    let known = known_to_the_kernel();
    let special = Maps::load_with(SPECIAL, |object| {
        for mut map in object.maps_mut() {
            let name = map.name().to_str().unwrap().to_owned();
            if type_names().contains(&name.as_str()) {
                map.set_autocreate(known.contains(&name)).unwrap();
            }
        }
    });
    let struct_ops = Maps::load(STRUCT_OPS);
    let bpffs = Bpffs::new();
    let mut kept = Vec::new();
    let mut refused = Vec::new();
    for name in type_names() {
        let made = known
            .contains(name)
            .then(|| made(name, &special, &struct_ops));
        match made.flatten() {
            Some((map, dumped)) => kept.push((name, map, dumped)),
            None => refused.push(name),
        }
    }
    // Only what the kernel does not have, or wants a program for.
    for name in &refused {
        let pin = bpffs.path(name);
        let mut args = vec!["create", pin.to_str().unwrap(), "--type", name];
        args.extend(["--max-entries", "4096"]);
        args.extend(match *name {
            "user_ringbuf" => &[][..],
            "bloom_filter" => &["--value", "32"],
            _ => &["--key", "4", "--value", "32"],
        });
        super::run(args).failed(1, &["the kernel refuses maps of type", name]);
        assert!(!pin.exists());
    }
    refused.retain(|name| known.contains(*name));
    let wants_a_program = |name: &&str| *name == "insn_array";
    assert!(refused.iter().all(wants_a_program), "{refused:?}");
    let listed = map_lines!("list");
    for (name, handle, dumped) in &kept {
        let map = id(handle);
        let found = listed.iter().find(|it| it["id"] == map).expect(name);
        for (what, wanted) in [
            ("type", json!(name)),
            ("key_size", json!(handle.key_size())),
            ("value_size", json!(handle.value_size())),
            ("max_entries", json!(handle.max_entries())),
        ] {
            assert_eq!(found[what], wanted, "{what} of {name}");
        }
        assert!(map!("show", map).done().contains(name));
        let ended = map!("dump", map, "-o", "jsonl");
        match dumped {
            Entries(entries) => {
                let lines = ended.done();
                assert_eq!(lines.lines().count(), *entries, "{name}: {lines}");
            }
            Refused => {
                ended.failed(1, &[&format!("type {name}")]);
                for format in ["json", "csv", "table"] {
                    assert_eq!(map!("dump", map, "-o", format).failed(1, &[]).stdout, "");
                }
                refuses(map, name, &["watch", "MAP", "--for", "0"]);
                let file = bpffs.path(name);
                refuses(map, name, &["save", "MAP", file.to_str().unwrap()]);
                assert!(!file.exists(), "{name}");
                if *name != "inode_storage" {
                    refuses(map, name, &["lookup", "MAP", "0"]);
                }
            }
        }
        if !IN_PLACE.contains(name) {
            refuses(map, name, &["add", "MAP", "0", "1"]);
            refuses(map, name, &["drain", "MAP"]);
        }
        if handle.key_size() == 0 {
            refuses(map, name, &["update", "MAP", "0", "1"]);
            refuses(map, name, &["delete", "MAP", "0"]);
            refuses(map, name, &["clear", "MAP", "--yes"]);
            refuses(map, name, &["next-key", "MAP"]);
        }
        if !["queue", "stack"].contains(name) {
            refuses(map, name, &["pop", "MAP"]);
            refuses(map, name, &["peek", "MAP"]);
        }
    }
}

/// What other maps, programs and sockets are in them, as user space sees it.
#[test]
fn programs_in_an_array_are_told_by_their_ids() {
    let mut maps = Maps::load(
        r#"
SEC("socket") int tail(void *ctx) { return 0; }
"#,
    );
    let array = create(MapType::ProgArray, 4, 4, 2);
    let program = maps.program("tail");
    let fd = std::os::fd::AsRawFd::as_raw_fd(&program.as_fd());
    set(&array, &[1, 0, 0, 0], &fd.to_ne_bytes());
    let seen = map_json!("dump", id(&array));
    let program = libbpf_rs::Program::id_from_fd(program.as_fd()).unwrap();
    assert_eq!(seen, json!([{"key": 1, "value": program}]));
    // And written by them.
    map!("update", id(&array), 0, program).done();
    let both = json!([{"key": 0, "value": program}, {"key": 1, "value": program}]);
    assert_eq!(map_json!("dump", id(&array)), both);
    let none = map!("update", id(&array), 0, u32::MAX).failed(3, &["no program with id"]);
    assert_eq!(none.stderr.lines().count(), 1, "{none:?}");
}

/// What the kernel takes as a descriptor is never a number of ours.
#[test]
fn values_that_are_descriptors_are_given_by_what_they_are() {
    // Ids of cgroups have no place of their own where version 2 is not mounted.
    let cgroups = create(MapType::CgroupArray, 4, 4, 2);
    let ended = map!("update", id(&cgroups), 0, u32::MAX).failed(3, &["no cgroup with id"]);
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    map!("update", id(&cgroups), 0, "/no/such/cgroup").failed(2, &["`/no/such/cgroup`"]);
    map!("delete", id(&cgroups), 0).failed(3, &[]);
    let mount = ktally::host::cgroup2_mounts().next().expect("cgroup2");
    let mount = mount.display();
    map!("update", id(&cgroups), 0, mount).done();
    assert_eq!(map!("delete", id(&cgroups), 0).done(), "0: deleted\n");
    for (ty, what) in [
        (MapType::PerfEventArray, "perf events"),
        (MapType::Sockmap, "sockets"),
        (MapType::Sockhash, "sockets"),
        (MapType::Xskmap, "sockets"),
        (MapType::ReuseportSockarray, "sockets"),
    ] {
        let map = create(ty, 4, 4, 2);
        let ended = map!("update", id(&map), 0, 1).failed(1, &[what, "only the process"]);
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    }
    // An interface is a number like any other; its program is not.
    for ty in [MapType::Devmap, MapType::DevmapHash] {
        let map = create(ty, 4, 8, 2);
        map!("update", id(&map), 0, 1).done();
        assert_eq!(map!("lookup", id(&map), 0).done(), "1\n");
        map!("update", id(&map), 0, u64::MAX).failed(3, &["no program with id 4294967295"]);
        map!("update", id(&map), 0, u32::MAX).failed(1, &["no such interface"]);
    }
    // Of another kind than the maps inside.
    let [inside, other] = [4, 8].map(|size| create(MapType::Array, 4, size, 1));
    let bpffs = Bpffs::new();
    let pin = bpffs.path("outer");
    let (outer, inner) = (pin.display(), id(&inside));
    let sizes = "--type hash_of_maps --key 4 --value 4 --max-entries 2";
    create_at(&pin, &format!("{sizes} --inner {inner}")).done();
    map!("update", outer, 1, inner).done();
    assert_eq!(map_json!("lookup", outer, 1), inner);
    map!("update", outer, 1, id(&other)).failed(1, &["differs from those that it holds"]);
}

/// A value that was pushed is there; one that was not may be.
#[test]
fn a_bloom_filter_is_asked_for_values() {
    needs((5, 16), "a bloom filter");
    let filter = create(MapType::BloomFilter, 0, 4, 100);
    let filter = id(&filter);
    for value in [1, 2, 3] {
        map!("push", filter, value).done();
    }
    for value in [1, 2, 3] {
        assert!(map!("peek", filter, value).done().starts_with("there"));
    }
    assert_eq!(map_json!("peek", filter, 2), true);
    let absent = (4..1000).map(|value| map!("peek", filter, value));
    let absent = absent.into_iter().find(|ended| ended.code == 3).unwrap();
    assert_eq!(absent.stdout, "never pushed\n");
    let queue = create(MapType::Queue, 0, 4, 1);
    map!("peek", id(&queue), 1).failed(2, &["leave out the value"]);
}

/// The value of a map of struct_ops is a type of the kernel's own BTF.
#[test]
fn struct_ops_are_shown_by_the_types_of_the_kernel() {
    let maps = Maps::load(STRUCT_OPS);
    let map = maps.id("struct_ops");
    let value = map_json!("lookup", map, 0);
    let state = value.pointer("/common/state").or(value.get("state"));
    assert_eq!(state, Some(&json!("BPF_STRUCT_OPS_STATE_INIT")), "{value}");
    assert_eq!(value["data"]["name"], "", "{value}");
    assert_eq!(value["data"]["ssthresh"], "0x0", "{value}");
    let shown = map!("show", map).done();
    assert!(shown.contains("struct tcp_congestion_ops {"), "{shown}");
}

/// clang 14 does not say that an enum is signed. Numbers without a name are
/// shown as bpftool shows them, and what is shown is accepted.
#[test]
fn values_of_enums_may_be_below_zero() {
    let maps = Maps::load(
        r#"
enum level { WORST = -2147483648, LOW = -3, NONE, HIGH = 2 };
enum __attribute__((packed)) small { LESS = -1, MORE = 1 };
struct levels { enum level level; enum small small; enum level bits : 3; };
MAP(HASH, 8, enum level, struct levels, levels);
"#,
    );
    let map = maps.id("levels");
    let value = "level=-7,small=-2,bits=-4";
    map!("update", map, "-5", value).done();
    map!("update", map, "LOW", "level=WORST,small=LESS,bits=LOW").done();
    let shown = |key: &str| map_json!("lookup", map, key);
    assert_eq!(shown("-5"), json!({"level": -7, "small": -2, "bits": -4}));
    let named = json!({"level": "WORST", "small": "LESS", "bits": "LOW"});
    assert_eq!(shown("-3"), named);
    let entries = map_lines!("dump", map);
    let keys: HashSet<String> = entries.iter().map(|it| it["key"].to_string()).collect();
    assert_eq!(keys, HashSet::from(["-5".to_owned(), "\"LOW\"".to_owned()]));
    map!("update", map, "4294967291", value)
        .failed(2, &["out of range: -2147483648 to 2147483647"]);
    assert!(map!("show", map).done().contains("LOW = -3,"));
}
