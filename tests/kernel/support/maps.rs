//! Maps without types that this process holds.

use std::os::fd::AsFd;

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapInfo, MapType, libbpf_sys, num_possible_cpus};

use super::require_root;

/// A map with keys and values of these sizes.
#[track_caller]
pub fn create(ty: MapType, key: u32, value: u32, max_entries: u32) -> MapHandle {
    create_with(ty, key, value, max_entries, 0)
}

/// The same with these flags.
#[track_caller]
pub fn create_with(ty: MapType, key: u32, value: u32, max_entries: u32, flags: u32) -> MapHandle {
    require_root();
    let always = match ty {
        MapType::LpmTrie => libbpf_sys::BPF_F_NO_PREALLOC,
        _ => 0,
    };
    let opts = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        map_flags: flags | always,
        ..Default::default()
    };
    MapHandle::create(ty, Some("kt_map"), key, value, max_entries, &opts).unwrap()
}

/// As a MAP on the command line.
pub fn id(map: &MapHandle) -> u32 {
    MapInfo::new(map.as_fd()).unwrap().info.id
}

/// Writes the value of a key.
#[track_caller]
pub fn set(map: &MapHandle, key: &[u8], value: &[u8]) {
    map.update(key, value, MapFlags::ANY).unwrap();
}

/// The value of a key.
#[track_caller]
pub fn get(map: &MapHandle, key: &[u8]) -> Option<Vec<u8>> {
    map.lookup(key, MapFlags::ANY).unwrap()
}

/// Writes a key's value for each CPU.
#[track_caller]
pub fn set_on_cpus(map: &MapHandle, key: &[u8], value: impl FnMut(usize) -> Vec<u8>) {
    let values: Vec<_> = (0..num_possible_cpus().unwrap()).map(value).collect();
    map.update_percpu(key, &values, MapFlags::ANY).unwrap();
}

/// Writes keys from 0 on, of 4 or 8 bytes, each with its value.
pub fn fill(map: &MapHandle, entries: u64, value_of: fn(u64) -> u64) {
    const BATCH: usize = 1 << 14;
    let size = map.key_size() as usize;
    for numbers in (0..entries).collect::<Vec<_>>().chunks(BATCH) {
        let keys: Vec<u8> = numbers
            .iter()
            .flat_map(|key| key.to_le_bytes().into_iter().take(size))
            .collect();
        let values = numbers.iter().flat_map(|key| value_of(*key).to_ne_bytes());
        let (values, count): (Vec<u8>, _) = (values.collect(), numbers.len() as u32);
        map.update_batch(&keys, &values, count, MapFlags::ANY, MapFlags::ANY)
            .unwrap();
    }
}
