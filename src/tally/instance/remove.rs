//! Stopping and removing an instance.

use std::fs;
use std::io::{self, ErrorKind::DirectoryNotEmpty, ErrorKind::NotFound};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::attach::put_in_place;
use super::dispatch;
use super::layout::{
    DISPATCHERS, FOLDERS, InstanceName, LINKS, PROGRAMS, PROGRAMS_1, SLOTS, STARTS, STATE,
    UNFINISHED, WORDS, names, strangers_in,
};
use super::lock::Instances;
use super::meta::Meta;
use super::pinned::{self, if_found};
use super::state::State;
use super::{access, open_programs, schema_of, states_of};
use crate::sys;
use crate::tally::reader::missed;
use crate::tally::under_way::monotonic_now;

/// Empties the slots, cuts the links, waits for running programs, then marks the counts
/// as final. What readers need stays. If the process is killed, another call goes on.
pub(super) fn stop(folder: &Path) -> Result<()> {
    let meta = Meta::open(folder)?;
    let now = monotonic_now();
    let mut state = State {
        is_stopping: true,
        ..State::open(folder)?
    };
    state.write(folder)?;
    dispatch::stop_programs_of(folder, &meta)?;
    unpin_all(folder, &meta, LINKS)?;
    sys::wait_for_programs().context("failed to wait for running programs")?;
    if state.stopped_at.is_none() {
        pin_starts(folder, &meta, now)?;
        state.stopped_at = Some(now);
        let programs = open_programs(folder, &meta)?;
        let missed = programs.map_or(Ok(None), |programs| missed(&programs))?;
        let missed: Option<Vec<u64>> = missed.map(|it| it.into_iter().map(|(_, n)| n).collect());
        state.missed = missed.as_ref().map(|missed| missed.iter().sum());
        // An earlier version left no space for them.
        let missed_by = missed.filter(|missed| missed.len() == state.missed_by.len());
        state.missed_by = missed_by.unwrap_or(vec![0; state.missed_by.len()]);
        state.write(folder)?;
    }
    for kind in [DISPATCHERS, SLOTS, PROGRAMS, PROGRAMS_1] {
        unpin_all(folder, &meta, kind)?;
    }
    unpin(&folder.join(UNFINISHED))?;
    state.publish(folder)
}

/// Keeps what is under way, for all who may read the tables.
fn pin_starts(folder: &Path, meta: &Meta, now: u64) -> Result<()> {
    let (schema, _) = schema_of(folder, meta)?;
    if schema.under_way.is_empty() {
        return Ok(());
    }
    let kept = states_of(&schema, folder, meta)?.keep(now)?;
    let pin = folder.join(STARTS);
    unpin(&pin)?;
    pinned::pin_frozen(&pin, &serde_json::to_vec(&kept)?)?;
    access::reader_of(folder)?.map_or(Ok(()), |group| access::open_pin(&pin, group))
}

/// Removes all pins of the instance. Returns the pins that are not its own, which stay.
pub(super) fn remove(root: &Instances, name: &InstanceName) -> Result<Vec<PathBuf>> {
    let (place, hidden) = (root.folder(name), root.hidden(name));
    put_in_place(&place, &hidden)?;
    take_apart(&hidden, &place)
}

/// Removes an instance, `meta` last, as it lists the pins. Foreign pins keep their
/// paths.
pub(super) fn take_apart(folder: &Path, place: &Path) -> Result<Vec<PathBuf>> {
    let meta = Meta::open(folder)?;
    for kind in FOLDERS {
        unpin_all(folder, &meta, kind)?;
        remove_folder(&folder.join(kind))?;
    }
    // Without `state`, an instance is to be removed even in its place.
    unpin(&folder.join(STATE))?;
    let has_strangers = !strangers_in(folder, &meta)?.is_empty();
    if has_strangers && folder != place {
        put_in_place(folder, place)?;
    }
    let folder = if has_strangers { place } else { folder };
    remove_words(folder)?;
    if has_strangers {
        strangers_in(place, &meta)
    } else {
        Ok(Vec::new())
    }
}

/// The same for a hidden folder, which only ktally uses: without `meta`, all of it is
/// removed.
pub(super) fn remove_hidden(folder: &Path, place: &Path) -> Result<Vec<PathBuf>> {
    if if_found(Meta::open(folder))?.is_some() {
        return take_apart(folder, place);
    }
    for kind in FOLDERS.map(|kind| folder.join(kind)) {
        for name in names(&kind).unwrap_or_default() {
            unpin(&kind.join(name))?;
        }
        remove_folder(&kind)?;
    }
    remove_words(folder)?;
    Ok(Vec::new())
}

fn remove_words(folder: &Path) -> Result<()> {
    for pin in WORDS {
        unpin(&folder.join(pin))?;
    }
    remove_folder(folder)
}

fn unpin_all(folder: &Path, meta: &Meta, kind: &str) -> Result<()> {
    let mut pins = meta.pins_of(std::slice::from_ref(&kind));
    pins.try_for_each(|(kind, name)| unpin(&folder.join(kind).join(name)))
}

fn unpin(pin: &Path) -> Result<()> {
    let removed = unless(&[NotFound], fs::remove_file(pin));
    removed.with_context(|| format!("failed to remove the pin `{}`", pin.display()))
}

fn remove_folder(folder: &Path) -> Result<()> {
    let removed = unless(&[NotFound, DirectoryNotEmpty], fs::remove_dir(folder));
    removed.with_context(|| format!("failed to remove `{}`", folder.display()))
}

/// Errors of these kinds are fine: a killed call got as far, or foreign pins stay.
fn unless(fine: &[io::ErrorKind], removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| match fine.contains(&error.kind()) {
        true => Ok(()),
        false => Err(error),
    })
}
