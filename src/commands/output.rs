//! Standard output of commands that go on: whoever reads it may stop to, and
//! neither counting nor the end may wait for that.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::clock::{Signals, Wake};

/// What a pipe that has room takes without blocking.
const PIECE: usize = libc::PIPE_BUF;

/// After a signal, a reader that takes nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where readings go.
pub(super) struct Stdout {
    file: File,
    cut: Cell<bool>,
}

impl Stdout {
    /// A terminal is opened anew, as what is not to block must say so itself:
    /// the flag on the one that we were given would be the shell's too.
    pub(super) fn open() -> Result<Self> {
        let stdout = io::stdout();
        let terminal = || {
            File::options()
                .write(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
                .open("/proc/self/fd/1")
                .ok()
        };
        let file = match stdout.is_terminal().then(terminal).flatten() {
            Some(terminal) => terminal,
            None => File::from(
                stdout
                    .as_fd()
                    .try_clone_to_owned()
                    .context("failed to open the output")?,
            ),
        };
        Ok(Self {
            file,
            cut: Cell::new(false),
        })
    }

    /// Whether a signal ended the output before all of it was written.
    pub(super) fn was_cut(&self) -> bool {
        self.cut.get()
    }
}

/// Writes when there is room. Until then the clock runs on, and signals come:
/// at the `end`, or with a signal, counting is stopped at once.
pub(super) struct Writer<'a> {
    pub(super) stdout: &'a Stdout,
    pub(super) signals: &'a Signals,
    pub(super) end: Option<Instant>,
    pub(super) stop: &'a mut dyn FnMut(),
}

impl Writer<'_> {
    /// An error where nobody reads, and a signal said to end.
    fn wait_for_room(&mut self) -> io::Result<()> {
        let patience = || Instant::now().checked_add(PATIENCE);
        let mut give_up = self.signals.came().and_then(|_| patience());
        loop {
            let instant = self.end.or(give_up);
            match self.signals.wait_for_room(&self.stdout.file, instant)? {
                Wake::Room => return Ok(()),
                Wake::Signal if give_up.is_none() => give_up = patience(),
                Wake::Time if self.end.is_some() => {}
                _ => {
                    self.stdout.cut.set(true);
                    return Err(cut());
                }
            }
            self.end = None;
            (self.stop)();
        }
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "nobody reads the output")
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stdout.was_cut() {
            return Err(cut());
        }
        loop {
            self.wait_for_room()?;
            match (&self.stdout.file).write(&bytes[..bytes.len().min(PIECE)]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
