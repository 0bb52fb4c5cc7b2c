//! Users and cgroups of this host, by number and by name.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, anyhow, ensure};
use nix::unistd::{Uid, User};

/// The user's login name.
pub(super) fn user_name(uid: u32) -> Option<String> {
    Some(User::from_uid(Uid::from_raw(uid)).ok()??.name)
}

/// A user's number, from a number or a login name.
pub(crate) fn user_id(text: &str) -> Result<u32> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return text.parse().context("a user id is a 32-bit number");
    }
    ensure!(!text.contains('\0'), "a user's name has no NUL byte");
    let user = User::from_name(text).ok().flatten();
    let user = user.ok_or_else(|| anyhow!("this host has no such user"))?;
    Ok(user.uid.as_raw())
}

/// A cgroup's id, from a number or the path of its directory: the kernel uses
/// the directory's inode number.
pub(crate) fn cgroup_id(text: &str) -> Result<u64> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let metadata = fs::metadata(text).with_context(|| {
        format!("failed to look at `{text}`; write a cgroup's directory, as under /sys/fs/cgroup")
    })?;
    ensure!(metadata.is_dir(), "`{text}` is no directory");
    Ok(metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_cgroups_by_name_or_number() {
        assert_eq!(user_id("root").unwrap(), 0);
        assert_eq!(user_id("12").unwrap(), 12);
        assert!(user_id("nobody-of-that-name").is_err());
        assert!(user_id("99999999999").is_err());
        assert_eq!(cgroup_id("77").unwrap(), 77);
        assert_eq!(cgroup_id("/").unwrap(), fs::metadata("/").unwrap().ino());
        assert!(cgroup_id("/proc/self/status").is_err());
        assert!(cgroup_id("").is_err());
    }
}
