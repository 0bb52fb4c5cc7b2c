//! What user space cannot do by copies: add to a number where it stands, and
//! take numbers away without losing an increment. Small programs do it inside
//! the kernel, run by the bpf(2) system call.

use std::cell::RefCell;
use std::collections::TryReserveError;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use libbpf_rs::{
    MapCore, MapType, Object, ObjectBuilder, ProgramInput, ProgramMut, RingBuffer,
    RingBufferBuilder,
};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use plain::Plain;

use super::{Map, Reader, flag_bit};
use crate::host;
use crate::internal;
use crate::schema::Number;
use crate::sys::log;

/// `MAX_KEY` of `add.bpf.c`.
const MOST_KEY: usize = 512;
/// `MAX_NUMBERS` of `drain.bpf.c`.
const MOST_NUMBERS: usize = 1024;
/// `RECORDS` of `drain.bpf.c`, in bytes.
const RECORDS: usize = 1 << 24;
/// What the kernel puts before each of them.
const RECORD_HEAD: usize = 8;
/// For the first lines of a table, which are kept to measure their columns.
const TO_WRITE: usize = 4 << 20;
const NO_MEMORY: &str = "out of memory";

/// `number` of `add.bpf.c`.
#[repr(C)]
#[derive(Clone, Copy)]
struct NumberIn {
    offset: u32,
    width: u32,
    key: [u8; MOST_KEY],
}

/// `struct addition` of `add.bpf.c`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Addition {
    delta: u64,
    before: u64,
}

// SAFETY: a C struct of integers without padding.
unsafe impl Plain for NumberIn {}
// SAFETY: a C struct of integers without padding.
unsafe impl Plain for Addition {}

/// Adds to one number of one entry.
#[derive(Debug)]
pub struct Adder {
    object: Object,
}

impl Adder {
    /// Loads the program that adds to this number in the value of this key.
    pub fn new(map: &Map, key: &[u8], number: Number) -> Result<Self> {
        let mut config = NumberIn {
            offset: u32::try_from(number.offset)?,
            width: u32::try_from(number.width)?,
            key: [0; MOST_KEY],
        };
        config
            .key
            .get_mut(..key.len())
            .ok_or_else(|| anyhow!("keys of more than {MOST_KEY} bytes are not supported"))?
            .copy_from_slice(key);
        map.check_in_place()
            .with_context(|| format!("failed to add to map {}", map.title()))?;
        // SAFETY: of a `Plain` type, every byte is initialized.
        let config = unsafe { plain::as_bytes(&config) };
        let object = load(internal::ADD, map, config)
            .with_context(|| format!("failed to add to map {}", map.title()))?;
        Ok(Self { object })
    }

    /// Adds, modulo the number's width. What the number was before; `None`
    /// where there is no such key (any more). Of a per-CPU map it is the number
    /// of the CPU that this runs on.
    pub fn add(&mut self, delta: u64) -> Result<Option<u64>> {
        let mut context = [0; size_of::<Addition>()];
        context[..8].copy_from_slice(&delta.to_ne_bytes());
        match run(&mut self.object, Some(&mut context))? {
            0 => {
                let before = context.last_chunk().copied().unwrap_or_default();
                Ok(Some(u64::from_ne_bytes(before)))
            }
            _ => Ok(None),
        }
    }
}

/// What was taken out of a map.
#[derive(Debug)]
pub struct Drained {
    /// Why something may be left.
    pub incomplete: Option<String>,
    taken: Taken,
    numbers: Vec<Number>,
    key_size: usize,
    value_size: usize,
}

impl Drained {
    /// Hands out each key once, and a value that holds what was taken, and zeroes
    /// elsewhere.
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

/// Records of `drain.bpf.c`: a padded key, and 8 bytes a number.
#[derive(Debug, Default)]
struct Taken {
    width: usize,
    records: Vec<u8>,
    /// Which come after which.
    order: Vec<u32>,
}

impl Taken {
    fn record(&self, at: u32) -> &[u8] {
        let start = at as usize * self.width;
        &self.records[start..start + self.width]
    }

    /// Takes no memory for the next records of a full ring.
    fn push(&mut self, record: &[u8]) {
        self.order.push(self.order.len() as u32);
        self.records.extend(&record[..self.width]);
    }

    fn reserve_ring(&mut self) -> Result<(), TryReserveError> {
        let most = RECORDS / (self.width + RECORD_HEAD);
        self.order.try_reserve(most)?;
        self.records.try_reserve(most * self.width)
    }
}

/// Takes these numbers out of every value and leaves zeroes: what programs add
/// meanwhile is either taken or stays. Whatever can fail is made before the
/// first is taken.
pub fn drain(map: &Map, numbers: &[Number]) -> Result<Drained> {
    try_drain(map, numbers).with_context(|| format!("failed to drain map {}", map.title()))
}

fn try_drain(map: &Map, numbers: &[Number]) -> Result<Drained> {
    map.check_in_place()?;
    ensure!(
        numbers.len() <= MOST_NUMBERS,
        "more than {MOST_NUMBERS} numbers in a value"
    );
    let mut drainer = Drainer::new(map, numbers)?;
    let walked = match map.is_per_cpu() {
        true => drainer.drain_each_cpu(),
        false => drainer.drain_here(),
    };
    let mut taken = drainer.taken.take();
    let incomplete = match walked {
        Err(error) if taken.order.is_empty() => return Err(error),
        // What was taken before is not lost for that.
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
    object: Object,
    ring: RingBuffer<'static>,
    taken: Rc<RefCell<Taken>>,
    incomplete: Option<String>,
    /// RawOption back when all is taken: to write it takes memory as well.
    _to_write: Vec<u8>,
}

impl<'a> Drainer<'a> {
    fn new(map: &'a Map, numbers: &[Number]) -> Result<Self> {
        let word = |number: usize| Ok::<_, anyhow::Error>(u32::try_from(number)?.to_ne_bytes());
        let padded = map.key_size.next_multiple_of(8);
        let mut layout = Vec::new();
        layout.extend(word(map.key_size)?);
        layout.extend(word(padded)?);
        layout.extend(word(numbers.len())?);
        layout.extend([0; 4]);
        for number in numbers {
            layout.extend(word(number.offset)?);
            layout.extend(word(number.width)?);
        }
        layout.resize(16 + 8 * MOST_NUMBERS, 0);
        let object = load(internal::DRAIN, map, &layout)?;
        let taken = Rc::new(RefCell::new(Taken {
            width: padded + 8 * numbers.len(),
            ..Taken::default()
        }));
        let ring = ring_of(&object, Rc::clone(&taken))?;
        let mut to_write = Vec::new();
        to_write
            .try_reserve(TO_WRITE + map.value_size)
            .context(NO_MEMORY)?;
        Ok(Self {
            map,
            numbers: numbers.to_vec(),
            object,
            ring,
            taken,
            incomplete: None,
            _to_write: to_write,
        })
    }

    /// The kernel's walk hands out the values of the CPU that it runs on.
    fn drain_each_cpu(&mut self) -> Result<()> {
        let this = Pid::from_raw(0);
        let allowed = sched_getaffinity(this).context("failed to ask for this thread's CPUs")?;
        let mut left_out = Vec::new();
        for cpu in 0..self.map.value_count() {
            let mut only = CpuSet::new();
            let moved = only.set(cpu).and_then(|()| sched_setaffinity(this, &only));
            match moved {
                Ok(()) => self.drain_here()?,
                // Offline, or not ours.
                Err(_) => left_out.push(cpu),
            }
        }
        sched_setaffinity(this, &allowed).context("failed to return to this thread's CPUs")?;
        if !left_out.is_empty() && self.holds_something_on(&left_out)? {
            self.incomplete = Some(format!(
                "numbers are left on CPUs that are offline or not ours: {left_out:?}"
            ));
        }
        Ok(())
    }

    fn holds_something_on(&self, cpus: &[usize]) -> Result<bool> {
        let mut found = false;
        Reader::new(self.map).read(|_, buffer| {
            let values: Vec<&[u8]> = self.map.values(buffer).collect();
            found |= cpus.iter().any(|cpu| {
                self.numbers
                    .iter()
                    .any(|number| number.of(values[*cpu]) != 0)
            });
            std::ops::ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Walks, and reads what was taken, until a walk gets to the end.
    fn drain_here(&mut self) -> Result<()> {
        let record = self.taken.borrow().width + RECORD_HEAD;
        let most_walks = 16 + 4 * (self.map.max_entries as usize).saturating_mul(record) / RECORDS;
        for _ in 0..most_walks {
            self.taken.borrow_mut().reserve_ring().context(NO_MEMORY)?;
            let result = run(&mut self.object, None)?;
            self.ring
                .consume()
                .context("failed to read what was taken")?;
            if result == 0 {
                return Ok(());
            }
        }
        self.incomplete = Some(format!(
            "it was counted into faster than it could be drained ({most_walks} walks)"
        ));
        Ok(())
    }
}

fn ring_of(object: &Object, taken: Rc<RefCell<Taken>>) -> Result<RingBuffer<'static>> {
    let records = object
        .maps()
        .find(|map| map.name() == "taken")
        .ok_or_else(|| anyhow!("the program has no ring buffer"))?;
    let mut builder = RingBufferBuilder::new();
    builder.add(&records, move |record| {
        taken.borrow_mut().push(record);
        0
    })?;
    log::listen();
    builder.build().context("failed to map its ring buffer")
}

impl Map {
    /// Whether programs that a system call runs may change its values. The kernel
    /// would let them write to a frozen map, but whoever froze it meant that
    /// nobody does.
    pub fn check_in_place(&self) -> Result<()> {
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
                "it was created with the flag {flag}, and so programs cannot do it"
            );
        }
        ensure!(
            !self.is_frozen(),
            "it is frozen: user space can only read it"
        );
        Ok(())
    }
}

/// Loads a helper with `map` in the place of its `target`, and its constants.
fn load(object: &[u8], map: &Map, constants: &[u8]) -> Result<Object> {
    let (major, minor) = host::SYSCALL_PROGRAMS;
    if host::kernel_version(&host::kernel_release()) < (major, minor) {
        bail!("needs Linux {major}.{minor}, for programs that a system call runs");
    }
    log::listen();
    let mut opened = ObjectBuilder::default().open_memory(object)?;
    for mut part in opened.maps_mut() {
        let name = part.name().to_string_lossy().into_owned();
        if name == "target" {
            part.reuse_fd(map.fd())?;
        } else if let Some(rodata) = part
            .initial_value_mut()
            .filter(|_| name.ends_with(".rodata"))
        {
            ensure!(
                rodata.len() == constants.len(),
                "the helper's constants differ"
            );
            rodata.copy_from_slice(constants);
        }
    }
    opened.load().map_err(|error| {
        let missing = host::missing_capabilities();
        match missing.is_empty() {
            false => anyhow!("needs {}; run it as root", missing.join(" and ")),
            true => anyhow!("the kernel refused it: {error}{}", log::tail()),
        }
    })
}

/// Runs the object's only program; what it returns.
fn run(object: &mut Object, context: Option<&mut [u8]>) -> Result<u32> {
    let program = object
        .progs_mut()
        .next()
        .ok_or_else(|| anyhow!("the helper has no program"))?;
    let input = ProgramInput {
        context_in: context,
        ..Default::default()
    };
    let output = ProgramMut::test_run(&program, input).context("failed to run a program")?;
    Ok(output.return_value)
}
