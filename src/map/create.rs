//! New maps.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, anyhow};

use super::Map;
use crate::host;
use crate::sys;

pub use crate::sys::map::NewMap;

/// include/uapi/linux/bpf.h, without `BPF_F_`.
const FLAGS: [(u32, &str); 17] = [
    (1 << 0, "no_prealloc"),
    (1 << 1, "no_common_lru"),
    (1 << 2, "numa_node"),
    (1 << 3, "rdonly"),
    (1 << 4, "wronly"),
    (1 << 5, "stack_build_id"),
    (1 << 6, "zero_seed"),
    (1 << 7, "rdonly_prog"),
    (1 << 8, "wronly_prog"),
    (1 << 9, "clone"),
    (1 << 10, "mmapable"),
    (1 << 11, "preserve_elems"),
    (1 << 12, "inner_map"),
    (1 << 13, "link"),
    (1 << 15, "vtype_btf_obj_fd"),
    (1 << 16, "token_fd"),
    (1 << 17, "segv_on_fault"),
];

/// The names of a map's flags; of those that are younger, their bits.
pub fn flag_names(flags: u32) -> Vec<String> {
    (0..u32::BITS)
        .map(|bit| flags & (1 << bit))
        .filter(|flag| *flag != 0)
        .map(|flag| {
            let known = FLAGS.iter().find(|(bit, _)| *bit == flag);
            known.map_or_else(|| format!("{flag:#x}"), |(_, name)| (*name).to_owned())
        })
        .collect()
}

/// The flag of this name; 0 where there is none.
pub fn flag_bit(name: &str) -> u32 {
    let known = FLAGS.iter().find(|(_, known)| *known == name);
    known.map_or(0, |(bit, _)| *bit)
}

/// Every type of map that libbpf knows, in the kernel's order.
pub fn type_names() -> Vec<&'static str> {
    (1..).map_while(sys::map::type_name).collect()
}

/// The kernel's number of a type.
pub fn type_number(name: &str) -> Option<u32> {
    let at = type_names().iter().position(|known| *known == name)?;
    u32::try_from(at + 1).ok()
}

/// BTF for a new map: whose, and the ids of the key's and the value's type.
#[derive(Debug)]
pub struct Types {
    btf: OwnedFd,
    key: u32,
    value: u32,
}

/// Those of another map; `None` where it has none.
pub fn types_with(map: &Map) -> Result<Option<Types>> {
    if map.facts.btf_id == 0 {
        return Ok(None);
    }
    let btf = sys::map::open_btf(map.facts.btf_id)
        .with_context(|| format!("failed to open the BTF of map {}", map.title()))?;
    Ok(Some(Types {
        btf,
        key: map.facts.key_type_id,
        value: map.facts.value_type_id,
    }))
}

/// Makes a map. It goes with its last descriptor, unless it is pinned.
pub fn create(new: &NewMap, types: Option<&Types>, inner: Option<&Map>) -> Result<Map> {
    let types = types.map(|types| (types.btf.as_fd(), types.key, types.value));
    let fd = sys::map::create(new, types, inner.map(Map::fd)).map_err(|error| {
        let kind = sys::map::type_name(new.type_number).unwrap_or("that type");
        let reason = match error.raw_os_error() {
            Some(libc::EINVAL) => format!(
                "the kernel takes no {kind} map of {} bytes to {}, {} entries and these flags",
                new.key_size, new.value_size, new.max_entries
            ),
            Some(errno) => host::advice(errno),
            None => error.to_string(),
        };
        anyhow!("failed to create map `{}`: {reason}", new.name)
    })?;
    Map::from_fd(fd)
}
