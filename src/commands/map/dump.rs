//! `ktally map dump`: all entries, as they come; or sorted, or grouped.

use std::collections::BinaryHeap;
use std::io::Write;
use std::ops::ControlFlow;

use anyhow::{Context, Result, bail};

use super::{MapCommand, entries, plural, stdout};
use crate::cli::{DumpArgs, Exit};
use crate::commands::query;
use crate::error::usage;
use crate::map::{Access, Map, Outcome, Reader};
use crate::render::{Entries, Entry};
use crate::schema::Declaration;
use crate::snapshot::{Filter, Query, Rank, Rows};

impl MapCommand<'_> {
    pub(super) fn dump(&self, args: &DumpArgs) -> Result<Exit> {
        let (map, declaration) = self.open(&args.map, Access::Read)?;
        map.check_readable()?;
        let query = query(&args.selection);
        if self.raw && query.by.is_some() {
            return Err(usage(
                "--by groups entries by what their keys say, and --raw shows bytes",
            ));
        }
        query.check(std::slice::from_ref(&declaration.table), &self.names)?;
        let filter = query.filter(&declaration.table, &self.names);
        let dump = Dump {
            command: self,
            map: &map,
            declaration: &declaration,
            query: &query,
            filter,
            args,
        };
        let outcome = if args.recurse {
            dump.inside()
        } else if query.by.is_some() {
            dump.grouped()
        } else if query.sort.is_some() || query.top.is_some() {
            dump.sorted()
        } else {
            dump.streamed()
        };
        Ok(
            match outcome.with_context(|| format!("failed to dump map {}", map.title()))? {
                Outcome::Incomplete(why) => {
                    super::warn(&format!("the dump is incomplete: {why}"));
                    Exit::Incomplete
                }
                _ => Exit::Done,
            },
        )
    }
}

struct Dump<'a> {
    command: &'a MapCommand<'a>,
    map: &'a Map,
    declaration: &'a Declaration,
    query: &'a Query,
    filter: Filter<'a>,
    args: &'a DumpArgs,
}

impl Dump<'_> {
    fn face(&self) -> Entries<'_> {
        let face = self.command.entries(self.declaration);
        face.per_cpu(self.args.per_cpu && self.map.value_count() > 1)
    }

    fn limit(&self) -> u64 {
        self.args.limit.unwrap_or(u64::MAX)
    }

    fn keeps(&self, key: &[u8]) -> bool {
        self.filter.keeps(key, &self.command.names)
    }

    /// One by one: nothing is kept.
    fn streamed(&self) -> Result<Outcome> {
        let (out, face) = (&mut stdout(), &mut self.face());
        let mut written = Ok(());
        let mut outcome = Outcome::Stopped;
        if self.limit() > 0 {
            outcome = Reader::new(self.map).read(|key, copied| {
                if self.keeps(key) {
                    written = write_entry(face, out, self.map, key, copied, None);
                }
                match written.is_err() || face.count() >= self.limit() {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })?;
        }
        written?;
        face.end(out, &footer(face.count(), None, &outcome))?;
        Ok(outcome)
    }

    /// Only the first `top` are kept, of a million entries too.
    fn sorted(&self) -> Result<Outcome> {
        let table = &self.declaration.table;
        let top = self.query.top.unwrap_or(usize::MAX);
        let mut first: BinaryHeap<(Rank, Vec<u8>, Vec<u8>)> = BinaryHeap::new();
        let mut read = 0u64;
        let outcome = Reader::new(self.map).read(|key, copied| {
            if !self.keeps(key) {
                return ControlFlow::Continue(());
            }
            read += 1;
            let mut cells = vec![0; table.cells()];
            for value in self.map.values(copied) {
                table.add_cells(value, &mut cells);
            }
            let rank = self.query.rank(table, key, &cells, &self.command.names);
            let is_among = first.len() < top
                || first
                    .peek()
                    .is_some_and(|(last, last_key, _)| (&rank, key) < (last, last_key));
            if is_among {
                first.push((rank, key.to_vec(), copied.to_vec()));
            }
            if first.len() > top {
                first.pop();
            }
            ControlFlow::Continue(())
        })?;
        let (out, face) = (&mut stdout(), &mut self.face());
        let limit = usize::try_from(self.limit()).unwrap_or(usize::MAX);
        for (_, key, copied) in first.into_sorted_vec().iter().take(limit) {
            write_entry(face, out, self.map, key, copied, None)?;
        }
        face.end(out, &footer(face.count(), Some(read), &outcome))?;
        Ok(outcome)
    }

    /// Grouped by fewer fields of the key, like the rows of a tally.
    fn grouped(&self) -> Result<Outcome> {
        let table = &self.declaration.table;
        let mut rows = Rows::of(table);
        let outcome = Reader::new(self.map).read(|key, copied| {
            let cells = rows.push(key);
            for value in self.map.values(copied) {
                table.add_cells(value, cells);
            }
            ControlFlow::Continue(())
        })?;
        let shown = self.query.apply(table, &rows, &self.command.names);
        let (out, face) = (
            &mut stdout(),
            &mut self.command.entries(self.declaration).grouped(&shown.table),
        );
        let limit = usize::try_from(self.limit()).unwrap_or(usize::MAX);
        for (key, cells) in shown.rows.iter().take(limit) {
            face.group(out, key, cells)?;
        }
        let of = format!(
            "{} of {}",
            plural(face.count(), "group"),
            entries(rows.len() as u64)
        );
        face.end(out, &of)?;
        Ok(outcome)
    }

    /// The entries of the maps inside of a map of maps.
    fn inside(&self) -> Result<Outcome> {
        if !self.map.holds_maps() {
            bail!(
                "it is of type {}, with no maps inside",
                self.map.type_name()
            );
        }
        let mut inner = Vec::new();
        let mut outcome = Reader::new(self.map).read(|key, copied| {
            inner.push((key.to_vec(), self.map.inner(copied)));
            ControlFlow::Continue(())
        })?;
        // All of them have the same types: the kernel sees to it.
        let first = inner.iter().find_map(|(_, map)| map.as_ref().ok());
        let declaration = first.map(|map| self.command.btf.declaration(&map.facts));
        let declaration = declaration.as_ref().unwrap_or(self.declaration);
        let copies = first.map_or(1, Map::value_count);
        let out = &mut stdout();
        let mut face = self.command.entries(declaration);
        face = face
            .per_cpu(self.args.per_cpu && copies > 1)
            .within(self.declaration);
        let mut maps = 0;
        for (key, map) in &inner {
            if face.count() >= self.limit() {
                outcome = Outcome::Stopped;
                break;
            }
            let map = match map {
                Ok(map) => map,
                Err(error) => {
                    super::warn(&format!("{error:#}"));
                    continue;
                }
            };
            maps += 1;
            let mut written = Ok(());
            let inside = Reader::new(map).read(|inner_key, copied| {
                let outer = Some((&key[..], map.id));
                written = write_entry(&mut face, out, map, inner_key, copied, outer);
                match written.is_err() || face.count() >= self.limit() {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })?;
            written?;
            if let Outcome::Incomplete(why) = inside {
                outcome = Outcome::Incomplete(format!("map {}: {why}", map.title()));
            }
        }
        let footer = format!(
            "{} of {} inside",
            entries(face.count()),
            plural(maps, "map")
        );
        face.end(out, &footer)?;
        Ok(outcome)
    }
}

pub(super) fn write_entry(
    face: &mut Entries<'_>,
    out: &mut impl Write,
    map: &Map,
    key: &[u8],
    copied: &[u8],
    outer: Option<(&[u8], u32)>,
) -> Result<()> {
    // Most maps have one value a key, and then this takes no memory.
    let (one, several): ([&[u8]; 1], Vec<&[u8]>);
    let values: &[&[u8]] = match map.value_count() {
        1 => {
            one = [copied];
            &one
        }
        _ => {
            several = map.values(copied).collect();
            &several
        }
    };
    face.entry(out, Entry { key, values, outer })?;
    Ok(())
}

fn footer(shown: u64, of: Option<u64>, outcome: &Outcome) -> String {
    let shown = match of {
        Some(read) if read != shown => format!("{shown} of {}", entries(read)),
        _ => entries(shown),
    };
    match outcome {
        Outcome::Complete => shown,
        Outcome::Stopped => format!("{shown}; there may be more"),
        Outcome::Incomplete(_) => format!("{shown}; incomplete"),
    }
}
