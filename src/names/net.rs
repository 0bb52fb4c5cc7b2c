//! Network interfaces and network namespaces.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, ensure};
use nix::net::if_::{if_indextoname, if_nametoindex};

use crate::sys;

/// The interface of this index, in this process's network namespace.
pub(super) fn interface_name(index: u32) -> Option<String> {
    let name = if_indextoname(index).ok()?;
    // For an index that there is not, nix 0.31 says "" rather than an error.
    (!name.is_empty()).then(|| name.to_string_lossy().into_owned())
}

/// An interface's index, from a number or a name.
pub(super) fn interface_index(text: &str) -> Result<u32> {
    if let Ok(index) = text.parse() {
        return Ok(index);
    }
    if_nametoindex(text).context("this network namespace has no such interface")
}

/// The name that `ip netns` gave a network namespace, by its inode number.
pub(super) fn namespace_name(inode: u32) -> Option<String> {
    const NAMED: &str = "/run/netns";
    fs::read_dir(NAMED).ok()?.flatten().find_map(|entry| {
        // Each is a mount: the entry itself tells of the file below it.
        let found = fs::metadata(entry.path()).ok()?.ino();
        (found == u64::from(inode)).then(|| entry.file_name().to_string_lossy().into_owned())
    })
}

/// A network namespace's inode number, from that number or a path.
pub(super) fn namespace_inode(text: &str) -> Result<u32> {
    if let Ok(inode) = text.parse() {
        return Ok(inode);
    }
    const FIX: &str = "write a path such as /proc/1/ns/net or /run/netns/NAME";
    let metadata =
        fs::metadata(text).with_context(|| format!("failed to look at `{text}`; {FIX}"))?;
    // To open something else may take effect, or wait for ever.
    let is_namespace = metadata.is_file()
        && fs::File::open(text).is_ok_and(|file| sys::is_network_namespace(file.as_fd()));
    ensure!(is_namespace, "`{text}` is no network namespace; {FIX}");
    u32::try_from(metadata.ino()).with_context(|| format!("`{text}` is no network namespace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_by_name_and_index() {
        // Every network namespace has it, and its index is 1.
        assert_eq!(interface_name(1).as_deref(), Some("lo"));
        assert_eq!(interface_index("lo").unwrap(), 1);
        assert_eq!(interface_index("42").unwrap(), 42);
        assert_eq!(interface_name(0), None);
        assert!(interface_index("no-such-name").is_err());
        assert!(interface_index("a\0b").is_err());
    }

    #[test]
    fn namespaces_by_path_or_number() {
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let inode = namespace_inode("/proc/self/ns/net").unwrap();
        assert_eq!(own.to_str().unwrap(), format!("net:[{inode}]"));
        assert_eq!(namespace_inode("4026531840").unwrap(), 4_026_531_840);
        for other in ["/", "/etc/passwd", "/dev/zero", "/proc/self/ns/mnt"] {
            let error = namespace_inode(other).unwrap_err().to_string();
            let words = format!("`{other}` is no network namespace");
            assert!(error.starts_with(&words), "{error}");
        }
        assert!(namespace_inode("/no/such/path").is_err());
        assert_eq!(namespace_name(0), None);
    }
}
