//! The file of a recording: a new one, of bounded size.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// What a recording takes of the disk at most.
const MOST: u64 = 1 << 30;

pub(super) struct Record {
    file: File,
    written: u64,
}

/// Never follows a link, and never overwrites.
pub(super) fn new_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

impl Record {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let name = path.display();
        let file = new_file(path).with_context(|| {
            format!("failed to create the recording `{name}`; it must be a new file")
        })?;
        Ok(Self { file, written: 0 })
    }

    /// A line at a time, so that what is killed leaves whole lines but the last.
    pub(super) fn append(&mut self, line: &str) -> Result<()> {
        let written = self.written + line.len() as u64;
        ensure!(written <= MOST, "it has 1 GiB, the most that is recorded");
        let appended = self.file.write_all(line.as_bytes());
        appended.context("failed to write it")?;
        self.written = written;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_recording_is_a_new_file_of_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let [file, link] = ["file", "link"].map(|name| folder.path().join(name));
        symlink(&file, &link).unwrap();
        let refused = |path: &Path| format!("{:#}", Record::create(path).err().unwrap());
        assert!(refused(&link).contains("must be a new file"));
        assert!(!file.exists());
        let mut record = Record::create(&file).unwrap();
        assert!(refused(&file).contains("File exists"));
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        record.append("a line\n").unwrap();
        record.written = MOST - 7;
        record.append("a line\n").unwrap();
        assert!(record.append("\n").is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "a line\na line\n");
    }
}
