//! Cgroups of a test's own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Child;

/// A cgroup of a test's own, empty again when dropped.
pub struct Cgroup(pub PathBuf);

impl Cgroup {
    pub fn new(parent: PathBuf, name: &str) -> Self {
        let path = parent.join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn of_root(name: &str) -> Self {
        let root = ktally::host::cgroup2_mounts().next();
        let root = root.expect("mount cgroup2 somewhere to run this test");
        Self::new(root, &format!("{name}-{}", std::process::id()))
    }

    /// Whether a label means this cgroup: by its id, or by a path.
    pub fn is(&self, label: &str) -> bool {
        let id = fs::metadata(&self.0).unwrap().ino().to_string();
        let name = self.0.file_name().unwrap().to_str().unwrap();
        label == id || label.ends_with(&format!("/{name}"))
    }

    pub fn take(&self, child: &Child) {
        fs::write(self.0.join("cgroup.procs"), child.pid()).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let removed = fs::remove_dir(&self.0);
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}

/// A cgroup whose memory is limited. It is also in the unified hierarchy, which
/// is where tallies look, and which may or may not have the memory controller.
pub struct Limited {
    pub unified: Cgroup,
    memory: Option<Cgroup>,
}

impl Limited {
    pub fn new(name: &str, limit: usize) -> Self {
        let unified = Cgroup::of_root(name);
        let file = name.to_owned() + "-" + &std::process::id().to_string();
        let version1 = Path::new("/sys/fs/cgroup/memory");
        let memory = version1
            .join("memory.limit_in_bytes")
            .exists()
            .then(|| Cgroup::new(version1.to_owned(), &file));
        let limited = Self { unified, memory };
        let file = match &limited.memory {
            Some(memory) => memory.0.join("memory.limit_in_bytes"),
            None => {
                let root = limited.unified.0.parent().unwrap();
                fs::write(root.join("cgroup.subtree_control"), "+memory")
                    .expect("a memory controller");
                limited.unified.0.join("memory.max")
            }
        };
        fs::write(file, limit.to_string()).unwrap();
        limited
    }

    pub fn take(&self, child: &Child) {
        self.unified.take(child);
        if let Some(memory) = &self.memory {
            memory.take(child);
        }
    }

    /// Its folder in each hierarchy.
    pub fn folders(&self) -> String {
        let folders = [Some(&self.unified), self.memory.as_ref()];
        let paths = folders.into_iter().flatten();
        let paths: Vec<_> = paths.map(|it| it.0.to_str().unwrap()).collect();
        paths.join(" ")
    }

    /// The number of times it was at its limit; each time, something had to be freed.
    pub fn times_full(&self) -> u64 {
        match &self.memory {
            Some(memory) => fs::read_to_string(memory.0.join("memory.failcnt")).unwrap(),
            None => {
                let events = fs::read_to_string(self.unified.0.join("memory.events")).unwrap();
                let max = events.lines().find_map(|line| line.strip_prefix("max "));
                max.unwrap().to_owned()
            }
        }
        .trim()
        .parse()
        .unwrap()
    }
}
