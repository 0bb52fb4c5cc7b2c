//! Replacing an instance, in three steps: the new object is loaded with the old maps,
//! pinned beside the old instance, and takes its place. Maps and links stay.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use libbpf_rs::{MapType, OpenMapMut, OpenObject};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::attach::{
    AttachOptions, Attached, make_folders, meta, pin_maps, pin_words, pins, programs,
};
use super::dispatch::{self, Dispatcher};
use super::layout::{
    BTF, DISPATCHERS, InstanceName, LINKS, MAPS, MAPS_1, ROTATION, SLOTS, STATE, is_constant,
    names, pin_name, strangers_in,
};
use super::lock::Instances;
use super::meta::{Meta, PinnedProgram};
use super::pinned::{self, open_map};
use super::rotation::Rotation;
use super::spare::Spare;
use super::state::State;
use super::{access, remove};
use crate::map::{Access, Map};
use crate::schema::{Schema, declared_types};
use crate::sys;
use crate::tally::load::Loader;
use crate::tally::{Session, Tally};
use crate::text::NEXT_LINE;

/// What is loaded for a replacement, with the second set of an instance that can be
/// rotated.
struct Loaded {
    session: Session,
    spare: Option<Spare>,
    dispatchers: Vec<Dispatcher>,
    programs: Vec<PinnedProgram>,
}

/// An instance, and its replacement.
struct Replacement<'a> {
    name: &'a InstanceName,
    old: Meta,
    place: PathBuf,
    hidden: &'a Path,
    tally: &'a Tally,
    options: &'a AttachOptions,
}

impl Instances {
    /// Keeps tables, links and dispatchers, and puts new programs into the slots.
    pub(super) fn replace(
        &mut self,
        name: &InstanceName,
        hidden: &Path,
        tally: &Tally,
        options: &AttachOptions,
    ) -> Result<Attached> {
        let place = self.folder(name);
        let replacement = Replacement {
            name,
            old: Meta::open(&place)?,
            place,
            hidden,
            tally,
            options,
        };
        replacement.check_old()?;
        let loaded = replacement.load()?;
        let mut warnings = loaded.session.warnings().to_vec();
        let meta = replacement.pin(loaded)?;
        let old_tally = &replacement.old.tally;
        if *old_tally != meta.tally {
            warnings.push(format!(
                "instance `{name}` was of tally `{old_tally}`, and is of `{}` now",
                meta.tally
            ));
        }
        let readers = access::reader_of(&replacement.place)?;
        warnings.extend(self.let_read(hidden, options.readable_by.or(readers))?);
        replacement
            .switch(&meta, &self.aside(name))
            .with_context(|| replacement.failed())?;
        let left = remove::remove_hidden(hidden, &replacement.place)?;
        self.note_strangers(&left);
        self.restore_modes();
        Ok(Attached {
            programs: meta.programs.len(),
            replaced: true,
            warnings,
        })
    }
}

impl Replacement<'_> {
    fn failed(&self) -> String {
        format!("failed to replace instance `{}`", self.name)
    }

    fn check_old(&self) -> Result<()> {
        ensure!(
            !State::open(&self.place)?.is_stopping,
            "instance `{}` has stopped: detach it, and attach it anew",
            self.name
        );
        if let Some(stranger) = strangers_in(&self.place, &self.old)?.first() {
            bail!(
                "{}: ktally did not pin `{}`; move it out of the way",
                self.failed(),
                stranger.display()
            );
        }
        Ok(())
    }

    /// For another tally everything differs, so the differences are left out.
    fn differs(&self, error: anyhow::Error) -> anyhow::Error {
        let (old, new) = (&self.old.tally, &self.tally.name);
        let failed = self.failed();
        if old == new {
            return error.context(failed);
        }
        anyhow!(
            "{failed}: it is of tally `{old}`, not `{new}`; choose another name with --as, or detach it first"
        )
    }

    /// Loads the new programs with the old maps.
    fn load(&self) -> Result<Loaded> {
        let mut loader = Loader::new(self.tally, &self.options.options, false)?;
        let mut session = Session::load_with(&mut loader, self.options.max_rows, |object| {
            self.reuse_maps(object).map_err(|error| self.differs(error))
        })?;
        let had_two = self.place.join(ROTATION).exists();
        let tables = self.place.join(MAPS_1);
        let tables = had_two.then_some(tables.as_path());
        let load_spare =
            || Spare::load(&mut loader, session.object(), tables, self.options.max_rows);
        let is_rotatable = had_two || self.options.rotatable;
        let spare = is_rotatable.then(load_spare).transpose()?;
        // Only the programs are used: the old dispatchers stay.
        let schema = &self.tally.schema;
        let dispatchers = dispatch::insert(session.object_mut(), schema, &mut Vec::new())?;
        let programs = programs(&session, self.tally, &dispatchers)?;
        check_programs(&self.old.programs, &programs).map_err(|error| self.differs(error))?;
        Ok(Loaded {
            session,
            spare,
            dispatchers,
            programs,
        })
    }

    /// Pins the new instance beside the old one. Pins that both share are made twice.
    fn pin(&self, loaded: Loaded) -> Result<Meta> {
        make_folders(self.hidden)?;
        pin_maps(&loaded.session, self.hidden)?;
        for dispatcher in &loaded.dispatchers {
            dispatcher.pin_program(self.hidden)?;
        }
        if let Some(spare) = &loaded.spare {
            spare.pin(self.hidden, &loaded.dispatchers)?;
            self.pin_rotation()?;
        }
        for (kind, name) in self.old.pins_of(&[DISPATCHERS, SLOTS, LINKS]) {
            let from = self.place.join(kind).join(name);
            let fd = sys::map::open_pin(&from, sys::map::Access::Write)
                .with_context(|| format!("failed to open `{}`", from.display()))?;
            dispatch::pin(&fd, self.hidden, kind, name)?;
        }
        open_map(&self.place.join(STATE), Access::Write)?.pin(&self.hidden.join(STATE))?;
        let pins = pins(self.hidden, &[])?;
        let new = meta(self.tally, loaded.programs, pins, self.options);
        let options_since_ms = if new.options == self.old.options {
            self.old.options_since_ms
        } else {
            new.options_since_ms
        };
        let meta = Meta {
            since_ms: self.old.since_ms,
            attached_at: self.old.attached_at,
            options_since_ms,
            ..new
        };
        pin_words(self.hidden, &meta, self.tally)?;
        Ok(meta)
    }

    /// The same for both, or a first one.
    fn pin_rotation(&self) -> Result<()> {
        let [old, new] = [&self.place, self.hidden].map(|it| it.join(ROTATION));
        if old.exists() {
            return open_map(&old, Access::Write)?.pin(&new);
        }
        Rotation::first(&self.old).pin(self.hidden)
    }

    /// Lets the new programs count, and exchanges the folders. If that fails, the old
    /// programs count again.
    fn switch(&self, new: &Meta, aside: &Path) -> Result<()> {
        let switched = dispatch::run_programs_of(self.hidden, new)
            .and_then(|()| exchange(self.hidden, &self.place, aside));
        if switched.is_err() {
            dispatch::run_programs_of(&self.place, &self.old)?;
        }
        switched
    }

    /// Gives the instance's maps to the open object, except constants, which are new.
    fn reuse_maps(&self, object: &mut OpenObject) -> Result<()> {
        let old_btf = pinned::read(&self.place.join(BTF))?;
        let old = Schema::of_raw(&old_btf)?;
        if old.others.is_empty() && !self.tally.schema.others.is_empty() {
            let name = self.name;
            bail!(
                "its tables are those of an earlier version of ktally, without a row `other`; `ktally detach {name}` prints what it counted, then attach it anew"
            );
        }
        let old_types = declared_types(&old_btf)?;
        let new_types = declared_types(&self.tally.btf)?;
        let folder = self.place.join(MAPS);
        let mut pinned = names(&folder)?;
        for mut map in object.maps_mut().filter(|map| map.autocreate()) {
            let name = map.name().to_string_lossy().into_owned();
            let pin = pin_name(&name);
            if is_constant(&pin) || !pinned.contains(&pin) {
                continue;
            }
            pinned.retain(|known| *known != pin);
            let old = open_map(&folder.join(&pin), Access::Write)?;
            let key = name.find('.').map_or(name.as_str(), |dot| &name[dot..]);
            compare_types(&name, old_types.get(key), new_types.get(key))?;
            compare_shape(&name, &old, &map)?;
            self.compare_room(&name, &old, &map)?;
            map.reuse_fd(old.as_fd())
                .with_context(|| format!("failed to go on with map `{name}`"))?;
        }
        // State that the new tally does not use may go, but no table.
        let lost = old.tables.iter().find(|table| pinned.contains(&table.name));
        if let Some(table) = lost {
            bail!("table `{}` would be lost", table.name);
        }
        Ok(())
    }

    fn compare_room(&self, name: &str, old: &Map, new: &OpenMapMut<'_>) -> Result<()> {
        let is_array = matches!(new.map_type(), MapType::Array | MapType::PercpuArray);
        if is_array && old.max_entries != new.max_entries() {
            bail!(
                "array `{name}` has {} entries, and would have {}",
                old.max_entries,
                new.max_entries()
            );
        }
        let mut tables = self.tally.schema.tables.iter();
        let is_table = !is_array && tables.any(|table| table.name == name);
        if let Some(rows) = self.options.max_rows
            && is_table
            && rows != old.max_entries
        {
            bail!(
                "table `{name}` has room for {} rows, and --max-rows says {rows}",
                old.max_entries
            );
        }
        Ok(())
    }
}

/// Exchanges the folders, so that the old one is hidden. bpffs can do that since Linux
/// 5.17. Before, the next command repairs an exchange that was killed halfway.
fn exchange(hidden: &Path, place: &Path, aside: &Path) -> Result<()> {
    let flags = RenameFlags::RENAME_EXCHANGE;
    match renameat2(AT_FDCWD, hidden, AT_FDCWD, place, flags) {
        Err(Errno::EINVAL | Errno::ENOSYS) => {
            fs::rename(place, aside)?;
            fs::rename(hidden, place)?;
            fs::rename(aside, hidden)?;
            Ok(())
        }
        result => result.context("failed to exchange the old instance for the new one"),
    }
}

fn compare_types(name: &str, old: Option<&String>, new: Option<&String>) -> Result<()> {
    if old == new {
        return Ok(());
    }
    let [old, new] = [old, new].map(|types| types.map_or("", String::as_str));
    let difference = difference(old, new).join(NEXT_LINE);
    bail!("map `{name}` has other types:{NEXT_LINE}{difference}")
}

/// The lines that only one of the two texts has.
fn difference(old: &str, new: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let same_head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let tails = old[same_head..]
        .iter()
        .rev()
        .zip(new[same_head..].iter().rev());
    let same_tail = tails.take_while(|(a, b)| a == b).count();
    let only = |lines: &[&str], sign: char| -> Vec<String> {
        lines[same_head..lines.len() - same_tail]
            .iter()
            .map(|line| format!("{sign} {}", line.trim()))
            .collect()
    };
    [only(&old, '-'), only(&new, '+')].concat()
}

fn compare_shape(name: &str, old: &Map, new: &OpenMapMut<'_>) -> Result<()> {
    let was = (old.ty, old.key_size as u32, old.value_size as u32);
    let is = (new.map_type(), new.key_size(), new.value_size());
    if was != is {
        let shape =
            |(ty, key, value): (MapType, u32, u32)| format!("{ty:?} of {key} bytes to {value}");
        bail!(
            "map `{name}` is a {}, and would be a {}",
            shape(was),
            shape(is)
        );
    }
    Ok(())
}

/// Programs can replace others without losing an event only if they attach to the same
/// places.
fn check_programs(old: &[PinnedProgram], new: &[PinnedProgram]) -> Result<()> {
    let lines = |programs: &[PinnedProgram]| -> BTreeSet<String> {
        let line = |program: &PinnedProgram| {
            let target = program.target.as_ref();
            let target = target.map_or_else(String::new, |target| format!(" to {target}"));
            format!("program `{}` ({}{target})", program.name, program.section)
        };
        programs.iter().map(line).collect()
    };
    let (was, is) = (lines(old), lines(new));
    let gone = was.difference(&is).map(|line| format!("- {line}"));
    let come = is.difference(&was).map(|line| format!("+ {line}"));
    let difference: Vec<String> = gone.chain(come).collect();
    if !difference.is_empty() {
        bail!(
            "other programs, or elsewhere, cannot go on without a gap; detach it, and attach it anew:{NEXT_LINE}{}",
            difference.join(NEXT_LINE)
        );
    }
    if let Some(program) = old.iter().chain(new).find(|it| !it.has_dispatcher) {
        bail!(
            "program `{}` ({}) has no dispatcher: its kind cannot be replaced without a gap",
            program.name,
            program.section
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_has_what_differs() {
        let lines = difference("a\nb\nc\nd", "a\nx\ny\nd");
        assert_eq!(lines, ["- b", "- c", "+ x", "+ y"]);
        assert_eq!(difference("a", "a\na"), ["+ a"]);
    }

    #[test]
    fn programs_take_turns_at_the_same_places() {
        let program = |name: &str, section: &str| PinnedProgram {
            name: name.into(),
            section: section.into(),
            target: None,
            has_dispatcher: true,
        };
        let old = [program("a", "tp_btf/x"), program("b", "tp_btf/y")];
        assert!(check_programs(&old, &[old[1].clone(), old[0].clone()]).is_ok());
        let error = check_programs(&old, &[program("a", "tp_btf/z"), old[1].clone()]).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("- program `a` (tp_btf/x)"), "{error}");
        assert!(error.contains("+ program `a` (tp_btf/z)"), "{error}");
        assert!(!error.contains("`b`"), "{error}");
    }
}
