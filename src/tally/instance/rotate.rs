//! Rotating an instance: it goes on in its other, empty set of tables, and what the
//! ended set counted is read to the last event. If the process is killed, the next
//! rotation goes on where it was.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::layout::MAPS_OF;
use super::pinned::open_map;
use super::rotation::Rotation;
use super::{Instance, Instances, dispatch};
use crate::map::{Access, Map, MapFlags, Outcome, Reader};
use crate::snapshot::Reading;
use crate::sys;
use crate::tally::under_way::monotonic_now;

/// What a set counted that has ended.
pub(crate) struct Rotated {
    pub(crate) reading: Reading,
    /// Whether an earlier rotation had ended it, and did not come to its end.
    pub(crate) was_cut: bool,
}

impl Instance {
    /// Lets the other set count, and reads the one that counted until then.
    /// `has_printed` tells when its counts are safe.
    pub(crate) fn rotate(&mut self, _held: &Instances) -> Result<Rotated> {
        self.check_rotatable()?;
        let rotated = self.end_set();
        rotated.with_context(|| format!("failed to rotate instance `{}`", self.name))
    }

    fn check_rotatable(&self) -> Result<()> {
        let name = &self.name;
        ensure!(
            !self.has_stopped()?,
            "instance `{name}` has stopped; `ktally detach {name}` prints its last reading"
        );
        if self.rotation.is_none() {
            bail!(
                "instance `{name}` has one set of tables; `ktally attach {} --as {name} --replace --rotatable`, with the options that `ktally status` shows, gives it a second one and keeps its counts",
                self.meta.tally
            );
        }
        Ok(())
    }

    fn end_set(&self) -> Result<Rotated> {
        let mut rotation = self.rotation()?;
        if let Some(printed) = rotation.printed() {
            rotation = self.empty(&rotation, printed)?;
        }
        let was_cut = rotation.ended().is_some();
        if !was_cut {
            let missed = self.sets[0].missed()?.unwrap_or_default();
            rotation = rotation.begin(monotonic_now(), missed.into_iter().collect());
            rotation.write(&self.folder)?;
        }
        dispatch::run_programs_of(&self.folder, &self.meta)?;
        // From here on no program writes to the ended set.
        sys::wait_for_programs().context("failed to wait for running programs")?;
        let reading = self.read_ended(&rotation)?;
        if let Some(why) = &reading.incomplete {
            bail!("the reading is incomplete, so it stays for the next rotation: {why}");
        }
        Ok(Rotated { reading, was_cut })
    }

    /// Up to the switch. What is under way goes on in the other set.
    fn read_ended(&self, rotation: &Rotation) -> Result<Reading> {
        let (live, ended) = (rotation.live(), 1 - rotation.live());
        let set = &self.sets[ended];
        let mut reading = set.read_tables(&self.schema)?;
        let [began, until] = [ended, live].map(|set| rotation.began[set]);
        reading.time = rotation.time();
        reading.seconds = Duration::from_nanos(until.saturating_sub(began)).as_secs_f64();
        let is_known = set.missed()?.is_some();
        reading.set_missed(is_known.then(|| self.missed_before(rotation, live)));
        reading.take_missed(&self.missed_before(rotation, ended));
        Ok(reading)
    }

    /// The counts of the ended set are printed: no reading has them any more.
    pub(crate) fn has_printed(&mut self, _held: &Instances) -> Result<()> {
        let rotation = self.rotation()?.next();
        rotation.write(&self.folder)?;
        self.empty(&rotation, 1 - rotation.live())?;
        Ok(())
    }

    /// Empties a set, which no program writes to, for the next rotation.
    fn empty(&self, rotation: &Rotation, set: usize) -> Result<Rotation> {
        let folder = self.folder.join(MAPS_OF[set]);
        let tables = self.schema.tables.iter().map(|table| table.name.as_str());
        for name in tables.chain(["@bss@ktally"]) {
            // Objects of early headers have no such section.
            if !folder.join(name).exists() {
                continue;
            }
            empty_map(&folder, name).with_context(|| format!("failed to empty map `{name}`"))?;
        }
        let rotation = rotation.next();
        rotation.write(&self.folder)?;
        Ok(rotation)
    }
}

/// Deletes every row; sets those of an array to zero.
fn empty_map(folder: &Path, name: &str) -> Result<()> {
    let map = open_map(&folder.join(name), Access::Write)?;
    let (mut keys, mut zero) = (Vec::new(), Vec::new());
    let is_kept = map.is_indexed();
    let outcome = Reader::new(&map).read(|key, values| {
        if !is_kept || values.iter().any(|byte| *byte != 0) {
            keys.push(key.to_vec());
        }
        zero.resize(values.len(), 0);
        ControlFlow::Continue(())
    })?;
    if let Outcome::Incomplete(why) = outcome {
        bail!("{why}");
    }
    keys.iter()
        .try_for_each(|key| reset(&map, key, is_kept.then_some(&zero)))
}

fn reset(map: &Map, key: &[u8], to: Option<&Vec<u8>>) -> Result<()> {
    match to {
        Some(zero) => map.update(key, zero, MapFlags::ANY),
        None => map.delete(key).map(drop),
    }
}
