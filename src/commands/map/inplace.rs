//! `add` and `drain`: what only the kernel can do in place.

use std::io::{self, Write};

use anyhow::{Result, anyhow};
use serde_json::json;

use super::{Verb, entries, stdout, warn};
use crate::cli::{AddArgs, Exit, Output};
use crate::error::{not_found, usage};
use crate::map::{Adder, Drained, Insert, Map, Update, drain};
use crate::render::{Entries, Entry, Format, Style};
use crate::schema::{Declaration, Number};

impl Verb<'_> {
    pub(super) fn add(&self, args: &AddArgs) -> Result<Exit> {
        let (map, declaration) = self.open_to_write(&args.map, "adding to")?;
        let key = self.key(&declaration, &args.key)?;
        let (path, delta) = match args.delta.rsplit_once('=') {
            Some((path, delta)) => (Some(path), delta),
            None => (None, args.delta.as_str()),
        };
        let (number, signed) = declaration.number(path)?;
        let delta = parse_delta(delta, number)?;
        let mut adder = Adder::new(&map, &key, number)?;
        if args.create {
            create_row(&map, &key)?;
        }
        let read = |raw: u64| interpret(raw, number, signed);
        let (mut before, mut after, mut wrapped) = (None, 0, false);
        for _ in 0..args.repeat {
            let Some(found) = adder.add(delta as u64)? else {
                return Err(not_found(format!(
                    "map {} has no key `{}`; --create makes it",
                    map.title(),
                    args.key.escape_debug()
                )));
            };
            before.get_or_insert(read(found));
            // Others may add in between: each step is told by itself.
            after = read(found.wrapping_add(delta as u64));
            wrapped |= read(found) + delta != after;
        }
        let before = before.unwrap_or(after);
        if wrapped {
            warn(&format!(
                "the number has {} bits and wrapped around",
                8 * number.width
            ));
        }
        let field = path.unwrap_or("value");
        let out = &mut io::stdout().lock();
        match self.global.output {
            Output::Json | Output::Jsonl => {
                let one_cpu = map.is_per_cpu();
                let object = json!({
                    "key": args.key, "field": field, "before": before, "after": after,
                    "wrapped": wrapped, "one_cpu": one_cpu,
                });
                writeln!(out, "{object}")?;
            }
            _ => {
                let copy = if map.is_per_cpu() {
                    " (this CPU's copy)"
                } else {
                    ""
                };
                writeln!(out, "{field}: {before} -> {after}{copy}")?;
            }
        }
        Ok(Exit::Done)
    }

    pub(super) fn drain(&self, name: &str) -> Result<Exit> {
        let (map, declaration) = self.open_to_write(name, "draining")?;
        let numbers = declaration.counts();
        let numbers =
            numbers.map_err(|error| anyhow!("failed to drain map {}: {error:#}", map.title()))?;
        let drained = drain(&map, &numbers)?;
        let style = super::style(self.global);
        let format = self.global.output.into();
        let written = self.write_drained(&mut stdout(), format, style, &declaration, &drained);
        if let Err(error) = written {
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
}

impl Verb<'_> {
    fn write_drained(
        &self,
        out: &mut impl Write,
        format: Format,
        style: Style,
        declaration: &Declaration,
        drained: &Drained,
    ) -> io::Result<()> {
        let mut face = Entries::new(format, style, declaration, &self.labels).raw(self.raw);
        for (key, value) in &drained.entries {
            let entry = Entry {
                key,
                values: &[value],
                outer: None,
            };
            face.entry(out, entry)?;
        }
        face.end(out, &format!("{} taken", entries(face.count())))
    }

    /// What was taken is nowhere else any more: where it cannot be written, all
    /// of it goes into a file. What a reader got of it is in there as well.
    fn keep(&self, declaration: &Declaration, drained: &Drained, why: &io::Error) -> anyhow::Error {
        let kept = tempfile::Builder::new()
            .prefix("ktally-drained-")
            .suffix(".jsonl")
            .tempfile()
            .and_then(|file| {
                let style = Style::default();
                let mut out = io::BufWriter::new(file.as_file());
                self.write_drained(&mut out, Format::Jsonl, style, declaration, drained)?;
                drop(out);
                Ok(file.keep()?.1)
            });
        // As text: a closed pipe is no quiet end here.
        match kept {
            Ok(path) => anyhow!(
                "failed to write what was taken ({why}); all of it is in `{}`",
                path.display()
            ),
            Err(error) => anyhow!(
                "failed to write what was taken ({why}), and to keep it in a file ({error}): it is lost; set TMPDIR to a folder with room"
            ),
        }
    }
}

/// A row of zeroes, if there is none: as programs make theirs.
fn create_row(map: &Map, key: &[u8]) -> Result<()> {
    let insert = Update {
        insert: Insert::NoExist,
        lock: false,
    };
    match map.lookup(key)? {
        Some(_) => Ok(()),
        None => match map.update(key, &map.copied_of([]), insert) {
            Err(error) if map.lookup(key)?.is_none() => Err(error),
            _ => Ok(()),
        },
    }
}

/// Whole numbers, as far as the number's width holds them.
fn parse_delta(text: &str, number: Number) -> Result<i128> {
    let most = (1i128 << (8 * number.width)) - 1;
    let delta = crate::schema::parse_number(text);
    let delta = delta.filter(|delta| (-most..=most).contains(delta));
    delta.ok_or_else(|| {
        usage(format!(
            "`{}` is no whole number from -{most} to {most}",
            text.escape_debug()
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
