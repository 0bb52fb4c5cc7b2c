//! Keys and values of every size.

use std::ops::ControlFlow;
use std::os::fd::AsFd;

use ktally::map::{Adder, Map, Reader, drain};
use ktally::schema::Number;
use libbpf_rs::{MapFlags, MapType};

use super::inplace::entries_of;
use super::{hex, map, map_json, restore};
use crate::support::maps::{create, get, id, set};
use crate::support::{cases, needs};

pub(super) const NUMBER: Number = Number {
    is_maximum: false,
    offset: 0,
    width: 8,
};

/// Whatever can be done with a key, by every number of its bytes.
#[test]
fn keys_of_1_to_512_bytes() {
    needs((5, 14), "a program that a system call runs");
    for size in 1..=512usize {
        let handle = create(MapType::Hash, size as u32, 8, 2);
        let map = Map::new(handle.as_fd()).unwrap();
        let keys = [vec![0x11; size], vec![0xee; size]];
        for (i, key) in (1u64..).zip(&keys) {
            map.update(key, &i.to_ne_bytes(), MapFlags::ANY).unwrap();
            let value = Some(i.to_ne_bytes().to_vec());
            assert_eq!(map.lookup(key).unwrap(), value, "{size}");
        }
        let mut seen = Vec::new();
        Reader::new(&map)
            .read(|key, _| {
                seen.push(key.to_vec());
                ControlFlow::Continue(())
            })
            .unwrap();
        seen.sort();
        assert_eq!(seen, keys, "{size}");
        let first = map.next_key(None).unwrap().unwrap();
        let second = map.next_key(Some(&first)).unwrap().unwrap();
        assert_eq!(map.next_key(Some(&second)).unwrap(), None, "{size}");
        // Loading a program takes its time; keys are padded to 8 bytes.
        if size <= 17 || size % 64 < 2 || size > 504 {
            let mut adder = Adder::new(&map, &keys[1], NUMBER).unwrap();
            assert_eq!(adder.add(5).unwrap(), Some(2), "{size}");
            let drained = entries_of(&drain(&map, &[NUMBER]).unwrap());
            let wanted = [
                (keys[0].clone(), 1u64.to_ne_bytes().to_vec()),
                (keys[1].clone(), 7u64.to_ne_bytes().to_vec()),
            ];
            assert_eq!(drained, wanted, "{size}");
        }
        assert!(map.delete(&keys[0]).unwrap());
        assert!(!map.delete(&keys[0]).unwrap());
        assert!(map.lookup(&[0; 513]).is_err());
    }
}

/// The same on the command line, where one stands for each way to be padded.
#[test]
fn keys_of_many_sizes_on_the_command_line() {
    const SIZES: [usize; 13] = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 511, 512];
    for size in cases(SIZES, 4) {
        let handle = create(MapType::Hash, size as u32, 4, 2);
        let (map, key) = (id(&handle), vec![0x2a; size]);
        let key_text = format!("hex:{}", hex(&key));
        map!("update", map, key_text, 5).done();
        assert_eq!(get(&handle, &key), Some(5u32.to_ne_bytes().to_vec()));
        assert_eq!(map!("add", map, key_text, 2).done(), "value: 5 -> 7\n");
        assert_eq!(map!("lookup", map, key_text).done(), "7\n");
        let entry = serde_json::json!([{"key": key_text, "value": "hex:07000000"}]);
        map!("dump", map, "--raw", "-o", "json").prints_json(entry);
        let typed = match size {
            1 => "42".to_owned(),
            2 => "10794".to_owned(),
            4 => "0x2a2a2a2a".to_owned(),
            8 => "0x2a2a2a2a2a2a2a2a".to_owned(),
            _ => key_text.clone(),
        };
        assert_eq!(map!("lookup", map, typed).done(), "7\n", "{size}");
        let wrong = format!("hex:{}", hex(&vec![0; size + 1]));
        map!("lookup", map, wrong).failed(2, &[&format!("{} bytes", size + 1)]);
        map!("delete", map, key_text).done();
        map!("lookup", map, key_text).failed(3, &[]);
    }
}

#[test]
fn values_of_up_to_64_kib() {
    const SIZES: [usize; 12] = [1, 3, 7, 8, 9, 255, 256, 4095, 4096, 4097, 65535, 65536];
    for size in cases(SIZES, 3) {
        let [source, target] = [(); 2].map(|()| create(MapType::Hash, 4, size as u32, 2));
        let value: Vec<u8> = (0..size).map(|i| (i * 7 + i / 256) as u8).collect();
        set(&source, &[1, 0, 0, 0], &value);
        let text = format!("hex:{}", hex(&value));
        let map = id(&source);
        assert_eq!(map!("lookup", "--raw", map, "01000000").done().trim(), text);
        let dumped = map_json!("dump", map, "--raw");
        assert_eq!(dumped[0]["value"], text);
        let saved = map!("save", map, "-").done();
        restore(id(&target), &saved).done();
        assert_eq!(get(&target, &[1, 0, 0, 0]), Some(value.clone()), "{size}");
        if size < 65_000 {
            map!("update", id(&target), 2, text).done();
            assert_eq!(get(&target, &[2, 0, 0, 0]), Some(value), "{size}");
        }
        map!("dump", map, "-o", "table").done();
        map!("dump", map, "-o", "csv").done();
    }
}
