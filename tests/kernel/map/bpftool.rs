//! The same maps by bpftool and by ktally: over C types made at random, and for
//! every verb and type of map that both know.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use libbpf_rs::{MapCore, MapHandle, MapType, num_possible_cpus};
use serde_json::Value as Json;

use super::shape::{Dice, Shape, Shapes};
use super::{Ended, Maps, json, map, map_json, run};
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

fn bpftool(args: &[String]) -> Ended {
    let tool = BPFTOOL.as_ref().expect("asked before");
    super::end(Command::new(tool).args(["-j", "map"]).args(args))
}

macro_rules! bpftool {
    ($($arg:expr),+ $(,)?) => { bpftool(&[$($arg.to_string()),+]) };
}

/// `hex 2a 00`, as it wants bytes.
fn data(what: &str, bytes: &[u8]) -> Vec<String> {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    [what.to_owned(), "hex".to_owned()]
        .into_iter()
        .chain(digits)
        .collect()
}

fn with(args: &[String], more: &[Vec<String>]) -> Vec<String> {
    [args.to_vec(), more.concat()].concat()
}

/// As ours writes bytes.
fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("hex:{digits}")
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
            equal(
                raw(&theirs["values"][cpu]["value"]),
                &ours_raw["value"][cpu],
            )?;
            self.value
                .same(&formatted["values"][cpu]["value"], &ours["value"][cpu])?;
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
    let theirs = bpftool!("dump", "id", map).json();
    let ours = map!("dump", map, "-o", "json", "--per-cpu").json();
    let ours_raw = map!("dump", map, "-o", "json", "--per-cpu", "--raw").json();
    let theirs = theirs.as_array().unwrap();
    let count = [
        ours.as_array().unwrap().len(),
        ours_raw.as_array().unwrap().len(),
    ];
    if count != [theirs.len(); 2] {
        return Err(format!(
            "{count:?} entries, where they have {}",
            theirs.len()
        ));
    }
    // Nobody changes it: the order of a walk stays.
    for entry in theirs {
        let key = raw(&entry["key"]);
        let at = ours_raw
            .as_array()
            .unwrap()
            .iter()
            .position(|ours| ours["key"] == key);
        let at = at.ok_or_else(|| format!("key {key} is not among ours"))?;
        random.compare(entry, &ours[at], &ours_raw[at])?;
    }
    Ok(())
}

/// `lookup`, `getnext`, `update` and `delete`, and what each leaves behind.
fn verbs_agree(random: &Random, dice: &mut Dice) -> Result<(), String> {
    let id = id(&random.handle).to_string();
    let handle = &random.handle;
    let theirs = |verb: &str, more: &[Vec<String>]| {
        bpftool(&with(&[verb, "id", &id].map(str::to_owned), more))
    };
    let keys: Vec<Vec<u8>> = handle.keys().collect();
    let key = &keys[dice.roll(keys.len())];
    let key_data = data("key", key);

    // The same entry, and the same next key.
    let entry = theirs("lookup", std::slice::from_ref(&key_data)).json();
    let ours = |args: &[&str]| {
        run(["lookup", &id, &hex(key), "--per-cpu", "-o", "json"]
            .iter()
            .chain(args))
        .json()
    };
    let object = |value: Json, key: Json| serde_json::json!({"key": key, "value": value});
    let typed = map!("dump", id, "-o", "json", "--per-cpu").json();
    let raws = map!("dump", id, "-o", "json", "--raw").json();
    let at = raws
        .as_array()
        .unwrap()
        .iter()
        .position(|entry| entry["key"] == hex(key))
        .unwrap();
    random.compare(
        &entry,
        &object(ours(&[]), typed[at]["key"].clone()),
        &object(ours(&["--raw"]), hex(key).into()),
    )?;
    let next = theirs("getnext", std::slice::from_ref(&key_data));
    let ours = map!("next-key", "--raw", id, hex(key));
    match (next.code, ours.code) {
        (0, 0) => {
            let theirs = raw(&json(&next.stdout)["next_key"]);
            assert_eq!(ours.stdout.trim(), theirs);
        }
        (0, _) | (_, 0) => return Err(format!("next key: {next:?}, {ours:?}")),
        _ => assert_eq!(ours.code, 3),
    }

    // What one of them writes the other reads; flags mean the same.
    if !handle.map_type().is_percpu() {
        let value = dice.bytes(handle.value_size() as usize);
        map!("update", id, hex(key), hex(&value), "--exist").done();
        let entry = theirs("lookup", std::slice::from_ref(&key_data)).json();
        assert_eq!(raw(&entry["value"]), hex(&value));
        let value = dice.bytes(handle.value_size() as usize);
        let written = theirs(
            "update",
            &[
                key_data.clone(),
                data("value", &value),
                vec!["exist".to_owned()],
            ],
        );
        assert_eq!(written.code, 0, "{written:?}");
        assert_eq!(
            map!("lookup", "--raw", id, hex(key)).done().trim(),
            hex(&value)
        );
        let again = [
            key_data.clone(),
            data("value", &value),
            vec!["noexist".to_owned()],
        ];
        assert_ne!(theirs("update", &again).code, 0);
        map!("update", id, hex(key), hex(&value), "--noexist").failed(1, &[]);
    }
    let deleted = map!("delete", id, hex(key));
    if random.is_array() {
        deleted.failed(1, &["cannot be deleted"]);
        assert_ne!(theirs("delete", std::slice::from_ref(&key_data)).code, 0);
        return Ok(());
    }
    deleted.done();
    assert_ne!(theirs("delete", std::slice::from_ref(&key_data)).code, 0);
    map!("delete", id, hex(key)).failed(3, &[]);
    map!("lookup", id, hex(key)).failed(3, &[]);
    let other = keys.iter().find(|other| *other != key).unwrap();
    assert_eq!(theirs("delete", &[data("key", other)]).code, 0);
    map!("delete", id, hex(other)).failed(3, &[]);
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
        let theirs = bpftool!("dump", "id", map).json();
        let ours = map_json!("dump", map, "--raw");
        let mut count = 0;
        for entry in theirs.as_array().unwrap() {
            // Keys that have no value: of an array of something, unused ones.
            if entry["value"]["error"].is_string() {
                continue;
            }
            let key = raw(&entry["key"]);
            let found = ours
                .as_array()
                .unwrap()
                .iter()
                .find(|ours| ours["key"] == key)
                .unwrap();
            match &entry["values"] {
                Json::Array(values) => {
                    for (theirs, ours) in values.iter().zip(found["value"].as_array().unwrap()) {
                        assert_eq!(ours, &raw(&theirs["value"]));
                    }
                }
                _ => assert_eq!(found["value"], raw(&entry["value"])),
            }
            count += 1;
        }
        assert!(count > 0);
        assert_eq!(
            ours.as_array().unwrap().len(),
            count,
            "{:?}",
            handle.map_type()
        );
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
                _ => bpftool!("push", "id", map, "value", "hex", value[..2], value[2..]).done(),
            };
            assert!(!printed.contains("error"), "{printed}");
        }
        assert_ne!(
            bpftool!("push", "id", map, "value", "hex", "05", "00").code,
            0
        );
        map!("push", map, 5).failed(1, &["full"]);
        for i in 0..4 {
            let theirs = raw(&bpftool!("peek", "id", map).json()["value"]);
            assert_eq!(map!("peek", "--raw", map).done().trim(), theirs);
            match i % 2 {
                0 => assert_eq!(map!("pop", "--raw", map).done().trim(), theirs),
                _ => assert_eq!(raw(&bpftool!("pop", "id", map).json()["value"]), theirs),
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
    let written = bpftool!(
        "update", "id", outer, "key", "2", "0", "0", "0", "value", "id", second
    );
    assert_eq!(written.code, 0, "{written:?}");
    let theirs = bpftool!("dump", "id", outer).json();
    let ours = map_json!("dump", outer, "--raw");
    assert_eq!(ours.as_array().unwrap().len(), 2);
    for (theirs, ours) in theirs
        .as_array()
        .unwrap()
        .iter()
        .zip(ours.as_array().unwrap())
    {
        assert_eq!(ours["key"], raw(&theirs["key"]), "{theirs}");
        assert_eq!(ours["value"], raw(&theirs["value"]), "{theirs}");
    }
}
