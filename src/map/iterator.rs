//! The map iterator: lists maps without opening them. Opening a map makes this
//! process one of its users, and when the last user of an array of programs goes,
//! the kernel empties it. An array that is opened meanwhile is never freed, as the
//! kernel takes a reference for work that is already queued. An iterator is not a
//! user, so only maps that are wanted are opened.

use std::io::Read;
use std::marker::PhantomData;

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, Skel};
use libbpf_rs::{Iter, Link};
use plain::Plain;

use super::helper;
use crate::internal::maps::MapsSkelBuilder;

/// `struct seen` of `maps.bpf.c`.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct MapRecord {
    pub(super) id: u32,
    pub(super) ty: u32,
    users: i64,
    pub(super) max_entries: u64,
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
        self.is_of_programs() && self.users == 0
    }

    /// It is an array of programs, which the kernel empties behind its last user.
    pub(super) fn is_of_programs(&self) -> bool {
        const PROG_ARRAY: u32 = 3;
        self.ty == PROG_ARRAY
    }
}

/// Every map except emptied arrays of programs.
pub(super) fn maps() -> Result<Vec<MapRecord>> {
    Walk::of_maps()?.maps()
}

/// A name in a field of the kernel's, up to its NUL.
pub(super) fn name_of(field: &[u8]) -> String {
    let end = field.iter().position(|c| *c == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

/// An iterator that is loaded once, and read as often as wanted. It writes records,
/// one after the other.
#[derive(Debug)]
pub(super) struct Walk<T> {
    /// The link keeps the program.
    pub(super) link: Link,
    records: PhantomData<T>,
}

impl Walk<MapRecord> {
    pub(super) fn of_maps() -> Result<Self> {
        let opened = helper::open::<MapsSkelBuilder>()?;
        Self::attach(&mut opened.load().context("needs Linux 5.8")?)
    }

    /// Every map except emptied arrays of programs.
    pub(super) fn maps(&self) -> Result<Vec<MapRecord>> {
        let mut seen = self.read()?;
        seen.retain(|map| !map.is_emptied());
        Ok(seen)
    }
}

impl<T: Plain + Default + Clone> Walk<T> {
    /// Of a skeleton with one program.
    pub(super) fn attach<'o>(skeleton: &mut impl Skel<'o>) -> Result<Self> {
        let mut programs = skeleton.object_mut().progs_mut();
        let program = programs.next().context("the helper has no program")?;
        let link = program.attach().context("failed to attach an iterator")?;
        Ok(Self {
            link,
            records: PhantomData,
        })
    }

    /// The program that is loaded for it.
    pub(super) fn program(&self) -> Option<u32> {
        Some(self.link.info().ok()?.prog_id)
    }

    pub(super) fn read(&self) -> Result<Vec<T>> {
        let mut bytes = Vec::new();
        Iter::new(&self.link)?
            .read_to_end(&mut bytes)
            .context("failed to read an iterator")?;
        let records = bytes.chunks_exact(size_of::<T>()).filter_map(|bytes| {
            let mut record = T::default();
            record.copy_from_bytes(bytes).ok().map(|()| record)
        });
        Ok(records.collect())
    }
}
