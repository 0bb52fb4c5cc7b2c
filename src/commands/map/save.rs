//! `save` and `restore`: entries as JSON lines, with the type beside them.
//!
//! An entry is written by its types where that says all of its bytes, and as hex
//! where it does not: what is restored is what was saved, byte by byte.

use std::io::{BufRead, Write};
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

impl Verb<'_> {
    pub(super) fn save(&self, name: &str, path: &Path) -> Result<Exit> {
        let (map, declaration) = self.open(name, Access::Read)?;
        ensure!(
            !map.is_queue() && !map.holds_maps(),
            "map {} is of type {}, which cannot be saved",
            map.title(),
            map.type_name()
        );
        let out = &mut write_text(path)?;
        writeln!(out, "{}", head(&map, &declaration))?;
        let (mut count, mut written) = (0, Ok(()));
        let outcome = Reader::new(&map).read(|key, copied| {
            let values: Vec<Json> = map
                .values(copied)
                .map(|value| exact(&declaration.value, value, &self.labels))
                .collect();
            let key = exact(&declaration.key, key, &self.labels);
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
        written
            .and_then(|()| out.flush())
            .context("failed to write")?;
        note(&format!("saved {} of map {}", entries(count), map.title()));
        Ok(match outcome {
            Outcome::Incomplete(why) => {
                warn(&format!("the file is incomplete: {why}"));
                Exit::Incomplete
            }
            _ => Exit::Done,
        })
    }

    pub(super) fn restore(&self, name: &str, path: &Path, noexist: bool) -> Result<Exit> {
        let mut lines = read_text(path)?.lines();
        let shown = path.display();
        let first = lines.next().transpose()?.unwrap_or_default();
        let (map, declaration) = self.open(name, Access::Write)?;
        check_head(&first, &map, &declaration).map_err(|error| {
            usage(format!(
                "`{shown}` does not fit map {}: {error:#}",
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
        let (mut restored, mut failed) = (0, 0);
        for (line, number) in lines.zip(2u64..) {
            let result = line
                .map_err(anyhow::Error::from)
                .and_then(|line| entry(&line, &map, &declaration, &self.labels))
                .and_then(|(key, copied)| map.update(&key, &copied, update));
            match result {
                Ok(()) => restored += 1,
                Err(error) => {
                    failed += 1;
                    warn(&format!("line {number} was not restored: {error:#}"));
                }
            }
        }
        note(&format!("restored {}, failed {failed}", entries(restored)));
        Ok(if failed == 0 {
            Exit::Done
        } else {
            Exit::Failed
        })
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
fn check_head(line: &str, map: &Map, declaration: &Declaration) -> Result<()> {
    let found: Json = serde_json::from_str(line).unwrap_or_default();
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

/// By its type, if that comes back as the same bytes; else as hex.
fn exact(place: &Place, bytes: &[u8], labels: &Labels) -> Json {
    let shown = json!(place.decode(bytes));
    match read_back(place, &shown, labels) {
        Ok(back) if back == bytes => shown,
        _ => json!(Value::Bytes(bytes.into())),
    }
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

fn entry(
    line: &str,
    map: &Map,
    declaration: &Declaration,
    labels: &Labels,
) -> Result<(Vec<u8>, Vec<u8>)> {
    let line: Json = serde_json::from_str(line)?;
    let key = read_back(&declaration.key, &line["key"], labels).context("its key")?;
    let values: Vec<&Json> = match &line["values"] {
        Json::Array(values) => values.iter().collect(),
        _ => vec![&line["value"]],
    };
    ensure!(
        values.len() == map.copies(),
        "it has {} values",
        values.len()
    );
    let values: Vec<Vec<u8>> = values
        .into_iter()
        .map(|value| read_back(&declaration.value, value, labels))
        .collect::<Result<_>>()
        .map_err(|error| anyhow!("its value: {error:#}"))?;
    Ok((key, map.copied_of(values.iter().map(Vec::as_slice))))
}
