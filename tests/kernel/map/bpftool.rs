//! The same maps by bpftool and by ktally: over C types made at random, and for
//! every verb and type of map that both know.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use libbpf_rs::{MapCore, MapHandle, MapType, num_possible_cpus};
use serde_json::{Value as Json, json};

use super::shape::{Dice, Shape, Shapes};
use super::{Ended, Maps, map, map_json};
use crate::common::items;
use crate::support::maps::{create, id, set, set_on_cpus};

/// Set this to a seed that a failure told.
const SEED: &str = "KTALLY_TEST_SEED";
const MAPS: usize = 40;

/// `make test` installs it; on a distribution that has no package of it these
/// tests pass and say so.
static BPFTOOL: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path);
    let found = folders
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join("bpftool"))
        .find(|path| works(path));
    if found.is_none() {
        eprintln!("skipped: there is no bpftool to compare with");
    }
    found
});

fn works(path: &Path) -> bool {
    let output = Command::new(path).arg("version").output();
    output.is_ok_and(|output| output.status.success())
}

/// `bpftool map`, with these words.
fn bpftool(line: &str) -> Ended {
    let tool = BPFTOOL.as_ref().expect("asked before");
    super::end(
        Command::new(tool)
            .args(["-j", "map"])
            .args(super::words(line)),
    )
}

/// `key hex 2a 00`, as it wants bytes.
fn data(what: &str, bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!(" {byte:02x}"));
    format!("{what} hex{}", digits.collect::<String>())
}

/// As ours writes bytes.
fn hex(bytes: &[u8]) -> String {
    format!("hex:{}", super::hex(bytes))
}

/// `["0x2a","0x00"]` as ours writes bytes.
fn raw(json: &Json) -> String {
    let bytes = json.as_array().expect("a list of bytes").iter();
    let bytes = bytes.map(|byte| u8::from_str_radix(&byte.as_str().unwrap()[2..], 16).unwrap());
    hex(&bytes.collect::<Vec<_>>())
}

/// A map of random types.
struct Random {
    kind: &'static str,
    handle: MapHandle,
    key: Shape,
    value: Shape,
    /// In C.
    declared: String,
}

impl Random {
    fn is_array(&self) -> bool {
        self.handle.map_type().is_percpu() && self.kind.contains("ARRAY") || self.kind == "ARRAY"
    }

    fn fill(&self, dice: &mut Dice) {
        for i in 0..5u32 {
            let key = match self.is_array() {
                true => i.to_ne_bytes().to_vec(),
                false => dice.bytes(self.handle.key_size() as usize),
            };
            self.set(&key, dice);
        }
    }

    fn set(&self, key: &[u8], dice: &mut Dice) {
        let size = self.handle.value_size() as usize;
        if self.handle.map_type().is_percpu() {
            set_on_cpus(&self.handle, key, |_| dice.bytes(size));
        } else {
            set(&self.handle, key, &dice.bytes(size));
        }
    }

    /// Theirs: the bytes and what they make of them. Ours: the same, apart.
    fn compare(&self, theirs: &Json, ours: &Json, ours_raw: &Json) -> Result<(), String> {
        let formatted = &theirs["formatted"];
        self.key.same(&formatted["key"], &ours["key"])?;
        let equal = |theirs: String, ours: &Json| match ours == &theirs {
            true => Ok(()),
            false => Err(format!("their bytes are {theirs}, ours {ours}")),
        };
        equal(raw(&theirs["key"]), &ours_raw["key"])?;
        if !self.handle.map_type().is_percpu() {
            equal(raw(&theirs["value"]), &ours_raw["value"])?;
            return self.value.same(&formatted["value"], &ours["value"]);
        }
        for cpu in 0..num_possible_cpus().unwrap() {
            let value = &theirs["values"][cpu]["value"];
            equal(raw(value), &ours_raw["value"][cpu])?;
            let value = &formatted["values"][cpu]["value"];
            self.value.same(value, &ours["value"][cpu])?;
        }
        Ok(())
    }
}

/// One C file of as many maps, loaded.
fn random_maps(dice: &mut Dice) -> (Maps, Vec<Random>) {
    const KINDS: [&str; 6] = [
        "HASH",
        "ARRAY",
        "PERCPU_HASH",
        "LRU_HASH",
        "PERCPU_ARRAY",
        "LRU_PERCPU_HASH",
    ];
    let mut c = "#define BPF_MAP_TYPE_LRU_PERCPU_HASH 10\n".to_owned();
    let mut random = Vec::new();
    for i in 0..MAPS {
        let kind = KINDS[dice.roll(KINDS.len())];
        let mut shapes = Shapes::new(dice).after(1000 * i);
        let key = match kind.contains("ARRAY") {
            true => Shape::Int {
                size: 4,
                signed: false,
            },
            false => shapes.any(2),
        };
        let value = shapes.any(3);
        let declared = format!(
            "typedef {};\ntypedef {};\nMAP({kind}, 64, key{i}, value{i}, map{i});\n",
            key.declare(&format!("key{i}")),
            value.declare(&format!("value{i}")),
        );
        c += &declared;
        random.push((kind, key, value, declared));
    }
    let maps = Maps::load(&c);
    let random = (0..).zip(random);
    let random = random
        .map(|(i, (kind, key, value, declared)): (u32, _)| Random {
            kind,
            handle: maps.handle(&format!("map{i}")),
            key,
            value,
            declared,
        })
        .collect();
    (maps, random)
}

#[test]
fn random_types_are_shown_and_written_alike() {
    if BPFTOOL.is_none() {
        return;
    }
    let seed = match std::env::var(SEED) {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .subsec_nanos()
            .into(),
    };
    let dice = &mut Dice::new(seed);
    let (_maps, random) = random_maps(dice);
    for (i, random) in random.iter().enumerate() {
        random.fill(dice);
        let agree = dumps_agree(random).and_then(|()| verbs_agree(random, dice));
        if let Err(error) = agree {
            panic!("{SEED}={seed}: map{i}: {error}\n{}", random.declared);
        }
    }
}

fn dumps_agree(random: &Random) -> Result<(), String> {
    let map = id(&random.handle);
    let theirs = bpftool(&format!("dump id {map}")).json();
    let ours = map_json!("dump", map, "--per-cpu");
    let ours_raw = map_json!("dump", map, "--per-cpu", "--raw");
    let counts = [&theirs, &ours, &ours_raw].map(|dump| items(dump).len());
    if counts != [counts[0]; 3] {
        return Err(format!("{counts:?} entries: theirs, ours, ours raw"));
    }
    // It does not change: the order of a walk stays.
    for entry in items(&theirs) {
        let key = raw(&entry["key"]);
        let at = items(&ours_raw).iter().position(|ours| ours["key"] == key);
        let at = at.ok_or_else(|| format!("key {key} is not among ours"))?;
        random.compare(entry, &ours[at], &ours_raw[at])?;
    }
    Ok(())
}

/// `lookup`, `getnext`, `update` and `delete`, and what each leaves behind.
fn verbs_agree(random: &Random, dice: &mut Dice) -> Result<(), String> {
    let map = id(&random.handle);
    let handle = &random.handle;
    let theirs = |verb: &str, data: &str| bpftool(&format!("{verb} id {map} {data}"));
    let keys: Vec<Vec<u8>> = handle.keys().collect();
    let key = &keys[dice.roll(keys.len())];
    let (key_data, key_hex) = (data("key", key), hex(key));

    // The same entry, and the same next key.
    let entry = theirs("lookup", &key_data).json();
    let typed = map_json!("dump", map, "--per-cpu");
    let raws = map_json!("dump", map, "--raw");
    let at = items(&raws)
        .iter()
        .position(|entry| entry["key"] == key_hex);
    let value = map_json!("lookup", map, key_hex, "--per-cpu");
    let value_raw = map_json!("lookup", map, key_hex, "--per-cpu", "--raw");
    random.compare(
        &entry,
        &json!({"key": typed[at.unwrap()]["key"], "value": value}),
        &json!({"key": key_hex, "value": value_raw}),
    )?;
    let next = theirs("getnext", &key_data);
    let ours = map!("next-key", "--raw", map, key_hex);
    match (next.code, ours.code) {
        (0, 0) => assert_eq!(ours.stdout.trim(), raw(&next.json()["next_key"])),
        (0, _) | (_, 0) => return Err(format!("next key: {next:?}, {ours:?}")),
        _ => assert_eq!(ours.code, 3),
    }

    // What one of them writes the other reads; flags mean the same.
    if !handle.map_type().is_percpu() {
        let value = dice.bytes(handle.value_size() as usize);
        map!("update", map, key_hex, hex(&value), "--exist").done();
        let entry = theirs("lookup", &key_data).json();
        assert_eq!(raw(&entry["value"]), hex(&value));
        let value = dice.bytes(handle.value_size() as usize);
        let both = format!("{key_data} {}", data("value", &value));
        let written = theirs("update", &format!("{both} exist"));
        assert_eq!(written.code, 0, "{written:?}");
        let read = map!("lookup", "--raw", map, key_hex).done();
        assert_eq!(read.trim(), hex(&value));
        assert_ne!(theirs("update", &format!("{both} noexist")).code, 0);
        map!("update", map, key_hex, hex(&value), "--noexist").failed(1, &[]);
    }
    let deleted = map!("delete", map, key_hex);
    if random.is_array() {
        deleted.failed(1, &["cannot be deleted"]);
        assert_ne!(theirs("delete", &key_data).code, 0);
        return Ok(());
    }
    deleted.done();
    assert_ne!(theirs("delete", &key_data).code, 0);
    map!("delete", map, key_hex).failed(3, &[]);
    map!("lookup", map, key_hex).failed(3, &[]);
    // A small key may be the only one.
    if let Some(other) = keys.iter().find(|other| *other != key) {
        assert_eq!(theirs("delete", &data("key", other)).code, 0);
        map!("delete", map, hex(other)).failed(3, &[]);
    }
    Ok(())
}

/// Types of map that hold no types: by bytes.
#[test]
fn maps_without_types_are_read_alike() {
    if BPFTOOL.is_none() {
        return;
    }
    let trie = create(MapType::LpmTrie, 8, 3, 8);
    for i in 0..4u8 {
        let prefix = [&[8 * i, 0, 0, 0][..], &[10, i, 0, 0]].concat();
        set(&trie, &prefix, &[i; 3]);
    }
    let odd = create(MapType::Hash, 7, 5, 8);
    set(&odd, &[1; 7], &[2; 5]);
    let percpu = create(MapType::PercpuHash, 3, 5, 8);
    set_on_cpus(&percpu, &[9; 3], |cpu| vec![cpu as u8 + 1; 5]);
    let cpus = create(MapType::Cpumap, 4, 4, 2);
    set(&cpus, &[0; 4], &192u32.to_ne_bytes());
    for handle in [&trie, &odd, &percpu, &cpus] {
        let map = id(handle);
        let theirs = bpftool(&format!("dump id {map}")).json();
        let ours = map_json!("dump", map, "--raw");
        let mut count = 0;
        for entry in items(&theirs) {
            // Keys that have no value: of an array of something, unused ones.
            if entry["value"]["error"].is_string() {
                continue;
            }
            let key = raw(&entry["key"]);
            let found = items(&ours).iter().find(|ours| ours["key"] == key).unwrap();
            match &entry["values"] {
                Json::Array(values) => {
                    for (theirs, ours) in values.iter().zip(items(&found["value"])) {
                        assert_eq!(ours, &raw(&theirs["value"]));
                    }
                }
                _ => assert_eq!(found["value"], raw(&entry["value"])),
            }
            count += 1;
        }
        assert!(count > 0);
        assert_eq!(items(&ours).len(), count, "{:?}", handle.map_type());
    }
}

/// `push`, `pop` and `peek`, each by either.
#[test]
fn queues_and_stacks_are_used_alike() {
    if BPFTOOL.is_none() {
        return;
    }
    for ty in [MapType::Queue, MapType::Stack] {
        let queue = create(ty, 0, 2, 4);
        let map = id(&queue);
        for (i, value) in ["0100", "0200", "0300", "0400"].iter().enumerate() {
            let printed = match i % 2 {
                0 => map!("push", map, format!("hex:{value}")).done(),
                _ => {
                    let (low, high) = value.split_at(2);
                    bpftool(&format!("push id {map} value hex {low} {high}")).done()
                }
            };
            assert!(!printed.contains("error"), "{printed}");
        }
        let full = bpftool(&format!("push id {map} value hex 05 00"));
        assert_ne!(full.code, 0);
        map!("push", map, 5).failed(1, &["full"]);
        for i in 0..4 {
            let theirs = raw(&bpftool(&format!("peek id {map}")).json()["value"]);
            assert_eq!(map!("peek", "--raw", map).done().trim(), theirs);
            match i % 2 {
                0 => assert_eq!(map!("pop", "--raw", map).done().trim(), theirs),
                _ => assert_eq!(
                    raw(&bpftool(&format!("pop id {map}")).json()["value"]),
                    theirs
                ),
            }
        }
        map!("pop", map).failed(3, &["empty"]);
    }
}

/// Maps and programs inside of maps are ids for both.
#[test]
fn ids_inside_are_told_and_taken_alike() {
    if BPFTOOL.is_none() {
        return;
    }
    let maps = Maps::load(
        r#"
struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} first SEC(".maps"), second SEC(".maps");
struct {
	__uint(type, 13);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct inner);
} outer SEC(".maps");
"#,
    );
    let [outer, first, second] = ["outer", "first", "second"].map(|name| maps.id(name));
    map!("update", outer, 1, first).done();
    let written = bpftool(&format!("update id {outer} key 2 0 0 0 value id {second}"));
    assert_eq!(written.code, 0, "{written:?}");
    let theirs = bpftool(&format!("dump id {outer}")).json();
    let ours = map_json!("dump", outer, "--raw");
    assert_eq!(items(&ours).len(), 2);
    for (theirs, ours) in items(&theirs).iter().zip(items(&ours)) {
        assert_eq!(ours["key"], raw(&theirs["key"]), "{theirs}");
        assert_eq!(ours["value"], raw(&theirs["value"]), "{theirs}");
    }
}
