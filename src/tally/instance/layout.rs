//! The names of an instance's folders and pins in bpffs.
//!
//! bpffs refuses names with a dot. An instance in a folder with a `+` is being made or
//! removed.

use std::fmt;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};

use super::meta::Meta;
use crate::error::usage;

/// The folders of an instance. Only `maps` and `iterators` are for readers: a
/// descriptor of a program can run it, and that of a link can cut it.
pub(super) const MAPS: &str = "maps";
/// Of the storage of tasks: each pin is read like a file.
pub(super) const ITERATORS: &str = "iterators";
pub(super) const SLOTS: &str = "slots";
pub(super) const DISPATCHERS: &str = "entries";
pub(super) const PROGRAMS: &str = "programs";
pub(super) const LINKS: &str = "links";
/// Of an instance that can be rotated: the tables of its second set, and programs
/// that count in them. All other maps belong to both sets.
pub(super) const MAPS_1: &str = "maps@1";
pub(super) const PROGRAMS_1: &str = "programs@1";
/// Links first: without them nothing counts any more.
pub(super) const FOLDERS: [&str; 8] = [
    LINKS,
    DISPATCHERS,
    SLOTS,
    PROGRAMS,
    PROGRAMS_1,
    ITERATORS,
    MAPS,
    MAPS_1,
];
/// By the number of the set.
pub(super) const MAPS_OF: [&str; 2] = [MAPS, MAPS_1];
pub(super) const PROGRAMS_OF: [&str; 2] = [PROGRAMS, PROGRAMS_1];

/// The pins beside the folders.
pub(super) const META: &str = "meta";
pub(super) const STATE: &str = "state";
pub(super) const BTF: &str = "btf";
/// Which set counts, of an instance that can be rotated.
pub(super) const ROTATION: &str = "rotation";
/// The frozen copy of the state, and its name until readers may open it.
pub(super) const STOPPED: &str = "stopped";
pub(super) const UNFINISHED: &str = "+stopped";
/// What was under way when it stopped: the tasks that have it may end.
pub(super) const STARTS: &str = "starts";
/// All of them. `meta` is removed last.
pub(super) const WORDS: [&str; 7] = [STATE, STOPPED, UNFINISHED, STARTS, BTF, ROTATION, META];

/// The name of an instance, and of its folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InstanceName(String);

impl InstanceName {
    const MAX_LEN: usize = 64;

    /// 1 to 64 letters, digits, `_` and `-`, of which the first is not `-`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let is_name = (1..=Self::MAX_LEN).contains(&text.len())
            && text.chars().all(is_word)
            && !text.starts_with('-');
        if is_name {
            return Ok(Self(text.to_owned()));
        }
        let mut shown: String = text.chars().take(Self::MAX_LEN).collect();
        if shown.len() < text.len() {
            shown += "...";
        }
        Err(usage(format!(
            "`{shown}` is not an instance name: letters, digits, `_` and `-`, 1 to {} of them",
            Self::MAX_LEN
        )))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The pin of a map. Names of objects have no dot, so the section `x.rodata` is
/// `@rodata`.
pub(super) fn pin_name(map: &str) -> String {
    match map.find('.') {
        Some(dot) => map[dot..].replace('.', "@"),
        None => map.to_owned(),
    }
}

/// Whether a pin is of constants, which each load of an object has of its own.
pub(super) fn is_constant(pin: &str) -> bool {
    pin.starts_with("@rodata") || pin.starts_with("@kconfig")
}

/// Whether it is one name in bpffs, so that it cannot lead to another folder.
pub(super) fn is_pin_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(['/', '.', '\0'])
}

/// The names in a folder, sorted.
pub(super) fn names(folder: &Path) -> Result<Vec<String>> {
    let names = fs::read_dir(folder).and_then(|entries| {
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect::<io::Result<Vec<_>>>()
    });
    let mut names = names.map_err(|error| unreadable(folder, &error))?;
    names.sort();
    Ok(names)
}

/// Paths in an instance's folder that ktally did not pin.
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
        let pins = names(&folder.join(&name))?.into_iter();
        let pins = pins.map(|pin| format!("{name}/{pin}"));
        let strange = pins.filter(|pin| !meta.pins.contains(pin));
        found.extend(strange.map(|pin| folder.join(pin)));
    }
    Ok(found)
}

pub(super) fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(folder)
}

pub(super) fn unreadable(folder: &Path, error: &io::Error) -> anyhow::Error {
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
    use crate::error::Usage;

    #[test]
    fn instance_names_are_plain() {
        for good in ["a", "A-1_b", "9", "_x", &"x".repeat(64)] {
            assert_eq!(InstanceName::parse(good).unwrap().as_str(), good);
        }
        let long = ["x".repeat(65), "x".repeat(300)];
        let bad = [
            "", "../x", "a/b", "a b", ".", "a.b", "+a", "-a", "@a", "é", "a\n",
        ];
        for bad in bad.into_iter().chain(long.iter().map(String::as_str)) {
            let error = InstanceName::parse(bad).unwrap_err();
            assert!(error.is::<Usage>(), "{bad:?}");
            assert!(error.to_string().len() < 200, "{error}");
        }
    }

    #[test]
    fn sections_are_pinned_without_dots() {
        assert_eq!(pin_name("syscalls.rodata"), "@rodata");
        assert_eq!(pin_name(".bss.ktally"), "@bss@ktally");
        assert_eq!(pin_name("counts"), "counts");
    }
}
