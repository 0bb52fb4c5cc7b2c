//! Processes whose stacks were taken: `tally_user_stack()` of `stacks.h` reports
//! each as it happens, so that its mappings can be read while it lives.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, Object, OpenObject, RingBuffer, RingBufferBuilder};

use super::load::set_needed;
use crate::schema::{Decoder, Schema};

const MAP: &str = "tally_processes";

/// A process, and where it was running.
pub(crate) type StackProcess = (u32, u64);

/// The processes that were reported and not yet taken.
pub(super) struct StackProcesses {
    ring: RingBuffer<'static>,
    fd: OwnedFd,
    reported: Rc<RefCell<Vec<StackProcess>>>,
}

/// Before loading: selects the ring buffer if the tally takes stacks of processes.
pub(super) fn prepare(object: &mut OpenObject, schema: &Schema) -> Result<()> {
    set_needed(object, MAP, has_stacks(schema))
}

fn has_stacks(schema: &Schema) -> bool {
    let mut labels = schema.tables.iter().flat_map(|table| &table.labels);
    labels.any(|label| label.decoder == Some(Decoder::USTACK))
}

impl StackProcesses {
    /// `None` if the loaded object reports no processes.
    pub(super) fn new(object: &Object, schema: &Schema) -> Result<Option<Self>> {
        let map = object.maps().find(|map| map.name() == MAP);
        let Some(map) = map.filter(|_| has_stacks(schema)) else {
            return Ok(None);
        };
        let reported = Rc::new(RefCell::new(Vec::new()));
        let records = Rc::clone(&reported);
        let mut builder = RingBufferBuilder::new();
        builder.add(&map, move |record| {
            records.borrow_mut().extend(parse(record));
            0
        })?;
        let ring = builder
            .build()
            .with_context(|| format!("failed to open map `{MAP}`"))?;
        let fd = map.as_fd().try_clone_to_owned()?;
        Ok(Some(Self { ring, fd, reported }))
    }

    /// Readable when a process was reported.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// All processes that were reported since the last call.
    pub(super) fn take(&self) -> Result<Vec<StackProcess>> {
        self.ring
            .consume()
            .with_context(|| format!("failed to read map `{MAP}`"))?;
        Ok(self.reported.take())
    }
}

/// `struct tally_stack_process`.
fn parse(record: &[u8]) -> Option<StackProcess> {
    let (ip, rest) = record.split_first_chunk()?;
    let pid = u32::from_ne_bytes(*rest.first_chunk()?);
    Some((pid, u64::from_ne_bytes(*ip)))
}
