//! Complete reads: every entry that exists during the whole read, once; or the
//! reason why not. Memory is bounded by the batch, not by the map.

use std::collections::HashSet;
use std::io;
use std::ops::ControlFlow;

use anyhow::{Context, Result, anyhow};
use libbpf_rs::MapType;

use super::Map;
use super::errors::ENOTSUPP;
use crate::sys::{self, map::Batch};

/// How often a busy map is asked again before the reading fails.
const MOST_RETRIES: u32 = 1000;
/// What a batch holds, if nothing else is asked for.
const BATCH_BYTES: usize = 256 << 10;
const BATCH_ENTRIES: usize = 1024;

/// How a reading ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every entry that existed during the whole read was seen, once.
    Complete,
    /// The reader gave up, and why.
    Incomplete(String),
    /// The receiver of the entries stopped the reading.
    Stopped,
}

/// Reads all entries of a map.
#[derive(Debug)]
pub struct Reader<'m> {
    map: &'m Map,
    batch: usize,
    most_steps: usize,
}

impl<'m> Reader<'m> {
    /// With batches of a size that fits the map.
    pub fn new(map: &'m Map) -> Self {
        let entry = map.key_size + map.buffer_size();
        let batch = (BATCH_BYTES / entry.max(1)).clamp(1, BATCH_ENTRIES);
        Self {
            map,
            batch,
            most_steps: (map.max_entries as usize).saturating_mul(4).max(1024),
        }
    }

    /// So many entries a batch, to begin with: it grows when the kernel has
    /// more of them under one hash than fit.
    pub fn with_batch(self, entries: usize) -> Self {
        Self {
            batch: entries.max(1),
            ..self
        }
    }

    /// Where keys are walked one by one, so many at most: of an array, also
    /// those that have nothing.
    pub(crate) fn with_most_steps(self, most_steps: usize) -> Self {
        Self { most_steps, ..self }
    }

    /// Hands out every entry: its key, and what [`Map::values`] takes apart.
    pub fn read(&self, mut entry: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>) -> Result<Outcome> {
        self.map.check_readable()?;
        if let Some(owner) = self.map.owner() {
            return self.map.read_owners(owner, &mut entry);
        }
        // Batches of a trie start over when the key where they stand is deleted.
        if self.map.ty != MapType::LpmTrie
            && let Some(outcome) = self.read_batches(&mut entry)?
        {
            return Ok(outcome);
        }
        self.read_keys(&mut entry)
    }

    /// `None` where the kernel knows no batches of this type of map.
    fn read_batches(
        &self,
        entry: &mut impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<Option<Outcome>> {
        let mut batches = Batches::new(self.map, self.batch);
        let mut retries = 0;
        loop {
            let batch = batches.read()?;
            for (key, value) in batches.entries().take(batch.count) {
                if entry(key, value).is_break() {
                    return Ok(Some(Outcome::Stopped));
                }
            }
            let Err(error) = batch.result else {
                batches.go_on();
                retries = 0;
                continue;
            };
            match error.raw_os_error() {
                Some(libc::ENOENT) => return Ok(Some(Outcome::Complete)),
                Some(libc::ENOSPC) if batches.grow() => {}
                Some(libc::EINTR | libc::EBUSY | libc::EAGAIN) if retries < MOST_RETRIES => {
                    retries += 1;
                }
                Some(libc::EINTR | libc::EBUSY | libc::EAGAIN) => {
                    let why = format!("the map stayed busy over {MOST_RETRIES} attempts");
                    return Ok(Some(Outcome::Incomplete(why)));
                }
                Some(libc::EINVAL | ENOTSUPP | libc::EOPNOTSUPP) if batches.is_first => {
                    return Ok(None);
                }
                _ => return Err(error).context("failed to read a batch of a map"),
            }
        }
    }

    /// Key by key: two system calls an entry. A walk starts over when the key
    /// that it stood on is deleted, so keys are remembered, and steps counted.
    fn read_keys(
        &self,
        entry: &mut impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<Outcome> {
        let restarts = !matches!(self.map.ty, MapType::Array | MapType::PercpuArray);
        let most_steps = self.most_steps;
        let mut seen = HashSet::new();
        let mut key: Option<Vec<u8>> = None;
        let mut next = vec![0; self.map.key_size];
        let mut value = vec![0; self.map.buffer_size()];
        for _ in 0..most_steps {
            let found = sys::found(self.map.elements.next_key(key.as_deref(), &mut next));
            let found = found.map_err(|it| self.refused(it, "failed to walk the keys of a map"))?;
            if found.is_none() {
                return Ok(Outcome::Complete);
            }
            if !restarts || seen.insert(next.clone()) {
                let found = sys::found(self.map.elements.lookup(Some(&next), &mut value));
                let found =
                    found.map_err(|it| self.refused(it, "failed to look up a key of a map"));
                // What is not found was deleted since: it was not there all along.
                if found?.is_some() && entry(&next, &value).is_break() {
                    return Ok(Outcome::Stopped);
                }
            }
            key = Some(next.clone());
        }
        Ok(Outcome::Incomplete(format!(
            "keys changed faster than they could be walked ({most_steps} steps)"
        )))
    }

    /// Errors name the types that user space cannot read.
    fn refused(&self, error: io::Error, what: &'static str) -> anyhow::Error {
        match error.raw_os_error() {
            Some(ENOTSUPP | libc::EOPNOTSUPP | libc::EINVAL) => {
                anyhow!("maps of type {} cannot be read", self.map.type_name())
            }
            _ => anyhow!(error).context(what),
        }
    }

    /// For tests: the walk that serves maps without batches.
    #[doc(hidden)]
    pub fn read_by_keys(
        &self,
        mut entry: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<Outcome> {
        self.read_keys(&mut entry)
    }
}

/// The buffers of batches, and where the next one starts.
struct Batches<'m> {
    map: &'m Map,
    token: Vec<u8>,
    next: Vec<u8>,
    is_first: bool,
    capacity: usize,
    keys: Vec<u8>,
    values: Vec<u8>,
}

impl<'m> Batches<'m> {
    fn new(map: &'m Map, capacity: usize) -> Self {
        // A hash map's token is a bucket's number, whatever the size of a key.
        let token = vec![0; map.key_size.max(8)];
        Self {
            map,
            next: token.clone(),
            token,
            is_first: true,
            capacity,
            keys: vec![0; capacity * map.key_size],
            values: vec![0; capacity * map.buffer_size()],
        }
    }

    fn read(&mut self) -> Result<Batch> {
        Ok(self.map.elements.lookup_batch(
            (!self.is_first).then_some(&mut self.token),
            &mut self.next,
            &mut self.keys,
            &mut self.values,
            u32::try_from(self.capacity)?,
        ))
    }

    fn entries(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let keys = self.keys.chunks(self.map.key_size.max(1));
        keys.zip(self.values.chunks(self.map.buffer_size().max(1)))
    }

    fn go_on(&mut self) {
        std::mem::swap(&mut self.token, &mut self.next);
        self.is_first = false;
    }

    /// The next bucket alone is larger than the batch: it can be as large as the
    /// map, but not larger.
    fn grow(&mut self) -> bool {
        let most = self.map.max_entries as usize;
        let can_grow = self.capacity < most;
        if can_grow {
            self.capacity = (self.capacity * 2).min(most);
            self.keys.resize(self.capacity * self.map.key_size, 0);
            self.values
                .resize(self.capacity * self.map.buffer_size(), 0);
        }
        can_grow
    }
}
