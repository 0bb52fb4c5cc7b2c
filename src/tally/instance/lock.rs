//! The folder of all instances, and its lock. Only the holder of the lock creates or
//! removes something there; the kernel releases the lock when its process ends.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;

use super::access;
use super::layout::{InstanceName, META, make, names, strangers_in, unreadable};
use super::meta::Meta;
use super::pinned::if_found;
use crate::error::not_found;
use crate::host;

#[derive(Debug)]
pub(crate) struct Instances {
    pub(super) path: PathBuf,
    /// Messages about what was half-made, half-removed or foreign.
    pub(crate) notes: Vec<String>,
    lock: Option<File>,
}

impl Instances {
    pub(crate) fn path() -> PathBuf {
        Path::new(host::BPFFS).join("ktally")
    }

    /// Creates the folder if it is missing, and locks it. Calls `waiting` if another
    /// process has the lock.
    pub(crate) fn open(waiting: impl Fn()) -> Result<Self> {
        let path = Self::path();
        if let Some(lack) = host::lacks_capabilities() {
            bail!("failed to open `{}`: {lack}", path.display());
        }
        host::mount_bpffs_for(&path)?;
        loop {
            make(&path).or_else(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => Ok(()),
                _ => Err(error).with_context(|| format!("failed to make `{}`", path.display())),
            })?;
            let mut lock = lock(&path, File::try_lock)?;
            if lock.is_none() && path.exists() {
                waiting();
                lock = self::lock(&path, |file| file.lock().map_err(TryLockError::Error))?;
            }
            // Its last holder may have removed the folder.
            if lock.is_some() {
                check(&path)?;
                return Self::new(path, lock);
            }
        }
    }

    /// Opens the folder for reading; `None` if nothing is attached. Removes leftovers
    /// if no other process has the lock.
    pub(crate) fn look() -> Result<Option<Self>> {
        let path = Self::path();
        if if_found(check(&path))?.is_none() {
            return Ok(None);
        }
        if !geteuid().is_root() {
            return Self::new(path, None).map(Some);
        }
        let lock = lock(&path, File::try_lock)?;
        if lock.is_none() && !path.exists() {
            return Ok(None);
        }
        Self::new(path, lock).map(Some)
    }

    /// The names of what is attached now. Takes no lock, and changes nothing.
    pub(crate) fn attached() -> Result<Vec<InstanceName>> {
        let path = Self::path();
        let names = if_found(check(&path).and_then(|()| instances_in(&path)))?;
        Ok(names.unwrap_or_default())
    }

    fn new(path: PathBuf, lock: Option<File>) -> Result<Self> {
        let notes = Vec::new();
        let mut instances = Self { path, notes, lock };
        if instances.lock.is_some() {
            instances.recover()?;
        }
        Ok(instances)
    }

    /// Removes the folder if it is empty.
    pub(crate) fn close(self) {
        if self.lock.is_some() {
            let _ = fs::remove_dir(&self.path);
        }
    }

    /// The folder of an instance, which need not exist.
    pub(super) fn folder(&self, name: &InstanceName) -> PathBuf {
        self.path.join(name.as_str())
    }

    /// Where an instance is made, or a replaced one removed.
    pub(super) fn hidden(&self, name: &InstanceName) -> PathBuf {
        self.path.join(format!("+{name}"))
    }

    /// Where the old instance is for a moment on kernels that cannot exchange folders.
    pub(super) fn aside(&self, name: &InstanceName) -> PathBuf {
        self.path.join(format!("+{name}+old"))
    }

    pub(crate) fn names(&self) -> Result<Vec<InstanceName>> {
        instances_in(&self.path)
    }

    /// The names without the lock: what a killed maker left stays as it is.
    pub(crate) fn glance() -> Result<Vec<InstanceName>> {
        instances_in(&Self::path())
    }

    /// Paths in the folder that are not ktally's. A reader without privileges cannot
    /// tell them apart, and gets none.
    pub(crate) fn strangers(&self) -> Result<Vec<PathBuf>> {
        if !geteuid().is_root() {
            return Ok(Vec::new());
        }
        let known = self.names()?;
        let is_known = |name: &str| known.iter().any(|known| known.as_str() == name);
        let mut found = names(&self.path)?;
        found.retain(|name| !name.starts_with('+') && name != access::MODE && !is_known(name));
        let mut found: Vec<PathBuf> = found.iter().map(|name| self.path.join(name)).collect();
        for name in &known {
            // `status` reports those that cannot be opened.
            if let Ok(meta) = Meta::open(&self.folder(name)) {
                found.extend(strangers_in(&self.folder(name), &meta)?);
            }
        }
        found.sort();
        Ok(found)
    }
}

/// If bpffs is open to everyone, another user may have created the folder first.
pub(super) fn check(folder: &Path) -> Result<()> {
    let shown = folder.display();
    let metadata = fs::symlink_metadata(folder).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => not_found(format!("there is no `{shown}`")),
        _ => unreadable(folder, &error),
    })?;
    if !metadata.is_dir() {
        bail!("`{shown}` is not a folder, so it is not ktally's; remove it");
    }
    if access::is_open_to_others(&metadata) {
        bail!("`{shown}` belongs to others, or others may write to it; remove it");
    }
    Ok(())
}

/// `None` if the folder is gone, or another process has the lock.
fn lock(folder: &Path, take: impl Fn(&File) -> Result<(), TryLockError>) -> Result<Option<File>> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(folder);
    let file = match file {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| unreadable(folder, &error))?,
    };
    loop {
        match take(&file) {
            Ok(()) => return Ok(Some(file).filter(|file| is_still(file, folder))),
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) => {
                bail!("failed to lock `{}`: {error}", folder.display())
            }
        }
    }
}

/// Whether a path still leads to an open folder.
fn is_still(open: &File, path: &Path) -> bool {
    let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let there = fs::metadata(path).map(inode);
    matches!((open.metadata().map(inode), there), (Ok(a), Ok(b)) if a == b)
}

fn instances_in(folder: &Path) -> Result<Vec<InstanceName>> {
    let names = names(folder)?.into_iter();
    let names = names.filter_map(|name| InstanceName::parse(&name).ok());
    let is_instance = |name: &InstanceName| folder.join(name.as_str()).join(META).exists();
    Ok(names.filter(is_instance).collect())
}
