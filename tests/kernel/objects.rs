//! What the kernel holds: programs and maps, by their ids. It counts these up,
//! so a new object does not get the id of an old one.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use ktally::map::Map;
use ktally::sys;
use libbpf_rs::query::ProgInfoIter;
use libbpf_rs::{MapType, Program};

use crate::support::maps::{create, id};
use crate::support::wait_until;

/// Ids of programs and maps.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Objects {
    pub programs: BTreeSet<u32>,
    pub maps: BTreeSet<u32>,
}

impl Objects {
    fn alive(&self) -> usize {
        let programs = self.programs.iter().filter(|id| is_program(**id)).count();
        programs + self.maps.iter().filter(|id| is_map(**id)).count()
    }

    pub fn assert_alive(&self) {
        assert!(self.programs.len() >= 2 && self.maps.len() >= 4, "{self:?}");
        assert_eq!(self.alive(), self.programs.len() + self.maps.len());
    }

    /// They are freed after the grace periods of RCU.
    pub fn wait_until_gone(&self) {
        for program in &self.programs {
            let what = format!("program {program} of {self:?} is freed");
            wait_until(&what, || !is_program(*program));
        }
        for map in &self.maps {
            let what = format!("map {map} of {self:?} is freed");
            wait_until(&what, || !is_map(*map));
        }
    }
}

pub fn is_program(id: u32) -> bool {
    Program::fd_from_id(id).is_ok()
}

/// Without opening it: see [`maps_called`].
pub fn is_map(id: u32) -> bool {
    sys::map::next_id(id - 1).unwrap() == Some(id)
}

/// The programs of this name.
pub fn programs_called(name: &str) -> BTreeSet<u32> {
    ProgInfoIter::default()
        .filter(|program| program.name.to_string_lossy() == name)
        .map(|program| program.id)
        .collect()
}

/// The young maps whose names begin so. An array of programs that is opened
/// while the kernel empties it, and closed before that is done, is never freed,
/// in any process: so all of them stay open for a while, and old ones are left
/// alone.
pub fn maps_called(prefix: &str) -> Vec<Map> {
    /// How many ids ago one was made that still is young.
    const YOUNG: u32 = 20_000;
    let newest = id(&create(MapType::Array, 4, 4, 1));
    let mut maps = Vec::new();
    let mut id = newest.saturating_sub(YOUNG);
    while let Some(next) = sys::map::next_id(id).unwrap() {
        id = next;
        let opened = sys::map::open_id(id, sys::map::Access::Read);
        maps.extend(opened.ok().and_then(|fd| Map::from_fd(fd).ok()));
    }
    thread::sleep(Duration::from_millis(20));
    maps.retain(|map| map.facts.name.starts_with(prefix));
    maps
}
