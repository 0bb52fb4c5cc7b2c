//! The sizes of maps that an object leaves to its loader.

use anyhow::{Context, Result};
use libbpf_rs::{MapType, OpenMapMut, OpenObject};

use super::catalogue::lossy;
use crate::sys::log;

/// What loaders usually choose for tables.
const ROWS: u32 = 10_240;
/// The kernel's default for the frames of a stack, `PERF_MAX_STACK_DEPTH`, as addresses.
const STACK: u32 = 127 * 8;
/// A power of two, and pages.
const RING: u32 = 256 * 1024;

/// Sets what the object does not say and the kernel requires.
pub(super) fn set_missing(object: &mut OpenObject) -> Result<()> {
    for mut map in object.maps_mut() {
        let name = lossy(map.name());
        set(&mut map, &name).with_context(|| format!("failed to set the size of map `{name}`"))?;
    }
    Ok(())
}

fn set(map: &mut OpenMapMut<'_>, name: &str) -> libbpf_rs::Result<()> {
    let ty = map.map_type();
    if ty == MapType::StackTrace {
        if map.key_size() == 0 {
            map.set_key_size(4)?;
        }
        if map.value_size() == 0 {
            map.set_value_size(STACK)?;
            log::detail(&format!(
                "map `{name}` does not say its size: its stacks have 127 frames"
            ));
        }
    }
    let rows = match ty {
        _ if map.max_entries() > 0 => return Ok(()),
        MapType::RingBuf | MapType::UserRingBuf => RING,
        MapType::Hash
        | MapType::LruHash
        | MapType::PercpuHash
        | MapType::LruPercpuHash
        | MapType::LpmTrie
        | MapType::StackTrace
        | MapType::Queue
        | MapType::Stack
        | MapType::HashOfMaps
        | MapType::BloomFilter => ROWS,
        MapType::Array
        | MapType::PercpuArray
        | MapType::ProgArray
        | MapType::CgroupArray
        | MapType::ArrayOfMaps => 1,
        // The kernel or libbpf knows how many.
        _ => return Ok(()),
    };
    map.set_max_entries(rows)?;
    log::detail(&format!(
        "map `{name}` does not say its size: it has room for {rows}; --max-rows sets another"
    ));
    Ok(())
}
