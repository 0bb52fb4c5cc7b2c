//! Errors of calls on maps: what failed, why, and what helps.

use std::fmt;
use std::io;

use anyhow::anyhow;
use libbpf_rs::{MapType, libbpf_sys};

use super::Map;
use crate::error::not_found;
use crate::host;

/// The kernel's `ENOTSUPP`, which user space has no name for.
pub(super) const ENOTSUPP: i32 = 524;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Lookup,
    Update,
    Delete,
    NextKey,
    Push,
    Pop,
    Peek,
    Freeze,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lookup => "look up a key in",
            Self::Update => "update",
            Self::Delete => "delete from",
            Self::NextKey => "walk the keys of",
            Self::Push => "push to",
            Self::Pop => "pop from",
            Self::Peek => "peek into",
            Self::Freeze => "freeze",
        })
    }
}

impl Map {
    pub(super) fn refused(&self, operation: Operation, error: &io::Error) -> anyhow::Error {
        let reason = self.reason(operation, error.raw_os_error().unwrap_or(0));
        let reason = reason.unwrap_or_else(|| error.to_string());
        let message = format!("failed to {operation} map {}: {reason}", self.title());
        match error.raw_os_error() {
            Some(libc::ENOENT) => not_found(message),
            _ => anyhow!("{message}"),
        }
    }

    fn reason(&self, operation: Operation, errno: i32) -> Option<String> {
        use Operation::{Delete, Freeze, Peek, Pop, Push, Update};
        let max = self.max_entries;
        let known = match (errno, operation) {
            (libc::E2BIG, Update | Push) if self.is_array() => {
                return Some(format!("there is no such index: it has {max}, from 0 on"));
            }
            (libc::E2BIG, Update | Push) => {
                return Some(format!("it is full: {max} of {max} entries are used"));
            }
            (libc::EEXIST, _) if self.is_array() => {
                "every index of an array exists; leave out --noexist"
            }
            (libc::EEXIST, _) => "the key is there already",
            (libc::ENOENT, Pop | Peek) => "it is empty",
            (libc::ENOENT, _) => "there is no such key",
            (libc::EBUSY, Freeze) if self.is_frozen() => FROZEN_ALREADY,
            (libc::EBUSY, Freeze) => "a process has it mapped into memory to write to it",
            (libc::EBUSY, _) => "it is busy; try again",
            (libc::EPERM | libc::EACCES, _) => return Some(self.forbidden(operation, errno)),
            (libc::EBADF, Update | Delete) if self.is_of_files() => {
                "the kernel keeps storage of files with the BPF LSM alone: add bpf to lsm= of its command line"
            }
            (libc::EINVAL, Delete) if self.is_array() => {
                "entries of an array cannot be deleted; write zeroes"
            }
            (ENOTSUPP, Freeze) if self.ty != MapType::StructOps => {
                "there is a bpf_spin_lock, a bpf_timer or the like in its values"
            }
            (libc::EINVAL, Update) if self.mismatch().is_some() => self.mismatch()?,
            (ENOTSUPP | libc::EOPNOTSUPP | libc::EINVAL, _) => {
                return Some(format!("maps of type {} do not allow it", self.type_name()));
            }
            (libc::ENOMEM, _) => "out of memory",
            _ => return None,
        };
        Some(known.to_owned())
    }

    /// Why the kernel permits no such operation.
    fn forbidden(&self, operation: Operation, errno: i32) -> String {
        use Operation::{Delete, Freeze, Pop, Push, Update};
        match operation {
            Freeze if self.is_frozen() => FROZEN_ALREADY.to_owned(),
            Update | Delete | Push | Pop if self.is_frozen() => {
                "it is frozen: user space can only read it".to_owned()
            }
            _ if self.flags & libbpf_sys::BPF_F_RDONLY != 0 => {
                "it was created read-only for user space".to_owned()
            }
            _ if self.flags & libbpf_sys::BPF_F_WRONLY != 0 => {
                "it was created write-only for user space".to_owned()
            }
            _ => host::advice(errno),
        }
    }
}

const FROZEN_ALREADY: &str = "it is frozen already";
