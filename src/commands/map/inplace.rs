//! `add` and `drain`: what only the kernel can do in place.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde_json::json;

use super::{MapCommand, entries, note, output, style, tell, warn};
use crate::cli::{AddArgs, Exit};
use crate::commands::output::{Stdout, Writer};
use crate::commands::wait::Signals;
use crate::error::{not_found, usage};
use crate::map::{Access, Adder, Drained, Map, MapFlags, drain};
use crate::render::{Entries, Entry, Format, Style};
use crate::schema::{Declaration, Number, no_counts};

/// What additions made of a number.
struct Sum {
    before: i128,
    after: i128,
    wrapped: bool,
}

impl MapCommand<'_> {
    pub(super) fn add(&self, args: &AddArgs) -> Result<Exit> {
        let (map, declaration) = self.open(&args.map, Access::Write)?;
        let refused = || format!("failed to add to map {}", map.title());
        map.check_in_place().with_context(refused)?;
        let key = self.key(&map, &declaration, &args.key)?;
        let (path, delta) = match args.delta.rsplit_once('=') {
            Some((path, delta)) => (Some(path), delta),
            None => (None, args.delta.as_str()),
        };
        let (number, signed) = declaration.number(path).with_context(refused)?;
        let delta = parse_delta(delta, number)?;
        tell("adding to", &map);
        let mut adder = Adder::new(&map, &key, number)?;
        if args.create {
            create_row(&map, &key)?;
        }
        let read = |raw: u64| interpret(raw, number, signed);
        let Some(sum) = add_repeatedly(&mut adder, delta, args.repeat, read)? else {
            return Err(not_found(format!(
                "map {} has no key `{}`; --create makes it",
                map.title(),
                args.key
            )));
        };
        if sum.wrapped {
            let bits = 8 * number.width;
            warn(&format!("the number has {bits} bits and wrapped around"));
        }
        self.show_sum(&map, &declaration, &key, path.unwrap_or("value"), &sum)
    }

    fn show_sum(
        &self,
        map: &Map,
        declaration: &Declaration,
        key: &[u8],
        field: &str,
        sum: &Sum,
    ) -> Result<Exit> {
        let out = &mut output::out();
        let Sum {
            before,
            after,
            wrapped,
        } = sum;
        if self.global.output.is_json() {
            let entries = self.entries(declaration);
            let (key, one_cpu) = (entries.key(key), map.is_per_cpu());
            let object = json!({
                "key": key, "field": field, "before": before, "after": after,
                "wrapped": wrapped, "one_cpu": one_cpu,
            });
            writeln!(out, "{object}")?;
        } else {
            let copy = match map.is_per_cpu() {
                true => " (this CPU's copy)",
                false => "",
            };
            writeln!(out, "{field}: {before} -> {after}{copy}")?;
        }
        Ok(Exit::Done)
    }

    pub(super) fn drain(&self, name: &str) -> Result<Exit> {
        let (map, declaration) = self.open(name, Access::Write)?;
        let counts = map.check_in_place().and_then(|()| declaration.counts());
        let counts = counts.with_context(|| format!("failed to drain map {}", map.title()))?;
        // What is taken exists nowhere else until it is written, so all signals that
        // would end the process wait.
        let signals = Signals::block_all()?;
        let stdout = Stdout::open()?;
        tell("draining", &map);
        self.note_other(&map, &declaration);
        if !counts.left.is_empty() {
            note(&format!("left alone: {}", no_counts(&counts.left)));
        }
        let drained = drain(&map, &counts.numbers)?;
        let mut nothing = || {};
        let out = &mut BufWriter::new(Writer {
            stdout: &stdout,
            signals: &signals,
            end: None,
            stop: &mut nothing,
        });
        let (format, style) = (self.global.output, style(self.global));
        let written = self.write_drained(out, format, style, &declaration, &drained);
        if let Err(error) = written.and_then(|()| output::finish()) {
            return Err(self.keep(&declaration, &drained, &error));
        }
        Ok(match drained.incomplete {
            Some(why) => {
                warn(&format!("the map is not empty: {why}"));
                Exit::Incomplete
            }
            None => Exit::Done,
        })
    }

    fn write_drained(
        &self,
        out: &mut dyn Write,
        format: Format,
        style: Style,
        declaration: &Declaration,
        drained: &Drained,
    ) -> io::Result<()> {
        let mut view = Entries::new(format, style, declaration, &self.names).raw(self.raw);
        drained.each(|key, value| {
            let entry = Entry {
                key,
                values: &[value],
                outer: None,
            };
            view.entry(out, entry)
        })?;
        view.end(out, &format!("{} taken", entries(view.count())))
    }

    /// What was taken exists nowhere else. If it cannot be written, all of it goes into
    /// a file, or else to stderr, including what a reader got already.
    fn keep(&self, declaration: &Declaration, drained: &Drained, why: &io::Error) -> anyhow::Error {
        let write = |out: &mut dyn Write| {
            let style = Style::default();
            self.write_drained(out, Format::Jsonl, style, declaration, drained)
        };
        let kept = [std::env::temp_dir(), PathBuf::from(".")]
            .iter()
            .find_map(|folder| keep_in(folder, &write).ok());
        // As text, because a closed pipe is an error here.
        match kept {
            Some(path) => anyhow!(
                "failed to write what was taken ({why}); all of it is in `{}`",
                path.display()
            ),
            None => match write(&mut io::stderr()) {
                Ok(()) => anyhow!(
                    "failed to write what was taken ({why}), and to keep it in a file; all of it is above"
                ),
                Err(_) => anyhow!("what was taken is lost ({why})"),
            },
        }
    }
}

/// `None` if the key does not exist. Others may add in between, so each step is compared.
fn add_repeatedly(
    adder: &mut Adder,
    delta: i128,
    repeat: u64,
    read: impl Fn(u64) -> i128,
) -> Result<Option<Sum>> {
    let mut sum: Option<Sum> = None;
    for _ in 0..repeat {
        let Some(found) = adder.add(delta as u64)? else {
            return Ok(None);
        };
        let (before, after) = (read(found), read(found.wrapping_add(delta as u64)));
        let wrapped = before + delta != after;
        sum = Some(Sum {
            before: sum.as_ref().map_or(before, |sum| sum.before),
            after,
            wrapped: wrapped || sum.is_some_and(|sum| sum.wrapped),
        });
    }
    Ok(sum)
}

/// Writes a new file, and syncs it to the disk.
fn keep_in(
    folder: &Path,
    write: &impl Fn(&mut dyn Write) -> io::Result<()>,
) -> io::Result<PathBuf> {
    let file = tempfile::Builder::new()
        .prefix("ktally-drained-")
        .suffix(".jsonl")
        .tempfile_in(folder)?;
    write(&mut BufWriter::new(file.as_file()))?;
    file.as_file().sync_all()?;
    Ok(file.keep()?.1)
}

/// Inserts a row of zeroes if there is none, as programs do.
fn create_row(map: &Map, key: &[u8]) -> Result<()> {
    if map.lookup(key)?.is_some() {
        return Ok(());
    }
    match map.update(key, &map.value_buffer([]), MapFlags::NO_EXIST) {
        Err(error) if map.lookup(key)?.is_none() => Err(error),
        _ => Ok(()),
    }
}

/// A whole number that fits the width of the field.
fn parse_delta(text: &str, number: Number) -> Result<i128> {
    let most = (1i128 << (8 * number.width)) - 1;
    let delta = crate::schema::parse_number(text);
    let delta = delta.filter(|delta| (-most..=most).contains(delta));
    delta.ok_or_else(|| {
        usage(format!(
            "`{text}` is not a whole number from -{most} to {most}"
        ))
    })
}

fn interpret(raw: u64, number: Number, signed: bool) -> i128 {
    match (number.width, signed) {
        (4, true) => (raw as u32 as i32).into(),
        (4, false) => (raw as u32).into(),
        (_, true) => (raw as i64).into(),
        (_, false) => raw.into(),
    }
}
