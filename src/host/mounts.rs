//! Filesystems: where they are mounted, and mounting bpffs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, FsType, TRACEFS_MAGIC, statfs};
use nix::sys::statvfs::{FsFlags, Statvfs, statvfs};

/// Where bpffs is mounted.
pub(crate) const BPFFS: &str = "/sys/fs/bpf";
/// Where tracefs is mounted; debugfs carries an old copy.
pub(crate) const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

fn is_of_type(path: &str, kind: FsType) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == kind)
}

pub(super) fn is_bpffs_mounted() -> bool {
    is_of_type(BPFFS, BPF_FS_MAGIC)
}

/// Mounts bpffs if the path of a pin is below it and it is not mounted.
pub(crate) fn mount_bpffs_for(path: &Path) -> Result<()> {
    if !path.starts_with(BPFFS) {
        return Ok(());
    }
    if is_bpffs_mounted() {
        let is_read_only = |fs: Statvfs| fs.flags().contains(FsFlags::ST_RDONLY);
        if statvfs(BPFFS).is_ok_and(is_read_only) {
            bail!("{BPFFS} is mounted read-only: mount -o remount,rw {BPFFS}");
        }
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), BPFFS, Some("bpf"), flags, Some("mode=0700")).with_context(|| {
        format!("failed to mount bpffs at {BPFFS}: mount -t bpf -o mode=0700 bpf {BPFFS}")
    })
}

/// The mounted tracefs.
pub(crate) fn tracefs_path() -> Option<&'static str> {
    let mut paths = TRACEFS.into_iter();
    paths.find(|path| is_of_type(path, TRACEFS_MAGIC))
}

/// Where cgroups of version 2 are mounted.
pub fn cgroup2_mounts() -> impl Iterator<Item = PathBuf> {
    mounts_of("cgroup2").into_iter()
}

/// What counting by cgroups of version 2 lacks beside those of version 1.
pub(crate) fn cgroup1_gap() -> Option<&'static str> {
    const GAP: &str =
        "what is in groups of version 1 alone is shown as `/`: boot with cgroup_no_v1=all";
    (!mounts_of("cgroup").is_empty()).then_some(GAP)
}

/// Where filesystems of this kind are mounted.
pub(crate) fn mounts_of(kind: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| mounted(line, kind))
        .collect()
}

/// One line of /proc/mounts.
fn mounted(line: &str, kind: &str) -> Option<PathBuf> {
    let mut words = line.split(' ').skip(1);
    let (path, of) = (words.next()?, words.next()?);
    (of == kind).then(|| mount_point(path).into())
}

/// A path as /proc/mounts and mountinfo write it: a blank is `\040`.
pub(crate) fn mount_point(text: &str) -> String {
    text.replace("\\040", " ").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_by_their_kind() {
        let line = "cgroup2 /my\\040cgroups cgroup2 rw 0 0";
        assert_eq!(mounted(line, "cgroup2"), Some("/my cgroups".into()));
        assert_eq!(mounted(line, "cgroup"), None);
        assert_eq!(mounted("", "cgroup2"), None);
    }
}
