//! Complete reads: every entry that exists during the whole read, once; or the
//! reason why not. Memory is bounded by the batch, not by the map.

use std::collections::HashSet;
use std::io;
use std::ops::ControlFlow;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use libbpf_rs::MapType;

use super::Map;
use super::errors::ENOTSUPP;
use crate::sys::{
    self,
    map::{Batch, Elements},
};

/// How often a busy map is asked again before the reading fails.
const MOST_RETRIES: u32 = 1000;
/// What a batch holds, if nothing else is asked for.
const BATCH_BYTES: usize = 256 << 10;
const BATCH_ENTRIES: usize = 1024;
/// So many batches wait at most, so that neither thread waits for the other each time.
const BATCHES_AHEAD: usize = 8;

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
    ahead: bool,
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
            ahead: false,
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

    /// In another thread, some batches ahead, if there is another CPU: for a receiver
    /// that takes its time. Values that fill a batch alone would need too much memory.
    pub(crate) fn ahead(self) -> Self {
        let cpus = thread::available_parallelism();
        let has_others = cpus.is_ok_and(|cpus| cpus.get() > 1);
        Self {
            ahead: has_others && self.batch > 1,
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
    fn read_batches(&self, entry: Entry<'_>) -> Result<Option<Outcome>> {
        let mut batches = Batches::new(self.map, self.batch);
        let mut buffers = Buffers::default();
        loop {
            let Some(filled) = batches.fill(&mut buffers)? else {
                return Ok(None);
            };
            if let Some(outcome) = buffers.hand_out(self.map, filled, entry) {
                return Ok(Some(outcome));
            }
            if self.ahead {
                return self.read_ahead(batches, buffers, entry).map(Some);
            }
        }
    }

    /// The next batches are read while this one is handed out.
    fn read_ahead(
        &self,
        mut batches: Batches<'_>,
        first: Buffers,
        entry: Entry<'_>,
    ) -> Result<Outcome> {
        let (full, filled) = mpsc::channel();
        let (empty, free) = mpsc::channel();
        empty.send(first)?;
        for _ in 1..BATCHES_AHEAD {
            empty.send(Buffers::default())?;
        }
        // The channels end with this closure, and with them the thread.
        thread::scope(move |scope| {
            let thread = thread::Builder::new().name("ktally-ahead".to_owned());
            let started = thread.spawn_scoped(scope, move || {
                for mut buffers in free {
                    let filled = batches.fill(&mut buffers);
                    let is_last = !matches!(filled, Ok(Some((_, None))));
                    if full.send((buffers, filled)).is_err() || is_last {
                        break;
                    }
                }
            });
            started.context("failed to start a thread that reads the map")?;
            for (buffers, filled) in filled {
                let filled = filled?.context("the kernel knows no batches of this map any more")?;
                if let Some(outcome) = buffers.hand_out(self.map, filled, entry) {
                    return Ok(outcome);
                }
                // It has ended where it sent its last batch.
                let _ = empty.send(buffers);
            }
            bail!("the thread that reads the map has ended")
        })
    }

    /// Key by key: two system calls an entry. A walk starts over when the key
    /// that it stood on is deleted, so keys are remembered, and steps counted.
    fn read_keys(&self, entry: Entry<'_>) -> Result<Outcome> {
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

/// Receives the entries.
pub(super) type Entry<'e> = &'e mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// How many entries a batch has; and how the reading ended, if it is the last one.
type Filled = (usize, Option<Outcome>);

/// The entries of a batch, and room for more.
#[derive(Default)]
struct Buffers {
    keys: Vec<u8>,
    values: Vec<u8>,
}

impl Buffers {
    fn hand_out(&self, map: &Map, (count, end): Filled, entry: Entry<'_>) -> Option<Outcome> {
        let keys = self.keys.chunks(map.key_size.max(1));
        let entries = keys.zip(self.values.chunks(map.buffer_size().max(1)));
        for (key, value) in entries.take(count) {
            if entry(key, value).is_break() {
                return Some(Outcome::Stopped);
            }
        }
        end
    }
}

/// Where the next batch starts, and how large it is.
struct Batches<'m> {
    elements: &'m Elements,
    key_size: usize,
    buffer_size: usize,
    most: usize,
    token: Vec<u8>,
    next: Vec<u8>,
    is_first: bool,
    capacity: usize,
}

impl<'m> Batches<'m> {
    fn new(map: &'m Map, capacity: usize) -> Self {
        // A hash map's token is a bucket's number, whatever the size of a key.
        let token = vec![0; map.key_size.max(8)];
        Self {
            elements: &map.elements,
            key_size: map.key_size,
            buffer_size: map.buffer_size(),
            most: map.max_entries as usize,
            next: token.clone(),
            token,
            is_first: true,
            capacity,
        }
    }

    /// The next batch. `None` where the kernel knows no batches of this type of map.
    fn fill(&mut self, buffers: &mut Buffers) -> Result<Option<Filled>> {
        let mut retries = 0;
        loop {
            let Batch { count, result } = self.read(buffers)?;
            let Err(error) = result else {
                std::mem::swap(&mut self.token, &mut self.next);
                self.is_first = false;
                return Ok(Some((count, None)));
            };
            match error.raw_os_error() {
                Some(libc::ENOENT) => return Ok(Some((count, Some(Outcome::Complete)))),
                Some(libc::ENOSPC) if self.grow() => {}
                Some(libc::EINTR | libc::EBUSY | libc::EAGAIN) if retries < MOST_RETRIES => {
                    retries += 1;
                }
                Some(libc::EINTR | libc::EBUSY | libc::EAGAIN) => {
                    let why = format!("the map stayed busy over {MOST_RETRIES} attempts");
                    return Ok(Some((0, Some(Outcome::Incomplete(why)))));
                }
                Some(libc::EINVAL | ENOTSUPP | libc::EOPNOTSUPP) if self.is_first => {
                    return Ok(None);
                }
                _ => return Err(error).context("failed to read a batch of a map"),
            }
        }
    }

    fn read(&mut self, buffers: &mut Buffers) -> Result<Batch> {
        let Buffers { keys, values } = buffers;
        keys.resize(self.capacity * self.key_size, 0);
        values.resize(self.capacity * self.buffer_size, 0);
        Ok(self.elements.lookup_batch(
            (!self.is_first).then_some(&mut self.token),
            &mut self.next,
            keys,
            values,
            u32::try_from(self.capacity)?,
        ))
    }

    /// The next bucket alone is larger than the batch: it can be as large as the
    /// map, but not larger.
    fn grow(&mut self) -> bool {
        let can_grow = self.capacity < self.most;
        if can_grow {
            self.capacity = (self.capacity * 2).min(self.most);
        }
        can_grow
    }
}
