//! `save` and `restore`: all entries of a map into a file and back, by the lines
//! of [`saved`].

use std::fs::{self, File};
use std::io::{self, BufRead, BufWriter, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;

use super::{MapCommand, entries, note, read_text, stdout, warn};
use crate::cli::Exit;
use crate::commands::wait::Signals;
use crate::error::usage;
use crate::map::saved::{self, Line, LineCodec};
use crate::map::{Access, Map, MapFlags, Outcome, Reader};
use crate::schema::Declaration;

/// No first line is longer, so a file that is not a saved map is not read whole.
const MOST_HEAD: u64 = 64 << 20;

impl MapCommand<'_> {
    pub(super) fn save(&self, name: &str, path: &Path) -> Result<Exit> {
        let (map, declaration) = self.open(name, Access::Read)?;
        map.check_saves()?;
        let file = shown(path, "standard output");
        let mut target = Target::open(path)?;
        let written = || format!("failed to write {file}");
        writeln!(target.out(), "{}", saved::head(&map, &declaration)).with_context(written)?;
        let codec = self.codec(&map, &declaration);
        let (mut count, mut last) = (0, Ok(()));
        let outcome = Reader::new(&map).read(|key, buffer| {
            last = codec.write(target.out(), key, map.values(buffer));
            count += 1;
            match last.is_ok() && !target.was_interrupted(buffer.len()) {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        last.with_context(written)?;
        ensure!(
            outcome != Outcome::Stopped,
            "interrupted: {file} stays as it was"
        );
        if outcome == Outcome::Complete {
            writeln!(target.out(), "{}", saved::end(count)).with_context(written)?;
        }
        target.finish().with_context(written)?;
        note(&format!("saved {} of map {}", entries(count), map.title()));
        Ok(match outcome {
            Outcome::Incomplete(why) => {
                warn(&format!("{file} is incomplete: {why}"));
                Exit::Incomplete
            }
            _ => Exit::Done,
        })
    }

    fn codec<'a>(&'a self, map: &Map, declaration: &'a Declaration) -> LineCodec<'a> {
        LineCodec {
            declaration,
            names: &self.names,
            value_count: map.is_per_cpu().then(|| map.value_count()),
            raw: self.raw,
        }
    }

    pub(super) fn restore(&self, name: &str, path: &Path, noexist: bool) -> Result<Exit> {
        let mut lines = Lines {
            text: read_text(path)?,
            file: shown(path, "standard input"),
            number: 0,
            most: MOST_HEAD,
        };
        let first = lines.next()?.unwrap_or_default();
        let (map, declaration) = self.open(name, Access::Write)?;
        let wanted = saved::head(&map, &declaration);
        saved::check_head(&first, &wanted).map_err(|error| {
            usage(format!(
                "{} does not fit map {}: {error:#}",
                lines.file,
                map.title()
            ))
        })?;
        lines.most = saved::most_line(&map) as u64;
        let codec = self.codec(&map, &declaration);
        note(&format!("restoring map {}", map.title()));
        let flags = if noexist {
            MapFlags::NO_EXIST
        } else {
            MapFlags::ANY
        };
        let mut count = Restored::default();
        let read = count.restore(&mut lines, &codec, &map, flags);
        let (restored, failed) = (count.restored, count.failed);
        note(&format!("restored {}, failed {failed}", entries(restored)));
        read?;
        let file = &lines.file;
        let is_whole = count.end == Some(restored + failed);
        match count.end {
            Some(_) if is_whole => {}
            Some(end) => warn(&format!("{file} should have {}", entries(end))),
            None => warn(&format!(
                "{file} has no last line: it was cut, or not all of the map was saved"
            )),
        }
        Ok(if is_whole && failed == 0 {
            Exit::Done
        } else {
            Exit::Failed
        })
    }
}

/// How many entries were restored, and how many the last line states.
#[derive(Default)]
struct Restored {
    restored: u64,
    failed: u64,
    end: Option<u64>,
}

impl Restored {
    /// Restores the entry of each line. An entry that fails is a warning; an error
    /// is a file that cannot be read.
    fn restore(
        &mut self,
        lines: &mut Lines,
        codec: &LineCodec<'_>,
        map: &Map,
        flags: MapFlags,
    ) -> Result<()> {
        while let Some(line) = lines.next()? {
            if let Err(error) = self.restore_line(&line, codec, map, flags) {
                self.failed += 1;
                let Lines { file, number, .. } = lines;
                warn(&format!(
                    "line {number} of {file} was not restored: {error:#}"
                ));
            }
        }
        Ok(())
    }

    fn restore_line(
        &mut self,
        line: &[u8],
        codec: &LineCodec<'_>,
        map: &Map,
        flags: MapFlags,
    ) -> Result<()> {
        let line = codec.read(line)?;
        ensure!(self.end.is_none(), "it is behind the last line");
        match line {
            Line::End(count) => self.end = Some(count),
            Line::Entry(key, values) => {
                let buffer = map.value_buffer(values.iter().map(Vec::as_slice));
                map.update(&key, &buffer, flags)?;
                self.restored += 1;
            }
        }
        Ok(())
    }
}

/// Where a map is saved. A file is written beside and renamed when it is whole,
/// so that a good one stays when the next cannot be written; only its owner may
/// read it. A pipe or a terminal is written to as it is.
enum Target {
    Open(Box<dyn Write>),
    Beside {
        file: BufWriter<NamedTempFile>,
        path: PathBuf,
        /// What was begun is removed before they end the process.
        signals: Signals,
        /// Bytes of the map, since signals were asked for.
        unasked: usize,
    },
}

impl Target {
    fn open(path: &Path) -> Result<Self> {
        let failed = || format!("failed to write `{}`", path.display());
        if path == Path::new("-") {
            return Ok(Self::Open(Box::new(stdout())));
        }
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            let file = File::options().write(true).open(path);
            let file = BufWriter::new(file.with_context(failed)?);
            return Ok(Self::Open(Box::new(file)));
        }
        // A link goes on to lead to it.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let file = NamedTempFile::with_prefix_in(".ktally-", folder).with_context(failed)?;
        Ok(Self::Beside {
            file: BufWriter::new(file),
            path,
            signals: Signals::block()?,
            unasked: 0,
        })
    }

    fn out(&mut self) -> &mut dyn Write {
        match self {
            Self::Open(out) => out,
            Self::Beside { file, .. } => file,
        }
    }

    /// Whether a signal came; `more` bytes of the map are written.
    fn was_interrupted(&mut self, more: usize) -> bool {
        const OFTEN_ENOUGH: usize = 1 << 20;
        let Self::Beside {
            signals, unasked, ..
        } = self
        else {
            return false;
        };
        *unasked += more + 64;
        if *unasked < OFTEN_ENOUGH {
            return false;
        }
        *unasked = 0;
        signals.wait_until(Some(Instant::now())).unwrap_or(true)
    }

    /// All of it was written.
    fn finish(self) -> io::Result<()> {
        match self {
            Self::Open(mut out) => out.flush(),
            Self::Beside { file, path, .. } => {
                let file = file.into_inner()?;
                file.as_file().sync_all()?;
                file.persist(path)?;
                Ok(())
            }
        }
    }
}

/// As messages call a file.
fn shown(path: &Path, stream: &str) -> String {
    match path == Path::new("-") {
        true => stream.to_owned(),
        false => format!("`{}`", path.display()),
    }
}

/// The lines of a file, which may be anything.
struct Lines {
    text: Box<dyn BufRead>,
    file: String,
    /// Of the last line.
    number: u64,
    /// No line has more bytes.
    most: u64,
}

impl Lines {
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        self.number += 1;
        let mut text = self.text.by_ref().take(self.most + 1);
        let read = text.read_until(b'\n', &mut line);
        read.with_context(|| format!("failed to read line {} of {}", self.number, self.file))?;
        ensure!(
            line.len() as u64 <= self.most,
            "line {} of {} is longer than any of a saved map",
            self.number,
            self.file
        );
        Ok((!line.is_empty()).then_some(line))
    }
}
