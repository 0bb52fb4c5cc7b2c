//! Which processes' stacks were taken, told by `tally_user_stack()` of
//! `stacks.h` as it happens, while the processes live.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, Object, RingBuffer, RingBufferBuilder};

use super::catalogue::{Opened, Tally};
use crate::names::HostNames;

const MAP: &str = "tally_sightings";

/// A process, and where it was running.
pub type Sighting = (u32, u64);

/// What was told and not yet taken.
pub(super) struct Sightings {
    ring: RingBuffer<'static>,
    fd: OwnedFd,
    told: Rc<RefCell<Vec<Sighting>>>,
}

/// Before loading: there is no ring where no stacks of processes are.
pub(super) fn prepare(opened: &mut dyn Opened<'_>, tally: &Tally) -> Result<()> {
    let mut maps = opened.object_mut().maps_mut();
    match maps.find(|map| map.name() == MAP) {
        Some(mut map) => map
            .set_autocreate(has_stacks(tally))
            .with_context(|| format!("failed to set up map `{MAP}`")),
        None => Ok(()),
    }
}

/// Whether it takes stacks of processes.
fn has_stacks(tally: &Tally) -> bool {
    let mut labels = tally.schema.tables.iter().flat_map(|table| &table.labels);
    labels.any(HostNames::needs_its_process)
}

impl Sightings {
    /// Of an object that is loaded; `None` where it tells nothing.
    pub(super) fn of(object: &Object, tally: &Tally) -> Result<Option<Self>> {
        let map = object.maps().find(|map| map.name() == MAP);
        let Some(map) = map.filter(|_| has_stacks(tally)) else {
            return Ok(None);
        };
        let told = Rc::new(RefCell::new(Vec::new()));
        let tell = Rc::clone(&told);
        let mut builder = RingBufferBuilder::new();
        builder.add(&map, move |record| {
            tell.borrow_mut().extend(sighting(record));
            0
        })?;
        let ring = builder
            .build()
            .with_context(|| format!("failed to open map `{MAP}`"))?;
        let fd = map.as_fd().try_clone_to_owned()?;
        Ok(Some(Self { ring, fd, told }))
    }

    /// Readable when something was told.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Everything that was told since the last time.
    pub(super) fn take(&self) -> Result<Vec<Sighting>> {
        self.ring
            .consume()
            .with_context(|| format!("failed to read map `{MAP}`"))?;
        Ok(self.told.take())
    }
}

/// `struct tally_sighting`.
fn sighting(record: &[u8]) -> Option<Sighting> {
    let (ip, rest) = record.split_first_chunk()?;
    Some((
        u32::from_ne_bytes(*rest.first_chunk()?),
        u64::from_ne_bytes(*ip),
    ))
}
