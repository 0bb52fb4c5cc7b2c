//! The sizes of maps that an object leaves to its loader, and the type of those that
//! the user wants for each CPU.

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapType, OpenMapMut, OpenObject};

use super::catalogue::lossy;
use crate::map::PER_CPU_BYTES;
use crate::schema::Table;
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

/// Gives the tables a copy of each row for each CPU, which readers add up.
pub(super) fn copy_for_each_cpu(object: &mut OpenObject, tables: &[Table]) -> Result<()> {
    for mut map in object.maps_mut() {
        let name = lossy(map.name());
        let ty = match map.map_type() {
            _ if tables.iter().all(|table| table.name != name) => continue,
            MapType::Hash => MapType::PercpuHash,
            MapType::LruHash => MapType::LruPercpuHash,
            MapType::Array => MapType::PercpuArray,
            _ => continue,
        };
        ensure!(
            map.value_size() <= PER_CPU_BYTES,
            "table `{name}` has rows of {} bytes, and --per-cpu-rows takes at most {PER_CPU_BYTES}",
            map.value_size()
        );
        map.set_type(ty)
            .with_context(|| format!("failed to keep table `{name}` for each CPU"))?;
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
