//! Values that are file descriptors. The kernel takes a descriptor of the caller,
//! and shows an id instead, if anything. A user writes that id as well.

use std::borrow::Cow;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use libbpf_rs::MapType;

use super::errors::Operation;
use super::owner::open_cgroup;
use super::{Access, Map, MapRef};
use crate::error::not_found;
use crate::sys;

/// What a value holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FdValue {
    /// A map, by its id.
    Map,
    /// A program, by its id.
    Program,
    /// A cgroup, which is not shown.
    Cgroup,
    /// An interface or a size, and a program for it, or 0.
    NumberAndProgram,
    /// What only the process has that opened it.
    Private(&'static str),
}

impl Map {
    /// `None` where values are what their bytes say.
    pub(super) fn fd_value(&self) -> Option<FdValue> {
        Some(match self.ty {
            MapType::ArrayOfMaps | MapType::HashOfMaps => FdValue::Map,
            MapType::ProgArray => FdValue::Program,
            MapType::CgroupArray => FdValue::Cgroup,
            MapType::Devmap | MapType::DevmapHash | MapType::Cpumap if self.value_size == 8 => {
                FdValue::NumberAndProgram
            }
            MapType::PerfEventArray => FdValue::Private("perf events"),
            MapType::Xskmap
            | MapType::Sockmap
            | MapType::Sockhash
            | MapType::ReuseportSockarray => FdValue::Private("sockets"),
            _ => return None,
        })
    }

    /// A value as the kernel takes it, from one as it shows it, and what has to
    /// stay open until then.
    pub(super) fn with_descriptor<'v>(
        &self,
        value: &'v [u8],
    ) -> Result<(Cow<'v, [u8]>, Option<OwnedFd>)> {
        let at = match self.fd_value() {
            None => return Ok((value.into(), None)),
            Some(FdValue::NumberAndProgram) => 4,
            Some(_) => 0,
        };
        let Some(place) = value[at..].first_chunk() else {
            return Ok((value.into(), None));
        };
        let id = u32::from_ne_bytes(*place);
        if id == 0 && at != 0 {
            return Ok((value.into(), None));
        }
        let fd = self
            .open_fd_value(id)
            .with_context(|| format!("failed to update map {}", self.title()))?;
        let mut value = value.to_vec();
        value[at..at + 4].copy_from_slice(&fd.as_raw_fd().to_ne_bytes());
        Ok((value.into(), Some(fd)))
    }

    /// Whether there is what a value is to hold.
    pub(crate) fn check_fd_value(&self, value: &[u8]) -> Result<()> {
        self.with_descriptor(value).map(drop)
    }

    /// Puts what is open already, a map or a program, into an entry.
    pub(crate) fn put(&self, key: &[u8], held: BorrowedFd<'_>) -> Result<()> {
        let fd = held.as_raw_fd().to_ne_bytes();
        let put = self.elements.update(Some(key), &fd, 0);
        put.map_err(|error| self.refused(Operation::Update, &error))
    }

    fn open_fd_value(&self, id: u32) -> Result<OwnedFd> {
        match self.fd_value() {
            Some(FdValue::Map) => Ok(MapRef::Id(id).open_alone(Access::Write)?.elements.into_fd()),
            Some(FdValue::Cgroup) => open_cgroup(id.into()),
            Some(FdValue::Private(what)) => bail!(
                "it is of type {}, and holds {what}: only the process that has one open can put it there",
                self.type_name()
            ),
            _ => match sys::program::open_id(id) {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    Err(not_found(format!("there is no program with id {id}")))
                }
                opened => opened.with_context(|| format!("failed to open program {id}")),
            },
        }
    }

    /// Why the kernel does not take what a value holds.
    pub(super) fn mismatch(&self) -> Option<&'static str> {
        Some(match self.ty {
            MapType::ArrayOfMaps | MapType::HashOfMaps => {
                "that map differs from those that it holds: in its type, sizes or flags"
            }
            MapType::ProgArray => {
                "that program differs from those that use it: in its type, or in what it attaches to"
            }
            MapType::Devmap | MapType::DevmapHash => {
                "there is no such interface, or the program is not of its kind"
            }
            MapType::Cpumap => "the program is not of its kind",
            _ => return None,
        })
    }
}
