//! Block devices, by the kernel's own dev_t: 12 bits of major number, 20 bits
//! of minor number. User space splits its numbers another way. A filesystem on
//! no device (tmpfs, overlay, a network) has a number all the same, of major 0.

use std::borrow::Cow;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::cache::Cache;
use super::registry::{Decode, is_number};
use crate::host;

const MINOR_BITS: u32 = 20;

#[derive(Default)]
pub(super) struct Dev(Cache);

impl Decode for Dev {
    fn name(&self, number: u128) -> Option<Cow<'static, str>> {
        self.0.get(number, name)
    }

    /// `8:1`.
    fn notation(&self, number: u128) -> Option<String> {
        Some(numbers(u32::try_from(number).ok()?))
    }

    fn parse(&self, text: &str) -> Result<Option<i128>> {
        if is_number(text) && !text.contains(':') {
            return Ok(None);
        }
        Ok(Some(number(text)?.into()))
    }

    fn offers(&self) -> Vec<String> {
        let names = host::entries("/sys/class/block").into_iter();
        names.map(|name| name.replace('!', "/")).collect()
    }

    fn comes_and_goes(&self) -> bool {
        true
    }
}

fn numbers(dev: u32) -> String {
    format!("{}:{}", dev >> MINOR_BITS, dev & ((1 << MINOR_BITS) - 1))
}

/// `sda1`, or of a filesystem on no device where it is mounted.
fn name(dev: u32) -> Option<String> {
    let numbers = numbers(dev);
    if dev >> MINOR_BITS == 0 {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        return mounted(&mounts, &numbers);
    }
    let target = fs::read_link(Path::new("/sys/dev/block").join(&numbers)).ok()?;
    let name = target.file_name()?.to_string_lossy().into_owned();
    // The kernel's way to write a slash in a name.
    Some(name.replace('!', "/"))
}

/// Where a filesystem is mounted first, in the words of proc_pid_mountinfo(5):
/// `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT ...`.
fn mounted(mounts: &str, numbers: &str) -> Option<String> {
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(2);
        let is_it = words.next()? == numbers;
        let path = words.nth(1)?;
        is_it.then(|| host::mount_point(path))
    })
}

/// A device's number, from `sda`, `/dev/sda` or `8:0`.
fn number(text: &str) -> Result<u32> {
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
        "`{}` is not a block device",
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
            let found = name(dev).unwrap_or(shown.clone());
            assert_eq!(
                (found, super::numbers(dev).as_str()),
                (shown, numbers.trim())
            );
        }
    }

    #[test]
    fn filesystems_on_no_device_are_called_by_their_mount() {
        let mounts = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                      23 22 0:40 / /my\\040files rw,nosuid - tmpfs none rw\n\
                      24 22 0:40 /a /again rw - tmpfs none rw\n";
        assert_eq!(mounted(mounts, "0:40").as_deref(), Some("/my files"));
        assert_eq!(mounted(mounts, "0:4"), None);
        assert_eq!(mounted("x\n\n", "0:40"), None);
        // Every host has it, and a number for it.
        let proc = fs::metadata("/proc").unwrap().dev();
        let dev = join(libc::major(proc), libc::minor(proc)).unwrap();
        assert_eq!(name(dev).as_deref(), Some("/proc"));
        assert_eq!(numbers(dev), format!("0:{}", libc::minor(proc)));
    }

    #[test]
    fn what_is_no_device_is_told() {
        assert_eq!(number("8:1").unwrap(), 8 << 20 | 1);
        assert_eq!(name(4095 << 20 | 7), None);
        assert_eq!(numbers(4095 << 20 | 7), "4095:7");
        for bad in ["", "null", "/dev/null", "4096:0", "0:1048576", "no-such"] {
            assert!(number(bad).is_err(), "{bad:?}");
        }
    }
}
