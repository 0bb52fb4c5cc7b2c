//! Cgroups of the unified hierarchy: paths, and what runs there, for the ids of
//! their directories.

mod containers;
mod find;
mod known;
#[cfg(test)]
mod tests;
mod workload;

use std::borrow::Cow;
use std::cell::RefCell;
use std::path::PathBuf;

use anyhow::Result;

use self::known::{Known, walk};
use super::registry::Decode;
use crate::host;

/// Every cgroup that was there at the last look. Those that have gone since keep
/// their names.
#[derive(Default)]
pub(super) struct Cgroups(RefCell<Known>);

impl Decode for Cgroups {
    /// The path of a cgroup, from the root of its hierarchy.
    fn name(&self, number: u128) -> Option<Cow<'static, str>> {
        let group = self.0.borrow_mut().group(number)?.path.clone();
        Some(group.into())
    }

    fn described(&self, number: u128, raw: bool) -> Option<String> {
        let mut known = self.0.borrow_mut();
        let group = known.group(number)?;
        Some(if raw { &group.path } else { &group.shown }.clone())
    }

    fn parse(&self, text: &str) -> Result<Option<i128>> {
        if text.starts_with("0x") {
            return Ok(None);
        }
        let mut known = self.0.borrow_mut();
        known.look_if_due();
        let mounts: Vec<PathBuf> = host::cgroup2_mounts().collect();
        Ok(Some(known.id(text, &mounts)?.into()))
    }

    fn offers(&self) -> Vec<String> {
        let mut known = self.0.borrow_mut();
        known.look_if_due();
        known
            .now()
            .map(|(_, group)| group.called().to_owned())
            .collect()
    }

    fn comes_and_goes(&self) -> bool {
        true
    }

    fn look(&self) -> bool {
        self.0.borrow_mut().look();
        true
    }
}

/// The directory of a cgroup, by its id.
pub(crate) fn cgroup_folder(id: u64) -> Option<PathBuf> {
    host::cgroup2_mounts().find_map(|mount| {
        let mut found = None;
        walk(&mount, |other, path| {
            if other == id {
                found = Some(mount.join(path.trim_start_matches('/')));
            }
            found.is_none()
        });
        found
    })
}
