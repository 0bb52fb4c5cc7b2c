//! Iterators of the kernel that list maps without opening them, and their holders.
//! Opening a map makes this process one of its users, and when the last user of an array
//! of programs goes, the kernel empties it. An array that is opened meanwhile is never
//! freed, as the kernel takes a reference for work that is already queued. An iterator is
//! not a user, so only maps that are wanted are opened.

use std::io::Read;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result};
use libbpf_rs::skel::OpenSkel;
use libbpf_rs::{Iter, Link, MapCore, ProgramMut};
use plain::Plain;

use super::helper;
use crate::internal::inventory::InventorySkelBuilder;

/// `struct seen` of `inventory.bpf.c`.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct MapRecord {
    pub(super) id: u32,
    pub(super) ty: u32,
    users: i64,
    pub(super) max_entries: u64,
    entries: i64,
    name: [u8; 16],
}

/// `struct holder` of `inventory.bpf.c`.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct HolderRecord {
    kind: u32,
    pub(super) id: u32,
    pub(super) pid: u32,
    comm: [u8; 16],
}

// SAFETY: a C struct of integers without padding.
unsafe impl Plain for MapRecord {}
// SAFETY: a C struct of integers without padding.
unsafe impl Plain for HolderRecord {}

impl MapRecord {
    /// At most 15 characters.
    pub(super) fn name(&self) -> String {
        name_of(&self.name)
    }

    /// How many entries it has, where the kernel counts them: since Linux 6.6.
    pub(super) fn entries(&self) -> Option<u64> {
        self.entries.try_into().ok()
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

impl HolderRecord {
    /// Whether it holds a map, or a program.
    pub(super) fn is_of_map(&self) -> bool {
        const A_MAP: u32 = 0;
        self.kind == A_MAP
    }

    pub(super) fn comm(&self) -> String {
        name_of(&self.comm)
    }
}

/// A name in a field of the kernel's, up to its NUL.
pub(super) fn name_of(field: &[u8]) -> String {
    let end = field.iter().position(|c| *c == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

/// Every map except emptied arrays of programs.
pub(super) fn maps() -> Result<Vec<MapRecord>> {
    let mut opened = helper::open::<InventorySkelBuilder>()?;
    opened.progs.holders.set_autoload(false);
    opened.maps.bss.set_autocreate(false)?;
    let mut loaded = opened.load().context(OLD)?;
    Walk::attach(&mut loaded.progs.maps)?.maps()
}

const OLD: &str = "needs Linux 5.8";

/// Both iterators, loaded once, which cost more to load than to read.
#[derive(Debug)]
pub(super) struct Walks {
    maps: Walk<MapRecord>,
    holders: Walk<HolderRecord>,
    /// The map that they have themselves.
    own: u32,
}

impl Walks {
    pub(super) fn load() -> Result<Self> {
        let mut loaded = helper::open::<InventorySkelBuilder>()?
            .load()
            .context(OLD)?;
        let maps = Walk::attach(&mut loaded.progs.maps)?;
        let holders = Walk::attach(&mut loaded.progs.holders)?;
        let (map, program) = (loaded.maps.bss.as_fd(), loaded.progs.holders.as_fd());
        // In the order of `enum kind`.
        let known = [map, program, holders.link.as_fd()].map(|fd| fd.as_raw_fd() as u32);
        let own = loaded.maps.bss.info()?.info.id;
        let bss = loaded.maps.bss_data.as_deref_mut();
        let bss = bss.context("it has no data")?;
        bss.known_fds = known;
        holders.read()?;
        // Descriptors have other uses later.
        bss.known_fds = [0; 3];
        Ok(Self { maps, holders, own })
    }

    /// Every map except emptied arrays of programs.
    pub(super) fn maps(&self) -> Result<Vec<MapRecord>> {
        let mut maps = self.maps.maps()?;
        maps.retain(|map| map.id != self.own);
        Ok(maps)
    }

    pub(super) fn holders(&self) -> Result<Vec<HolderRecord>> {
        self.holders.read()
    }

    /// The programs that are loaded for them.
    pub(super) fn programs(&self) -> Vec<u32> {
        let links = [&self.maps.link, &self.holders.link].into_iter();
        links
            .filter_map(|link| Some(link.info().ok()?.prog_id))
            .collect()
    }
}

/// An iterator that is read as often as wanted.
#[derive(Debug)]
pub(super) struct Walk<T> {
    /// The link keeps the program.
    link: Link,
    records: PhantomData<T>,
}

impl Walk<MapRecord> {
    /// Every map except emptied arrays of programs.
    fn maps(&self) -> Result<Vec<MapRecord>> {
        let mut seen = self.read()?;
        seen.retain(|map| !map.is_emptied());
        Ok(seen)
    }
}

impl<T: Plain + Default + Clone> Walk<T> {
    fn attach(program: &mut ProgramMut<'_>) -> Result<Self> {
        let link = program.attach().context("failed to attach an iterator")?;
        Ok(Self {
            link,
            records: PhantomData,
        })
    }

    fn read(&self) -> Result<Vec<T>> {
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
