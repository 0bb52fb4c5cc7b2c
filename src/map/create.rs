//! New maps.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, anyhow};

use super::Map;
use super::errors::ENOTSUPP;
use crate::error::usage;
use crate::host;
use crate::schema::MapFacts;
use crate::sys;

pub(crate) use crate::sys::map::NewMap;

/// include/uapi/linux/bpf.h, without `BPF_F_`.
pub(super) const FLAGS: [(u32, &str); 17] = [
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
pub(crate) fn flag_names(flags: u32) -> Vec<String> {
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
pub(crate) fn flag_bit(name: &str) -> u32 {
    let known = FLAGS.iter().find(|(_, known)| *known == name);
    known.map_or(0, |(bit, _)| *bit)
}

/// Every type of map that libbpf knows, in the kernel's order.
pub fn type_names() -> Vec<&'static str> {
    (1..).map_while(sys::map::type_name).collect()
}

pub(crate) fn type_number(name: &str) -> Option<u32> {
    let at = type_names().iter().position(|known| *known == name)?;
    u32::try_from(at + 1).ok()
}

/// BTF for a new map: whose, and the ids of the key's and the value's type.
#[derive(Debug)]
pub(crate) struct Types {
    btf: OwnedFd,
    key: u32,
    value: u32,
}

/// Those of another map; `None` where it has none.
pub(crate) fn types_with(map: &Map) -> Result<Option<Types>> {
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
pub(crate) fn create(new: &NewMap, types: Option<&Types>, inner: Option<&Map>) -> Result<Map> {
    check_name(&new.name)?;
    let types = types.map(|types| (types.btf.as_fd(), types.key, types.value));
    let fd = sys::map::create(new, types, inner.map(Map::fd));
    let fd = fd.map_err(|error| refused(new, inner.is_some(), &error))?;
    Map::from_fd(fd)
}

/// The kernel's rules: libbpf would cut what is longer.
fn check_name(name: &str) -> Result<()> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    let why = if let Some(bad) = name.chars().find(|c| !is_fine(*c)) {
        format!("`{bad}` is not a letter, a digit, _ or .")
    } else if name.len() > MapFacts::MOST_NAME {
        format!(
            "it has {} characters, and the kernel keeps {}",
            name.len(),
            MapFacts::MOST_NAME
        )
    } else {
        return Ok(());
    };
    Err(usage(format!(
        "a map cannot be called `{name}`: {why}; give another with --name"
    )))
}

fn refused(new: &NewMap, has_inner: bool, error: &io::Error) -> anyhow::Error {
    let kind = sys::map::type_name(new.type_number).unwrap_or("that type");
    let errno = error.raw_os_error().unwrap_or(0);
    let is_problem = matches!(errno, libc::EINVAL | libc::E2BIG | ENOTSUPP | libc::EPERM);
    if is_problem && let Some(reason) = new.problem(has_inner) {
        return usage(format!("failed to create map `{}`: {reason}", new.name));
    }
    let reason = match errno {
        libc::EINVAL | ENOTSUPP => format!(
            "the kernel refuses maps of type {kind} with {} bytes to {}, {} entries and these flags",
            new.key_size, new.value_size, new.max_entries
        ),
        libc::E2BIG => "too large for the kernel; lower --max-entries, --key or --value".to_owned(),
        libc::ENOMEM => {
            "out of memory; lower --max-entries, or raise the memory cgroup's limit".to_owned()
        }
        0 => error.to_string(),
        errno => host::advice(errno),
    };
    anyhow!("failed to create map `{}`: {reason}", new.name)
}
