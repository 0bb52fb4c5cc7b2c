//! Dispatchers: what the links of an instance run. A dispatcher only calls the program
//! of its slot, so one update of the slot replaces the program: an event runs the old
//! program or the new one, never both or neither. The kernel counts missed runs with
//! the dispatcher, so they survive a replacement.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapType, Object};

use super::layout::{DISPATCHERS, PROGRAMS, PROGRAMS_OF, SLOTS};
use super::meta::Meta;
use super::pinned::{if_found, open_map};
use super::rotation::Rotation;
use crate::map::{Access, Map, NewMap, create};
use crate::schema::Schema;
use crate::sys;

/// A dispatcher that took the place of its program.
pub(super) struct Dispatcher {
    pub(super) name: String,
    own: OwnedFd,
    program: OwnedFd,
    /// A `BPF_MAP_TYPE_PROG_ARRAY` of one slot.
    slot: Map,
}

impl Dispatcher {
    pub(super) fn pin(&self, folder: &Path) -> Result<()> {
        pin(&self.slot, folder, SLOTS, &self.name)?;
        pin(&self.own, folder, DISPATCHERS, &self.name)?;
        self.pin_program(folder)
    }

    pub(super) fn pin_program(&self, folder: &Path) -> Result<()> {
        pin(&self.program, folder, PROGRAMS, &self.name)
    }
}

pub(super) fn pin(object: &impl AsFd, folder: &Path, kind: &str, name: &str) -> Result<()> {
    let path = folder.join(kind).join(name);
    sys::map::pin(object.as_fd(), &path)
        .with_context(|| format!("failed to pin to `{}`", path.display()))
}

/// Puts a dispatcher in the place of each program, so that it is attached instead.
/// Sleepable programs can have none; `warnings` gets their names.
pub(super) fn insert(
    object: &mut Object,
    schema: &Schema,
    warnings: &mut Vec<String>,
) -> Result<Vec<Dispatcher>> {
    let mut inserted = Vec::new();
    for program in object.progs_mut().filter(|program| program.autoload()) {
        let name = program.name().to_string_lossy().into_owned();
        if schema.runs_on_request(&name) {
            continue;
        }
        let section = program.section().to_string_lossy().into_owned();
        let target = section.split_once('/').map_or("", |(_, target)| target);
        let what = || format!("failed to make a dispatcher for program `{name}`");
        let info = sys::program::info(program.as_fd()).with_context(what)?;
        let attach_type = program.attach_type() as u32;
        let slot = new_slot(&name).with_context(what)?;
        let original = program.as_fd().try_clone_to_owned().with_context(what)?;
        let own = sys::program::load_dispatcher(&name, &info, attach_type, target, slot.as_fd());
        let own = match own {
            Err(error) if is_refused(&error) => {
                warnings.push(format!(
                    "program `{name}` ({section}) has no dispatcher, as this kernel refuses one: `attach --replace` cannot replace it"
                ));
                continue;
            }
            own => own.with_context(what)?,
        };
        fill(&slot, &original).with_context(what)?;
        sys::program::replace_fd(program.as_fd(), own.as_fd()).with_context(what)?;
        inserted.push(Dispatcher {
            name,
            own,
            program: original,
            slot,
        });
    }
    Ok(inserted)
}

/// Whether the kernel refuses the program itself, and did not run out of something.
fn is_refused(error: &io::Error) -> bool {
    const ENOTSUPP: i32 = 524;
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP)
    )
}

fn new_slot(program: &str) -> Result<Map> {
    let new = NewMap {
        type_number: MapType::ProgArray as u32,
        name: program.chars().take(15).collect(),
        key_size: 4,
        value_size: 4,
        max_entries: 1,
        flags: 0,
    };
    create(&new, None, None)
}

fn fill(slot: &Map, program: &OwnedFd) -> Result<()> {
    let put = slot.put(&[0; 4], program.as_fd());
    put.context("failed to put a program into its slot")
}

/// Fills the slots, so that the programs in this folder count, those of the set that
/// is to count, and no others.
pub(super) fn run_programs_of(folder: &Path, meta: &Meta) -> Result<()> {
    let live = Rotation::open(folder)?.map_or(0, |rotation| rotation.live());
    let programs = folder.join(PROGRAMS_OF[live]);
    for program in meta.programs.iter().filter(|it| it.has_dispatcher) {
        let what = || format!("program `{}`", program.name);
        let new = sys::program::open_pin(&programs.join(&program.name));
        let slot = open_slot(folder, &program.name);
        fill(&slot.with_context(what)?, &new.with_context(what)?).with_context(what)?;
    }
    Ok(())
}

/// Empties the slots, so that nothing counts any more. The kernel releases a link some
/// time after its last pin is gone, and until then runs the dispatcher.
pub(super) fn stop_programs_of(folder: &Path, meta: &Meta) -> Result<()> {
    for program in meta.programs.iter().filter(|it| it.has_dispatcher) {
        let what = || format!("program `{}`", program.name);
        // A call that was killed may have removed the slot.
        if let Some(slot) = if_found(open_slot(folder, &program.name)).with_context(what)? {
            slot.delete(&[0; 4]).with_context(what)?;
        }
    }
    Ok(())
}

/// Checks the type, because any map may be pinned under that name.
fn open_slot(folder: &Path, program: &str) -> Result<Map> {
    let slot = open_map(&folder.join(SLOTS).join(program), Access::Write)?;
    ensure!(
        slot.ty == MapType::ProgArray,
        "map {} is not an array of programs",
        slot.title()
    );
    Ok(slot)
}
