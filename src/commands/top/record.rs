//! The file of a recording: a new one, of bounded size.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// What a recording takes of the disk at most.
const MOST: u64 = 1 << 30;

pub(super) struct Record {
    file: File,
    written: u64,
}

impl Record {
    /// Never follows a link, and never overwrites.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(path);
        let name = path.display();
        let file = file.with_context(|| {
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
