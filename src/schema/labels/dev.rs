//! Block devices, by the kernel's own dev_t: 12 bits of major number, 20 bits
//! of minor number. User space splits its numbers another way.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

const MINOR_BITS: u32 = 20;

/// `sda1`; where there is no such device any more, `8:1`.
pub(super) fn name(dev: u32) -> Option<String> {
    let (major, minor) = (dev >> MINOR_BITS, dev & ((1 << MINOR_BITS) - 1));
    let numbers = format!("{major}:{minor}");
    let target = fs::read_link(Path::new("/sys/dev/block").join(&numbers));
    let name = target.ok().and_then(|target| {
        let name = target.file_name()?.to_string_lossy().into_owned();
        // The kernel's way to write a slash in a name.
        Some(name.replace('!', "/"))
    });
    Some(name.unwrap_or(numbers))
}

/// A device's number, from `sda`, `/dev/sda` or `8:0`.
pub(super) fn number(text: &str) -> Result<u32> {
    if let Some((major, minor)) = text.split_once(':')
        && let (Ok(major), Ok(minor)) = (major.parse(), minor.parse())
    {
        return join(major, minor);
    }
    let path = Path::new("/dev").join(text);
    let metadata = fs::metadata(&path).with_context(|| {
        let path = path.display();
        format!("failed to look at `{path}`; write a block device such as sda, /dev/sda or 8:0")
    })?;
    ensure!(
        metadata.file_type().is_block_device(),
        "`{}` is no block device",
        path.display()
    );
    let dev = metadata.rdev();
    join(libc::major(dev), libc::minor(dev))
}

fn join(major: u32, minor: u32) -> Result<u32> {
    if major >> (32 - MINOR_BITS) != 0 || minor >> MINOR_BITS != 0 {
        bail!("{major}:{minor} is out of range: at most 4095:1048575");
    }
    Ok(major << MINOR_BITS | minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_there_and_back() {
        // Whatever this host has.
        for entry in fs::read_dir("/sys/class/block").unwrap().flatten() {
            let shown = entry.file_name().to_string_lossy().replace('!', "/");
            let numbers = fs::read_to_string(entry.path().join("dev")).unwrap();
            let dev = number(numbers.trim()).unwrap();
            // It may have gone meanwhile.
            let found = name(dev).unwrap();
            assert!(found == shown || found == numbers.trim(), "{found}");
        }
    }

    #[test]
    fn what_is_no_device_is_told() {
        assert_eq!(number("8:1").unwrap(), 8 << 20 | 1);
        assert_eq!(name(4095 << 20 | 7).as_deref(), Some("4095:7"));
        for bad in ["", "null", "/dev/null", "4096:0", "0:1048576", "no-such"] {
            assert!(number(bad).is_err(), "{bad:?}");
        }
    }
}
