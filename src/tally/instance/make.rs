//! Attaching and replacing. Both make a folder under a hidden name, with all
//! that belongs to an instance, and put it in its place by one rename: until
//! then there is nothing, or the old instance.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow, bail};
use libbpf_rs::{MapCore, Object};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::folder::{
    ENTRIES, FOLDERS, Folder, LINKS, Label, MAPS, PROGRAMS, SLOTS, make, strangers_in,
};
use super::meta::{BTF, Goal, Member, Meta, STATE, State, open_map, pin_bytes};
use super::slots::{self, Slot};
use super::{access, monotonic_now, pin_name, remove, replace};
use crate::error::{NotFound, Usage};
use crate::map::Map;
use crate::sys;
use crate::tally::{Given, ResolvedOption, Session, Tally};

/// How an instance is attached.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Of the tally's own.
    pub options: Vec<ResolvedOption>,
    /// The same as they were given.
    pub given: Vec<Given>,
    /// Room in each table.
    pub max_rows: Option<u32>,
    /// Whose members may read it, beside root.
    pub readable_by: Option<u32>,
    /// Whether it takes the place of an instance that is there.
    pub replace: bool,
}

/// What the user should know of an instance that was attached.
#[derive(Debug, Clone, Default)]
pub struct Attached {
    /// How many programs.
    pub programs: usize,
    /// Whether there was one before.
    pub replaced: bool,
    /// It goes on all the same.
    pub warnings: Vec<String>,
}

impl Folder {
    /// Attaches a tally: it counts until it is detached. All of it, or nothing.
    pub fn attach(&mut self, label: &Label, tally: &Tally, plan: &Plan) -> Result<Attached> {
        let place = self.of(label);
        let is_there = fs::symlink_metadata(&place).is_ok();
        if is_there && let Err(error) = Meta::open(&place) {
            if error.is::<NotFound>() || error.is::<Usage>() {
                bail!(
                    "`{}` is not an instance: {error:#}; choose another label with --as",
                    place.display()
                );
            }
            return Err(error.context(format!("failed to open instance `{label}`")));
        }
        if is_there && !plan.replace {
            return Err(anyhow!(
                "instance `{label}` is attached already; see `ktally status`, or use --replace, or --as LABEL"
            ));
        }
        let hidden = self.hidden(label);
        let made = match is_there {
            false => self.attach_new(label, &hidden, tally, plan),
            true => self.replace(label, &hidden, tally, plan),
        };
        if made.is_err() {
            if hidden.exists() {
                // The first error is the one to report; the next command tries again.
                let _ = remove::remove_hidden(&hidden, &place);
            }
            self.restore_modes();
        }
        made
    }

    fn attach_new(
        &self,
        label: &Label,
        hidden: &Path,
        tally: &Tally,
        plan: &Plan,
    ) -> Result<Attached> {
        let mut session = Session::load(tally, &plan.options, plan.max_rows, None)?;
        make_folders(hidden)?;
        let slots = slots::insert(session.object_mut())?;
        pin_maps(session.object(), hidden)?;
        pin_slots(&slots.inserted, hidden)?;
        session.attach(tally)?;
        let links = link_names(&mut session);
        let now = SystemTime::now();
        let meta = Meta {
            tally: tally.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: now,
            attached_at: monotonic_now(),
            programs: members(&session, tally, &slots.inserted)?,
            pins: pins(hidden, &links)?,
            options: Some(plan.given.clone()),
            options_since: now,
        };
        State::COUNTING.pin(hidden)?;
        pin_words(hidden, &meta, tally)?;
        // From here on it counts, whatever becomes of this process.
        pin_links(&mut session, &links, hidden)?;
        let mut warnings = session.warnings().to_vec();
        warnings.extend(slots.warnings);
        // Last, as everybody sees the mode of bpffs.
        if let Some(group) = plan.readable_by {
            access::open_to(hidden, group)?;
            warnings.extend(access::let_through(self)?);
        }
        put_in_place(hidden, &self.of(label))?;
        let programs = meta.programs.len();
        // libbpf would turn the events of perf links off.
        for (_, link) in session.links_mut() {
            link.disconnect();
        }
        Ok(Attached {
            programs,
            replaced: false,
            warnings,
        })
    }

    /// The tables go on, and so do links and entries; what is in the slots is
    /// new.
    fn replace(
        &mut self,
        label: &Label,
        hidden: &Path,
        tally: &Tally,
        plan: &Plan,
    ) -> Result<Attached> {
        let place = self.of(label);
        let failed = || format!("failed to replace instance `{label}`");
        let old = Meta::open(&place)?;
        // Of another tally everything differs, and no list of that helps.
        let differs = |error: anyhow::Error| match old.tally == tally.name {
            true => error.context(failed()),
            false => anyhow!(
                "{}: it is of tally `{}`, not `{}`; choose another label with --as, or detach it first",
                failed(),
                old.tally,
                tally.name
            ),
        };
        if State::open(&place)?.goal != Goal::Count {
            bail!("instance `{label}` has stopped: detach it, and attach it anew");
        }
        if let Some(stranger) = strangers_in(&place, &old)?.first() {
            bail!(
                "{}: ktally did not pin `{}`; move it out of the way",
                failed(),
                stranger.display()
            );
        }
        let mut session = Session::load_onto(tally, &plan.options, plan.max_rows, |object| {
            replace::keep_maps(object, &place, tally, plan.max_rows).map_err(&differs)
        })?;
        make_folders(hidden)?;
        // Of those, only the programs are used.
        let slots = slots::insert(session.object_mut())?.inserted;
        let programs = members(&session, tally, &slots)?;
        replace::check_programs(&old.programs, &programs).map_err(&differs)?;

        pin_maps(session.object(), hidden)?;
        for slot in &slots {
            pin(
                slot.program.as_fd(),
                &hidden.join(PROGRAMS).join(&slot.name),
            )?;
        }
        let links = replace::pin_again(&old, &place, hidden)?;
        let meta = Meta {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            tally: tally.name.clone(),
            programs,
            pins: pins(hidden, &links)?,
            options_since: match old.options.as_ref() == Some(&plan.given) {
                true => old.options_since,
                false => SystemTime::now(),
            },
            options: Some(plan.given.clone()),
            ..old.clone()
        };
        pin(
            open_map(&place.join(STATE), false)?.as_fd(),
            &hidden.join(STATE),
        )?;
        pin_words(hidden, &meta, tally)?;
        let mut warnings = session.warnings().to_vec();
        if old.tally != meta.tally {
            warnings.push(format!(
                "instance `{label}` was of tally `{}`, and is of `{}` now",
                old.tally, meta.tally
            ));
        }
        if let Some(group) = plan.readable_by.or(access::reader_of(&place)?) {
            access::open_to(hidden, group)?;
            warnings.extend(access::let_through(self)?);
        }

        let switched = slots::fill_from(hidden, &meta).and_then(|()| exchange(self, label, hidden));
        if let Err(error) = switched {
            slots::fill_from(&place, &old).with_context(failed)?;
            return Err(error.context(failed()));
        }
        let left = remove::remove_hidden(hidden, &place)?;
        self.note_strangers(&left);
        self.restore_modes();
        Ok(Attached {
            programs: meta.programs.len(),
            replaced: true,
            warnings,
        })
    }
}

fn make_folders(hidden: &Path) -> Result<()> {
    let folders = FOLDERS.map(|folder| hidden.join(folder));
    for folder in std::iter::once(hidden.to_owned()).chain(folders) {
        make(&folder).with_context(|| format!("failed to make `{}`", folder.display()))?;
    }
    Ok(())
}

fn pin(fd: BorrowedFd<'_>, path: &Path) -> Result<()> {
    sys::map::pin(fd, path).with_context(|| format!("failed to pin to `{}`", path.display()))
}

fn pin_maps(object: &Object, hidden: &Path) -> Result<()> {
    object
        .maps()
        .filter(libbpf_rs::MapImpl::autocreate)
        .try_for_each(|map| {
            let name = map.name().to_string_lossy();
            // Where libbpf finds no memory to try names, it goes on without, and a
            // replacement would not find the map.
            if Map::new(map.as_fd())?.name.is_empty() {
                bail!("map `{name}` got no name in the kernel; try again");
            }
            pin(map.as_fd(), &hidden.join(MAPS).join(pin_name(&name)))
        })
}

fn pin_slots(slots: &[Slot], hidden: &Path) -> Result<()> {
    slots.iter().try_for_each(|slot| {
        pin(slot.slots.as_fd(), &hidden.join(SLOTS).join(&slot.name))?;
        pin(slot.entry.as_fd(), &hidden.join(ENTRIES).join(&slot.name))?;
        pin(
            slot.program.as_fd(),
            &hidden.join(PROGRAMS).join(&slot.name),
        )
    })
}

/// What the kernel's BTF of a map may lack, and nobody without privileges may
/// ask for.
fn pin_words(hidden: &Path, meta: &Meta, tally: &Tally) -> Result<()> {
    pin_bytes(BTF, &tally.btf, hidden)?;
    meta.pin(hidden)
}

/// A name for each link: the program's, and a number where it has several.
fn link_names(session: &mut Session) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (program, _) in session.links_mut() {
        let number = names
            .iter()
            .filter(|name| name.split('@').next() == Some(program))
            .count();
        names.push(match number {
            0 => program.clone(),
            number => format!("{program}@{number}"),
        });
    }
    names
}

fn pin_links(session: &mut Session, names: &[String], hidden: &Path) -> Result<()> {
    for ((program, link), name) in session.links_mut().iter().zip(names) {
        sys::map::pin(link.as_fd(), &hidden.join(LINKS).join(name)).with_context(|| {
            format!(
                "failed to pin the link of program `{program}`: links of its kind can be pinned since Linux 5.15"
            )
        })?;
    }
    Ok(())
}

fn members(session: &Session, tally: &Tally, slots: &[Slot]) -> Result<Vec<Member>> {
    session
        .object()
        .progs()
        .filter(libbpf_rs::ProgramImpl::autoload)
        .map(|program| {
            let name = program.name().to_string_lossy().into_owned();
            Ok(Member {
                section: program.section().to_string_lossy().into_owned(),
                target: session.target(tally, &name)?,
                has_entry: slots.iter().any(|slot| slot.name == name),
                name,
            })
        })
        .collect()
}

/// What is pinned, and the links that will be.
fn pins(hidden: &Path, links: &[String]) -> Result<Vec<String>> {
    let mut pins = BTreeSet::new();
    for folder in FOLDERS {
        for name in super::folder::names(&hidden.join(folder))? {
            pins.insert(format!("{folder}/{name}"));
        }
    }
    pins.extend(links.iter().map(|name| format!("{LINKS}/{name}")));
    Ok(pins.into_iter().collect())
}

pub(super) fn put_in_place(from: &Path, to: &Path) -> Result<()> {
    let flags = RenameFlags::RENAME_NOREPLACE;
    renameat2(AT_FDCWD, from, AT_FDCWD, to, flags)
        .with_context(|| format!("failed to put the instance at `{}`", to.display()))
}

/// The old folder is then the hidden one. bpffs exchanges since Linux 5.17;
/// before, what is set aside is brought back by the next command, if this one
/// comes to its end in between.
fn exchange(folder: &Folder, label: &Label, hidden: &Path) -> Result<()> {
    let place: PathBuf = folder.of(label);
    let flags = RenameFlags::RENAME_EXCHANGE;
    match renameat2(AT_FDCWD, hidden, AT_FDCWD, &place, flags) {
        Err(Errno::EINVAL | Errno::ENOSYS) => {
            let aside = folder.aside(label);
            fs::rename(&place, &aside)?;
            fs::rename(hidden, &place)?;
            fs::rename(&aside, hidden)?;
            Ok(())
        }
        result => result.context("failed to exchange the old instance for the new one"),
    }
}
