//! A live map: what it is, and complete reads of it.

mod read;

use std::os::fd::BorrowedFd;

use anyhow::{Context, Result};
use libbpf_rs::{MapInfo, MapType, num_possible_cpus};

pub use read::{Outcome, Reader};

/// A map of the running kernel, through a file descriptor.
#[derive(Debug, Clone, Copy)]
pub struct Map<'fd> {
    fd: BorrowedFd<'fd>,
    /// What kind of map.
    pub ty: MapType,
    /// In bytes.
    pub key_size: usize,
    /// In bytes; of a per-CPU map, one CPU's.
    pub value_size: usize,
    /// How many entries fit.
    pub max_entries: u32,
    per_cpu: bool,
    copies: usize,
}

impl<'fd> Map<'fd> {
    /// Asks the kernel what map this is.
    pub fn new(fd: BorrowedFd<'fd>) -> Result<Self> {
        let info = MapInfo::new(fd).context("failed to ask the kernel about a map")?;
        let ty = info.map_type();
        let per_cpu = matches!(
            ty,
            MapType::PercpuHash
                | MapType::PercpuArray
                | MapType::LruPercpuHash
                | MapType::PercpuCgroupStorage
        );
        Ok(Self {
            fd,
            ty,
            key_size: info.info.key_size as usize,
            value_size: info.info.value_size as usize,
            max_entries: info.info.max_entries,
            per_cpu,
            copies: if per_cpu { num_possible_cpus()? } else { 1 },
        })
    }

    /// How many bytes the kernel copies for one value: of a per-CPU map, one
    /// value a possible CPU, each rounded up to 8 bytes.
    fn copied_size(&self) -> usize {
        match self.per_cpu {
            false => self.value_size,
            true => self.value_size.next_multiple_of(8) * self.copies,
        }
    }

    /// The values in what was copied for one entry: one, or one a possible CPU.
    pub fn values<'a>(&self, copied: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let size = self.value_size;
        copied
            .chunks(self.copied_size() / self.copies)
            .map(move |value| &value[..size])
    }
}
