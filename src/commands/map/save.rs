//! `save` and `restore`: entries as JSON lines, with the type beside them.
//!
//! An entry is written by its types where that says all of its bytes, and as hex
//! where it does not: what is restored is what was saved, byte by byte.

use std::io::{BufRead, Read, Write};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value as Json, json};

use super::{Verb, entries, note, read_text, warn, write_text};
use crate::cli::Exit;
use crate::error::usage;
use crate::map::{Access, Insert, Map, Outcome, Reader, Update};
use crate::schema::{Declaration, Labels, LeftOut, Place, Tags, Value, parse};

/// The first line of a file says that it is one.
const MARK: &str = "ktally_map";
const VERSION: u64 = 1;

/// The last line says how many entries there are: without it a file was cut, or
/// not all could be read.
const END: &str = "ktally_map_end";

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
        writeln!(out, "{}", head(&map, &declaration))?;
        let (mut count, mut written) = (0, Ok(()));
        let outcome = Reader::new(&map).read(|key, copied| {
            let values: Vec<Json> = map
                .values(copied)
                .map(|value| self.exact(&declaration.value, value))
                .collect();
            let key = self.exact(&declaration.key, key);
            let line = match map.is_per_cpu() {
                true => json!({"key": key, "values": values}),
                false => json!({"key": key, "value": values.first()}),
            };
            written = writeln!(out, "{line}");
            count += 1;
            match written {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        if written.is_ok() && outcome == Outcome::Complete {
            written = writeln!(out, "{}", json!({END: count}));
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

    /// By its type, if that comes back as the same bytes; else as hex.
    fn exact(&self, place: &Place, bytes: &[u8]) -> Json {
        let shown = json!(place.decode(bytes));
        match read_back(place, &shown, &self.labels) {
            Ok(back) if back == bytes && !self.raw => shown,
            _ => json!(Value::Bytes(bytes.into())),
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
        check_head(&first, &map, &declaration).map_err(|error| {
            usage(format!(
                "{} does not fit map {}: {error:#}",
                lines.file,
                map.title()
            ))
        })?;
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
            let entry = match Line::parse(&line) {
                Ok(Line::End(count)) if end.is_none() => {
                    end = Some(count);
                    continue;
                }
                Ok(_) if end.is_some() => Err(anyhow!("it stands behind the last line")),
                Ok(line) => line.entry(&map, &declaration, &self.labels),
                Err(error) => Err(error),
            };
            match entry.and_then(|(key, copied)| map.update(&key, &copied, update)) {
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

/// A line behind the first.
enum Line {
    Entry { key: Json, values: Vec<Json> },
    End(u64),
}

impl Line {
    fn parse(line: &[u8]) -> Result<Self> {
        let object: serde_json::Map<String, Json> =
            serde_json::from_slice(line).map_err(|error| match error.is_eof() {
                true => anyhow!("it is cut"),
                false => anyhow!("it is no JSON object"),
            })?;
        let is_alone = object.len() == 1;
        let (mut key, mut values) = (None, None);
        for (name, json) in object {
            match (name.as_str(), json) {
                ("key", json) => key = Some(json),
                ("value", json) if values.is_none() => values = Some(vec![json]),
                ("values", Json::Array(all)) if values.is_none() => values = Some(all),
                (END, json) if is_alone => {
                    return json.as_u64().map(Self::End).context("it has no number");
                }
                (name, _) => bail!("its field `{}` has no place there", name.escape_debug()),
            }
        }
        Ok(Self::Entry {
            key: key.context("it has no key")?,
            values: values.context("it has no value")?,
        })
    }

    fn entry(
        self,
        map: &Map,
        declaration: &Declaration,
        labels: &Labels,
    ) -> Result<(Vec<u8>, Vec<u8>)> {
        let Self::Entry { key, values } = self else {
            bail!("it is no entry");
        };
        ensure!(
            values.len() == map.copies(),
            "it has {} values, and the map {}",
            values.len(),
            map.copies()
        );
        let key = read_back(&declaration.key, &key, labels).context("its key")?;
        let values: Vec<Vec<u8>> = values
            .iter()
            .map(|value| read_back(&declaration.value, value, labels))
            .collect::<Result<_>>()
            .context("its value")?;
        Ok((key, map.copied_of(values.iter().map(Vec::as_slice))))
    }
}

fn head(map: &Map, declaration: &Declaration) -> Json {
    json!({
        MARK: VERSION,
        "name": declaration.name,
        "type": map.type_name(),
        "key_size": map.key_size,
        "value_size": map.value_size,
        "max_entries": map.max_entries,
        "copies": map.copies(),
        "declaration": declaration.as_c(),
    })
}

/// Whatever the file says about its map must be so here: but for names and room.
fn check_head(line: &[u8], map: &Map, declaration: &Declaration) -> Result<()> {
    let found: Json = serde_json::from_slice(line).unwrap_or_default();
    ensure!(
        found[MARK] == json!(VERSION),
        "its first line is not that of a saved map"
    );
    let wanted = head(map, declaration);
    for what in ["key_size", "value_size", "copies", "declaration"] {
        if found[what] != wanted[what] {
            let text = |json: &Json| {
                json.as_str()
                    .map_or_else(|| json.to_string(), str::to_owned)
            };
            bail!(
                "{what} differs: {} in the file, {} in the map",
                text(&found[what]),
                text(&wanted[what])
            );
        }
    }
    Ok(())
}

fn read_back(place: &Place, json: &Json, labels: &Labels) -> Result<Vec<u8>> {
    let text = match json {
        // Not in quotes, where it would be a text.
        Json::String(hex) if hex.starts_with("hex:") => hex.clone(),
        json => json.to_string(),
    };
    let mut bytes = vec![0; place.ty.size];
    let tags = Tags::default();
    parse(place, &tags, &text, LeftOut::Refused, labels, &mut bytes)?;
    Ok(bytes)
}
