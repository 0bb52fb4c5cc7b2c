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
        let (kind, max) = (self.type_name(), self.max_entries);
        Some(match (errno, operation) {
            (libc::E2BIG, Operation::Update | Operation::Push) if self.is_array() => {
                format!("there is no such index: it has {max}, from 0 on")
            }
            (libc::E2BIG, Operation::Update | Operation::Push) => {
                format!("it is full: {max} of {max} entries are used")
            }
            (libc::EEXIST, _) if self.is_array() => {
                "every index of an array exists; leave out --noexist".to_owned()
            }
            (libc::EEXIST, _) => "the key is there already".to_owned(),
            (libc::ENOENT, Operation::Pop | Operation::Peek) => "it is empty".to_owned(),
            (libc::ENOENT, _) => "there is no such key".to_owned(),
            (libc::EPERM | libc::EACCES | libc::EBUSY, Operation::Freeze) if self.is_frozen() => {
                "it is frozen already".to_owned()
            }
            (libc::EPERM | libc::EACCES, Operation::Update | Operation::Delete | Operation::Push | Operation::Pop)
                if self.is_frozen() =>
            {
                "it is frozen: user space can only read it".to_owned()
            }
            (libc::EPERM | libc::EACCES, _) if self.flags & libbpf_sys::BPF_F_RDONLY != 0 => {
                "it was created read-only for user space".to_owned()
            }
            (libc::EPERM | libc::EACCES, _) if self.flags & libbpf_sys::BPF_F_WRONLY != 0 => {
                "it was created write-only for user space".to_owned()
            }
            (libc::EPERM | libc::EACCES, _) => host::advice(errno),
            (libc::EBUSY, Operation::Freeze) => {
                "a process has it mapped into memory to write to it".to_owned()
            }
            (libc::EBUSY, _) => "it is busy; try again".to_owned(),
            (libc::EBADF, Operation::Update | Operation::Delete) if self.is_of_files() => {
                "the kernel keeps storage of files with the BPF LSM alone: add bpf to lsm= of its command line".to_owned()
            }
            (libc::EINVAL, Operation::Delete) if self.is_array() => {
                "entries of an array cannot be deleted; write zeroes".to_owned()
            }
            (ENOTSUPP, Operation::Freeze) if self.ty != MapType::StructOps => {
                "there is a bpf_spin_lock, a bpf_timer or the like in its values".to_owned()
            }
            (libc::EINVAL, Operation::Update) if self.mismatch().is_some() => self.mismatch()?.to_owned(),
            (ENOTSUPP | libc::EOPNOTSUPP | libc::EINVAL, _) => {
                format!("maps of type {kind} do not allow it")
            }
            (libc::ENOMEM, _) => "out of memory".to_owned(),
            _ => return None,
        })
    }
}
