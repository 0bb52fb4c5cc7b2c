//! Entries: what the links of an instance run. An entry does nothing but go on
//! in the program of its slot, so that a program is replaced by one update of
//! a slot: an event goes through the old program or the new one, never through
//! both or none. What the kernel missed is counted by the entry, and stays.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use libbpf_rs::Object;

use super::folder::{PROGRAMS, SLOTS};
use super::meta::{Meta, open_map};
use crate::map::{Map, NewMap, create};
use crate::sys;

/// An entry in the place of its program.
pub(super) struct Slot {
    /// Of the program.
    pub(super) name: String,
    pub(super) entry: OwnedFd,
    pub(super) program: OwnedFd,
    /// A `BPF_MAP_TYPE_PROG_ARRAY` of one slot.
    pub(super) slots: Map,
}

/// What became of the programs of an object.
#[derive(Default)]
pub(super) struct Slots {
    pub(super) inserted: Vec<Slot>,
    /// Of those that can have no entry.
    pub(super) warnings: Vec<String>,
}

/// Puts an entry in the place of each program, so that they are attached
/// instead. Programs that may sleep can have none, and stay.
pub(super) fn insert(object: &mut Object) -> Result<Slots> {
    let mut slots = Slots::default();
    for program in object.progs_mut().filter(|program| program.autoload()) {
        let name = program.name().to_string_lossy().into_owned();
        let section = program.section().to_string_lossy().into_owned();
        let target = section.split_once('/').map_or("", |(_, target)| target);
        let what = || format!("failed to make an entry for program `{name}`");
        let info = sys::program::info(program.as_fd()).with_context(what)?;
        let attach_type = program.attach_type() as u32;
        let slot = new_slots(&name).with_context(what)?;
        let own = program.as_fd().try_clone_to_owned().with_context(what)?;
        let entry = sys::program::load_dispatcher(&name, &info, attach_type, target, slot.as_fd());
        let entry = match entry {
            Err(error) if is_refused(&error) => {
                slots.warnings.push(format!(
                    "program `{name}` ({section}) has no entry, as this kernel refuses one: `attach --replace` cannot replace it"
                ));
                continue;
            }
            entry => entry.with_context(what)?,
        };
        fill(&slot, &own).with_context(what)?;
        sys::program::replace_fd(program.as_fd(), entry.as_fd()).with_context(what)?;
        slots.inserted.push(Slot {
            name,
            entry,
            program: own,
            slots: slot,
        });
    }
    Ok(slots)
}

/// Whether the kernel has no such program, rather than no memory or descriptor.
fn is_refused(error: &io::Error) -> bool {
    const ENOTSUPP: i32 = 524;
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP)
    )
}

fn new_slots(program: &str) -> Result<Map> {
    const PROG_ARRAY: u32 = 3;
    let new = NewMap {
        type_number: PROG_ARRAY,
        name: program.chars().take(15).collect(),
        key_size: 4,
        value_size: 4,
        max_entries: 1,
        flags: 0,
    };
    create(&new, None, None)
}

fn fill(slots: &Map, program: &OwnedFd) -> Result<()> {
    let put = slots.put(&[0; 4], program.as_fd());
    put.context("failed to put a program into its slot")
}

/// From now on the programs in this folder count, and no others.
pub(super) fn fill_from(folder: &Path, meta: &Meta) -> Result<()> {
    for member in meta.programs.iter().filter(|member| member.has_entry) {
        let what = || format!("program `{}`", member.name);
        let program = sys::program::open_pin(&folder.join(PROGRAMS).join(&member.name));
        let slots = open_map(&folder.join(SLOTS).join(&member.name), false);
        fill(&slots.with_context(what)?, &program.with_context(what)?).with_context(what)?;
    }
    Ok(())
}
