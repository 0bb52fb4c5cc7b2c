//! Complete reads: every entry that exists during the whole read, once; or the
//! reason why not. Memory is bounded by the batch, not by the map.

use std::collections::HashSet;
use std::io;
use std::ops::ControlFlow;

use anyhow::{Context, Result, anyhow};
use libbpf_rs::MapType;

use super::Map;
use super::errors::ENOTSUPP;

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
        let (key_size, value_size) = (self.map.key_size, self.map.buffer_size());
        // A hash map's token is a bucket's number, whatever the size of a key.
        let mut token = vec![0; key_size.max(8)];
        let mut next = token.clone();
        let mut first = true;
        let mut capacity = self.batch;
        let mut keys = vec![0; capacity * key_size];
        let mut values = vec![0; capacity * value_size];
        let mut retries = 0;
        loop {
            let batch = self.map.elements.lookup_batch(
                (!first).then_some(&mut token),
                &mut next,
                &mut keys,
                &mut values,
                u32::try_from(capacity)?,
            );
            let errno = batch
                .result
                .as_ref()
                .err()
                .and_then(io::Error::raw_os_error);
            let entries = keys
                .chunks(key_size.max(1))
                .zip(values.chunks(value_size.max(1)));
            for (key, value) in entries.take(batch.count) {
                if entry(key, value).is_break() {
                    return Ok(Some(Outcome::Stopped));
                }
            }
            match errno {
                None => {
                    std::mem::swap(&mut token, &mut next);
                    first = false;
                    retries = 0;
                }
                Some(libc::ENOENT) => return Ok(Some(Outcome::Complete)),
                // The next bucket alone is larger than the batch: it can be as
                // large as the map.
                Some(libc::ENOSPC) if capacity < self.map.max_entries as usize => {
                    capacity = (capacity * 2).min(self.map.max_entries as usize);
                    keys.resize(capacity * key_size, 0);
                    values.resize(capacity * value_size, 0);
                }
                Some(libc::EINTR | libc::EBUSY | libc::EAGAIN) if retries < MOST_RETRIES => {
                    retries += 1;
                }
                Some(libc::EINTR | libc::EBUSY | libc::EAGAIN) => {
                    let why = format!("the map stayed busy over {MOST_RETRIES} attempts");
                    return Ok(Some(Outcome::Incomplete(why)));
                }
                Some(libc::EINVAL | ENOTSUPP | libc::EOPNOTSUPP) if first => return Ok(None),
                Some(_) => batch.result.context("failed to read a batch of a map")?,
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
            match self.map.elements.next_key(key.as_deref(), &mut next) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    return Ok(Outcome::Complete);
                }
                Err(error) => return Err(self.refused(error, "failed to walk the keys of a map")),
            }
            if !restarts || seen.insert(next.clone()) {
                match self.map.elements.lookup(Some(&next), &mut value) {
                    Ok(()) if entry(&next, &value).is_break() => return Ok(Outcome::Stopped),
                    Ok(()) => {}
                    // Deleted since: it was not there all along.
                    Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                    Err(error) => {
                        return Err(self.refused(error, "failed to look up a key of a map"));
                    }
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
