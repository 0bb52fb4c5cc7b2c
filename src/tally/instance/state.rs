//! The state of an instance: a map of numbers, which one update changes as a whole. Only the owner can open it; readers get a frozen copy once the counts are
//! final.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::access;
use super::layout::{STATE, STOPPED, UNFINISHED};
use super::pinned::{self, if_found};

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct State {
    /// It has stopped counting, or is stopping.
    pub(super) is_stopping: bool,
    /// When it stopped, by `CLOCK_MONOTONIC`; its counts are final then.
    pub(super) stopped_at: Option<u64>,
    /// How many runs the kernel had missed by then, if that is known.
    pub(super) missed: Option<u64>,
    /// The same of each program, in the order of `meta`; empty for an instance of an
    /// earlier version.
    pub(super) missed_by: Vec<u64>,
}

impl State {
    /// Of an instance with this number of programs that begins to count.
    pub(super) fn new(programs: usize) -> Self {
        Self {
            missed_by: vec![0; programs],
            ..Self::default()
        }
    }

    pub(super) fn open(folder: &Path) -> Result<Self> {
        Self::from_bytes(&pinned::read(&folder.join(STATE))?)
    }

    /// The copy for readers; `None` while it counts.
    pub(super) fn open_stopped(folder: &Path) -> Result<Option<Self>> {
        let bytes = if_found(pinned::read(&folder.join(STOPPED)))?;
        bytes.map(|bytes| Self::from_bytes(&bytes)).transpose()
    }

    pub(super) fn pin(&self, folder: &Path) -> Result<()> {
        pinned::pin(&folder.join(STATE), &self.to_bytes())
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        pinned::write(&folder.join(STATE), &self.to_bytes())
    }

    /// Writes the copy for readers, who cannot open it before it is complete.
    pub(super) fn publish(&self, folder: &Path) -> Result<()> {
        let unfinished = folder.join(UNFINISHED);
        pinned::pin_frozen(&unfinished, &self.to_bytes())?;
        if let Some(group) = access::reader_of(folder)? {
            access::open_pin(&unfinished, group)?;
        }
        std::fs::rename(&unfinished, folder.join(STOPPED))
            .with_context(|| format!("failed to rename `{}`", unfinished.display()))
    }

    fn to_bytes(&self) -> Vec<u8> {
        let goal = if self.is_stopping { 2 } else { 0 };
        let stopped_at = self.stopped_at.unwrap_or(0);
        let missed = self.missed.map_or(0, |missed| missed + 1);
        let numbers = [&[goal, stopped_at, missed], &self.missed_by[..]].concat();
        numbers.into_iter().flat_map(u64::to_ne_bytes).collect()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let numbers = bytes.as_chunks().0.iter().copied();
        let numbers: Vec<u64> = numbers.map(u64::from_ne_bytes).collect();
        let [goal, stopped_at, missed, ref missed_by @ ..] = numbers[..] else {
            bail!("the state has {} bytes, less than 24", bytes.len());
        };
        Ok(Self {
            // Earlier versions wrote other numbers here.
            is_stopping: goal != 0,
            stopped_at: Some(stopped_at).filter(|at| *at != 0),
            missed: missed.checked_sub(1),
            missed_by: missed_by.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_three_numbers() {
        let stopped = State {
            is_stopping: true,
            stopped_at: Some(7),
            missed: Some(7),
            missed_by: vec![3, 4],
        };
        for state in [State::default(), State::new(2), stopped] {
            assert_eq!(State::from_bytes(&state.to_bytes()).unwrap(), state);
        }
        assert!(State::from_bytes(&[0; 16]).is_err());
    }
}
