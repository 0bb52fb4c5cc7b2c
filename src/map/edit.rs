//! What user space does through a file descriptor: it reads and writes copies.

use std::io;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use libbpf_rs::{MapFlags, MapType};

use super::errors::Operation;
use super::{Access, Map, MapRef};
use crate::sys;

impl Map {
    /// What the kernel copied for this key, for [`Map::values`] to take apart;
    /// `None` where there is no such key.
    pub fn lookup(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let (key, _owner) = self.with_owner(key)?;
        self.check_key(&key)?;
        self.check_readable()?;
        let mut buffer = vec![0; self.buffer_size()];
        let found = sys::found(self.elements.lookup(Some(&key), &mut buffer));
        let found = found.map_err(|error| self.refused(Operation::Lookup, &error))?;
        Ok(found.map(|()| buffer))
    }

    /// Overwrites the value of a key: all of it, on every CPU.
    pub fn update(&self, key: &[u8], buffer: &[u8], flags: MapFlags) -> Result<()> {
        let (key, _owner) = self.with_owner(key)?;
        self.check_key(&key)?;
        self.check_value(buffer)?;
        let (value, _held) = self.with_descriptor(buffer)?;
        let updated = self.elements.update(Some(&key), &value, flags.bits());
        updated.map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL) if flags.contains(MapFlags::LOCK) => anyhow!(
                "failed to update map {}: there is no bpf_spin_lock in its values",
                self.title()
            ),
            _ => self.refused(Operation::Update, &error),
        })
    }

    /// Whether the key was there.
    pub fn delete(&self, key: &[u8]) -> Result<bool> {
        // The kernel says of these that whatever is not there was deleted.
        let was_there = !self.deletes_blindly() || self.lookup(key)?.is_some();
        let (key, _owner) = self.with_owner(key)?;
        self.check_key(&key)?;
        match self.elements.delete(&key) {
            Ok(()) => Ok(was_there),
            Err(error) => match (error.raw_os_error(), self.ty) {
                (Some(libc::ENOENT), _) | (Some(libc::EINVAL), MapType::Sockmap) => Ok(false),
                _ => Err(self.refused(Operation::Delete, &error)),
            },
        }
    }

    /// The key after this one, or the first; `None` at the end. After a key that
    /// is not there comes the first.
    pub fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
        self.check_walkable()?;
        key.map_or(Ok(()), |key| self.check_key(key))?;
        let mut next = vec![0; self.key_size];
        let found = sys::found(self.elements.next_key(key, &mut next));
        let found = found.map_err(|error| self.refused(Operation::NextKey, &error))?;
        Ok(found.map(|()| next))
    }

    /// Adds a value to a queue or a stack; to one that is full, in place of the
    /// oldest, if `replace` says so.
    pub(crate) fn push(&self, value: &[u8], replace: bool) -> Result<()> {
        self.check_pushes()?;
        self.check_value(value)?;
        let flags = if replace {
            MapFlags::EXIST
        } else {
            MapFlags::ANY
        };
        let pushed = self.elements.update(None, value, flags.bits());
        pushed.map_err(|error| self.refused(Operation::Push, &error))
    }

    /// Whether a bloom filter may hold a value; what it has not is never there.
    pub(crate) fn may_hold(&self, value: &[u8]) -> Result<bool> {
        self.check_pushes()?;
        self.check_value(value)?;
        let found = sys::found(self.elements.lookup(None, &mut value.to_vec()));
        let found = found.map_err(|error| self.refused(Operation::Peek, &error))?;
        Ok(found.is_some())
    }

    /// The value whose turn it is, which stays.
    pub(crate) fn peek(&self) -> Result<Vec<u8>> {
        self.without_key(Operation::Peek, |value| self.elements.lookup(None, value))
    }

    /// Takes the value whose turn it is.
    pub(crate) fn pop(&self) -> Result<Vec<u8>> {
        self.without_key(Operation::Pop, |value| self.elements.pop(value))
    }

    fn without_key(
        &self,
        operation: Operation,
        call: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> Result<Vec<u8>> {
        self.check_queue()?;
        let mut value = vec![0; self.value_size];
        call(&mut value).map_err(|error| self.refused(operation, &error))?;
        Ok(value)
    }

    /// From now on user space can only read it; programs go on.
    pub(crate) fn freeze(&self) -> Result<()> {
        sys::map::freeze(self.fd()).map_err(|error| self.refused(Operation::Freeze, &error))
    }

    /// Keeps it in bpffs, where it outlives its holders.
    pub(crate) fn pin(&self, path: &Path) -> Result<()> {
        sys::map::pin(self.fd(), path).map_err(|error| {
            let shown = path.display();
            match error.raw_os_error() {
                Some(libc::EEXIST) => anyhow!("failed to pin to `{shown}`: something is there"),
                Some(libc::EPERM) => anyhow!(
                    "failed to pin to `{shown}`: only files of a bpffs can be pins, like those under {}",
                    crate::host::BPFFS
                ),
                _ => anyhow!(error).context(format!("failed to pin to `{shown}`")),
            }
        })
    }

    /// One value for every CPU, as the kernel wants it.
    pub(crate) fn value_buffer<'v>(&self, values: impl IntoIterator<Item = &'v [u8]>) -> Vec<u8> {
        let mut buffer = vec![0; self.buffer_size()];
        for (place, value) in buffer.chunks_mut(self.value_stride().max(1)).zip(values) {
            place[..value.len()].copy_from_slice(value);
        }
        buffer
    }

    fn check_key(&self, key: &[u8]) -> Result<()> {
        self.check_keys()?;
        self.check_size("key", key, self.key_size)
    }

    fn check_value(&self, value: &[u8]) -> Result<()> {
        self.check_size("value", value, self.buffer_size())
    }

    fn check_size(&self, what: &str, bytes: &[u8], size: usize) -> Result<()> {
        let len = bytes.len();
        ensure!(
            len == size,
            "a {what} of map {} has {size} bytes, not {len}",
            self.title()
        );
        Ok(())
    }
}

impl Map {
    /// The map of this id that a map of maps holds.
    pub(crate) fn inner(&self, buffer: &[u8]) -> Result<Map> {
        let id = buffer.first_chunk().map_or(0, |id| u32::from_ne_bytes(*id));
        MapRef::Id(id)
            .open_alone(Access::Read)
            .with_context(|| format!("inside of map {}", self.title()))
    }
}
