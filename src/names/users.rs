//! Users and groups of this host, by number and by name.

use std::borrow::Cow;
use std::fs;

use anyhow::{Context, Result, ensure};
use nix::unistd::{Gid, Group, Uid, User};

use super::cache::Cache;
use super::registry::Decode;

/// The users or the groups.
pub(super) struct Accounts {
    known: Cache,
    what: &'static str,
    file: &'static str,
    name: fn(u32) -> Option<String>,
    id: fn(&str) -> Option<u32>,
}

impl Accounts {
    pub(super) fn users() -> Self {
        Self {
            known: Cache::default(),
            what: "user",
            file: "/etc/passwd",
            name: |id| Some(User::from_uid(Uid::from_raw(id)).ok()??.name),
            id: |name| Some(User::from_name(name).ok()??.uid.as_raw()),
        }
    }

    pub(super) fn groups() -> Self {
        Self {
            known: Cache::default(),
            what: "group",
            file: "/etc/group",
            name: |id| Some(Group::from_gid(Gid::from_raw(id)).ok()??.name),
            id: |name| Some(Group::from_name(name).ok()??.gid.as_raw()),
        }
    }
}

impl Decode for Accounts {
    fn name(&self, number: u128) -> Option<Cow<'static, str>> {
        self.known.get(number, self.name)
    }

    /// Those of this host's own file.
    fn offers(&self) -> Vec<String> {
        let file = fs::read_to_string(self.file).unwrap_or_default();
        let names = file.lines().filter_map(|line| line.split(':').next());
        names.map(str::to_owned).collect()
    }

    /// From a number or a name.
    fn parse(&self, text: &str) -> Result<Option<i128>> {
        let what = self.what;
        if text.starts_with("0x") {
            return Ok(None);
        }
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let id = text.parse::<u32>();
            let id = id.with_context(|| format!("a {what} id is a 32-bit number"))?;
            return Ok(Some(id.into()));
        }
        ensure!(!text.contains('\0'), "a {what}'s name has no NUL byte");
        let id = (self.id)(text).with_context(|| format!("this host has no such {what}"))?;
        Ok(Some(id.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_by_name_or_number() {
        for decoder in [Accounts::users(), Accounts::groups()] {
            assert_eq!(decoder.parse("root").unwrap(), Some(0));
            assert_eq!(decoder.parse("12").unwrap(), Some(12));
            assert!(decoder.parse("nobody-of-that-name").is_err());
            assert!(decoder.parse("99999999999").is_err());
            assert_eq!(decoder.name(0).as_deref(), Some("root"));
            assert_eq!(decoder.name(4_000_000_000), None);
        }
    }
}
