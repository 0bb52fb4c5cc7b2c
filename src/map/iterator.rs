//! The map iterator: lists maps without opening them. Opening a map makes this
//! process one of its users, and when the last user of an array of programs goes,
//! the kernel empties it. An array that is opened meanwhile is never freed, as the
//! kernel takes a reference for work that is already queued. An iterator is not a
//! user, so only maps that are wanted are opened.

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

    /// It has no users, so it is empty and stays empty.
    fn is_emptied(&self) -> bool {
        const PROG_ARRAY: u32 = 3;
        self.ty == PROG_ARRAY && self.users == 0
    }
}

/// Every map except emptied arrays of programs.
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
