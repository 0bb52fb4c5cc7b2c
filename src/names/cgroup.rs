//! Cgroups of the unified hierarchy: `/user.slice` for the id of its directory.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::PAUSE;
use super::registry::Decode;
use crate::host;

/// Paths by id, of every cgroup that was there at the last look. Those that
/// have gone since keep their names.
#[derive(Default)]
pub(super) struct Cgroups(RefCell<Known>);

impl Decode for Cgroups {
    /// The path of a cgroup, from the root of its hierarchy.
    fn name(&self, number: u128) -> Option<Cow<'static, str>> {
        let id = u64::try_from(number).ok()?;
        self.0.borrow_mut().path(id).map(Cow::Owned)
    }

    fn parse(&self, text: &str) -> Result<Option<i128>> {
        if text.starts_with("0x") {
            return Ok(None);
        }
        Ok(Some(cgroup_id(text)?.into()))
    }

    fn comes_and_goes(&self) -> bool {
        true
    }

    fn look(&self) -> bool {
        self.0.borrow_mut().look();
        true
    }
}

#[derive(Debug, Default)]
struct Known {
    paths: HashMap<u64, String>,
    looked: Option<Instant>,
}

impl Known {
    /// More are not known by name.
    const MOST: usize = 65_536;

    fn path(&mut self, id: u64) -> Option<String> {
        let is_due = self.looked.is_none_or(|at| at.elapsed() >= PAUSE);
        if is_due && !self.paths.contains_key(&id) {
            self.look();
        }
        self.paths.get(&id).cloned()
    }

    fn look(&mut self) {
        if self.paths.len() >= Self::MOST {
            self.paths.clear();
        }
        host::cgroup2_mounts().for_each(|mount| self.walk(&mount));
        self.looked = Some(Instant::now());
    }

    /// Directories that go away, or may not be read, are passed over.
    fn walk(&mut self, mount: &Path) {
        let mut folders = vec![mount.to_path_buf()];
        while let Some(folder) = folders.pop() {
            if self.paths.len() >= Self::MOST {
                return;
            }
            if let Ok(metadata) = fs::metadata(&folder) {
                let path = folder.strip_prefix(mount).unwrap_or(&folder);
                let path = format!("/{}", path.display());
                self.paths.insert(metadata.ino(), path);
            }
            let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
            let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|it| it.is_dir());
            folders.extend(entries.filter(is_folder).map(|entry| entry.path()));
        }
    }
}

/// The directory of a cgroup, by its id.
pub(crate) fn cgroup_folder(id: u64) -> Option<PathBuf> {
    host::cgroup2_mounts().find_map(|mount| {
        let mut cgroups = Known::default();
        cgroups.walk(&mount);
        let path = cgroups.paths.get(&id)?;
        Some(mount.join(path.trim_start_matches('/')))
    })
}

/// A cgroup's id, from a number or a path: as `ktally` shows it, or of its
/// directory. The kernel uses the directory's inode number; in the hierarchies
/// of the first version it does not.
fn cgroup_id(text: &str) -> Result<u64> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let shown = text.strip_prefix('/').map(Path::new);
    let mut found = host::cgroup2_mounts().filter_map(|mount| Some(mount.join(shown?)));
    let path = found.find(|path| path.exists()).unwrap_or(text.into());
    let metadata = fs::metadata(&path)
        .with_context(|| format!("failed to look at `{text}`; {}", where_they_are()))?;
    ensure!(metadata.is_dir(), "`{text}` is not a directory");
    let is_cgroup = statfs(&path).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC);
    ensure!(
        is_cgroup,
        "`{text}` is not a cgroup of version 2; {}",
        where_they_are()
    );
    Ok(metadata.ino())
}

fn where_they_are() -> String {
    let place = match host::cgroup2_mounts().next() {
        Some(mount) => format!("as below {}", mount.display()),
        None => "after mount -t cgroup2 cgroup2 /mnt".to_owned(),
    };
    format!("write a cgroup's directory, {place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_by_path_or_number() {
        assert_eq!(cgroup_id("77").unwrap(), 77);
        // As it is shown, and where it is.
        if let Some(root) = host::cgroup2_mounts().next() {
            let id = fs::metadata(&root).unwrap().ino();
            assert_eq!(cgroup_id("/").unwrap(), id);
            assert_eq!(cgroup_id(root.to_str().unwrap()).unwrap(), id);
            assert_eq!(Known::default().path(id).as_deref(), Some("/"));
            let error = cgroup_id("/tmp").unwrap_err().to_string();
            let place = format!("a cgroup's directory, as below {}", root.display());
            assert!(error.ends_with(&place), "{error}");
            assert_eq!(cgroup_folder(id), Some(root));
        }
        for path in ["/proc", "/tmp"] {
            let error = cgroup_id(path).unwrap_err().to_string();
            assert!(error.contains("not a cgroup"), "{error}");
        }
        assert!(cgroup_id("/proc/self/status").is_err());
        assert!(cgroup_id("/no/such/cgroup").is_err());
        assert!(cgroup_id("").is_err());
    }

    #[test]
    fn a_walk_names_every_folder_below_the_mount() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("a/b c");
        fs::create_dir_all(&inner).unwrap();
        fs::write(root.path().join("cgroup.procs"), "").unwrap();
        let mut cgroups = Known::default();
        cgroups.walk(root.path());
        cgroups.looked = Some(Instant::now());
        let id = |path: &Path| fs::metadata(path).unwrap().ino();
        assert_eq!(cgroups.path(id(&inner)).as_deref(), Some("/a/b c"));
        assert_eq!(cgroups.path(id(root.path())).as_deref(), Some("/"));
        assert_eq!(cgroups.paths.len(), 3);
        // Names outlive what they name.
        let gone = id(&inner);
        drop(root);
        assert_eq!(cgroups.path(gone).as_deref(), Some("/a/b c"));
    }
}
