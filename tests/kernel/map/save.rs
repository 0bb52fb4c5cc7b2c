//! `save` and `restore`: what comes back is what was there, byte by byte.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use ktally::map::{Map, Reader};
use libbpf_rs::{MapCore, MapHandle, MapType, num_possible_cpus};

use nix::mount::{MntFlags, umount2};

use super::pin::Bpffs;
use super::{Ended, Maps, end, map, program, restore};
use crate::common::limit;
use crate::support::maps::{create, get, id, set, set_on_cpus};
use crate::support::{cases, mount_new};

/// All entries, each with what was copied for it.
fn entries(map: &MapHandle) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut entries = BTreeMap::new();
    Reader::new(&Map::new(map.as_fd()).unwrap())
        .read(|key, copied| {
            entries.insert(key.to_vec(), copied.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    entries
}

/// Bytes that look random, the same each time.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(len)
    .collect()
}

/// Saves, restores into `target`, and compares.
#[track_caller]
fn round_trip(source: &MapHandle, target: &MapHandle) {
    let saved = map!("save", id(source), "-").done();
    let head = super::json(saved.lines().next().unwrap());
    assert_eq!(head["ktally_map"], 1);
    let ended = restore(id(target), &saved);
    let count = entries(source).len();
    assert_eq!(saved.lines().count(), count + 2);
    assert!(ended.stderr.contains("failed 0"), "{ended:?}");
    ended.done();
    assert_eq!(entries(source), entries(target));
}

#[test]
fn every_kind_of_map_comes_back() {
    for ty in [
        MapType::Hash,
        MapType::LruHash,
        MapType::Array,
        MapType::PercpuHash,
        MapType::PercpuArray,
        MapType::LruPercpuHash,
        MapType::LpmTrie,
    ] {
        let key_size = if ty == MapType::LpmTrie { 8 } else { 4 };
        let make = || create(ty, key_size, 16, 64);
        let (source, target) = (make(), make());
        for i in 0..20u32 {
            let key = match ty {
                MapType::LpmTrie => [32u32.to_ne_bytes(), i.to_ne_bytes()].concat(),
                _ => i.to_ne_bytes().to_vec(),
            };
            if ty.is_percpu() {
                let value = |cpu| noise(u64::from(i) + 100 * cpu as u64, 16);
                set_on_cpus(&source, &key, value);
            } else {
                set(&source, &key, &noise(i.into(), 16));
            }
        }
        assert!(entries(&source).len() >= 20, "{ty:?}");
        round_trip(&source, &target);
    }
}

const TYPED: &str = r#"
enum mode { OFF, ON = 5 };
struct typed {
	double ratio;
	float small;
	char text[8];
	__s16 below;
	enum mode mode;
	bool on;
	struct { __u64 low : 5, high : 50; } bits;
	union { __u32 word; __u8 bytes[4]; } either;
	__u8 tail;
};
struct key { char name[4]; __u16 n; };
MAP(HASH, 64, struct key, struct typed, typed_source);
MAP(HASH, 64, struct key, struct typed, typed_target);
MAP(HASH, 64, struct key, struct { __u8 same_size[SIZE]; }, typed_other);
"#;

/// NaN with its payload, text that is not UTF-8 or goes on behind its NUL, a
/// bool of 2, padding: whatever the type does not say is kept as bytes.
#[test]
fn what_a_type_does_not_say_comes_back_too() {
    let maps = Maps::load(&TYPED.replace("SIZE", "64"));
    let (source, target) = (maps.handle("typed_source"), maps.handle("typed_target"));
    let size = source.value_size() as usize;
    let mut values: Vec<Vec<u8>> = (0..30).map(|seed| noise(seed + 1, size)).collect();
    values.push(vec![0; size]);
    values.push(vec![0xff; size]);
    let nan = [0, 1].map(|payload| f64::from_bits(0x7ff8_0000_0000_0000 | payload));
    for number in [f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e-320, f64::MAX]
        .iter()
        .chain(&nan)
    {
        let mut value = vec![0; size];
        value[..8].copy_from_slice(&number.to_bits().to_ne_bytes());
        values.push(value);
    }
    for (i, value) in (0u16..).zip(&values) {
        let key = [&noise(u64::from(i) + 77, 4)[..], &i.to_ne_bytes()].concat();
        set(&source, &key, value);
    }
    round_trip(&source, &target);
    // What the type says in full is written by the type.
    let key = [&b"abc\0"[..], &[1, 0]].concat();
    let plain = maps.id("typed_source");
    map!("clear", plain, "--yes").done();
    set(&source, &key, &vec![0; size]);
    let saved = map!("save", plain, "-").done();
    assert!(saved.contains(r#""key":{"name":"abc","n":1}"#), "{saved}");
    assert!(saved.contains(r#""mode":"OFF""#), "{saved}");
}

/// Sizes and types must be the same; names and room need not.
#[test]
fn another_type_is_refused() {
    let maps = Maps::load(&TYPED.replace("SIZE", "64"));
    let saved = map!("save", maps.id("typed_source"), "-").done();
    let other = maps.id("typed_other").to_string();
    restore(&other, &saved).failed(2, &["does not fit"]);
    let [plain, wide] = [(4, 4), (4, 8)].map(|(key, value)| create(MapType::Hash, key, value, 4));
    let saved = map!("save", id(&plain), "-").done();
    restore(id(&wide), &saved).failed(2, &["value_size differs", "4 in the file, 8 in the map"]);
    let percpu = create(MapType::PercpuHash, 4, 4, 4);
    if num_possible_cpus().unwrap() > 1 {
        restore(id(&percpu), &saved).failed(2, &["copies differs"]);
    }
    let later = r#"{"ktally_map":2}"#;
    for text in ["", "\n", "{}", "[1,2]", "no JSON", "\u{0}\u{1}", later] {
        restore(id(&plain), text).failed(2, &["not that of a saved map"]);
    }
    map!("restore", id(&plain), "/no/such/file").failed(2, &["/no/such/file"]);
    map!("restore", u32::MAX, "-").failed(3, &["no map with id"]);
    // A hash's entries in an array of the same types.
    let array = create(MapType::Array, 4, 4, 4);
    set(&plain, &[2, 0, 0, 0], &[9, 0, 0, 0]);
    let saved = map!("save", id(&plain), "-").done();
    restore(id(&array), &saved).done();
    assert_eq!(map!("lookup", id(&array), 2).done(), "9\n");
}

/// Each failure is reported with its line, and no other entry is lost for it.
#[test]
fn failures_are_told_one_by_one() {
    let source = create(MapType::Hash, 4, 4, 8);
    for key in 0..5u32 {
        set(&source, &key.to_ne_bytes(), &key.to_ne_bytes());
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("saved");
    map!("save", id(&source), file.display()).done();
    let small = create(MapType::Hash, 4, 4, 3);
    let ended = map!("restore", id(&small), file.display())
        .failed(1, &["restored 3 entries, failed 2", "full"]);
    let failures = ended.stderr.matches("was not restored");
    assert_eq!(failures.count(), 2, "{ended:?}");
    assert_eq!(entries(&small).len(), 3);
    // What is there stays, if it is meant to.
    let target = create(MapType::Hash, 4, 4, 8);
    set(&target, &[2, 0, 0, 0], &[99, 0, 0, 0]);
    map!("restore", id(&target), file.display(), "--noexist")
        .failed(1, &["restored 4 entries, failed 1", "there already"]);
    assert_eq!(map!("lookup", id(&target), 2).done(), "99\n");
    map!("restore", id(&target), file.display()).done();
    assert_eq!(entries(&source), entries(&target));
    // Lines that make no sense, among those that do.
    let saved = std::fs::read_to_string(&file).unwrap();
    let mut lines: Vec<&str> = saved.lines().collect();
    let bad = [
        "not JSON",
        "{}",
        r#"{"key":1}"#,
        r#"{"key":300000000000,"value":1}"#,
        r#"{"key":1,"value":"hex:00"}"#,
        r#"{"key":1,"values":[1,2]}"#,
        "",
    ];
    lines.splice(2..2, bad);
    let target = create(MapType::Hash, 4, 4, 8);
    let ended = restore(id(&target), &lines.join("\n"));
    let ended = ended.failed(1, &["restored 5 entries, failed 7"]);
    let ended = ended.told(&[
        "line 3 of standard input was not",
        "line 9 of standard input was not",
    ]);
    assert!(!ended.stderr.contains("line 10 of"), "{ended:?}");
    assert_eq!(entries(&source), entries(&target));
}

/// Wherever it is cut: what is there is restored, and that it is not all is said.
#[test]
fn a_file_that_was_cut_says_so() {
    let source = create(MapType::Hash, 4, 4, 8);
    for key in 10..13u32 {
        set(&source, &key.to_ne_bytes(), &[7; 4]);
    }
    let saved = map!("save", id(&source), "-").done();
    assert!(saved.ends_with("\n{\"ktally_map_end\":3}\n"), "{saved}");
    let head = saved.find('\n').unwrap() + 1;
    for cut in cases(head..saved.len() - 1, 20) {
        let target = create(MapType::Hash, 4, 4, 8);
        let text = &saved[..cut];
        let ended = restore(id(&target), text);
        ended.failed(1, &["standard input has no last line: it was cut"]);
        let whole = text[head..].matches('}').count();
        assert_eq!(entries(&target).len(), whole, "{text}");
    }
    // Nothing but its last newline is lost; a line in the middle; one too many.
    let target = create(MapType::Hash, 4, 4, 8);
    let restore = |text: &str| restore(id(&target), text);
    restore(&saved[..saved.len() - 1]).done();
    let mut lines: Vec<&str> = saved.lines().collect();
    let line = lines.remove(2);
    restore(&lines.join("\n")).failed(1, &["restored 2 entries", "should have 3 entries"]);
    lines.push(line);
    restore(&lines.join("\n")).failed(1, &["line 5 of", "behind the last line"]);
}

/// An unknown field may be one that was misspelt.
#[test]
fn fields_of_no_meaning_are_refused() {
    let maps = Maps::load(&TYPED.replace("SIZE", "64"));
    let target = maps.id("typed_target").to_string();
    let source = maps.handle("typed_source");
    let value = vec![0; source.value_size() as usize];
    set(&source, b"abc\0\x01\0", &value);
    let saved = map!("save", id(&source), "-").done();
    for (found, put, field) in [
        ("\"value\":", "\"valeu\":1,\"value\":", "`valeu`"),
        ("\"n\":1", "\"n\":1,\"m\":2", "`m`"),
        ("\"low\":0", "\"low\":0,\"lo\":0", "`bits.lo`"),
        ("\"on\":false", "\"on\":false,\"off\":true", "`off`"),
    ] {
        assert!(saved.contains(found), "{found}: {saved}");
        let ended = restore(&target, &saved.replace(found, put));
        ended.failed(1, &["line 2 of standard input was not restored", field]);
    }
}

/// What cannot be read or written is named.
#[test]
fn files_are_named() {
    let hash = create(MapType::Hash, 4, 4, 8);
    let map = id(&hash);
    map!("save", map, "/dev/full").failed(1, &["`/dev/full`", "No space"]);
    map!("save", map, "/no/such/file").failed(1, &["`/no/such/file`"]);
    map!("restore", map, "/proc").failed(1, &["`/proc`", "Is a directory"]);
    map!("restore", map, "/proc/self/exe").failed(2, &["`/proc/self/exe`", "not that of a saved"]);
    map!("restore", map, "/dev/zero").failed(1, &["`/dev/zero`", "longer than any"]);
    // Bytes that are not text are a line like any other.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("saved");
    map!("save", map, file.display()).done();
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    bytes.splice(at..at, *b"\xff\n");
    std::fs::write(&file, bytes).unwrap();
    map!("restore", map, file.display()).failed(1, &["line 2 of `", "not a JSON object"]);
}

/// Bytes, where bytes are asked for.
#[test]
fn raw_entries_are_hex() {
    let source = create(MapType::Hash, 4, 4, 8);
    set(&source, &[1; 4], &[2; 4]);
    let saved = map!("save", id(&source), "-", "--raw").done();
    let line = r#"{"key":"hex:01010101","value":"hex:02020202"}"#;
    assert!(saved.contains(line), "{saved}");
    let target = create(MapType::Hash, 4, 4, 8);
    restore(id(&target), &saved).done();
    assert_eq!(entries(&source), entries(&target));
}

/// A program with this limit of memory, in bytes.
fn limited(bytes: usize, args: &[&str]) -> Ended {
    let mut program = program();
    program.arg("map").args(args);
    end(limit(&mut program, libc::RLIMIT_AS, bytes as u64))
}

/// Memory is a multiple of a value, and what is saved can be restored.
#[test]
fn large_values_come_back() {
    const MIB: usize = 1 << 20;
    const SIZE: usize = 40 * MIB;
    let large = || create(MapType::Array, 4, SIZE as u32, 1);
    let (source, target) = (large(), large());
    let value = noise(1, SIZE);
    set(&source, &[0; 4], &value);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("saved");
    let file = file.to_str().unwrap();
    let [from, to] = [&source, &target].map(|map| id(map).to_string());
    limited(64 * MIB + 2 * SIZE, &["save", &from, file]).done();
    limited(64 * MIB + 8 * SIZE, &["restore", &to, file]).done();
    let restored = get(&target, &[0; 4]).unwrap();
    assert!(restored == value);
}

/// A value that is all one field is not looked through again and again.
#[test]
fn large_values_take_the_time_of_their_bytes_in_every_format() {
    let large = create(MapType::Array, 4, 16 << 20, 1);
    let time = |format: &str| {
        let start = Instant::now();
        map!("dump", id(&large), "-o", format).done();
        start.elapsed()
    };
    let json = time("json");
    for format in ["csv", "table"] {
        let other = time(format);
        assert!(
            other < 8 * json + Duration::from_secs(1),
            "{format}: {other:?}, {json:?}"
        );
    }
}

/// The good backup stays where the next one finds no space; nothing is beside it.
#[test]
fn a_file_is_whole_or_the_one_before() {
    let _mounts = Bpffs::new();
    let folder = tempfile::tempdir().unwrap();
    mount_new("tmpfs", folder.path(), Some("size=64k")).unwrap();
    let file = folder.path().join("saved");
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let names = || {
        let names = fs::read_dir(folder.path()).unwrap();
        names
            .map(|it| it.unwrap().file_name())
            .collect::<BTreeSet<_>>()
    };
    let before = names();
    let small = create(MapType::Array, 4, 8, 4);
    map!("save", id(&small), link.display()).done();
    let saved = fs::read(&file).unwrap();
    assert!(saved.starts_with(b"{\"ktally_map\":1"), "{saved:?}");
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(link.is_symlink());
    let large = create(MapType::Array, 4, 8, 100_000);
    for path in [&file, &link] {
        map!("save", id(&large), path.display()).failed(1, &["No space left"]);
        assert_eq!(fs::read(&file).unwrap(), saved);
    }
    assert_eq!(names(), before);
    umount2(folder.path(), MntFlags::MNT_DETACH).unwrap();
}
