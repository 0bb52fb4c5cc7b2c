//! `ktally map`: one file for a verb, or for a few that belong together.

mod create;
mod dump;
mod edit;
mod inplace;
mod list;
mod save;
mod watch;

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Result;

use super::{note, output, plural, style, warn};
use crate::cli::{Exit, Global, MapAction, MapArgs};
use crate::error::usage;
use crate::host;
use crate::map::{self, Access, Map, MapRef};
use crate::names::HostNames;
use crate::render::{Entries, Entry, Format, write_json};
use crate::schema::{Declaration, LeftOut, MapBtf, whole_number};

pub(super) fn map(global: &Global, args: MapArgs) -> Result<Exit> {
    let command = MapCommand {
        global,
        raw: args.raw,
        names: HostNames::new(),
        btf: MapBtf::default(),
    };
    match args.action {
        MapAction::List => command.list(),
        MapAction::Show { map } => command.show(&map),
        MapAction::Dump(args) => command.dump(&args),
        MapAction::Lookup(args) => command.lookup(&args),
        MapAction::Update(args) => command.update(&args),
        MapAction::Delete { map, keys } => command.delete(&map, &keys),
        MapAction::Clear { map, yes } => command.clear(&map, yes),
        MapAction::NextKey { map, key } => command.next_key(&map, key.as_deref()),
        MapAction::Add(args) => command.add(&args),
        MapAction::Drain { map } => command.drain(&map),
        MapAction::Watch(args) => command.watch(&args),
        MapAction::Save { map, file } => command.save(&map, &file),
        MapAction::Restore { map, file, noexist } => command.restore(&map, &file, noexist),
        MapAction::Pin { map, path } => command.pin(&map, &path),
        MapAction::Unpin { path } => command.unpin(&path),
        MapAction::Create(args) => command.create(&args),
        MapAction::Freeze { map } => command.freeze(&map),
        MapAction::Push {
            map,
            value,
            replace,
        } => command.push(&map, &value, replace),
        MapAction::Pop { map } => command.pop(&map),
        MapAction::Peek { map, value } => command.peek(&map, value.as_deref()),
    }
}

struct MapCommand<'g> {
    global: &'g Global,
    raw: bool,
    names: HostNames,
    btf: MapBtf,
}

impl MapCommand<'_> {
    fn open(&self, name: &str, access: Access) -> Result<(Map, Declaration)> {
        MapRef::parse(name)?.open(access, &self.btf)
    }

    fn key(&self, map: &Map, declaration: &Declaration, text: &str) -> Result<Vec<u8>> {
        map.check_keys()?;
        if map.is_of_files() {
            return map.file_key(Path::new(text));
        }
        declaration.parse_key(&self.typed(text), &self.names)
    }

    fn value(
        &self,
        declaration: &Declaration,
        text: &str,
        left_out: LeftOut,
        bytes: &mut [u8],
    ) -> Result<()> {
        declaration.parse_value(&self.typed(text), left_out, &self.names, bytes)
    }

    /// A whole value, without a key.
    fn whole_value(&self, map: &Map, declaration: &Declaration, text: &str) -> Result<Vec<u8>> {
        let mut value = vec![0; map.value_size];
        self.value(declaration, &given(text)?, LeftOut::Refused, &mut value)?;
        Ok(value)
    }

    fn typed<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.raw && !text.starts_with("hex:") {
            true => format!("hex:{text}").into(),
            false => text.into(),
        }
    }

    fn entries<'d>(&'d self, declaration: &'d Declaration) -> Entries<'d> {
        let style = style(self.global);
        Entries::new(self.global.output, style, declaration, &self.names).raw(self.raw)
    }

    /// Shows one value: bare if it is a number or text, for scripts; otherwise as an
    /// entry.
    fn show_value(
        &self,
        map: &Map,
        declaration: &Declaration,
        key: &[u8],
        buffer: &[u8],
        per_cpu: bool,
    ) -> Result<()> {
        let values: Vec<&[u8]> = map.values(buffer).collect();
        let per_cpu = per_cpu && map.value_count() > 1;
        let mut entries = self.entries(declaration).per_cpu(per_cpu);
        let out = &mut output::out();
        let is_bare = self.raw || declaration.value.ty.members().is_empty();
        match self.global.output {
            Format::Json | Format::Jsonl => write_json(out, &entries.value(&values))?,
            Format::Table if is_bare => {
                let value = entries.value(&values).to_string();
                writeln!(out, "{}", crate::text::escape(&value))?;
            }
            _ => {
                let outer = None;
                let values = &values;
                entries.entry(out, Entry { key, values, outer })?;
                entries.end(out, "1 entry")?;
            }
        }
        Ok(())
    }

    fn pin(&self, name: &str, path: &Path) -> Result<Exit> {
        host::mount_bpffs_for(path)?;
        let (map, _) = self.open(name, Access::Write)?;
        tell("pinning", &map);
        map.pin(path)?;
        Ok(Exit::Done)
    }

    fn unpin(&self, path: &Path) -> Result<Exit> {
        let map = map::unpin(path)?;
        note(&format!(
            "map {} is no longer pinned at that path",
            map.title()
        ));
        Ok(Exit::Done)
    }

    fn freeze(&self, name: &str) -> Result<Exit> {
        let (map, _) = self.open(name, Access::Write)?;
        tell("freezing", &map);
        map.freeze()?;
        Ok(Exit::Done)
    }

    fn push(&self, name: &str, text: &str, replace: bool) -> Result<Exit> {
        let (map, declaration) = self.open(name, Access::Write)?;
        map.check_pushes()?;
        let value = self.whole_value(&map, &declaration, text)?;
        tell("pushing to", &map);
        map.push(&value, replace)?;
        Ok(Exit::Done)
    }

    fn pop(&self, name: &str) -> Result<Exit> {
        let (map, declaration) = self.open(name, Access::Write)?;
        map.check_queue()?;
        tell("popping from", &map);
        let value = map.pop()?;
        self.show_value(&map, &declaration, &[], &value, false)?;
        Ok(Exit::Done)
    }

    fn peek(&self, name: &str, asked: Option<&str>) -> Result<Exit> {
        let (map, declaration) = self.open(name, Access::Read)?;
        if let Some(text) = asked.filter(|_| map.is_bloom_filter()) {
            return self.ask(&map, &declaration, text);
        }
        map.check_queue()?;
        if asked.is_some() {
            return Err(usage(format!(
                "map {} hands out its values in turn: leave out the value",
                map.title()
            )));
        }
        let value = map.peek()?;
        self.show_value(&map, &declaration, &[], &value, false)?;
        Ok(Exit::Done)
    }

    fn ask(&self, map: &Map, declaration: &Declaration, text: &str) -> Result<Exit> {
        let value = self.whole_value(map, declaration, text)?;
        let may_hold = map.may_hold(&value)?;
        let out = &mut output::out();
        match (self.global.output, may_hold) {
            (Format::Json | Format::Jsonl, _) => writeln!(out, "{may_hold}")?,
            (_, true) => writeln!(out, "there, or something like it")?,
            (_, false) => writeln!(out, "never pushed")?,
        }
        Ok(match may_hold {
            true => Exit::Done,
            false => Exit::NotFound,
        })
    }
}

/// Names the map that a verb changes, right before it does.
fn tell(doing: &str, map: &Map) {
    note(&format!(
        "{doing} map `{}` (id {}, {})",
        map.name,
        map.id,
        map.type_name()
    ));
}

/// A value as it was typed, or the content of a file: an argument cannot be longer than
/// 128 KiB.
fn given(text: &str) -> Result<Cow<'_, str>> {
    let path = match (text, text.strip_prefix('@')) {
        ("-", _) => text,
        (_, Some(path)) => path,
        _ => return Ok(Cow::Borrowed(text)),
    };
    let mut found = String::new();
    let read = read_text(Path::new(path))?.read_to_string(&mut found);
    read.map_err(|error| usage(format!("failed to read `{path}`: {error}")))?;
    found.truncate(found.trim_end_matches('\n').len());
    Ok(Cow::Owned(found))
}

fn stdout() -> BufWriter<&'static File> {
    BufWriter::with_capacity(64 << 10, output::file())
}

/// `3 entries`
fn entries(count: u64) -> String {
    match count {
        1 => plural(count, "entry"),
        _ => format!("{} entries", whole_number(count.into())),
    }
}

fn read_text(path: &Path) -> Result<Box<dyn io::BufRead>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(path)
        .map_err(|error| usage(format!("failed to read `{}`: {error}", path.display())))?;
    Ok(Box::new(io::BufReader::new(file)))
}
