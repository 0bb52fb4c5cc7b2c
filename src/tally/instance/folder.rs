//! The folder of all instances: its lock, the names in it, and what commands
//! that were killed have left there.
//!
//! A folder of bpffs takes no names with a dot. One that begins with `+` is
//! being made or removed: who holds the lock and finds one knows that its
//! maker is dead.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use nix::unistd::geteuid;

use super::meta::{Goal, META, Meta, STOPPED, State, WORDS};
use super::{access, remove, slots};
use crate::error::{NotFound, not_found, usage};
use crate::host;

/// The folders of an instance. Only `maps` is for readers: who has a descriptor
/// of a program can run it, and who has one of a link can cut it.
pub(super) const MAPS: &str = "maps";
pub(super) const SLOTS: &str = "slots";
pub(super) const ENTRIES: &str = "entries";
pub(super) const PROGRAMS: &str = "programs";
pub(super) const LINKS: &str = "links";
/// Links first: without them nothing counts any more.
pub(super) const FOLDERS: [&str; 5] = [LINKS, ENTRIES, SLOTS, PROGRAMS, MAPS];

/// The name of an instance: also that of its folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label(String);

impl Label {
    const LONGEST: usize = 64;

    /// Letters, digits, `_` and `-`, at most 64, no `-` at first.
    pub fn parse(text: &str) -> Result<Self> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let is_good = !text.is_empty()
            && text.len() <= Self::LONGEST
            && text.chars().all(is_word)
            && !text.starts_with('-');
        if is_good {
            return Ok(Self(text.to_owned()));
        }
        let mut shown: String = text.chars().take(Self::LONGEST).collect();
        if shown.len() < text.len() {
            shown += "...";
        }
        Err(usage(format!(
            "`{shown}` is no label: letters, digits, `_` and `-`, 1 to {} of them",
            Self::LONGEST
        )))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The folder of all instances.
#[derive(Debug)]
pub struct Folder {
    pub(super) path: PathBuf,
    /// What was found half-made, half-removed or foreign, for people.
    pub notes: Vec<String>,
    // Nothing changes here without it; gone with the process, however it ends.
    lock: Option<File>,
}

impl Folder {
    /// Where instances are pinned.
    pub fn path() -> PathBuf {
        Path::new(host::BPFFS).join("ktally")
    }

    /// To be changed: made if it is not there, and nobody else changes it.
    /// `waiting` tells that another ktally has it.
    pub fn open(waiting: impl Fn()) -> Result<Self> {
        let path = Self::path();
        let missing = host::missing_capabilities();
        if !missing.is_empty() {
            bail!(
                "failed to open `{}`: needs {}; run it as root",
                path.display(),
                missing.join(" and ")
            );
        }
        host::mount_bpffs_for(&path)?;
        let lock = loop {
            make(&path).or_else(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => Ok(()),
                _ => Err(error).with_context(|| format!("failed to make `{}`", path.display())),
            })?;
            let mut lock = lock(&path, File::try_lock)?;
            if lock.is_none() && path.exists() {
                waiting();
                lock = self::lock(&path, |file| file.lock().map_err(TryLockError::Error))?;
            }
            // Whoever held the lock before may have removed the folder.
            if let Some(lock) = lock.filter(|lock| is_still(lock, &path)) {
                check(&path)?;
                break lock;
            }
        };
        let mut folder = Self {
            path,
            notes: Vec::new(),
            lock: Some(lock),
        };
        folder.clean()?;
        Ok(folder)
    }

    /// To be looked at; `None` where there is none, so nothing is attached.
    /// Leftovers are removed if nobody is just making them.
    pub fn look() -> Result<Option<Self>> {
        let path = Self::path();
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(&path, &error)),
            Ok(_) => {}
        }
        let mut folder = Self {
            path,
            notes: Vec::new(),
            lock: None,
        };
        check(&folder.path)?;
        if geteuid().is_root() {
            let lock = lock(&folder.path, File::try_lock)?;
            let Some(lock) = lock.filter(|lock| is_still(lock, &folder.path)) else {
                return Ok(folder.path.exists().then_some(folder));
            };
            folder.lock = Some(lock);
            folder.clean()?;
        }
        Ok(Some(folder))
    }

    /// Removes it, if nothing is left in it.
    pub fn close(self) {
        if self.lock.is_some() {
            let _ = fs::remove_dir(&self.path);
        }
    }

    /// The folder of an instance, which need not be there.
    pub(super) fn of(&self, label: &Label) -> PathBuf {
        self.path.join(label.as_str())
    }

    /// Where an instance is made, or what it replaced is removed.
    pub(super) fn hidden(&self, label: &Label) -> PathBuf {
        self.path.join(format!("+{label}"))
    }

    /// Where an old instance is for a moment, on kernels that cannot exchange.
    pub(super) fn aside(&self, label: &Label) -> PathBuf {
        self.path.join(format!("+{label}+old"))
    }

    /// The instances, by name. What is no instance is not among them.
    pub fn labels(&self) -> Result<Vec<Label>> {
        let mut labels: Vec<Label> = names(&self.path)?
            .iter()
            .filter_map(|name| Label::parse(name).ok())
            .filter(|label| self.of(label).join(META).exists())
            .collect();
        labels.sort();
        Ok(labels)
    }

    /// What stands in the folder and is nothing of ours.
    pub fn strangers(&self) -> Result<Vec<PathBuf>> {
        let known = self.labels()?;
        let mut found: Vec<PathBuf> = names(&self.path)?
            .into_iter()
            .filter(|name| !name.starts_with('+') && name != access::MODE)
            .filter(|name| !known.iter().any(|label| label.as_str() == name))
            .map(|name| self.path.join(name))
            .collect();
        for label in &known {
            // What cannot be opened is reported as such.
            if let Ok(meta) = Meta::open(&self.of(label)) {
                found.extend(strangers_in(&self.of(label), &meta)?);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Finishes what commands that were killed have begun. Failures are noted;
    /// the rest is still cleaned up.
    fn clean(&mut self) -> Result<()> {
        for name in names(&self.path)? {
            let hidden = name.strip_prefix('+').unwrap_or_default();
            if let Ok(label) = Label::parse(hidden.trim_end_matches("+old")) {
                let done = self.finish_making(&label);
                self.note_failure(&label, done);
            }
        }
        for label in self.labels()? {
            let done = self.finish_removing(&label);
            self.note_failure(&label, done);
        }
        self.restore_modes();
        Ok(())
    }

    /// After the last instance that others may read is gone.
    pub(super) fn restore_modes(&mut self) {
        if let Err(error) = access::restore(self) {
            self.note(format!("failed to restore the mode of bpffs: {error:#}"));
        }
    }

    fn finish_making(&mut self, label: &Label) -> Result<()> {
        // One that was set aside is the instance, if nothing is in its place.
        let (place, aside) = (self.of(label), self.aside(label));
        if aside.exists() && !place.exists() {
            fs::rename(&aside, &place)?;
        }
        for leftover in [aside, self.hidden(label)] {
            if leftover.exists() {
                self.finish_leftover(label, &leftover)?;
            }
        }
        Ok(())
    }

    fn finish_removing(&mut self, label: &Label) -> Result<()> {
        let folder = self.of(label);
        match State::open(&folder) {
            // Where something is to stay, an instance is taken apart in its place.
            Err(error) if error.is::<NotFound>() => {
                let left = remove::take_apart(&folder, &folder)?;
                self.note(format!(
                    "instance `{label}` was half removed by a ktally that was killed; removed the rest"
                ));
                self.note_strangers(&left);
            }
            Ok(state) if state.goal == Goal::Keep && !folder.join(STOPPED).exists() => {
                remove::stop(&folder)?;
                self.note(format!(
                    "instance `{label}` was being stopped by a ktally that was killed; stopped it"
                ));
            }
            state => drop(state?),
        }
        Ok(())
    }

    /// The programs of the instance that is in place are those that count.
    fn finish_leftover(&mut self, label: &Label, leftover: &Path) -> Result<()> {
        let place = self.of(label);
        let is_counting =
            |folder: &Path| State::open(folder).map(|state| state.goal == Goal::Count);
        let was = if let Ok(true) = is_counting(&place) {
            slots::fill_from(&place, &Meta::open(&place)?)?;
            "being replaced"
        } else if leftover.join(META).exists() && !is_counting(leftover).unwrap_or(false) {
            "half removed"
        } else {
            "being made"
        };
        let left = remove::remove_hidden(leftover, &place)?;
        self.note(format!(
            "instance `{label}` was {was} by a ktally that was killed; removed what it left"
        ));
        self.note_strangers(&left);
        Ok(())
    }

    fn note_failure(&mut self, label: &Label, done: Result<()>) {
        if let Err(error) = done {
            self.note(format!(
                "failed to put instance `{label}` in order: {error:#}"
            ));
        }
    }

    fn note(&mut self, what: String) {
        self.notes.push(what);
    }

    pub(super) fn note_strangers(&mut self, left: &[PathBuf]) {
        for path in left {
            self.note(format!(
                "left `{}` alone: ktally did not pin it",
                path.display()
            ));
        }
    }
}

/// What is in an instance's folder that it does not know.
pub(super) fn strangers_in(folder: &Path, meta: &Meta) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for name in names(folder)? {
        if WORDS.contains(&name.as_str()) {
            continue;
        }
        if !FOLDERS.contains(&name.as_str()) {
            found.push(folder.join(name));
            continue;
        }
        for pin in names(&folder.join(&name))? {
            let pin = format!("{name}/{pin}");
            if !meta.pins.contains(&pin) {
                found.push(folder.join(pin));
            }
        }
    }
    Ok(found)
}

/// The names in a folder, sorted.
pub(super) fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(folder, &error))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// For its owner alone.
pub(super) fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(folder)
}

/// bpffs may be open to everyone, and then anyone could have been first.
pub(super) fn check(folder: &Path) -> Result<()> {
    let metadata = fs::symlink_metadata(folder).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => not_found(format!("there is no `{}`", folder.display())),
        _ => unreadable(folder, &error),
    })?;
    let shown = folder.display();
    if !metadata.is_dir() {
        bail!("`{shown}` is not a folder, so it is not ktally's; remove it");
    }
    if access::is_open_to_others(&metadata) {
        bail!("`{shown}` belongs to others, or others may write to it; remove it");
    }
    Ok(())
}

/// `None` where the folder is gone, or another process has the lock.
fn lock(folder: &Path, take: impl Fn(&File) -> Result<(), TryLockError>) -> Result<Option<File>> {
    let shown = folder.display();
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
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) => bail!("failed to lock `{shown}`: {error}"),
        }
    }
}

/// Whether a path still leads to an open folder.
fn is_still(open: &File, path: &Path) -> bool {
    let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let there = fs::metadata(path).map(inode);
    matches!((open.metadata().map(inode), there), (Ok(a), Ok(b)) if a == b)
}

fn unreadable(folder: &Path, error: &io::Error) -> anyhow::Error {
    let shown = folder.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            anyhow!("failed to look into `{shown}`: its mode does not let you; run it as root")
        }
        _ => anyhow!("failed to look into `{shown}`: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_plain_names() {
        for good in ["a", "A-1_b", "9", "_x", &"x".repeat(64)] {
            assert_eq!(Label::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "../x",
            "a/b",
            "a b",
            ".",
            "a.b",
            "+a",
            "-a",
            "@a",
            "é",
            "a\n",
            &"x".repeat(65),
            &"x".repeat(300),
        ] {
            let error = Label::parse(bad).unwrap_err();
            assert!(error.is::<crate::error::Usage>(), "{bad:?}");
            assert!(error.to_string().len() < 200, "{error}");
        }
    }
}
