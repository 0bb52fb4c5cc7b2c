//! What the types of maps allow user space: decided here, for every verb.

use anyhow::{Result, bail, ensure};
use libbpf_rs::MapType;

use super::fd_values::FdValue;
use super::{Map, flag_bit};
use crate::host;

impl Map {
    /// Whether its entries can be walked and read; an error says why not.
    pub(crate) fn check_readable(&self) -> Result<()> {
        self.check_keys()?;
        self.refuse(self.without_values().as_deref())
    }

    /// Whether user space can name its keys; an error says what works instead.
    pub(crate) fn check_keys(&self) -> Result<()> {
        self.refuse(self.without_keys())
    }

    /// Whether the kernel tells which key comes after another.
    pub(super) fn check_walkable(&self) -> Result<()> {
        let why = "which has no order of keys: `dump` is for it";
        self.refuse(self.owner().map(|_| why))
    }

    /// Whether a `syscall` program may change its values. The kernel would let it
    /// write to a frozen map as well, but to freeze a map means that it no longer
    /// changes.
    pub(crate) fn check_in_place(&self) -> Result<()> {
        ensure!(
            matches!(
                self.ty,
                MapType::Hash
                    | MapType::LruHash
                    | MapType::PercpuHash
                    | MapType::LruPercpuHash
                    | MapType::Array
                    | MapType::PercpuArray
            ),
            "the kernel changes no values of maps of type {} in place",
            self.type_name()
        );
        for flag in ["rdonly_prog", "wronly_prog"] {
            ensure!(
                self.flags & flag_bit(flag) == 0,
                "it was created with the flag {flag}, which forbids it to programs"
            );
        }
        ensure!(
            !self.is_frozen(),
            "it is frozen: user space can only read it"
        );
        let (major, minor) = host::SYSCALL_PROGRAMS;
        ensure!(
            host::kernel_version(&host::kernel_release()) >= (major, minor),
            "needs Linux {major}.{minor}, for programs that a system call runs"
        );
        Ok(())
    }

    /// Whether its entries can be put back when they are gone from the kernel.
    pub(crate) fn check_saves(&self) -> Result<()> {
        self.check_readable()?;
        let is_refused = self.holds_maps() || self.owner().is_some();
        self.refuse(is_refused.then_some("which cannot be saved"))
    }

    /// Whether it hands out its values in turn.
    pub(crate) fn check_queue(&self) -> Result<()> {
        if matches!(self.ty, MapType::Queue | MapType::Stack) {
            return Ok(());
        }
        let has_keys = "which has keys: `lookup`, `update` and `delete` are for it";
        self.refuse(self.without_keys().or(Some(has_keys)))
    }

    /// Whether values are added to it without a key.
    pub(crate) fn check_pushes(&self) -> Result<()> {
        if self.is_bloom_filter() {
            return Ok(());
        }
        self.check_queue()
    }

    fn refuse(&self, why: Option<&str>) -> Result<()> {
        why.map_or(Ok(()), |why| bail!(self.is_of_a_type(why)))
    }

    pub(super) fn is_of_a_type(&self, why: &str) -> String {
        format!(
            "map {} is of type {}, {why}",
            self.title(),
            self.type_name()
        )
    }

    fn without_keys(&self) -> Option<&'static str> {
        Some(match self.ty {
            MapType::Queue | MapType::Stack => {
                "which has no keys: `push`, `pop` and `peek` are for it"
            }
            MapType::BloomFilter => {
                "which has no keys: `push` adds a value, and `peek MAP VALUE` asks for one"
            }
            MapType::RingBuf => {
                "which has no keys: what programs send goes to the process that listens"
            }
            MapType::UserRingBuf => {
                "which has no keys: what a process sends goes to the programs that listen"
            }
            _ => match self.type_name().as_str() {
                "arena" => "which has no keys: it is memory that processes and programs share",
                _ => return None,
            },
        })
    }

    fn without_values(&self) -> Option<String> {
        let held = match self.ty {
            MapType::PerfEventArray => "perf events",
            MapType::CgroupArray => "groups",
            MapType::Xskmap => "sockets",
            MapType::Sockmap | MapType::Sockhash | MapType::ReuseportSockarray
                if self.value_size < 8 =>
            {
                return Some(format!(
                    "which shows sockets by cookies of 8 bytes, and has values of {}: it cannot be read",
                    self.value_size
                ));
            }
            _ => return None,
        };
        Some(format!(
            "which cannot be read: the kernel shows none of the {held} in it"
        ))
    }

    /// Whether its values are other maps, by their ids.
    pub(crate) fn holds_maps(&self) -> bool {
        self.fd_value() == Some(FdValue::Map)
    }

    /// Whether an update replaces a value, rather than writing it in place.
    pub(crate) fn is_hash(&self) -> bool {
        matches!(self.ty, MapType::Hash | MapType::LruHash)
    }

    /// Whether it only tells what it may hold.
    pub(crate) fn is_bloom_filter(&self) -> bool {
        self.ty == MapType::BloomFilter
    }

    /// Whether its keys are the numbers from 0 on, used or not.
    pub(crate) fn is_indexed(&self) -> bool {
        self.is_array()
            || matches!(
                self.ty,
                MapType::Devmap
                    | MapType::Cpumap
                    | MapType::Xskmap
                    | MapType::Sockmap
                    | MapType::ReuseportSockarray
            )
    }

    /// How many rows it has room for; `None` of an array, which always has all of them.
    pub(crate) fn max_rows(&self) -> Option<u32> {
        (!self.is_array()).then_some(self.max_entries)
    }

    /// Whether every index of it is used, from the start.
    pub(crate) fn is_array(&self) -> bool {
        matches!(
            self.ty,
            MapType::Array
                | MapType::PercpuArray
                | MapType::ArrayOfMaps
                | MapType::ProgArray
                | MapType::PerfEventArray
                | MapType::CgroupArray
        )
    }

    /// Whether the kernel says that it deleted what was not there.
    pub(super) fn deletes_blindly(&self) -> bool {
        matches!(self.ty, MapType::Devmap | MapType::Cpumap)
    }
}
