//! The maps of the running kernel, of any program: opening, complete reads,
//! edits from user space, and changes in place by the kernel.

mod add;
mod create;
mod create_checks;
mod drain;
mod edit;
mod errors;
mod fd_values;
mod helper;
mod inventory;
mod iterator;
mod open;
mod other;
mod owner;
mod read;
pub mod saved;
mod survey;
mod types;

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use libbpf_rs::{MapFdInfo, MapType};

pub use libbpf_rs::MapFlags;

pub use add::Adder;
pub use create::type_names;
pub(crate) use create::{NewMap, create, flag_bit, flag_names, type_number, types_with};
pub(crate) use create_checks::PER_CPU_BYTES;
pub use drain::{Drained, drain};
pub(crate) use inventory::Listed;
pub(crate) use inventory::{Inventory, Used};
pub use open::MapRef;
pub(crate) use open::{names, unpin};
pub use read::{Outcome, Reader};
pub(crate) use survey::{Owners, Survey};

use self::iterator::name_of;
use self::owner::Owner;
pub(crate) use self::owner::TaskWalk;
use crate::schema::{Decoder, MapFacts};
use crate::sys;
pub(crate) use crate::sys::map::Access;
use crate::sys::map::Elements;

/// A map of the running kernel, through a file descriptor of our own.
#[derive(Debug)]
pub struct Map {
    elements: Elements,
    /// The files among its keys, by their inodes.
    files: RefCell<HashMap<u64, OwnedFd>>,
    /// As `bpftool` and the kernel number them.
    pub id: u32,
    /// What kind of map; `Unknown` where it is younger than libbpf.
    pub(crate) ty: MapType,
    pub(crate) type_number: u32,
    /// In full where its BTF was looked at; else as the kernel cuts it.
    pub(crate) name: String,
    /// Sizes, types and the kernel's name.
    pub facts: MapFacts,
    /// In bytes.
    pub(crate) key_size: usize,
    /// In bytes; of a per-CPU map, one CPU's.
    pub value_size: usize,
    /// How many entries fit.
    pub max_entries: u32,
    /// `BPF_F_...`, as it was created with.
    pub(crate) flags: u32,
}

fn name_of_type(number: u32) -> String {
    match sys::map::type_name(number) {
        Some(name) => name.to_owned(),
        None => format!("type {number}"),
    }
}

impl Map {
    /// Asks the kernel what map this is. The descriptor is duplicated.
    pub fn new(fd: BorrowedFd<'_>) -> Result<Self> {
        let fd = fd.try_clone_to_owned();
        Self::from_fd(fd.context("failed to duplicate a map's descriptor")?)
    }

    /// Asks the kernel what map this is.
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        let elements = Elements::new(fd).context("failed to ask the kernel about a map")?;
        let info = *elements.info();
        let ty = MapType::from(info.type_);
        let facts = MapFacts {
            name: name_of(&info.name.map(|c| c as u8)),
            type_number: info.type_,
            key_size: info.key_size as usize,
            value_size: info.value_size as usize,
            max_entries: info.max_entries,
            btf_id: info.btf_id,
            key_type_id: info.btf_key_type_id,
            value_type_id: info.btf_value_type_id,
            id_keys: Owner::from_type_number(info.type_).map(Owner::tags),
            kernel_value_type_id: info.btf_vmlinux_value_type_id,
            value_decoder: match ty {
                MapType::CgroupArray => Some(Decoder::CGROUP),
                MapType::ArrayOfMaps | MapType::HashOfMaps | MapType::ProgArray => {
                    Some(Decoder::ID)
                }
                // Addresses of processes stay numbers: no map says whose they are.
                MapType::StackTrace => Some(Decoder::KSTACK),
                _ => None,
            },
        };
        Ok(Self {
            id: info.id,
            ty,
            type_number: info.type_,
            name: facts.name.clone(),
            key_size: facts.key_size,
            value_size: facts.value_size,
            max_entries: facts.max_entries,
            facts,
            flags: info.map_flags,
            elements,
            files: RefCell::default(),
        })
    }

    /// `hash`, or the number of a type that libbpf does not know.
    pub(crate) fn type_name(&self) -> String {
        name_of_type(self.type_number)
    }

    /// As messages call it: "`counts` (id 42)".
    pub(crate) fn title(&self) -> String {
        format!("`{}` (id {})", self.name, self.id)
    }

    /// Whether each possible CPU has a value of its own.
    pub(crate) fn is_per_cpu(&self) -> bool {
        self.elements.is_per_cpu()
    }

    /// How many values an entry has: one, or one a possible CPU.
    pub(crate) fn value_count(&self) -> usize {
        self.elements.value_count()
    }

    /// How much memory it takes, in bytes, where the kernel tells.
    pub(crate) fn memlock(&self) -> Option<u64> {
        MapFdInfo::from_fd(self.fd()).ok()?.memlock
    }

    pub(crate) fn is_frozen(&self) -> bool {
        MapFdInfo::from_fd(self.fd()).is_ok_and(|info| info.frozen == Some(true))
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.elements.as_fd()
    }

    /// How many bytes the kernel copies for one value: of a per-CPU map, one
    /// value a possible CPU, each rounded up to 8 bytes.
    fn buffer_size(&self) -> usize {
        self.value_stride() * self.value_count()
    }

    fn value_stride(&self) -> usize {
        self.elements.value_stride()
    }

    /// The values in what was copied for one entry: one, or one a possible CPU.
    pub fn values<'a>(&self, buffer: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let size = self.value_size;
        buffer
            .chunks(self.value_stride().max(1))
            .map(move |value| &value[..size])
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd()
    }
}
