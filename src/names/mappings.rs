//! The code that a process has mapped, from /proc/PID/maps.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::host;

/// A mapping of code.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mapping {
    pub(super) start: u64,
    end: u64,
    pub(super) offset: u64,
    pub(super) file: Arc<Path>,
}

impl Mapping {
    pub(super) fn holds(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }

    /// `START-END r-xp OFFSET DEVICE INODE    PATH`; `None` where it is not code.
    fn from_line(line: &str, root: &Path) -> Option<Self> {
        let mut fields = line.splitn(6, ' ');
        let (range, flags, offset) = (fields.next()?, fields.next()?, fields.next()?);
        // Behind the device and the inode; it may have blanks of its own.
        let name = fields.nth(2)?.trim_start();
        if !flags.contains('x') {
            return None;
        }
        let number = |hex| u64::from_str_radix(hex, 16).ok();
        let (start, end) = range.split_once('-')?;
        // `[vdso]` is not a file, and stays a name; code made at run time has none.
        let file = match name.strip_prefix('/') {
            Some(path) => root.join(path),
            None if name.is_empty() => "[anon]".into(),
            None => name.into(),
        };
        Some(Self {
            start: number(start)?,
            end: number(end)?,
            offset: number(offset)?,
            file: file.into(),
        })
    }
}

/// What a process has mapped to be run; `None` where it cannot be read.
pub(super) fn code_of(pid: u32) -> Option<Vec<Mapping>> {
    let maps = fs::read_to_string(host::process_folder(pid)?.join("maps")).ok()?;
    let root = root_of(pid);
    let mappings = maps
        .lines()
        .filter_map(|line| Mapping::from_line(line, &root));
    Some(mappings.collect())
}

/// Where the files of a process are found: its own root, where that is not
/// ours, as in a container.
fn root_of(pid: u32) -> PathBuf {
    let root = format!("/proc/{pid}/root");
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let same = namespace(&pid.to_string()) == namespace("self")
        && fs::read_link(&root).is_ok_and(|root| root == Path::new("/"));
    PathBuf::from(if same { "/".to_owned() } else { root })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read_by_line() {
        let root = Path::new("/proc/1/root");
        let line = "7f0-7ff r-xp 0000a000 08:01 42                         /usr/lib/my lib.so";
        let found = Mapping::from_line(line, root).unwrap();
        let numbers = (found.start, found.end, found.offset);
        assert_eq!(numbers, (0x7f0, 0x7ff, 0xa000));
        for (line, file) in [
            (line, "/proc/1/root/usr/lib/my lib.so"),
            ("1-2 r-xp 0 00:00 0   [vdso]", "[vdso]"),
            ("1-2 r-xp 0 00:00 0 ", "[anon]"),
        ] {
            let found = Mapping::from_line(line, root).unwrap();
            assert_eq!(*found.file, *Path::new(file));
        }
        let heap = "1-2 rw-p 0 00:00 0   [heap]";
        for none in ["", "1-2", heap, "x-2 r-xp 0 00:00 0 /a"] {
            assert_eq!(Mapping::from_line(none, root), None, "{none:?}");
        }
    }
}
