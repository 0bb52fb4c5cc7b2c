//! Users and groups of this host, by number and by name.

use anyhow::{Context, Result, anyhow, ensure};
use nix::unistd::{Gid, Group, Uid, User};

/// The user's login name.
pub(super) fn user_name(uid: u32) -> Option<String> {
    Some(User::from_uid(Uid::from_raw(uid)).ok()??.name)
}

/// The group's name.
pub(super) fn group_name(gid: u32) -> Option<String> {
    Some(Group::from_gid(Gid::from_raw(gid)).ok()??.name)
}

/// A user's number, from a number or a login name.
pub(super) fn user_id(text: &str) -> Result<u32> {
    id(text, "user", |name| {
        Some(User::from_name(name).ok()??.uid.as_raw())
    })
}

/// A group's number, from a number or its name.
pub(super) fn group_id(text: &str) -> Result<u32> {
    id(text, "group", |name| {
        Some(Group::from_name(name).ok()??.gid.as_raw())
    })
}

fn id(text: &str, what: &str, look_up: impl FnOnce(&str) -> Option<u32>) -> Result<u32> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return text
            .parse()
            .with_context(|| format!("a {what} id is a 32-bit number"));
    }
    ensure!(!text.contains('\0'), "a {what}'s name has no NUL byte");
    look_up(text).ok_or_else(|| anyhow!("this host has no such {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_by_name_or_number() {
        for id in [user_id, group_id] {
            assert_eq!(id("root").unwrap(), 0);
            assert_eq!(id("12").unwrap(), 12);
            assert!(id("nobody-of-that-name").is_err());
            assert!(id("99999999999").is_err());
        }
        assert_eq!(user_name(0).as_deref(), Some("root"));
        assert_eq!(group_name(0).as_deref(), Some("root"));
        assert_eq!(group_name(4_000_000_000), None);
    }
}
