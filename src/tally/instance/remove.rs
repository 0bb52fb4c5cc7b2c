//! Taking an instance apart: links first, then what they ran, then the rest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::folder::{ENTRIES, FOLDERS, LINKS, PROGRAMS, SLOTS, names, strangers_in};
use super::meta::{BTF, Goal, META, Meta, STATE, State};
use super::{missed_of, monotonic_now};
use crate::sys;

/// Cuts the links and waits for programs that are running, then says that the
/// counts are final. What is needed to read them stays.
pub(super) fn stop(folder: &Path) -> Result<()> {
    let meta = Meta::open(folder)?;
    let (_, state) = State::open(folder)?;
    cut_links(folder, &meta)?;
    let stopped = State {
        stopped_at: Some(state.stopped_at.unwrap_or_else(monotonic_now)),
        missed: state
            .missed
            .or_else(|| missed_of(folder, &meta).ok().flatten()),
        ..state
    };
    stopped.write(folder)?;
    if stopped.goal == Goal::Keep {
        for kind in [ENTRIES, SLOTS, PROGRAMS] {
            unpin_all(folder, &meta, kind)?;
        }
    }
    Ok(())
}

fn cut_links(folder: &Path, meta: &Meta) -> Result<()> {
    unpin_all(folder, meta, LINKS)?;
    sys::rcu_grace_period().unwrap_or_else(|_| {
        // Kernels with nohz_full CPUs refuse it. No program runs this long.
        std::thread::sleep(std::time::Duration::from_millis(100));
    });
    Ok(())
}

/// Removes all that is the instance's; what is not stays, and is returned.
pub(super) fn remove(folder: &Path) -> Result<Vec<PathBuf>> {
    let strangers = strangers_in(folder)?;
    let meta = Meta::open(folder)?;
    for kind in FOLDERS {
        unpin_all(folder, &meta, kind)?;
        remove_folder(&folder.join(kind))?;
    }
    // Until now it can be seen what this was.
    for pin in [BTF, STATE, META] {
        unpin(&folder.join(pin))?;
    }
    remove_folder(folder)?;
    Ok(strangers)
}

/// The same for a name that only ktally uses: all that is in it goes, but what
/// was in it when it still had another name.
pub(super) fn remove_hidden(folder: &Path) -> Result<Vec<PathBuf>> {
    if Meta::open(folder).is_ok() {
        return remove(folder);
    }
    for kind in FOLDERS.map(|kind| folder.join(kind)) {
        for name in names(&kind).unwrap_or_default() {
            unpin(&kind.join(name))?;
        }
        remove_folder(&kind)?;
    }
    for pin in [BTF, STATE, META] {
        unpin(&folder.join(pin))?;
    }
    remove_folder(folder)?;
    Ok(Vec::new())
}

fn unpin_all(folder: &Path, meta: &Meta, kind: &str) -> Result<()> {
    let of_kind = |pin: &&String| pin.split('/').next() == Some(kind);
    for pin in meta.pins.iter().filter(of_kind) {
        unpin(&folder.join(pin))?;
    }
    Ok(())
}

/// It may be gone already.
fn unpin(pin: &Path) -> Result<()> {
    match fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove the pin `{}`", pin.display()))
        }
        _ => Ok(()),
    }
}

/// Not if somebody else's is in it.
fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir(folder) {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Err(error).with_context(|| format!("failed to remove `{}`", folder.display()))
        }
        _ => Ok(()),
    }
}
