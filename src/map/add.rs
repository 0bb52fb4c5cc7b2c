//! Adds to a number in place, in the kernel: user space alone can only replace
//! a value by another.

use anyhow::{Context, Result, anyhow};
use libbpf_rs::Object;
use plain::Plain;

use super::{Map, helper};
use crate::internal::ADD;
use crate::internal::add::types;
use crate::schema::Number;

// SAFETY: a C struct of integers without padding.
unsafe impl Plain for types::rodata {}

/// Adds to one number of one entry.
#[derive(Debug)]
pub struct Adder {
    helper: Object,
}

impl Adder {
    /// Loads the program that adds to this number in the value of this key.
    pub fn new(map: &Map, key: &[u8], number: Number) -> Result<Self> {
        Self::load(map, key, number)
            .with_context(|| format!("failed to add to map {}", map.title()))
    }

    fn load(map: &Map, key: &[u8], number: Number) -> Result<Self> {
        map.check_in_place()?;
        let mut constants = types::rodata {
            number: Default::default(),
        };
        let config = &mut constants.number;
        config.offset = u32::try_from(number.offset)?;
        config.width = u32::try_from(number.width)?;
        let max = config.key.len();
        config
            .key
            .get_mut(..key.len())
            .ok_or_else(|| anyhow!("keys of more than {max} bytes are not supported"))?
            .copy_from_slice(key);
        let helper = helper::load(&ADD, "add", map, &constants)?;
        Ok(Self { helper })
    }

    /// Adds modulo the width of the number, and returns its value before; `None`
    /// if the key does not exist. In a per-CPU map it changes the value of the
    /// current CPU.
    pub fn add(&mut self, delta: u64) -> Result<Option<u64>> {
        let mut context = [0; size_of::<types::addition>()];
        context[..8].copy_from_slice(&delta.to_ne_bytes());
        let errno = helper::run(&mut self.helper, Some(&mut context))?;
        let before = context.last_chunk().copied().unwrap_or_default();
        Ok((errno == 0).then(|| u64::from_ne_bytes(before)))
    }
}
