//! Complete reads of live maps: every kind of map, every size of batch, and
//! maps that change meanwhile.

use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use ktally::map::{Map, Outcome, Reader};
use ktally::sys::map::Elements;
use libbpf_rs::{MapCore, MapHandle, MapType, num_possible_cpus};

use crate::support::maps::{create, fill, set, set_on_cpus};
use crate::support::{amount, beside, needs, require_root, status_number, wait_until};

const CONTINUE: ControlFlow<()> = ControlFlow::Continue(());

fn open(map: &MapHandle) -> Map {
    Map::new(map.as_fd()).unwrap()
}

/// Every key with what was copied for it; panics where a key comes twice.
type Entries = HashMap<Vec<u8>, Vec<u8>>;

fn add(entries: &mut Entries, key: &[u8], copied: &[u8]) -> ControlFlow<()> {
    let twice = entries.insert(key.to_vec(), copied.to_vec());
    assert_eq!(twice, None, "key {key:?} came twice");
    CONTINUE
}

/// By batches of the usual size, of one entry, and by keys: all the same.
fn read_all(map: &MapHandle) -> Entries {
    let [mut usual, mut single, mut by_keys] = [(); 3].map(|()| Entries::new());
    let outcomes = [
        Reader::new(&open(map)).read(|key, copied| add(&mut usual, key, copied)),
        Reader::new(&open(map))
            .with_batch(1)
            .read(|key, copied| add(&mut single, key, copied)),
        Reader::new(&open(map)).read_by_keys(|key, copied| add(&mut by_keys, key, copied)),
    ];
    for outcome in outcomes {
        assert_eq!(outcome.unwrap(), Outcome::Complete);
    }
    assert_eq!(usual, single);
    assert_eq!(usual, by_keys);
    usual
}

fn value_of(key: u64) -> u64 {
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// All keys that [`fill`] has made are read, each with its value.
#[track_caller]
fn assert_filled(map: &MapHandle, entries: usize) {
    let read = read_all(map);
    assert_eq!(read.len(), entries);
    for (key, value) in &read {
        assert_eq!(number(value), value_of(number(key)));
    }
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(bytes.try_into().unwrap())
}

// ---- a large map ------------------------------------------------------------

/// Names the child that a test starts to have a process of its own.
const ALONE: &str = "KTALLY_TEST_ALONE";

/// In a process of its own, as other tests take memory too.
#[test]
fn a_million_entries_are_read_in_little_memory() {
    if std::env::var_os(ALONE).is_some() {
        return read_a_million();
    }
    require_root();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["reader::a_million_entries_are_read_in_little_memory"])
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let whined = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{whined}");
    assert!(said.contains("1 passed"), "the child ran nothing: {said}");
}

fn read_a_million() {
    let million = amount(1_000_000);
    let map = create(MapType::Hash, 8, 8, million as u32);
    fill(&map, million, value_of);
    // With one entry a batch, the first bucket of two makes it grow.
    for batch in [1, 2, 7, 256, 4096, 65_536] {
        let mut seen = vec![0u64; million.div_ceil(64) as usize];
        let mut count = 0;
        // `VmHWM` starts over at `VmRSS`.
        fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = status_number("self", "VmRSS");
        let outcome = Reader::new(&open(&map))
            .with_batch(batch)
            .read(|key, copied| {
                let (key, value) = (number(key), number(copied));
                assert_eq!(value, value_of(key), "key {key}, batch {batch}");
                let (word, bit) = (&mut seen[key as usize / 64], 1 << (key % 64));
                assert_eq!(*word & bit, 0, "key {key} came twice, batch {batch}");
                *word |= bit;
                count += 1;
                CONTINUE
            });
        let grown = status_number("self", "VmHWM").saturating_sub(before);
        assert_eq!(outcome.unwrap(), Outcome::Complete, "batch {batch}");
        assert_eq!(count, million, "batch {batch}");
        assert!(grown < 16 << 10, "batch {batch}: {grown} KiB more");
    }
}

#[test]
fn batches_and_the_walk_by_keys_see_the_same() {
    let map = create(MapType::Hash, 8, 8, 10_000);
    fill(&map, 10_000, value_of);
    assert_filled(&map, 10_000);
}

// ---- a map that changes -----------------------------------------------------

const STABLE: u64 = 5_000;
const PASSING: u64 = 3_000;

/// Calls `work` while other keys come and go, and have done so for some time.
fn while_keys_pass(map: &MapHandle, work: impl FnOnce()) {
    let started = AtomicBool::new(false);
    let pass = || {
        for key in STABLE..STABLE + PASSING {
            let (key, value) = (key.to_ne_bytes(), value_of(key).to_ne_bytes());
            set(map, &key, &value);
        }
        started.store(true, Ordering::Relaxed);
        for key in STABLE..STABLE + PASSING {
            map.delete(&key.to_ne_bytes()).unwrap();
        }
    };
    beside(pass, || {
        wait_until("keys pass", || started.load(Ordering::Relaxed));
        work();
    });
}

/// How often each stable key came, with its value each time.
fn count_stable(times: &mut [u8], key: &[u8], copied: &[u8]) -> ControlFlow<()> {
    let key = number(key);
    if let Some(times) = times.get_mut(key as usize) {
        assert_eq!(number(copied), value_of(key));
        *times += 1;
    }
    CONTINUE
}

#[test]
fn batches_see_each_stable_key_once_while_others_pass() {
    let map = create(MapType::Hash, 8, 8, 16_384);
    fill(&map, STABLE, value_of);
    while_keys_pass(&map, || {
        for batch in [1, 16, 1024, 16_384].repeat(10) {
            let mut times = vec![0; STABLE as usize];
            let outcome = Reader::new(&open(&map))
                .with_batch(batch)
                .read(|key, copied| count_stable(&mut times, key, copied));
            assert_eq!(outcome.unwrap(), Outcome::Complete);
            assert!(times.iter().all(|times| *times == 1), "batch {batch}");
        }
    });
}

/// It may give up, but then says so; it never repeats a key, and it ends.
#[test]
fn the_walk_by_keys_repeats_nothing_while_others_pass() {
    let map = create(MapType::Hash, 8, 8, 16_384);
    fill(&map, STABLE, value_of);
    while_keys_pass(&map, || {
        for _ in 0..20 {
            let mut times = vec![0; STABLE as usize];
            let outcome = Reader::new(&open(&map))
                .read_by_keys(|key, copied| count_stable(&mut times, key, copied));
            assert!(times.iter().all(|times| *times <= 1));
            match outcome.unwrap() {
                Outcome::Complete => assert!(times.iter().all(|times| *times == 1)),
                Outcome::Incomplete(why) => assert!(why.contains("65536 steps"), "{why}"),
                Outcome::Stopped => panic!("no test stopped it"),
            }
        }
    });
}

/// The key that the walk stands on is gone each time: it starts over each time,
/// and comes to an end all the same.
#[test]
fn the_walk_by_keys_survives_that_its_keys_are_deleted() {
    let map = create(MapType::Hash, 8, 8, 16_384);
    fill(&map, 1000, value_of);
    let mut entries = Entries::new();
    let outcome = Reader::new(&open(&map)).read_by_keys(|key, copied| {
        map.delete(key).unwrap();
        add(&mut entries, key, copied)
    });
    assert_eq!(outcome.unwrap(), Outcome::Complete);
    assert_eq!(entries.len(), 1000);
}

/// It stays bounded too when new keys come before it is through.
#[test]
fn the_walk_by_keys_gives_up_on_an_endless_map() {
    let map = create(MapType::Hash, 8, 8, 16);
    fill(&map, 1, value_of);
    let mut steps = 0u64;
    let outcome = Reader::new(&open(&map)).read_by_keys(|key, _| {
        steps += 1;
        map.delete(key).unwrap();
        set(&map, &steps.to_ne_bytes(), &[0; 8]);
        CONTINUE
    });
    let Outcome::Incomplete(why) = outcome.unwrap() else {
        panic!("it cannot have seen all of them");
    };
    assert!(why.contains("1024 steps"), "{why}");
    assert_eq!(steps, 1024);
}

/// Batches of a trie walk its keys inside the kernel, which starts over at the
/// first one when the key where it stood is gone.
#[test]
fn a_trie_whose_keys_are_deleted_repeats_nothing() {
    let map = create(MapType::LpmTrie, 8, 8, 64);
    for number in 0..16 {
        set(&map, &prefix(number), &[1; 8]);
    }
    let mut entries = Entries::new();
    let outcome = Reader::new(&open(&map)).with_batch(1).read(|key, copied| {
        // Every other key: those that stay would come again.
        if key[4] % 2 == 1 {
            map.delete(key).unwrap();
        }
        add(&mut entries, key, copied)
    });
    assert_eq!(outcome.unwrap(), Outcome::Complete);
    assert_eq!(entries.len(), 16);
}

// ---- kinds of maps ----------------------------------------------------------

/// The kernel writes a token of 4 bytes, where the key has fewer.
#[test]
fn keys_of_one_to_three_bytes() {
    for size in 1..=3 {
        let map = create(MapType::Hash, size as u32, 8, 256);
        for key in 0..200u8 {
            set(&map, &vec![key; size], &[key; 8]);
        }
        let entries = read_all(&map);
        assert_eq!(entries.len(), 200);
        for (key, value) in &entries {
            assert_eq!(*key, vec![key[0]; size]);
            assert_eq!(*value, [key[0]; 8]);
        }
    }
}

/// The kernel rounds each CPU's copy up to 8 bytes.
#[test]
fn per_cpu_values_of_odd_sizes() {
    let cpus = num_possible_cpus().unwrap();
    for ty in [
        MapType::PercpuHash,
        MapType::LruPercpuHash,
        MapType::PercpuArray,
    ] {
        for size in [4, 12] {
            let map = create(ty, 4, size as u32, 100);
            for key in 0..100u32 {
                let value = |cpu| vec![key as u8 + cpu as u8; size];
                set_on_cpus(&map, &key.to_ne_bytes(), value);
            }
            let entries = read_all(&map);
            assert_eq!(entries.len(), 100, "{ty:?}");
            let info = Map::new(map.as_fd()).unwrap();
            assert_eq!(info.value_size, size);
            for (key, copied) in &entries {
                let values: Vec<&[u8]> = info.values(copied).collect();
                assert_eq!(values.len(), cpus);
                for (cpu, value) in values.iter().enumerate() {
                    assert_eq!(*value, vec![key[0] + cpu as u8; size], "{ty:?}");
                }
            }
        }
    }
}

#[test]
fn arrays_hold_all_of_their_keys() {
    let map = create(MapType::Array, 4, 3, 1000);
    set(&map, &7u32.to_ne_bytes(), b"abc");
    let entries = read_all(&map);
    assert_eq!(entries.len(), 1000);
    for (key, value) in &entries {
        let is_seven = u32::from_ne_bytes(key[..].try_into().unwrap()) == 7;
        assert_eq!(&value[..], if is_seven { b"abc" } else { b"\0\0\0" });
    }
}

#[test]
fn lru_hashes() {
    // It may evict from half full on.
    let map = create(MapType::LruHash, 8, 8, 16_384);
    fill(&map, 1000, value_of);
    assert_filled(&map, 1000);
}

/// A whole IPv4 address, as a trie has it.
fn prefix(number: u8) -> [u8; 8] {
    let mut key = [0; 8];
    key[..4].copy_from_slice(&32u32.to_ne_bytes());
    key[4] = number;
    key
}

#[test]
fn tries() {
    let map = create(MapType::LpmTrie, 8, 8, 256);
    for number in 0..200 {
        set(&map, &prefix(number), &[number; 8]);
    }
    let entries = read_all(&map);
    assert_eq!(entries.len(), 200);
    for (key, value) in &entries {
        assert_eq!(key[..], prefix(key[4]));
        assert_eq!(*value, [key[4]; 8]);
    }
}

/// The kernel knows no batches of these: reading falls back to keys.
#[test]
fn maps_without_batches() {
    let loopback = 1u32.to_ne_bytes();
    for ty in [MapType::DevmapHash, MapType::Devmap] {
        let map = create(ty, 4, 4, 100);
        for key in 0..50u32 {
            set(&map, &key.to_ne_bytes(), &loopback);
        }
        let (mut keys, mut values) = ([0; 400], [0; 400]);
        let mut token = [0; 8];
        let elements = elements(&map);
        let batch = elements.lookup_batch(None, &mut token, &mut keys, &mut values, 100);
        assert!(batch.result.is_err(), "{ty:?} has batches: find another");
        let entries = read_all(&map);
        assert_eq!(entries.len(), 50, "{ty:?}");
        assert!(entries.values().all(|value| *value == loopback));
    }
}

fn elements(map: &MapHandle) -> Elements {
    Elements::new(map.as_fd().try_clone_to_owned().unwrap()).unwrap()
}

/// The kernel would write past the end of what is too short for it.
#[test]
fn no_call_goes_past_the_end_of_a_buffer() {
    let one = |ty| create(ty, 4, 8, 1);
    let refused = |result: std::io::Result<()>| {
        let kind = result.unwrap_err().kind();
        assert_eq!(kind, std::io::ErrorKind::InvalidInput);
    };
    for (ty, size) in [
        (MapType::Array, 8),
        (MapType::PercpuArray, 8 * num_possible_cpus().unwrap()),
    ] {
        let elements = elements(&one(ty));
        let (short, mut value) = (size - 1, vec![0; size]);
        elements.update(Some(&[0; 4]), &value, 0).unwrap();
        elements.lookup(Some(&[0; 4]), &mut value).unwrap();
        refused(elements.update(Some(&[0; 3]), &value, 0));
        refused(elements.update(Some(&[0; 4]), &value[..short], 0));
        refused(elements.lookup(Some(&[0; 3]), &mut value));
        refused(elements.lookup(Some(&[0; 4]), &mut value[..short]));
        refused(elements.pop(&mut value[..short]));
        refused(elements.delete(&[0; 3]));
        refused(elements.next_key(Some(&[0; 3]), &mut [0; 4]));
        refused(elements.next_key(None, &mut [0; 3]));
        let (token, keys) = (&mut [0; 4], &mut [0; 4]);
        for batch in [
            elements.lookup_batch(None, &mut [0; 3], keys, &mut value, 1),
            elements.lookup_batch(None, token, &mut [0; 3], &mut value, 1),
            elements.lookup_batch(None, token, keys, &mut value[..short], 1),
            elements.lookup_batch(None, token, keys, &mut value, 2),
            elements.lookup_batch(Some(&mut [0; 3][..]), token, keys, &mut value, 1),
        ] {
            refused(batch.result);
        }
    }
}

#[test]
fn maps_that_cannot_be_read_are_errors() {
    needs((5, 16), "a bloom filter");
    for (ty, key_size, value_size, entries) in [
        (MapType::Queue, 0, 8, 16),
        (MapType::Stack, 0, 8, 16),
        (MapType::BloomFilter, 0, 8, 16),
        (MapType::RingBuf, 0, 0, 4096),
        (MapType::PerfEventArray, 4, 4, 2),
    ] {
        let map = create(ty, key_size, value_size, entries);
        let nothing = |_: &[u8], _: &[u8]| panic!("{ty:?} gave an entry");
        let errors = [
            Reader::new(&open(&map)).read(nothing),
            Reader::new(&open(&map)).read_by_keys(nothing),
        ];
        for error in errors.map(Result::unwrap_err) {
            assert!(format!("{error:#}").contains("map"), "{ty:?}: {error:#}");
        }
    }
}

#[test]
fn empty_maps_are_complete() {
    for ty in [
        MapType::Hash,
        MapType::LruHash,
        MapType::PercpuHash,
        MapType::LpmTrie,
        MapType::DevmapHash,
    ] {
        let value_size = if ty == MapType::DevmapHash { 4 } else { 8 };
        let key_size = if ty == MapType::LpmTrie { 8 } else { 4 };
        let map = create(ty, key_size, value_size, 16);
        assert_eq!(read_all(&map), Entries::new(), "{ty:?}");
    }
}

#[test]
fn whoever_has_enough_stops_the_reading() {
    let map = create(MapType::Hash, 8, 8, 1000);
    fill(&map, 1000, value_of);
    let stop_at_17 = |seen: &mut u64| {
        *seen += 1;
        match *seen {
            17 => ControlFlow::Break(()),
            _ => CONTINUE,
        }
    };
    for batch in [1, 5, 1000] {
        let mut seen = 0;
        let map = open(&map);
        let reader = Reader::new(&map).with_batch(batch);
        let outcome = reader.read(|_, _| stop_at_17(&mut seen));
        assert_eq!((outcome.unwrap(), seen), (Outcome::Stopped, 17));
    }
    let mut seen = 0;
    let outcome = Reader::new(&open(&map)).read_by_keys(|_, _| stop_at_17(&mut seen));
    assert_eq!((outcome.unwrap(), seen), (Outcome::Stopped, 17));
}
