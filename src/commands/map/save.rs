//! `save` and `restore`: all entries of a map into a file and back, by the lines
//! of [`saved`].

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufWriter, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{MapCommand, entries, note, read_text, stdout, warn};
use crate::cli::Exit;
use crate::commands::replacement::Replacement;
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
        writeln!(target.out, "{}", saved::head(&map, &declaration)).with_context(written)?;
        let codec = self.codec(&map, &declaration);
        let (mut count, mut last) = (0, Ok(()));
        let outcome = Reader::new(&map).ahead().read(|key, buffer| {
            last = codec.write(&mut target.out, key, map.values(buffer));
            count += 1;
            if last.is_ok() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        last.with_context(written)?;
        let saved = format!("saved {} of map {}", entries(count), map.title());
        if let Outcome::Incomplete(why) = outcome {
            let place = target.finish_part().with_context(written)?;
            note(&saved);
            warn(&match place {
                Some(part) => format!(
                    "not all entries could be read: {why}; those that were are in `{part}`, and {file} stays as it was"
                ),
                None => format!("{file} is incomplete: {why}"),
            });
            return Ok(Exit::Incomplete);
        }
        writeln!(target.out, "{}", saved::end(count)).with_context(written)?;
        target.finish().with_context(written)?;
        note(&saved);
        Ok(Exit::Done)
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
        let (file, title) = (&lines.file, map.title());
        let misfit = |error| usage(format!("{file} does not fit map {title}: {error:#}"));
        saved::check_head(&first, &wanted).map_err(misfit)?;
        lines.most = saved::most_line(&map) as u64;
        let codec = self.codec(&map, &declaration);
        note(&format!("restoring map {title}"));
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

/// What an incomplete save is called beside the file that it does not replace.
const PART: &str = ".incomplete";

/// Where a map is saved: a pipe or a terminal as it is, and a file when it is
/// whole, for its owner alone to read.
struct Target {
    out: Box<dyn Write>,
    replacement: Option<Replacement>,
}

impl Target {
    fn open(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            return Ok(Self {
                out: Box::new(stdout()),
                replacement: None,
            });
        }
        Self::open_file(path).with_context(|| format!("failed to write `{}`", path.display()))
    }

    fn open_file(path: &Path) -> io::Result<Self> {
        let (file, replacement) = if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            (File::options().write(true).open(path)?, None)
        } else {
            let replacement = Replacement::new(path)?;
            (replacement.file().try_clone()?, Some(replacement))
        };
        Ok(Self {
            out: Box::new(BufWriter::new(file)),
            replacement,
        })
    }

    fn finish(mut self) -> io::Result<()> {
        self.out.flush()?;
        let owner_alone = Permissions::from_mode(0o600);
        self.replacement
            .map_or(Ok(()), |it| it.put_in_place(Some(owner_alone)))
    }

    /// Only a part was written: keeps it apart from a file, and returns where.
    fn finish_part(mut self) -> io::Result<Option<String>> {
        let part = self.replacement.as_mut().map(|it| it.set_aside(PART));
        let part = part.map(|path| path.display().to_string());
        self.finish()?;
        Ok(part)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_map_replaces_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let [file, part] = ["saved", "saved.incomplete"].map(|name| folder.path().join(name));
        fs::write(&file, "whole").unwrap();
        let mut target = Target::open(&file).unwrap();
        target.out.write_all(b"part").unwrap();
        let place = target.finish_part().unwrap();
        assert_eq!(place.as_deref(), part.to_str());
        assert_eq!(fs::read_to_string(&file).unwrap(), "whole");
        assert_eq!(fs::read_to_string(&part).unwrap(), "part");
        let mode = fs::metadata(&part).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // A pipe takes what there is.
        let target = Target::open(Path::new("/dev/null")).unwrap();
        assert_eq!(target.finish_part().unwrap(), None);
    }
}
