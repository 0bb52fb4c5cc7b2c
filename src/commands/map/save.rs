//! `save` and `restore`: all entries of a map into a file and back, by the lines
//! of [`saved`].

use std::io::{BufRead, Read, Write};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};

use super::{Verb, entries, note, read_text, warn, write_text};
use crate::cli::Exit;
use crate::error::usage;
use crate::map::saved::{self, Form, Line};
use crate::map::{Access, Insert, Map, Outcome, Reader, Update};
use crate::schema::Declaration;

/// No line is longer: what is no saved map is not read whole.
const MOST_BYTES: u64 = 64 << 20;

impl Verb<'_> {
    pub(super) fn save(&self, name: &str, path: &Path) -> Result<Exit> {
        let (map, declaration) = self.open(name, Access::Read)?;
        map.check_readable()?;
        ensure!(
            !map.holds_maps(),
            "map {} is of type {}, which cannot be saved",
            map.title(),
            map.type_name()
        );
        let file = shown(path, "standard output");
        let out = &mut write_text(path)?;
        writeln!(out, "{}", saved::head(&map, &declaration))?;
        let form = self.form(&map, &declaration);
        let (mut count, mut written) = (0, Ok(()));
        let outcome = Reader::new(&map).read(|key, copied| {
            let line = form.write(key, map.values(copied));
            written = writeln!(out, "{line}");
            count += 1;
            match written {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        if written.is_ok() && outcome == Outcome::Complete {
            written = writeln!(out, "{}", saved::end(count));
        }
        written
            .and_then(|()| out.flush())
            .with_context(|| format!("failed to write {file}"))?;
        note(&format!("saved {} of map {}", entries(count), map.title()));
        Ok(match outcome {
            Outcome::Incomplete(why) => {
                warn(&format!("{file} is incomplete: {why}"));
                Exit::Incomplete
            }
            _ => Exit::Done,
        })
    }

    fn form<'a>(&'a self, map: &Map, declaration: &'a Declaration) -> Form<'a> {
        Form {
            declaration,
            labels: &self.labels,
            copies: map.is_per_cpu().then(|| map.copies()),
            raw: self.raw,
        }
    }

    pub(super) fn restore(&self, name: &str, path: &Path, noexist: bool) -> Result<Exit> {
        let mut lines = Lines {
            text: read_text(path)?,
            file: shown(path, "standard input"),
            number: 0,
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
        let form = self.form(&map, &declaration);
        note(&format!("restoring map {}", map.title()));
        let update = Update {
            insert: if noexist {
                Insert::NoExist
            } else {
                Insert::Any
            },
            lock: false,
        };
        let (mut restored, mut failed, mut end) = (0, 0, None);
        let read = loop {
            let line = match lines.next() {
                Ok(Some(line)) => line,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            let entry = match form.read(&line) {
                Ok(Line::End(count)) if end.is_none() => {
                    end = Some(count);
                    continue;
                }
                Ok(Line::Entry(key, values)) if end.is_none() => Ok((key, values)),
                Ok(_) => Err(anyhow!("it stands behind the last line")),
                Err(error) => Err(error),
            };
            let entry = entry.and_then(|(key, values)| {
                let copied = map.copied_of(values.iter().map(Vec::as_slice));
                map.update(&key, &copied, update)
            });
            match entry {
                Ok(()) => restored += 1,
                Err(error) => {
                    failed += 1;
                    let Lines { file, number, .. } = &lines;
                    warn(&format!(
                        "line {number} of {file} was not restored: {error:#}"
                    ));
                }
            }
        };
        note(&format!("restored {}, failed {failed}", entries(restored)));
        read?;
        let file = &lines.file;
        match end {
            Some(count) if count == restored + failed => {}
            Some(count) => {
                failed += 1;
                warn(&format!("{file} should have {}", entries(count)));
            }
            None => {
                failed += 1;
                warn(&format!(
                    "{file} has no last line: it was cut, or not all of the map was saved"
                ));
            }
        }
        Ok(match failed {
            0 => Exit::Done,
            _ => Exit::Failed,
        })
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
}

impl Lines {
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        self.number += 1;
        let mut text = self.text.by_ref().take(MOST_BYTES);
        let read = text.read_until(b'\n', &mut line);
        read.with_context(|| format!("failed to read line {} of {}", self.number, self.file))?;
        ensure!(
            (line.len() as u64) < MOST_BYTES,
            "line {} of {} is longer than any of a saved map",
            self.number,
            self.file
        );
        Ok((!line.is_empty()).then_some(line))
    }
}
