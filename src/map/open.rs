//! Which map is meant: an id, a pin, or a name.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use libbpf_rs::MapFdInfo;

use super::{Map, iterator};
use crate::error::{not_found, unknown_text, usage};
use crate::host;
use crate::schema::{Declaration, MapBtf, MapFacts};
use crate::sys;
use crate::sys::map::Access;

/// How a map was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MapRef {
    /// `42`, or `NAME:42`
    Id(u32),
    /// Anything with a `/`.
    Pin(PathBuf),
    /// `NAME`, or `name:NAME` where that looks like something else.
    Name(String),
    /// `NAME:42`: the id, if the map is called so.
    NameAndId(String, u32),
}

impl MapRef {
    /// From the command line; total, as anything can be a name.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(usage("a map is an id, a pinned path, or a name"));
        }
        if text.starts_with(|c: char| c.is_ascii_digit())
            && text.bytes().all(|c| c.is_ascii_digit())
        {
            let id = text.parse();
            return id
                .map(Self::Id)
                .map_err(|_| usage(format!("`{text}` is not a map id: ids have 32 bits")));
        }
        if let Some(name) = text.strip_prefix("name:") {
            return Ok(Self::Name(name.to_owned()));
        }
        if text.contains('/') {
            return Ok(Self::Pin(text.into()));
        }
        if let Some((name, id)) = text.rsplit_once(':')
            && let Ok(id) = id.parse()
        {
            return Ok(match name {
                "id" => Self::Id(id),
                _ => Self::NameAndId(name.to_owned(), id),
            });
        }
        Ok(Self::Name(text.to_owned()))
    }

    /// The map, and what is known about it.
    pub(crate) fn open(&self, access: Access, btf: &MapBtf) -> Result<(Map, Declaration)> {
        let mut map = match self {
            Self::Name(name) => by_name(name, access, btf)?,
            _ => self.open_alone(access)?,
        };
        let declaration = btf.declaration(&map.facts);
        map.name.clone_from(&declaration.name);
        if let Self::NameAndId(name, id) = self
            && ![&declaration.name, &map.facts.name].contains(&name)
        {
            return Err(not_found(format!(
                "map {id} is called `{}`, not `{name}`",
                declaration.name
            )));
        }
        Ok((map, declaration))
    }

    /// Without a look at its types.
    pub(crate) fn open_alone(&self, access: Access) -> Result<Map> {
        match self {
            Self::Id(id) | Self::NameAndId(_, id) => {
                let fd = sys::map::open_id(*id, access);
                Map::from_fd(fd.map_err(|error| id_refused(*id, &error))?)
            }
            Self::Pin(path) => {
                let fd = sys::map::open_pin(path, access);
                let fd = fd.map_err(|error| pin_refused(path, access, &error))?;
                // A program or a link answers as well, without a map id.
                match MapFdInfo::from_fd(fd.as_fd()) {
                    Ok(info) if info.map_id.is_some() => Map::from_fd(fd),
                    _ => Err(usage(format!(
                        "`{}` is not the pin of a map",
                        path.display()
                    ))),
                }
            }
            Self::Name(name) => by_name(name, access, &MapBtf::default()),
        }
    }
}

/// The ids of all maps that there are now.
pub(super) fn ids() -> Result<Vec<u32>> {
    match iterator::maps() {
        Ok(maps) => Ok(maps.iter().map(|map| map.id).collect()),
        Err(_) => ids_one_by_one(),
    }
}

/// The same with their names, at most 15 characters of each, without opening them
/// where that can be.
pub(crate) fn names() -> Result<Vec<(u32, String)>> {
    let name = |id| Some((id, open(id).ok()?.facts.name));
    match iterator::maps() {
        Ok(maps) => Ok(maps.iter().map(|map| (map.id, map.name())).collect()),
        Err(_) => Ok(ids_one_by_one()?.into_iter().filter_map(name).collect()),
    }
}

/// Lists ids without opening maps. Opening each one is slower than creating maps,
/// so the walk might never catch up with a process that keeps creating them.
fn ids_one_by_one() -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    let mut id = 0;
    while ids.len() < MOST_MAPS
        && let Some(next) = sys::map::next_id(id).map_err(|error| ids_refused(&error))?
    {
        ids.push(next);
        id = next;
    }
    Ok(ids)
}

/// Ends the walk if a process creates maps without end.
const MOST_MAPS: usize = 1 << 20;

/// Opens one map to read it. There may be more maps than a process may have
/// descriptors, so callers open one at a time.
pub(super) fn open(id: u32) -> io::Result<Map> {
    let fd = sys::map::open_id(id, Access::Read)?;
    Map::from_fd(fd).map_err(io::Error::other)
}

fn by_name(name: &str, access: Access, btf: &MapBtf) -> Result<Map> {
    let (mut names, mut exact, mut unsure) = (Vec::new(), Vec::new(), Vec::new());
    let cut = name.get(..MapFacts::MOST_NAME).unwrap_or(name);
    for (id, short) in self::names()? {
        if short == cut
            && let Ok(map) = open(id)
        {
            let declaration = btf.declaration(&map.facts);
            let is_certain = declaration.possible_names.is_empty() && declaration.name == name;
            // The kernel keeps a short name whole.
            let is_whole = short == name && name.len() < MapFacts::MOST_NAME;
            if is_certain || is_whole {
                exact.push((declaration, map));
            } else if is_possible(&declaration, name) || short == name {
                unsure.push((declaration, map));
            } else {
                names.push(declaration.name);
            }
        } else {
            names.push(short);
        }
    }
    let may_be_another = unsure.iter().any(|(it, _)| is_possible(it, name));
    let why = match &exact[..] {
        [(_, map)] if !may_be_another => return MapRef::Id(map.id).open_alone(access),
        [] if unsure.is_empty() => {
            names.sort();
            names.dedup();
            let names = names.iter().map(String::as_str);
            return Err(not_found(unknown_text("map", name, names)));
        }
        [_, _, ..] => format!("{} maps are called `{name}`", exact.len()),
        _ => format!(
            "the kernel keeps {} characters of a name: it is not certain which map is `{name}`",
            MapFacts::MOST_NAME
        ),
    };
    let candidates: Vec<String> = exact.iter().chain(&unsure).map(candidate).collect();
    let candidates = candidates.join(", ");
    Err(usage(format!("{why}; write one of {candidates}")))
}

fn is_possible(declaration: &Declaration, name: &str) -> bool {
    declaration.possible_names.iter().any(|it| it == name)
}

/// An unambiguous name of a map, and what distinguishes it.
fn candidate((declaration, map): &(Declaration, Map)) -> String {
    format!(
        "{}:{} ({}, {} bytes to {}, {} entries)",
        declaration.name,
        map.id,
        map.type_name(),
        map.key_size,
        map.value_size,
        map.max_entries
    )
}

fn ids_refused(error: &io::Error) -> anyhow::Error {
    match error.raw_os_error() {
        Some(libc::EPERM) => anyhow!("failed to list the maps of this host: {NEEDS}"),
        _ => anyhow!("failed to list the maps of this host: {error}"),
    }
}

const NEEDS: &str =
    "needs CAP_SYS_ADMIN; run it as root, or name the path of a pinned map that you may read";

fn id_refused(id: u32, error: &io::Error) -> anyhow::Error {
    match error.raw_os_error() {
        Some(libc::ENOENT) => not_found(format!("there is no map with id {id}")),
        Some(libc::EPERM) => anyhow!("failed to open map {id}: {NEEDS}"),
        Some(errno) => anyhow!("failed to open map {id}: {}", host::advice(errno)),
        None => anyhow!("failed to open map {id}: {error}"),
    }
}

fn pin_refused(path: &Path, access: Access, error: &io::Error) -> anyhow::Error {
    let shown = path.display();
    match (error.raw_os_error(), access) {
        (Some(libc::ENOENT), _) => not_found(format!("there is no pin `{shown}`")),
        _ if path.is_dir() => usage(format!("`{shown}` is a folder, not the pin of a map")),
        (Some(libc::EACCES), _) if path.exists() && !is_bpffs(path) => {
            anyhow!("`{shown}` is not a pin: it is not on a bpffs")
        }
        (Some(libc::EACCES), Access::Write) => {
            anyhow!("failed to open the pin `{shown}` to write: its file mode does not let you")
        }
        (Some(libc::EACCES), Access::Read) => {
            anyhow!("failed to open the pin `{shown}`: its file mode does not let you")
        }
        // Before Linux 5.19 bpf(2) needs privileges whatever the file's mode is.
        (Some(libc::EPERM), _) => anyhow!(
            "failed to open the pin `{shown}`: {}",
            host::advice(libc::EPERM)
        ),
        _ => anyhow!("failed to open the pin `{shown}`: {error}"),
    }
}

fn is_bpffs(path: &Path) -> bool {
    use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC)
}

/// Removes the pin of a map, and no other file.
pub(crate) fn unpin(path: &Path) -> Result<Map> {
    let map = MapRef::Pin(path.to_owned()).open_alone(Access::Read)?;
    match std::fs::remove_file(path) {
        Ok(()) => Ok(map),
        Err(error) => bail!("failed to remove the pin `{}`: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_pins_and_names() {
        let name = |name: &str| MapRef::Name(name.to_owned());
        let pin = |path: &str| MapRef::Pin(path.into());
        for (text, map) in [
            ("42", MapRef::Id(42)),
            ("id:42", MapRef::Id(42)),
            ("./42", pin("./42")),
            ("/sys/fs/bpf/x", pin("/sys/fs/bpf/x")),
            ("counts", name("counts")),
            ("name:42", name("42")),
            ("counts:42", MapRef::NameAndId("counts".to_owned(), 42)),
            ("a:b", name("a:b")),
            (".rodata", name(".rodata")),
        ] {
            assert_eq!(MapRef::parse(text).unwrap(), map, "{text}");
        }
        assert!(MapRef::parse("").is_err());
        assert!(MapRef::parse("99999999999").is_err());
    }
}
