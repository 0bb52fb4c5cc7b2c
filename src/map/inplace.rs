//! What user space cannot do by copies: add to a number where it stands, and
//! take numbers away without losing an increment. Small programs do it inside
//! the kernel, run by the bpf(2) system call.

use std::collections::HashMap;

use anyhow::{Context, Result, anyhow, bail, ensure};
use libbpf_rs::{
    MapCore, MapType, Object, ObjectBuilder, ProgramInput, ProgramMut, RingBufferBuilder,
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
#[derive(Debug, Default)]
pub struct Drained {
    /// Keys, and values that hold what was taken, and zeroes elsewhere.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
    /// Why something may be left.
    pub incomplete: Option<String>,
}

/// Takes these numbers out of every value and leaves zeroes: what programs add
/// meanwhile is either taken or stays.
pub fn drain(map: &Map, numbers: &[Number]) -> Result<Drained> {
    map.check_in_place()
        .with_context(|| format!("failed to drain map {}", map.title()))?;
    ensure!(
        numbers.len() <= MOST_NUMBERS,
        "map {} cannot be drained: more than {MOST_NUMBERS} numbers in a value",
        map.title()
    );
    let mut drainer = Drainer::new(map, numbers)
        .with_context(|| format!("failed to drain map {}", map.title()))?;
    let walked = match map.is_per_cpu() {
        true => drainer.drain_each_cpu(),
        false => drainer.drain_here(),
    };
    let mut drained = drainer.drained;
    match walked {
        Err(error) if drained.entries.is_empty() => return Err(error),
        // What was taken before is not lost for that.
        Err(error) => drained.incomplete = Some(format!("{error:#}")),
        Ok(()) => {}
    }
    Ok(drained)
}

struct Drainer<'a> {
    map: &'a Map,
    numbers: &'a [Number],
    object: Object,
    index: HashMap<Vec<u8>, usize>,
    drained: Drained,
}

impl<'a> Drainer<'a> {
    fn new(map: &'a Map, numbers: &'a [Number]) -> Result<Self> {
        let word = |number: usize| Ok::<_, anyhow::Error>(u32::try_from(number)?.to_ne_bytes());
        let mut layout = Vec::new();
        layout.extend(word(map.key_size)?);
        layout.extend(word(map.key_size.next_multiple_of(8))?);
        layout.extend(word(numbers.len())?);
        layout.extend([0; 4]);
        for number in numbers {
            layout.extend(word(number.offset)?);
            layout.extend(word(number.width)?);
        }
        layout.resize(16 + 8 * MOST_NUMBERS, 0);
        Ok(Self {
            map,
            numbers,
            object: load(internal::DRAIN, map, &layout)?,
            index: HashMap::new(),
            drained: Drained::default(),
        })
    }

    /// The kernel's walk hands out the values of the CPU that it runs on.
    fn drain_each_cpu(&mut self) -> Result<()> {
        let this = Pid::from_raw(0);
        let allowed = sched_getaffinity(this).context("failed to ask for this thread's CPUs")?;
        let mut left_out = Vec::new();
        for cpu in 0..self.map.copies() {
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
            self.drained.incomplete = Some(format!(
                "numbers are left on CPUs that are offline or not ours: {left_out:?}"
            ));
        }
        Ok(())
    }

    fn holds_something_on(&self, cpus: &[usize]) -> Result<bool> {
        let mut found = false;
        Reader::new(self.map).read(|_, copied| {
            let values: Vec<&[u8]> = self.map.values(copied).collect();
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
        let record = self.map.key_size.next_multiple_of(8) + 8 * self.numbers.len() + 8;
        let most_walks = 16 + 4 * (self.map.max_entries as usize).saturating_mul(record) / RECORDS;
        for _ in 0..most_walks {
            let result = run(&mut self.object, None)?;
            self.collect()?;
            if result == 0 {
                return Ok(());
            }
        }
        self.drained.incomplete = Some(format!(
            "it was counted into faster than it could be drained ({most_walks} walks)"
        ));
        Ok(())
    }

    fn collect(&mut self) -> Result<()> {
        let Self {
            map,
            numbers,
            object,
            index,
            drained,
        } = self;
        let padded = map.key_size.next_multiple_of(8);
        let records = object
            .maps()
            .find(|map| map.name() == "taken")
            .ok_or_else(|| anyhow!("the program has no ring buffer"))?;
        let mut builder = RingBufferBuilder::new();
        builder.add(&records, |record| {
            let (key, taken) = record.split_at(padded);
            let key = &key[..map.key_size];
            let entry = *index.entry(key.to_vec()).or_insert_with(|| {
                drained
                    .entries
                    .push((key.to_vec(), vec![0; map.value_size]));
                drained.entries.len() - 1
            });
            let value = &mut drained.entries[entry].1;
            for (number, taken) in numbers.iter().zip(taken.chunks_exact(8)) {
                let taken = taken.first_chunk().copied().unwrap_or_default();
                number.add_to(value, u64::from_ne_bytes(taken));
            }
            0
        })?;
        let ring = builder.build()?;
        ring.consume().context("failed to read what was taken")
    }
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
