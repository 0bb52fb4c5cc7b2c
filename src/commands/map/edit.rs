//! `lookup`, `update`, `delete`, `clear`, `next-key`: edits through copies.

use std::io::Write;

use anyhow::Result;

use super::{MapCommand, entries, given, note, output, style, tell, warn};
use crate::cli::{Exit, LookupArgs, UpdateArgs};
use crate::error::{not_found, usage};
use crate::map::{Access, Inventory, Map, MapFlags};
use crate::render::{Column, write_json, write_rows};
use crate::schema::{Declaration, LeftOut, Value};

impl MapCommand<'_> {
    pub(super) fn lookup(&self, args: &LookupArgs) -> Result<Exit> {
        let (map, declaration) = self.open(&args.map, Access::Read)?;
        map.check_readable()?;
        let key = self.key(&map, &declaration, &args.key)?;
        let Some(buffer) = map.lookup(&key)? else {
            self.show_null()?;
            return Err(no_such_key(&map, &args.key));
        };
        self.show_value(&map, &declaration, &key, &buffer, args.per_cpu)?;
        Ok(Exit::Done)
    }

    fn show_null(&self) -> Result<()> {
        if self.global.output.is_json() {
            writeln!(output::out(), "null")?;
        }
        Ok(())
    }

    pub(super) fn update(&self, args: &UpdateArgs) -> Result<Exit> {
        let (map, declaration) = self.open(&args.map, Access::Write)?;
        if (args.cpu.is_some() || args.all_cpus) && !map.is_per_cpu() {
            return Err(usage(format!(
                "map {} has one value for all CPUs",
                map.title()
            )));
        }
        let key = self.key(&map, &declaration, &args.key)?;
        let buffer = self.new_value(args, &map, &declaration, &key)?;
        map.check_fd_value(&buffer)?;
        tell("updating", &map);
        if let Some(program) = self.counting_program(&map) {
            warn(&format!(
                "program `{program}` uses this {}: what it adds to the old value meanwhile is lost; `ktally map add` loses nothing",
                map.type_name()
            ));
        }
        let mut flags = MapFlags::ANY;
        flags.set(MapFlags::EXIST, args.exist);
        flags.set(MapFlags::NO_EXIST, args.noexist);
        flags.set(MapFlags::LOCK, args.lock);
        map.update(&key, &buffer, flags)?;
        Ok(Exit::Done)
    }

    /// The value buffer to write: one value, or one per CPU.
    fn new_value(
        &self,
        args: &UpdateArgs,
        map: &Map,
        declaration: &Declaration,
        key: &[u8],
    ) -> Result<Vec<u8>> {
        let left_out = match args.merge || args.zero {
            true => LeftOut::Kept,
            false => LeftOut::Refused,
        };
        let old = self.old_value(args, map, key)?;
        let mut values: Vec<Vec<u8>> = map.values(&old).map(<[u8]>::to_vec).collect();
        let text = given(&args.value)?;
        let parse = |value: &mut Vec<u8>| {
            let parsed = self.value(declaration, &text, left_out, value);
            parsed.map_err(|error| {
                // What is given is right, but fields are missing.
                match self.value(declaration, &text, LeftOut::Kept, value) {
                    Ok(()) => error.context("give every field, or say --merge or --zero"),
                    Err(_) => error,
                }
            })
        };
        let cpus = values.len();
        match args.cpu {
            Some(cpu) if cpu >= cpus => {
                return Err(usage(format!(
                    "there is no CPU {cpu}: the last is {}",
                    cpus - 1
                )));
            }
            Some(cpu) => parse(&mut values[cpu])?,
            None if args.all_cpus => values.iter_mut().try_for_each(parse)?,
            None => {
                // --merge keeps the values of the other CPUs.
                if !args.merge {
                    values.iter_mut().for_each(|value| value.fill(0));
                }
                parse(&mut values[0])?;
            }
        }
        Ok(map.value_buffer(values.iter().map(Vec::as_slice)))
    }

    /// What `--merge` and `--cpu` start from.
    fn old_value(&self, args: &UpdateArgs, map: &Map, key: &[u8]) -> Result<Vec<u8>> {
        if args.merge || args.cpu.is_some() {
            match map.lookup(key)? {
                Some(old) => return Ok(old),
                None if args.merge => {
                    let error = no_such_key(map, &args.key);
                    return Err(error.context("there is nothing to merge with"));
                }
                None => {}
            }
        }
        Ok(map.value_buffer([]))
    }

    /// A program that may add to values that an update replaces. Hash maps replace
    /// values; all others are written in place.
    fn counting_program(&self, map: &Map) -> Option<String> {
        let programs = map.is_hash().then(|| Inventory::programs_using(map.id))?;
        programs.first().map(|program| program.name.clone())
    }

    pub(super) fn delete(&self, name: &str, keys: &[String]) -> Result<Exit> {
        let (map, declaration) = self.open(name, Access::Write)?;
        // All keys are parsed before the first is deleted.
        let keys: Vec<(&String, Vec<u8>)> = keys
            .iter()
            .map(|text| Ok((text, self.key(&map, &declaration, text)?)))
            .collect::<Result<_>>()?;
        tell("deleting from", &map);
        let mut fates = Vec::new();
        for (text, key) in &keys {
            fates.push((text, key, map.delete(key)?));
        }
        let out = &mut output::out();
        if self.global.output.is_json() {
            let entries = self.entries(&declaration);
            let rows = fates
                .iter()
                .map(|(_, key, deleted)| (entries.key(key), *deleted));
            let columns = [
                Column::exact("key", |(key, _): &(Value<'_>, bool)| key.clone()),
                Column::exact("deleted", |(_, deleted): &(_, bool)| (*deleted).into()),
            ];
            let how = (self.global.output, style(self.global));
            write_rows(out, how, &columns, rows)?;
        } else {
            let fate = |was_there: bool| if was_there { "deleted" } else { "absent" };
            for (text, _, was_there) in &fates {
                writeln!(out, "{}: {}", crate::text::escape(text), fate(*was_there))?;
            }
        }
        Ok(if fates.iter().all(|(_, _, was_there)| *was_there) {
            Exit::Done
        } else {
            Exit::NotFound
        })
    }

    pub(super) fn clear(&self, name: &str, is_confirmed: bool) -> Result<Exit> {
        if !is_confirmed {
            return Err(usage(format!(
                "`map clear {name}` deletes every entry for good; confirm it with --yes"
            )));
        }
        let (map, declaration) = self.open(name, Access::Write)?;
        map.check_keys()?;
        tell("clearing", &map);
        self.note_other(&map, &declaration);
        // A bound, because programs may insert meanwhile: the map held fewer keys.
        let most = 4 * u64::from(map.max_entries) + 1024;
        let (mut deleted, mut last) = (0, None);
        for _ in 0..most {
            let Some(key) = map.next_key(last.as_deref())? else {
                note(&format!("deleted {}", entries(deleted)));
                return Ok(Exit::Done);
            };
            deleted += u64::from(map.delete(&key)?);
            // Indexes stay, so the walk goes on; otherwise the next key is now the first.
            last = map.is_indexed().then_some(key);
        }
        warn(&format!(
            "after {deleted} deletions there are still keys: a program inserts them"
        ));
        Ok(Exit::Incomplete)
    }

    pub(super) fn next_key(&self, name: &str, text: Option<&str>) -> Result<Exit> {
        let (map, declaration) = self.open(name, Access::Read)?;
        map.check_keys()?;
        let key = text.map(|text| self.key(&map, &declaration, text));
        let key = key.transpose()?;
        let Some(next) = map.next_key(key.as_deref())? else {
            self.show_null()?;
            return Err(not_found(match text {
                None => format!("map {} is empty", map.title()),
                Some(text) => format!("`{text}` is the last key"),
            }));
        };
        let entries = self.entries(&declaration);
        let shown = entries.key(&next);
        let out = &mut output::out();
        // A struct is shown as JSON, which can be typed again.
        if self.global.output.is_json() || matches!(shown, Value::Fields(_)) {
            write_json(out, &shown)?;
        } else {
            writeln!(out, "{}", crate::text::escape(&shown.to_string()))?;
        }
        Ok(Exit::Done)
    }
}

fn no_such_key(map: &Map, text: &str) -> anyhow::Error {
    not_found(format!("map {} has no key `{text}`", map.title()))
}
