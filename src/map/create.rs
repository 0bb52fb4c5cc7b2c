//! New maps.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, anyhow};

use super::Map;
use crate::host;
use crate::sys;

pub use crate::sys::map::NewMap;

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
