//! Which of an instance's two sets of tables and programs counts: a map of numbers,
//! which one update changes as a whole. Only the holder of the lock does.
//!
//! A rotation has three steps. From the first one on the other set is to count, and
//! the ended one is part of every reading. From the second one on it is printed, and
//! no reading has it. At the third one it is empty again.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};

use super::layout::ROTATION;
use super::meta::Meta;
use super::pinned::{self, if_found, open_map};
use crate::map::{Access, Map};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rotation {
    /// All steps so far, three for each rotation.
    steps: u64,
    /// When each set began to count, by `CLOCK_MONOTONIC`.
    pub(super) began: [u64; 2],
    /// When the last one did, in nanoseconds since 1970.
    time: u64,
    /// How many runs of each program the kernel had missed by then, by the names of
    /// the programs; 0 if it does not tell.
    pub(super) missed: [Vec<u64>; 2],
}

impl Rotation {
    /// Of an instance that was never rotated.
    pub(super) fn first(meta: &Meta) -> Self {
        Self {
            steps: 0,
            began: [meta.attached_at, 0],
            time: 0,
            missed: [0; 2].map(|missed| vec![missed; meta.programs.len()]),
        }
    }

    /// The set that counts.
    pub(super) fn live(&self) -> usize {
        usize::from(self.steps.div_ceil(3) % 2 == 1)
    }

    /// The set that has ended and is not printed.
    pub(super) fn ended(&self) -> Option<usize> {
        (self.steps % 3 == 1).then(|| 1 - self.live())
    }

    /// The set that is printed, and not yet empty.
    pub(super) fn printed(&self) -> Option<usize> {
        (self.steps % 3 == 2).then(|| 1 - self.live())
    }

    /// The step after this one.
    pub(super) fn next(&self) -> Self {
        Self {
            steps: self.steps + 1,
            ..self.clone()
        }
    }

    /// When the set that counts began to.
    pub(super) fn time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.time)
    }

    /// The first step: the other set counts from `now` on.
    pub(super) fn begin(&self, now: u64, missed: BTreeMap<String, u64>) -> Self {
        let mut begun = self.next();
        let live = begun.live();
        begun.began[live] = now;
        let time = SystemTime::now().duration_since(UNIX_EPOCH).ok();
        begun.time = time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(0));
        for (number, missed) in begun.missed[live].iter_mut().zip(missed.into_values()) {
            *number = missed;
        }
        begun
    }

    /// `None` where the instance cannot be rotated.
    pub(super) fn open(folder: &Path) -> Result<Option<Self>> {
        let map = Self::open_map(folder)?;
        map.as_ref().map(Self::read).transpose()
    }

    pub(super) fn open_map(folder: &Path) -> Result<Option<Map>> {
        if_found(open_map(&folder.join(ROTATION), Access::Read))
    }

    pub(super) fn read(map: &Map) -> Result<Self> {
        let bytes = pinned::value(map)?;
        let numbers = bytes.as_chunks().0.iter().copied();
        let numbers: Vec<u64> = numbers.map(u64::from_ne_bytes).collect();
        let [steps, began_0, began_1, time, ref missed @ ..] = numbers[..] else {
            bail!("map {} is too short", map.title());
        };
        let (missed_0, missed_1) = missed.split_at(missed.len() / 2);
        Ok(Self {
            steps,
            began: [began_0, began_1],
            time,
            missed: [missed_0, missed_1].map(<[u64]>::to_vec),
        })
    }

    pub(super) fn pin(&self, folder: &Path) -> Result<()> {
        pinned::pin(&folder.join(ROTATION), &self.to_bytes())
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        pinned::write(&folder.join(ROTATION), &self.to_bytes())
    }

    fn to_bytes(&self) -> Vec<u8> {
        let ([began_0, began_1], [missed_0, missed_1]) = (self.began, &self.missed);
        let numbers = [
            &[self.steps, began_0, began_1, self.time],
            &missed_0[..],
            missed_1,
        ]
        .concat();
        numbers.into_iter().flat_map(u64::to_ne_bytes).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sets_take_turns() {
        let mut rotation = Rotation {
            steps: 0,
            began: [5, 0],
            time: 0,
            missed: [vec![0], vec![0]],
        };
        for (turn, live) in [1, 0, 1, 0].into_iter().enumerate() {
            let old = 1 - live;
            assert_eq!(
                (rotation.live(), rotation.ended(), rotation.printed()),
                (old, None, None)
            );
            let now = 10 + turn as u64;
            rotation = rotation.begin(now, [("a".to_owned(), now + 1)].into());
            assert_eq!(
                (rotation.live(), rotation.ended(), rotation.printed()),
                (live, Some(old), None)
            );
            assert_eq!(
                (rotation.began[live], rotation.missed[live][0]),
                (now, now + 1)
            );
            rotation = rotation.next();
            assert_eq!(
                (rotation.live(), rotation.ended(), rotation.printed()),
                (live, None, Some(old))
            );
            rotation = rotation.next();
        }
        assert_eq!(rotation.began, [13, 12]);
        assert_eq!(rotation.missed, [[14], [13]]);
    }
}
