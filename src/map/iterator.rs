//! Which maps there are. To open a map is to become its user, and whoever stops
//! being the last one makes the kernel empty it, if it is an array of programs:
//! one that is opened while that is being done is never freed (the kernel takes
//! a reference for work that is queued already). So maps are looked at by an
//! iterator, which is no user, and opened only when they are meant.

use std::io::Read;

use anyhow::{Context, Result};
use libbpf_rs::Iter;
use libbpf_rs::skel::{OpenSkel, Skel};
use plain::Plain;

use super::helper;
use crate::internal::maps::MapsSkelBuilder;

/// `struct seen` of `maps.bpf.c`.
#[repr(C)]
#[derive(Default, Clone, Copy)]
pub(super) struct MapRecord {
    pub(super) id: u32,
    ty: u32,
    users: i64,
    name: [u8; 16],
}

// SAFETY: a C struct of integers without padding.
unsafe impl Plain for MapRecord {}

impl MapRecord {
    /// At most 15 characters.
    pub(super) fn name(&self) -> String {
        name_of(&self.name)
    }

    /// Nobody can put a program into it any more, and there is none in it.
    fn is_emptied(&self) -> bool {
        const PROG_ARRAY: u32 = 3;
        self.ty == PROG_ARRAY && self.users == 0
    }
}

/// Every map, by its id, but for those that nobody has and nothing is in.
pub(super) fn maps() -> Result<Vec<MapRecord>> {
    let opened = helper::open::<MapsSkelBuilder>()?;
    let mut loaded = opened.load().context("needs Linux 5.8")?;
    let mut seen: Vec<MapRecord> = iterate(&mut loaded)?;
    seen.retain(|map| !map.is_emptied());
    Ok(seen)
}

/// A name in a field of the kernel's, up to its NUL.
pub(super) fn name_of(field: &[u8]) -> String {
    let end = field.iter().position(|c| *c == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

/// What an iterator program writes: records, one after the other.
pub(super) fn iterate<'o, T: Plain + Default + Clone>(
    skeleton: &mut impl Skel<'o>,
) -> Result<Vec<T>> {
    let mut bytes = Vec::new();
    for program in skeleton.object_mut().progs_mut() {
        let link = program.attach().context("failed to attach an iterator")?;
        Iter::new(&link)?
            .read_to_end(&mut bytes)
            .context("failed to read an iterator")?;
    }
    Ok(bytes
        .chunks_exact(size_of::<T>())
        .filter_map(|bytes| {
            let mut record = T::default();
            record.copy_from_bytes(bytes).ok().map(|()| record)
        })
        .collect())
}
