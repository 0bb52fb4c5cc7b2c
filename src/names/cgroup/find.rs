//! Which cgroup a text means.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, statfs};

use super::known::{Group, Known};
use super::workload::Workload;
use crate::error::unknown_text;
use crate::host;

impl Known {
    /// A cgroup's id, from a number, a path, or what people call it.
    pub(super) fn id(&self, text: &str, mounts: &[PathBuf]) -> Result<u64> {
        let number = text.parse().ok();
        let known = number.filter(|id| self.groups.contains_key(id));
        if let Some(id) = known.or_else(|| at_path(text, mounts)) {
            return Ok(id);
        }
        match self.called(text)[..] {
            [] => number.ok_or_else(|| self.unknown(text, mounts)),
            [(id, _)] => Ok(id),
            ref several => Err(ambiguous(text, several)),
        }
    }

    /// The cgroups that people call this, without those below one of them.
    fn called(&self, text: &str) -> Vec<(u64, &Group)> {
        let is_called = |group: &Group| {
            group.shown == text || Workload::of(&group.path).is_called(text, group.name.as_deref())
        };
        let mut called: Vec<_> = self.now().filter(|(_, group)| is_called(group)).collect();
        called.sort_unstable_by_key(|(_, group)| &group.path);
        let mut top = String::from("//");
        called.retain(|(_, group)| {
            let is_below = group.path.starts_with(&top);
            if !is_below {
                top = format!("{}/", group.path);
            }
            !is_below
        });
        called
    }

    fn unknown(&self, text: &str, mounts: &[PathBuf]) -> anyhow::Error {
        let Some(mount) = mounts.first() else {
            return anyhow!("cgroup2 is not mounted: mount -t cgroup2 cgroup2 /mnt");
        };
        let mount = mount.display();
        let fix = format!(
            "write a unit, a container's name or id, or a cgroup's directory, as below {mount}"
        );
        let gap = host::cgroup1_gap().map(|gap| format!("; {gap}"));
        let gap = gap.unwrap_or_default();
        let is_path = text.starts_with('/');
        match statfs(text).map(|it| it.filesystem_type() == CGROUP_SUPER_MAGIC) {
            Ok(true) if is_path => {
                anyhow!(
                    "`{text}` is a cgroup of version 1; ktally counts by those of version 2{gap}"
                )
            }
            Ok(false) if is_path => anyhow!("`{text}` is not a cgroup of version 2; {fix}"),
            _ => {
                let names = self.now().map(|(_, group)| match is_path {
                    true => &*group.path,
                    false => group.called(),
                });
                let names = BTreeSet::from_iter(names);
                anyhow!("{}; {fix}{gap}", unknown_text("cgroup", text, names))
            }
        }
    }
}

fn ambiguous(text: &str, several: &[(u64, &Group)]) -> anyhow::Error {
    const SHOWN: usize = 8;
    let count = several.len();
    let several = several.iter().take(SHOWN);
    let paths: Vec<_> = several.map(|(_, it)| format!("`{}`", it.path)).collect();
    let paths = paths.join(", ");
    anyhow!("`{text}` has {count} meanings; write the path of one: {paths}")
}

/// The id of the cgroup at a path, which may be as `ktally` shows it, or include the
/// mount point. The id is the inode number of the directory. The hierarchies of version 1
/// have other ids.
fn at_path(text: &str, mounts: &[PathBuf]) -> Option<u64> {
    const USUAL: &str = "/sys/fs/cgroup";
    let below = text
        .strip_prefix(USUAL)
        .filter(|it| it.is_empty() || it.starts_with('/'));
    let below = below.unwrap_or(text).trim_start_matches('/');
    let folder = |path: &Path| fs::metadata(path).ok().filter(fs::Metadata::is_dir);
    let mounted = mounts.iter().map(|mount| mount.join(below));
    let paths = mounted.chain([text.into()]);
    let mut found = paths.filter_map(|path| folder(&path));
    let is_cgroup = |found: &fs::Metadata| {
        let mut mounts = mounts.iter().filter_map(|mount| folder(mount));
        mounts.any(|mount| mount.dev() == found.dev())
    };
    let found = found.find(is_cgroup).filter(|_| !text.is_empty());
    found.map(|found| found.ino())
}
