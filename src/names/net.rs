//! Network interfaces and network namespaces.

use std::borrow::Cow;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, ensure};
use nix::net::if_::{if_indextoname, if_nametoindex};

use super::cache::Cache;
use super::registry::{Decode, is_number};
use crate::host;
use crate::sys;

/// Interfaces of this process's network namespace.
#[derive(Default)]
pub(super) struct Ifindex(Cache);

impl Decode for Ifindex {
    fn name(&self, number: u128) -> Option<Cow<'static, str>> {
        self.0.get(number, |index| {
            let name = if_indextoname(index).ok()?;
            // For an index that there is not, nix 0.31 says "" rather than an error.
            (!name.is_empty()).then(|| name.to_string_lossy().into_owned())
        })
    }

    fn parse(&self, text: &str) -> Result<Option<i128>> {
        if is_number(text) {
            return Ok(None);
        }
        let index = if_nametoindex(text).context("this network namespace has no such interface")?;
        Ok(Some(index.into()))
    }

    fn offers(&self) -> Vec<String> {
        host::entries("/sys/class/net")
    }

    fn comes_and_goes(&self) -> bool {
        true
    }
}

/// The names that `ip netns` gave to network namespaces, by their inode numbers.
#[derive(Default)]
pub(super) struct Netns(Cache);

impl Decode for Netns {
    fn name(&self, number: u128) -> Option<Cow<'static, str>> {
        const NAMED: &str = "/run/netns";
        self.0.get(number, |inode| {
            fs::read_dir(NAMED).ok()?.flatten().find_map(|entry| {
                // Each is a mount: the entry itself has the inode of the file below it.
                let found = fs::metadata(entry.path()).ok()?.ino();
                let name = entry.file_name();
                (found == u64::from(inode)).then(|| name.to_string_lossy().into_owned())
            })
        })
    }

    fn parse(&self, text: &str) -> Result<Option<i128>> {
        if is_number(text) {
            return Ok(None);
        }
        const FIX: &str = "write a path such as /proc/1/ns/net or /run/netns/NAME";
        let metadata =
            fs::metadata(text).with_context(|| format!("failed to look at `{text}`; {FIX}"))?;
        // To open something else may take effect, or wait for ever.
        let is_namespace = metadata.is_file()
            && fs::File::open(text).is_ok_and(|file| sys::is_network_namespace(file.as_fd()));
        ensure!(is_namespace, "`{text}` is not a network namespace; {FIX}");
        Ok(Some(metadata.ino().into()))
    }

    fn comes_and_goes(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_by_name_and_index() {
        let interfaces = Ifindex::default();
        // Every network namespace has it, and its index is 1.
        assert_eq!(interfaces.name(1).as_deref(), Some("lo"));
        assert_eq!(interfaces.parse("lo").unwrap(), Some(1));
        assert_eq!(interfaces.parse("42").unwrap(), None);
        assert_eq!(interfaces.name(0), None);
        assert!(interfaces.parse("no-such-name").is_err());
        assert!(interfaces.parse("a\0b").is_err());
    }

    #[test]
    fn namespaces_by_path_or_number() {
        let namespaces = Netns::default();
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let inode = namespaces.parse("/proc/self/ns/net").unwrap().unwrap();
        assert_eq!(own.to_str().unwrap(), format!("net:[{inode}]"));
        assert_eq!(namespaces.parse("4026531840").unwrap(), None);
        for other in ["/", "/etc/passwd", "/dev/zero", "/proc/self/ns/mnt"] {
            let error = namespaces.parse(other).unwrap_err().to_string();
            let words = format!("`{other}` is not a network namespace");
            assert!(error.starts_with(&words), "{error}");
        }
        assert!(namespaces.parse("/no/such/path").is_err());
        assert_eq!(namespaces.name(0), None);
    }
}
