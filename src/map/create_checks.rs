//! What the kernel wants of a new map, by its type: it says no more than EINVAL.

use super::create::{FLAGS, NewMap, flag_bit};
use crate::sys;

/// How many bytes a key or a value has.
enum Size {
    None,
    Some,
    One(&'static [u32]),
}
use Size::{None as Nothing, One, Some as Any};

/// Flags that nearly all types take.
const ACCESS: &str = "numa_node rdonly wronly rdonly_prog wronly_prog";

/// Types with the sizes of their keys and values, and the flags that they take.
const SHAPES: &[(&str, Size, Size, &str)] = &[
    ("hash", Any, Any, "no_prealloc zero_seed"),
    ("percpu_hash", Any, Any, "no_prealloc zero_seed"),
    ("lru_hash", Any, Any, "no_common_lru zero_seed"),
    ("lru_percpu_hash", Any, Any, "no_common_lru zero_seed"),
    ("array", One(&[4]), Any, "mmapable inner_map"),
    ("percpu_array", One(&[4]), Any, ""),
    ("lpm_trie", Any, Any, "no_prealloc"),
    ("hash_of_maps", Any, One(&[4]), "no_prealloc zero_seed"),
    ("array_of_maps", One(&[4]), One(&[4]), ""),
    ("queue", Nothing, Any, ""),
    ("stack", Nothing, Any, ""),
    ("bloom_filter", Nothing, Any, "zero_seed"),
    ("ringbuf", Nothing, Nothing, ""),
    ("user_ringbuf", Nothing, Nothing, ""),
    ("prog_array", One(&[4]), One(&[4]), ""),
    ("cgroup_array", One(&[4]), One(&[4]), ""),
    ("perf_event_array", One(&[4]), One(&[4]), "preserve_elems"),
    ("stack_trace", One(&[4]), Any, "stack_build_id"),
    ("devmap", One(&[4]), One(&[4, 8]), ""),
    ("devmap_hash", One(&[4]), One(&[4, 8]), ""),
    ("cpumap", One(&[4]), One(&[4, 8]), ""),
    ("xskmap", One(&[4]), One(&[4]), ""),
    ("sockmap", One(&[4]), One(&[4, 8]), ""),
    ("sockhash", Any, One(&[4, 8]), ""),
];

/// What every per-CPU value must fit into.
pub(crate) const PER_CPU_BYTES: u32 = 32 << 10;

impl NewMap {
    /// What about it cannot be, and what would do.
    pub(super) fn problem(&self, has_inner: bool) -> Option<String> {
        let kind = sys::map::type_name(self.type_number)?;
        let (_, key, value, flags) = SHAPES.iter().find(|(name, ..)| *name == kind)?;
        wrong_size("key", key, self.key_size)
            .or_else(|| wrong_size("value", value, self.value_size))
            .or_else(|| self.wrong_flag(kind, flags))
            .or_else(|| self.wrong_for(kind, has_inner))
            .map(|wrong| format!("{kind} maps {wrong}"))
    }

    fn wrong_flag(&self, kind: &str, takes: &str) -> Option<String> {
        let takes = |name: &str| {
            let mut words = takes.split(' ').chain(ACCESS.split(' '));
            words.any(|word| word == name)
        };
        let has = |name: &str| self.flags & flag_bit(name) != 0;
        if let Some((_, name)) = FLAGS.iter().find(|(_, name)| has(name) && !takes(name)) {
            return Some(format!("do not take --flags {name}"));
        }
        for [one, other] in [["rdonly", "wronly"], ["rdonly_prog", "wronly_prog"]] {
            if has(one) && has(other) {
                return Some(format!("take either {one} or {other}, not both"));
            }
        }
        (kind == "lpm_trie" && !has("no_prealloc"))
            .then(|| "must have --flags no_prealloc".to_owned())
    }

    fn wrong_for(&self, kind: &str, has_inner: bool) -> Option<String> {
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
        let page = page.ok().flatten().and_then(|size| size.try_into().ok());
        let (page, max) = (page.unwrap_or(4096), self.max_entries);
        let wrong = match kind {
            "ringbuf" | "user_ringbuf" if !max.is_power_of_two() || max < page => format!(
                "have bytes for entries: --max-entries is a power of 2, and at least a page, {page}"
            ),
            _ if max == 0 => "hold at least one entry: --max-entries 1".to_owned(),
            "hash_of_maps" | "array_of_maps" if !has_inner => {
                "want a map like those that they will hold: --inner MAP".to_owned()
            }
            "lpm_trie" if !(5..=260).contains(&self.key_size) => {
                "have keys of 4 bytes for the length of a prefix, and 1 to 256 for the prefix: --key 8 for IPv4, --key 20 for IPv6".to_owned()
            }
            "stack_trace" if !self.value_size.is_multiple_of(8) => {
                "have values of 8 bytes a frame: --value is a multiple of 8".to_owned()
            }
            _ if kind.contains("percpu") && self.value_size > PER_CPU_BYTES => {
                format!("have values of at most {PER_CPU_BYTES} bytes")
            }
            _ => return None,
        };
        Some(wrong)
    }
}

fn wrong_size(what: &str, size: &Size, given: u32) -> Option<String> {
    match size {
        Nothing if given > 0 => Some(format!("have no {what}s: leave out --{what}")),
        Any if given == 0 => Some(format!("have {what}s: say of how many bytes with --{what}")),
        One(sizes) if !sizes.contains(&given) => {
            let sizes: Vec<String> = sizes.iter().map(u32::to_string).collect();
            let sizes = sizes.join(" or ");
            Some(format!(
                "have {what}s of {sizes} bytes: --{what} {}",
                &sizes[..1]
            ))
        }
        _ => None,
    }
}
