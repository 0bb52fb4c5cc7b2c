//! The cgroups that there are, and what each is called.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::containers::Containers;
use super::workload::Workload;
use crate::host;
use crate::names::PAUSE;

#[derive(Debug)]
pub(super) struct Group {
    /// From the root of the hierarchy.
    pub(super) path: String,
    /// For people.
    pub(super) shown: String,
    /// Of a container or pod.
    pub(super) name: Option<String>,
    /// The looks that saw it.
    first: u32,
    last: u32,
}

impl Group {
    /// What people call it: its container's or pod's name, or what is shown.
    pub(super) fn called(&self) -> &str {
        self.name.as_ref().unwrap_or(&self.shown)
    }
}

#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) groups: HashMap<u64, Group>,
    looked: Option<Instant>,
    /// How often.
    looks: u32,
}

impl Known {
    /// More are not known by name.
    const MOST: usize = 65_536;
    /// The looks until a runtime has written down what it started.
    pub(super) const NEW: u32 = 5;

    pub(super) fn group(&mut self, id: u128) -> Option<&Group> {
        let id = u64::try_from(id).ok()?;
        if !self.groups.contains_key(&id) {
            self.look_if_due();
        }
        self.groups.get(&id)
    }

    pub(super) fn look_if_due(&mut self) {
        if self.looked.is_none_or(|at| at.elapsed() >= PAUSE) {
            self.look();
        }
    }

    pub(super) fn look(&mut self) {
        self.look_at(host::cgroup2_mounts(), Path::new("/"));
    }

    /// The files of runtimes are below `root`.
    pub(super) fn look_at(&mut self, mounts: impl IntoIterator<Item = PathBuf>, root: &Path) {
        if self.groups.len() >= Self::MOST {
            self.groups.clear();
        }
        self.looks += 1;
        let containers = Containers::new(root);
        for mount in mounts {
            walk(&mount, |id, path| {
                self.note(id, path, &containers);
                self.groups.len() < Self::MOST
            });
        }
        self.looked = Some(Instant::now());
    }

    fn note(&mut self, id: u64, path: String, containers: &Containers<'_>) {
        let now = self.looks;
        let old = self.groups.get(&id).filter(|group| group.path == path);
        let first = old.map_or(now, |group| group.first);
        let workload = Workload::of(&path);
        let is_settled = workload.id().is_none() || now - first >= Self::NEW;
        if old.is_some() && is_settled {
            self.groups.entry(id).and_modify(|group| group.last = now);
            return;
        }
        let old_name = old.and_then(|group| group.name.clone());
        let name = containers.name(&workload).or(old_name);
        let group = Group {
            shown: workload.shown(name.as_deref()),
            path,
            name,
            first,
            last: now,
        };
        self.groups.insert(id, group);
    }

    /// Those that the last look saw.
    pub(super) fn now(&self) -> impl Iterator<Item = (u64, &Group)> {
        let groups = self.groups.iter().map(|(id, group)| (*id, group));
        groups.filter(|(_, group)| group.last == self.looks)
    }
}

/// Calls `note` with the id and path of each cgroup below a mount, until it says
/// to stop. Directories that go away, or may not be read, are passed over.
pub(super) fn walk(mount: &Path, mut note: impl FnMut(u64, String) -> bool) {
    let mut folders = vec![mount.to_path_buf()];
    while let Some(folder) = folders.pop() {
        if let Ok(metadata) = fs::metadata(&folder) {
            let path = folder.strip_prefix(mount).unwrap_or(&folder);
            if !note(metadata.ino(), format!("/{}", path.display())) {
                return;
            }
        }
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|it| it.is_dir());
        folders.extend(entries.filter(is_folder).map(|entry| entry.path()));
    }
}
