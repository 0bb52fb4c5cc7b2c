//! Users and groups of this host, by number and by name.

use anyhow::{Context, Result, ensure};
use nix::unistd::{self, Group, User};
use std::borrow::Cow;

use super::cache::Cache;
use super::registry::Decode;

#[derive(Default)]
pub(super) struct Uid(Cache);

impl Decode for Uid {
    fn name(&self, number: u128) -> Option<Cow<'static, str>> {
        self.0.get(number, |uid| {
            Some(User::from_uid(unistd::Uid::from_raw(uid)).ok()??.name)
        })
    }

    fn parse(&self, text: &str) -> Result<Option<i128>> {
        id(text, "user", |name| {
            Some(User::from_name(name).ok()??.uid.as_raw())
        })
    }
}

#[derive(Default)]
pub(super) struct Gid(Cache);

impl Decode for Gid {
    fn name(&self, number: u128) -> Option<Cow<'static, str>> {
        self.0.get(number, |gid| {
            Some(Group::from_gid(unistd::Gid::from_raw(gid)).ok()??.name)
        })
    }

    fn parse(&self, text: &str) -> Result<Option<i128>> {
        id(text, "group", |name| {
            Some(Group::from_name(name).ok()??.gid.as_raw())
        })
    }
}

/// From a number or a name.
fn id(text: &str, what: &str, look_up: fn(&str) -> Option<u32>) -> Result<Option<i128>> {
    if text.starts_with("0x") {
        return Ok(None);
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        let id: u32 = text
            .parse()
            .with_context(|| format!("a {what} id is a 32-bit number"))?;
        return Ok(Some(id.into()));
    }
    ensure!(!text.contains('\0'), "a {what}'s name has no NUL byte");
    let id = look_up(text).with_context(|| format!("this host has no such {what}"))?;
    Ok(Some(id.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_by_name_or_number() {
        let (uid, gid) = (Uid::default(), Gid::default());
        for decoder in [&uid as &dyn Decode, &gid] {
            assert_eq!(decoder.parse("root").unwrap(), Some(0));
            assert_eq!(decoder.parse("12").unwrap(), Some(12));
            assert!(decoder.parse("nobody-of-that-name").is_err());
            assert!(decoder.parse("99999999999").is_err());
            assert_eq!(decoder.name(0).as_deref(), Some("root"));
        }
        assert_eq!(gid.name(4_000_000_000), None);
    }
}
