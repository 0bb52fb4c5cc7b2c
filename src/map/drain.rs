//! Takes numbers out of a map in place, in the kernel, without losing an
//! increment.

use std::cell::RefCell;
use std::collections::TryReserveError;
use std::ops::ControlFlow;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapCore, Object, RingBuffer, RingBufferBuilder};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use plain::Plain;

use super::{Map, Reader, helper};
use crate::internal::DRAIN;
use crate::internal::drain::types;
use crate::schema::Number;
use crate::sys::log;

/// `RECORDS` of `drain.bpf.c`, in bytes.
const RING_BYTES: usize = 1 << 24;
/// The kernel puts a header of this size before each record.
const RECORD_HEADER: usize = 8;
/// For the first lines of a table, which are kept to measure their columns.
const OUTPUT_BYTES: usize = 4 << 20;
const NO_MEMORY: &str = "out of memory";

// SAFETY: a C struct of integers without padding.
unsafe impl Plain for types::rodata {}

/// What was taken out of a map.
#[derive(Debug)]
pub struct Drained {
    /// Why numbers may be left in the map.
    pub incomplete: Option<String>,
    taken: Taken,
    numbers: Vec<Number>,
    key_size: usize,
    value_size: usize,
}

impl Drained {
    /// Calls `entry` once for each key, with a value that has the numbers taken,
    /// and zeroes elsewhere.
    pub fn each<E>(&self, mut entry: impl FnMut(&[u8], &[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut value = vec![0; self.value_size];
        let key = |at: &u32| &self.taken.record(*at)[..self.key_size];
        for same in self.taken.order.chunk_by(|a, b| key(a) == key(b)) {
            value.fill(0);
            for record in same.iter().map(|at| self.taken.record(*at)) {
                let words = record[self.key_size.next_multiple_of(8)..].chunks_exact(8);
                for (number, word) in self.numbers.iter().zip(words) {
                    let word = word.first_chunk().copied().unwrap_or_default();
                    number.add_to(&mut value, u64::from_ne_bytes(word));
                }
            }
            entry(key(&same[0]), &value)?;
        }
        Ok(())
    }
}

/// Records of `drain.bpf.c`: a padded key, and 8 bytes for each number.
#[derive(Debug, Default)]
struct Taken {
    width: usize,
    records: Vec<u8>,
    /// Indexes of the records, sorted by key at the end.
    order: Vec<u32>,
}

impl Taken {
    fn record(&self, at: u32) -> &[u8] {
        let start = at as usize * self.width;
        &self.records[start..start + self.width]
    }

    /// Allocates nothing after [`Self::reserve_ring`].
    fn push(&mut self, record: &[u8]) {
        self.order.push(self.order.len() as u32);
        self.records.extend(&record[..self.width]);
    }

    fn reserve_ring(&mut self) -> Result<(), TryReserveError> {
        let most = RING_BYTES / (self.width + RECORD_HEADER);
        self.order.try_reserve(most)?;
        self.records.try_reserve(most * self.width)
    }
}

/// Takes these numbers out of every value and leaves zeroes. What programs add
/// meanwhile is either taken or stays. All that can fail is done before the first
/// number is taken.
pub fn drain(map: &Map, numbers: &[Number]) -> Result<Drained> {
    try_drain(map, numbers).with_context(|| format!("failed to drain map {}", map.title()))
}

fn try_drain(map: &Map, numbers: &[Number]) -> Result<Drained> {
    map.check_in_place()?;
    let mut drainer = Drainer::new(map, numbers)?;
    let walked = if map.is_per_cpu() {
        drainer.drain_each_cpu()
    } else {
        drainer.drain_here()
    };
    let mut taken = drainer.taken.take();
    let incomplete = match walked {
        Err(error) if taken.order.is_empty() => return Err(error),
        // The numbers taken before the error are not lost.
        Err(error) => Some(format!("{error:#}")),
        Ok(()) => drainer.incomplete,
    };
    let mut order = std::mem::take(&mut taken.order);
    let key = |at: &u32| &taken.record(*at)[..map.key_size];
    order.sort_unstable_by(|a, b| key(a).cmp(key(b)));
    taken.order = order;
    Ok(Drained {
        incomplete,
        taken,
        numbers: drainer.numbers,
        key_size: map.key_size,
        value_size: map.value_size,
    })
}

struct Drainer<'a> {
    map: &'a Map,
    numbers: Vec<Number>,
    helper: Object,
    ring: RingBuffer<'static>,
    taken: Rc<RefCell<Taken>>,
    incomplete: Option<String>,
    /// Reserves memory for the output, and is freed when all is taken.
    _for_output: Vec<u8>,
}

impl<'a> Drainer<'a> {
    fn new(map: &'a Map, numbers: &[Number]) -> Result<Self> {
        let padded = map.key_size.next_multiple_of(8);
        let mut constants = types::rodata {
            layout: Default::default(),
        };
        let layout = &mut constants.layout;
        let max = layout.numbers.len();
        ensure!(numbers.len() <= max, "more than {max} numbers in a value");
        layout.key_size = u32::try_from(map.key_size)?;
        layout.padded_key_size = u32::try_from(padded)?;
        layout.count = u32::try_from(numbers.len())?;
        for (place, number) in layout.numbers.iter_mut().zip(numbers) {
            place.offset = u32::try_from(number.offset)?;
            place.width = u32::try_from(number.width)?;
        }
        let helper = helper::load(&DRAIN, "drain", map, &constants)?;
        let taken = Rc::new(RefCell::new(Taken {
            width: padded + 8 * numbers.len(),
            ..Taken::default()
        }));
        let ring = ring_buffer(&helper, Rc::clone(&taken))?;
        let mut for_output = Vec::new();
        for_output
            .try_reserve(OUTPUT_BYTES + map.value_size)
            .context(NO_MEMORY)?;
        Ok(Self {
            map,
            numbers: numbers.to_vec(),
            helper,
            ring,
            taken,
            incomplete: None,
            _for_output: for_output,
        })
    }

    /// The kernel's walk reaches the values of the current CPU only.
    fn drain_each_cpu(&mut self) -> Result<()> {
        let this = Pid::from_raw(0);
        let allowed = sched_getaffinity(this).context("failed to ask for this thread's CPUs")?;
        let mut left_out = Vec::new();
        for cpu in 0..self.map.value_count() {
            let mut only = CpuSet::new();
            let moved = only.set(cpu).and_then(|()| sched_setaffinity(this, &only));
            match moved {
                Ok(()) => self.drain_here()?,
                // Offline, or not allowed to this process.
                Err(_) => left_out.push(cpu),
            }
        }
        sched_setaffinity(this, &allowed).context("failed to return to this thread's CPUs")?;
        if !left_out.is_empty() && self.has_numbers_on(&left_out)? {
            self.incomplete = Some(format!(
                "numbers are left on CPUs that are offline or not allowed: {left_out:?}"
            ));
        }
        Ok(())
    }

    fn has_numbers_on(&self, cpus: &[usize]) -> Result<bool> {
        let mut found = false;
        Reader::new(self.map).read(|_, buffer| {
            let values: Vec<&[u8]> = self.map.values(buffer).collect();
            found |= cpus.iter().any(|cpu| {
                self.numbers
                    .iter()
                    .any(|number| number.of(values[*cpu]) != 0)
            });
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Walks the map and reads the records, until a walk reaches the end.
    fn drain_here(&mut self) -> Result<()> {
        let record = self.taken.borrow().width + RECORD_HEADER;
        let most_walks =
            16 + 4 * (self.map.max_entries as usize).saturating_mul(record) / RING_BYTES;
        for _ in 0..most_walks {
            self.taken.borrow_mut().reserve_ring().context(NO_MEMORY)?;
            let result = helper::run(&mut self.helper, None)?;
            self.ring
                .consume()
                .context("failed to read the ring buffer")?;
            if result == 0 {
                return Ok(());
            }
        }
        self.incomplete = Some(format!(
            "programs count faster than the map can be drained ({most_walks} walks)"
        ));
        Ok(())
    }
}

fn ring_buffer(helper: &Object, taken: Rc<RefCell<Taken>>) -> Result<RingBuffer<'static>> {
    let ring = helper.maps().find(|map| map.name() == "taken");
    let ring = ring.context("the helper has no ring buffer")?;
    let mut builder = RingBufferBuilder::new();
    builder.add(&ring, move |record| {
        taken.borrow_mut().push(record);
        0
    })?;
    log::listen();
    builder.build().context("failed to map the ring buffer")
}
