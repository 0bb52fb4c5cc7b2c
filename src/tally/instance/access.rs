//! Who may read an instance: its owner, and with `--readable-by` the members of a
//! group. They may open maps with counts, but no programs and no links.
//!
//! The kernel checks only the mode of a pin: a map that was opened to be read can be
//! pinned elsewhere, and opened there to be written. So readers must not be able to
//! pin, and no map that they can open decides what is removed.

use std::fs::{self, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;

use super::layout::{BTF, ITERATORS, MAPS, MAPS_1, META, ROTATION, names};
use super::lock::Instances;
use super::pinned::{self, if_found};
use crate::error::usage;
use crate::host;

/// A pin beside the instances: the mode of bpffs before readers got access.
pub(super) const MODE: &str = "@mode";

/// Access to known names in bpffs, without listing it.
const PASS: u32 = 0o011;
/// Access to ktally's own folder, whose names are those of instances.
const LIST: u32 = 0o055;

/// The number of a group, which is given by name or number.
pub(crate) fn group_id(name: &str) -> Result<u32> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let group = nix::unistd::Group::from_name(name)
        .with_context(|| format!("failed to look up group `{name}`"))?;
    group
        .map(|group| group.gid.as_raw())
        .ok_or_else(|| usage(format!("there is no group `{name}`")))
}

/// Whether users other than root and this one may create names in a folder.
pub(super) fn is_open_to_others(folder: &Metadata) -> bool {
    ![0, geteuid().as_raw()].contains(&folder.uid()) || folder.mode() & 0o022 != 0
}

/// A folder of a bpffs where others may pin maps. Readers could use it to change what
/// they read.
pub(crate) fn pinnable_by_others() -> Result<Option<PathBuf>> {
    let mut folders = host::mounts_of("bpf");
    while let Some(folder) = folders.pop() {
        let metadata = match fs::symlink_metadata(&folder) {
            // Another mount may hide it, or it was just removed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            metadata => metadata.with_context(|| failed_to_look(&folder))?,
        };
        if !metadata.is_dir() {
            continue;
        }
        if is_open_to_others(&metadata) {
            return Ok(Some(folder));
        }
        folders.extend(names(&folder)?.iter().map(|name| folder.join(name)));
    }
    Ok(None)
}

/// Lets the members of a group read an instance.
pub(super) fn open_to(instance: &Path, group: u32) -> Result<()> {
    if let Some(folder) = pinnable_by_others()? {
        let shown = folder.display();
        bail!(
            "failed to let group {group} read it: others may pin maps in `{shown}`, so readers could change what they read; `chmod 0700 {shown}`, or mount bpffs with -o mode=0700"
        );
    }
    for folder in [MAPS, MAPS_1, ITERATORS].map(|kind| instance.join(kind)) {
        for pin in names(&folder)? {
            open_pin(&folder.join(pin), group)?;
        }
        open(&folder, group, 0o750)?;
    }
    for pin in [META, BTF, ROTATION].map(|pin| instance.join(pin)) {
        if pin.exists() {
            open_pin(&pin, group)?;
        }
    }
    open(instance, group, 0o750)
}

/// Lets the members of a group open one pin for reading.
pub(super) fn open_pin(pin: &Path, group: u32) -> Result<()> {
    open(pin, group, 0o640)
}

fn open(path: &Path, group: u32, mode: u32) -> Result<()> {
    chown(path, None, Some(group))
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .with_context(|| format!("failed to let group {group} read `{}`", path.display()))
}

/// Whose members may read an instance.
pub(crate) fn reader_of(instance: &Path) -> Result<Option<u32>> {
    let metadata = fs::metadata(instance).with_context(|| failed_to_look(instance))?;
    let is_open = metadata.mode() & 0o040 != 0;
    Ok(is_open.then_some(metadata.gid()))
}

/// Lets readers reach the instances. Returns messages about what changed.
pub(super) fn let_through(root: &Instances) -> Result<Vec<String>> {
    let bpffs = Path::new(host::BPFFS);
    let mut said = Vec::new();
    for (folder, more, what) in [(&*root.path, LIST, "list"), (bpffs, PASS, "pass through")] {
        let mode = mode_of(folder)?;
        if mode & more & 0o007 == more & 0o007 {
            continue;
        }
        if folder == bpffs && !root.path.join(MODE).exists() {
            pinned::pin_frozen(&root.path.join(MODE), &mode.to_ne_bytes())?;
        }
        set_mode(folder, mode | more)?;
        let (shown, mode) = (folder.display(), mode | more);
        said.push(format!(
            "everyone may now {what} `{shown}`: mode {mode:04o}"
        ));
    }
    Ok(said)
}

/// Undoes `let_through` once no instance has readers, unless the mode was changed
/// since.
pub(super) fn restore(root: &Instances) -> Result<()> {
    for name in root.names()? {
        if reader_of(&root.folder(&name))?.is_some() {
            return Ok(());
        }
    }
    if let Some(before) = if_found(pinned::read(&root.path.join(MODE)))? {
        let before: [u8; 4] = before[..].try_into().context("it has another size")?;
        let before = u32::from_ne_bytes(before) & 0o7777;
        if mode_of(Path::new(host::BPFFS))? == before | PASS {
            set_mode(Path::new(host::BPFFS), before)?;
        }
        fs::remove_file(root.path.join(MODE))?;
    }
    if [0o700 | LIST, 0o700 | PASS].contains(&mode_of(&root.path)?) {
        set_mode(&root.path, 0o700)?;
    }
    Ok(())
}

fn mode_of(folder: &Path) -> Result<u32> {
    let metadata = fs::metadata(folder).with_context(|| failed_to_look(folder))?;
    Ok(metadata.mode() & 0o7777)
}

fn set_mode(folder: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(mode))
        .with_context(|| format!("failed to give `{}` mode {mode:04o}", folder.display()))
}

fn failed_to_look(path: &Path) -> String {
    format!("failed to look at `{}`", path.display())
}
