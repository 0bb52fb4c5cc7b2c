//! `ktally map dump`: all entries, in the order of the map, sorted, or grouped.

use std::collections::BinaryHeap;
use std::io::Write;
use std::ops::ControlFlow;

use anyhow::{Context, Result, bail};

use super::{MapCommand, entries, note, plural, stdout};
use crate::cli::{DumpArgs, Exit};
use crate::commands::query;
use crate::error::usage;
use crate::map::{Access, Map, Outcome, Reader};
use crate::render::{Entries, Entry};
use crate::schema::{Declaration, Hints, whole_number};
use crate::snapshot::{Filter, Query, Rank, Rows};

impl MapCommand<'_> {
    pub(super) fn dump(&self, args: &DumpArgs) -> Result<Exit> {
        let (map, declaration) = self.open(&args.map, Access::Read)?;
        map.check_readable()?;
        let hints = Hints {
            decoders: args.decoders.clone(),
            ..Hints::default()
        };
        let declaration = hints.apply_to_map(declaration)?;
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

    /// Says that the events of a tally's table whose keys found no room stay.
    pub(super) fn note_other(&self, map: &Map, declaration: &Declaration) {
        let other = map.other(&declaration.table.name, &self.btf);
        if other.is_some_and(|value| value.iter().any(|byte| *byte != 0)) {
            note("the table's row `(other)` is in another map: it stays as it is");
        }
    }
}

/// An entry and its place in the order.
type Ranked = (Rank, Vec<u8>, Vec<u8>);

struct Dump<'a> {
    command: &'a MapCommand<'a>,
    map: &'a Map,
    declaration: &'a Declaration,
    query: &'a Query,
    filter: Filter<'a>,
    args: &'a DumpArgs,
}

impl Dump<'_> {
    fn view(&self) -> Entries<'_> {
        let view = self.command.entries(self.declaration);
        view.per_cpu(self.args.per_cpu && self.map.value_count() > 1)
    }

    fn limit(&self) -> u64 {
        self.args.limit.unwrap_or(u64::MAX)
    }

    /// Writes the row `other`, if the map is the table of a tally and it counted
    /// something. Its events have no key that a filter could ask for.
    fn other(&self, view: &mut Entries<'_>, out: &mut impl Write) -> Result<()> {
        let is_left_out = self.command.raw || !self.query.filters.is_empty();
        if is_left_out || self.query.top == Some(0) {
            return Ok(());
        }
        let table = &self.declaration.table;
        let Some(value) = self.map.other(&table.name, &self.command.btf) else {
            return Ok(());
        };
        let mut cells = vec![0; table.cells()];
        table.add_cells(&value, &mut cells);
        if !table.counts_nothing(&cells) {
            view.other(out, &value)?;
        }
        Ok(())
    }

    fn keeps(&self, key: &[u8], buffer: &[u8]) -> bool {
        self.filter.keeps_key(key, &self.command.names)
            && (!self.filter.asks_for_numbers() || self.filter.keeps_cells(&self.cells(buffer)))
    }

    /// The numbers of an entry, those of all CPUs added up.
    fn cells(&self, buffer: &[u8]) -> Vec<u64> {
        let table = &self.declaration.table;
        let mut cells = vec![0; table.cells()];
        for value in self.map.values(buffer) {
            table.add_cells(value, &mut cells);
        }
        cells
    }

    /// Writes entries as they come, and keeps none.
    fn streamed(&self) -> Result<Outcome> {
        let (out, view) = (&mut stdout(), &mut self.view());
        let outcome = self.stream(self.map, view, out, None)?;
        self.other(view, out)?;
        view.end(out, &footer(view.count(), None, &outcome))?;
        Ok(outcome)
    }

    /// Writes the entries of a map until the limit is reached.
    fn stream(
        &self,
        map: &Map,
        view: &mut Entries<'_>,
        out: &mut impl Write,
        outer: Option<(&[u8], u32)>,
    ) -> Result<Outcome> {
        if view.count() >= self.limit() {
            return Ok(Outcome::Stopped);
        }
        let mut written = Ok(());
        let outcome = Reader::new(map).ahead().read(|key, buffer| {
            if self.keeps(key, buffer) {
                written = write_entry(view, out, map, key, buffer, outer);
            }
            match written.is_err() || view.count() >= self.limit() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        written?;
        Ok(outcome)
    }

    /// Keeps only the first `top`, even of a million entries.
    fn sorted(&self) -> Result<Outcome> {
        let table = &self.declaration.table;
        let top = self.query.top.unwrap_or(usize::MAX);
        let sorting = self.query.sorting(table, &self.command.names);
        let mut first: BinaryHeap<Ranked> = BinaryHeap::new();
        let mut read = 0u64;
        let outcome = Reader::new(self.map).read(|key, buffer| {
            if !self.keeps(key, buffer) {
                return ControlFlow::Continue(());
            }
            read += 1;
            let rank = sorting.rank(key, &self.cells(buffer), &self.command.names);
            let is_before = |(last, last_key, _): &Ranked| (&rank, key) < (last, last_key);
            if first.len() < top || first.peek().is_some_and(is_before) {
                first.push((rank, key.to_vec(), buffer.to_vec()));
            }
            if first.len() > top {
                first.pop();
            }
            ControlFlow::Continue(())
        })?;
        let (out, view) = (&mut stdout(), &mut self.view());
        let limit = usize::try_from(self.limit()).unwrap_or(usize::MAX);
        for (_, key, buffer) in first.into_sorted_vec().iter().take(limit) {
            write_entry(view, out, self.map, key, buffer, None)?;
        }
        self.other(view, out)?;
        view.end(out, &footer(view.count(), Some(read), &outcome))?;
        Ok(outcome)
    }

    /// Groups entries by some fields of the key, like the rows of a tally.
    fn grouped(&self) -> Result<Outcome> {
        let table = &self.declaration.table;
        let mut rows = Rows::of(table);
        let outcome = Reader::new(self.map).read(|key, buffer| {
            let cells = rows.push(key);
            for value in self.map.values(buffer) {
                table.add_cells(value, cells);
            }
            ControlFlow::Continue(())
        })?;
        let shown = self.query.apply(table, &rows, &self.command.names);
        let (out, view) = (
            &mut stdout(),
            &mut self.command.entries(self.declaration).grouped(&shown.table),
        );
        let limit = usize::try_from(self.limit()).unwrap_or(usize::MAX);
        for (key, cells) in shown.iter().take(limit) {
            view.group(out, key, cells)?;
        }
        let of = format!(
            "{} of {}",
            plural(view.count(), "group"),
            entries(rows.len() as u64)
        );
        view.end(out, &of)?;
        Ok(outcome)
    }

    /// Dumps the maps in a map of maps.
    fn inside(&self) -> Result<Outcome> {
        if !self.map.holds_maps() {
            bail!(
                "it is of type {}, with no maps inside",
                self.map.type_name()
            );
        }
        let mut inner = Vec::new();
        let mut outcome = Reader::new(self.map).read(|key, buffer| {
            inner.push((key.to_vec(), self.map.inner(buffer)));
            ControlFlow::Continue(())
        })?;
        // The kernel makes sure that all of them have the same types.
        let first = inner.iter().find_map(|(_, map)| map.as_ref().ok());
        let declaration = first.map(|map| self.command.btf.declaration(&map.facts));
        let declaration = declaration.as_ref().unwrap_or(self.declaration);
        let per_cpu = self.args.per_cpu && first.is_some_and(|map| map.value_count() > 1);
        let out = &mut stdout();
        let view = self.command.entries(declaration).per_cpu(per_cpu);
        let mut view = view.within(self.declaration);
        let mut maps = 0;
        for (key, map) in &inner {
            if view.count() >= self.limit() {
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
            let inside = self.stream(map, &mut view, out, Some((key, map.id)))?;
            if let Outcome::Incomplete(why) = inside {
                outcome = Outcome::Incomplete(format!("map {}: {why}", map.title()));
            }
        }
        let (entries, maps) = (entries(view.count()), plural(maps, "map"));
        view.end(out, &format!("{entries} of {maps} inside"))?;
        Ok(outcome)
    }
}

pub(super) fn write_entry(
    view: &mut Entries<'_>,
    out: &mut impl Write,
    map: &Map,
    key: &[u8],
    buffer: &[u8],
    outer: Option<(&[u8], u32)>,
) -> Result<()> {
    // Most maps have one value per key; these need no memory here.
    let (one, several): ([&[u8]; 1], Vec<&[u8]>);
    let values: &[&[u8]] = match map.value_count() {
        1 => {
            one = [buffer];
            &one
        }
        _ => {
            several = map.values(buffer).collect();
            &several
        }
    };
    view.entry(out, Entry { key, values, outer })?;
    Ok(())
}

fn footer(shown: u64, of: Option<u64>, outcome: &Outcome) -> String {
    let shown = match of {
        Some(read) if read != shown => {
            format!("{} of {}", whole_number(shown.into()), entries(read))
        }
        _ => entries(shown),
    };
    match outcome {
        Outcome::Complete => shown,
        Outcome::Stopped => format!("{shown}; there may be more"),
        Outcome::Incomplete(_) => format!("{shown}; incomplete"),
    }
}
