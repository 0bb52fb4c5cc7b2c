//! Opening, loading and running the BPF helpers of `src/bpf/internal/`.

use std::mem::MaybeUninit;

use anyhow::{Context, Result, anyhow, ensure};
use libbpf_rs::skel::SkelBuilder;
use libbpf_rs::{Object, ObjectBuilder, ProgramInput, ProgramMut};
use plain::Plain;

use super::Map;
use crate::host;
use crate::sys::log;

pub(super) fn open<B: SkelBuilder<'static> + Default>() -> Result<B::Output> {
    log::listen();
    // A skeleton borrows the place of its object. It frees the object; the place
    // itself, the size of a pointer, stays until the process ends.
    let place = Box::leak(Box::new(MaybeUninit::uninit()));
    Ok(B::default().open(place)?)
}

/// Loads one program of a helper, with its constants, and with `map` in the place
/// of its `PROGRAM_target`.
pub(super) fn load(
    object: &[u8],
    program: &str,
    map: &Map,
    constants: &(impl Plain + ?Sized),
) -> Result<Object> {
    // SAFETY: every byte of a `Plain` type is initialized.
    let constants = unsafe { plain::as_bytes(constants) };
    log::listen();
    let mut opened = ObjectBuilder::default().open_memory(object)?;
    for mut other in opened.progs_mut() {
        let is_wanted = other.name() == program;
        other.set_autoload(is_wanted);
    }
    let target = format!("{program}_target");
    for mut part in opened.maps_mut() {
        let name = part.name().to_string_lossy().into_owned();
        if name == target {
            part.reuse_fd(map.fd())?;
        } else if name.ends_with("_target") {
            part.set_autocreate(false)?;
        } else if name.ends_with(".rodata") {
            let rodata = part.initial_value_mut().unwrap_or_default();
            let is_same = rodata.len() == constants.len();
            ensure!(is_same, "the constants of the helper differ");
            rodata.copy_from_slice(constants);
        }
    }
    opened
        .load()
        .map_err(|error| match host::lacks_capabilities() {
            None => anyhow!("the kernel refused it: {error}{}", log::tail()),
            Some(lack) => anyhow!(lack),
        })
}

/// The loaded program of a helper.
pub(super) fn program(helper: &mut Object) -> Result<ProgramMut<'_>> {
    let mut programs = helper.progs_mut();
    let loaded = programs.find(|program| program.autoload());
    loaded.context("the helper has no program")
}

/// Runs a helper's `syscall` program, and returns its return value.
pub(super) fn run(helper: &mut Object, context: Option<&mut [u8]>) -> Result<u32> {
    let input = ProgramInput {
        context_in: context,
        ..Default::default()
    };
    let output = program(helper)?.test_run(input);
    Ok(output.context("failed to run a program")?.return_value)
}
