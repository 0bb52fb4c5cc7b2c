//! Where output goes: standard output, or the file of `--output-file`. A
//! reader may stop reading the output of commands that go on, and neither
//! counting nor the end may wait for it.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, IsTerminal, LineWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use caps::Capability;

use super::replacement::Replacement;
use super::wait::{Signals, Wake};
use crate::cli::Global;
use crate::render::Format;

/// One for the process, like standard output itself.
static TARGET: OnceLock<Target> = OnceLock::new();

struct Target {
    file: File,
    /// The file that the output replaces once it is whole.
    replacement: Option<Replacement>,
    /// Whether output stood there before, which this one goes on.
    goes_on: bool,
}

/// Opens what all output of this process is written to, before it does anything.
/// `keep` is the number of files of `rotate --keep`.
pub(super) fn open(global: &Global, keep: Option<usize>) -> Result<()> {
    let target = match &global.output_file {
        Some(path) => Target::of(path, global.output, keep)
            .with_context(|| format!("failed to open `{}` for output", path.display()))?,
        None => Target {
            file: stdout().context("failed to open the output")?,
            replacement: None,
            goes_on: false,
        },
    };
    TARGET.get_or_init(|| target);
    Ok(())
}

/// Standard output as a file. `io::stdout()` would discard what is written to a
/// descriptor that cannot be written to.
pub(super) fn stdout() -> io::Result<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}

impl Target {
    /// Readings are appended where the format is made of lines and former files are not
    /// kept. Other output replaces what is there, but never a device or a pipe.
    fn of(path: &Path, format: Format, keep: Option<usize>) -> io::Result<Self> {
        let found = fs::metadata(path);
        let is_special = found.as_ref().is_ok_and(|found| !found.is_file());
        if is_special && keep.is_some() {
            return Err(io::Error::other(
                "it is not a file, so `--keep` has nothing to keep",
            ));
        }
        let is_appended = keep.is_none() && matches!(format, Format::Jsonl | Format::Csv);
        if is_special || is_appended {
            return Ok(Self {
                file: File::options().append(true).create(true).open(path)?,
                replacement: None,
                goes_on: found.is_ok_and(|found| found.len() > 0),
            });
        }
        let replacement = Replacement::new(path)?.keeping(keep);
        Ok(Self {
            file: replacement.file().try_clone()?,
            replacement: Some(replacement),
            goes_on: false,
        })
    }
}

fn target() -> &'static Target {
    TARGET.get().expect("it is opened before anything is done")
}

/// What it takes to put the output in place, in a folder of another user.
pub(super) fn capability() -> Option<Capability> {
    let replacement = target().replacement.as_ref();
    replacement.map(|_| Capability::CAP_DAC_OVERRIDE)
}

/// The file itself, without a buffer.
pub(super) fn file() -> &'static File {
    &target().file
}

/// The columns and lines of the terminal that it is, if that is known.
pub(super) fn size() -> Option<(usize, usize)> {
    let size = terminal_size::terminal_size_of(file());
    size.map(|(width, height)| (width.0.into(), height.0.into()))
}

/// For output that is small.
pub(super) fn out() -> LineWriter<&'static File> {
    LineWriter::new(file())
}

/// Whether headings stand in the file already.
pub(super) fn goes_on() -> bool {
    target().goes_on
}

/// Makes what was written the content of the output file. A command calls it
/// before it gives up what it has written; `execute` calls it at the end.
pub(super) fn finish() -> io::Result<()> {
    match &target().replacement {
        Some(replacement) => replacement.put_in_place(None),
        None => Ok(()),
    }
}

/// The same for a reading that is written once: the file is then as old as the reading.
pub(super) fn finish_reading(time: SystemTime) -> io::Result<()> {
    if let Some(replacement) = &target().replacement {
        replacement.file().set_modified(time)?;
    }
    finish()
}

/// Whether the output file has the reading of this instant.
pub(super) fn has_reading(time: SystemTime) -> bool {
    let replacement = target().replacement.as_ref();
    replacement.is_some_and(|it| it.is_in_place(time))
}

/// The terminal of this descriptor, opened anew and non-blocking. The shell shares the
/// flags of the one that we were given.
pub(super) fn terminal(fd: i32) -> Option<File> {
    let options = libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut file = File::options();
    let file = file.write(true).custom_flags(options);
    file.open(format!("/proc/self/fd/{fd}")).ok()
}

/// What a pipe that has room takes without blocking.
const PIECE: usize = libc::PIPE_BUF;

/// After a signal, how long to wait for a reader that takes nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where readings go.
pub(super) struct Stdout {
    file: File,
    cut: Cell<bool>,
}

impl Stdout {
    pub(super) fn open() -> Result<Self> {
        let terminal = || terminal(1);
        let file = match file().is_terminal().then(terminal).flatten() {
            Some(terminal) => terminal,
            None => file().try_clone().context("failed to open the output")?,
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
    /// An error if no process reads and a signal asks for the end.
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
    io::Error::new(io::ErrorKind::TimedOut, "no process reads the output")
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
