//! Users of this host, by number and by name.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_by_name_or_number() {
        assert_eq!(user_id("root").unwrap(), 0);
        assert_eq!(user_id("12").unwrap(), 12);
        assert!(user_id("nobody-of-that-name").is_err());
        assert!(user_id("99999999999").is_err());
    }
}
