//! Attaching builds an instance in a folder with a hidden name, and moves it into place
//! by one rename. Until then there is no instance, or the old one.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow, bail};
use libbpf_rs::{MapCore, MapImpl, ProgramImpl};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::dispatch::{self, Dispatcher};
use super::layout::{BTF, FOLDERS, ITERATORS, InstanceName, LINKS, MAPS, make, names, pin_name};
use super::lock::Instances;
use super::meta::{LAYOUT, Meta, PinnedProgram, millis};
use super::rotation::Rotation;
use super::spare::{Spare, check_rotatable};
use super::state::State;
use super::{access, pinned, remove};
use crate::error::{NotFound, Usage};
use crate::map::Map;
use crate::tally::load::Loader;
use crate::tally::under_way::monotonic_now;
use crate::tally::{RawOption, ResolvedOption, Session, Tally};

#[derive(Debug, Clone, Default)]
pub(crate) struct AttachOptions {
    pub(crate) options: Vec<ResolvedOption>,
    pub(crate) given: Vec<RawOption>,
    pub(crate) max_rows: Option<u32>,
    /// The group whose members may read it, beside root.
    pub(crate) readable_by: Option<u32>,
    /// Whether to replace an existing instance.
    pub(crate) replace: bool,
    /// Whether it gets a second set of tables and programs.
    pub(crate) rotatable: bool,
}

/// The outcome, for the user.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attached {
    pub(crate) programs: usize,
    pub(crate) replaced: bool,
    pub(crate) warnings: Vec<String>,
}

impl Instances {
    /// Attaches a tally, which counts until it is detached. Attaches all of it, or
    /// nothing.
    pub(crate) fn attach(
        &mut self,
        name: &InstanceName,
        tally: &Tally,
        options: &AttachOptions,
    ) -> Result<Attached> {
        let folder = self.folder(name);
        let is_there = fs::symlink_metadata(&folder).is_ok();
        if is_there && let Err(error) = Meta::open(&folder) {
            if error.is::<NotFound>() || error.is::<Usage>() {
                bail!(
                    "`{}` is not an instance: {error:#}; choose another name with --as",
                    folder.display()
                );
            }
            return Err(error.context(format!("failed to open instance `{name}`")));
        }
        if is_there && !options.replace {
            bail!(
                "instance `{name}` is attached already; see `ktally status`, or use --replace, or --as INSTANCE"
            );
        }
        let hidden = self.hidden(name);
        let made = if is_there {
            self.replace(name, &hidden, tally, options)
        } else {
            self.attach_new(name, &hidden, tally, options)
        };
        if made.is_err() {
            if hidden.exists() {
                // Only the first error is reported; the next command tries to remove
                // again.
                let _ = remove::remove_hidden(&hidden, &folder);
            }
            self.restore_modes();
        }
        made
    }

    fn attach_new(
        &self,
        name: &InstanceName,
        hidden: &Path,
        tally: &Tally,
        options: &AttachOptions,
    ) -> Result<Attached> {
        let mut loader = Loader::new(tally, &options.options, false)?;
        let mut session = Session::load_with(&mut loader, options.max_rows, |_| Ok(()))?;
        let load_spare = || Spare::load(&mut loader, session.object(), None, options.max_rows);
        let spare = options.rotatable.then(load_spare).transpose()?;
        let mut refusals = Vec::new();
        let dispatchers = dispatch::insert(session.object_mut(), &tally.schema, &mut refusals)?;
        make_folders(hidden)?;
        pin_maps(&session, hidden)?;
        for dispatcher in &dispatchers {
            dispatcher.pin(hidden)?;
        }
        if let Some(spare) = &spare {
            spare.pin(hidden, &dispatchers)?;
        }
        session.attach(tally)?;
        let links = link_names(&mut session);
        let programs = programs(&session, tally, &dispatchers)?;
        let meta = meta(tally, programs, pins(hidden, &links)?, options);
        State::new(meta.programs.len()).pin(hidden)?;
        if spare.is_some() {
            check_rotatable(&meta.programs)?;
            Rotation::first(&meta).pin(hidden)?;
        }
        pin_words(hidden, &meta, tally)?;
        // From here on it counts even if this process ends.
        pin_links(&mut session, &links, hidden)?;
        let mut warnings = [session.warnings(), &refusals].concat();
        warnings.extend(self.let_read(hidden, options.readable_by)?);
        put_in_place(hidden, &self.folder(name))?;
        // Dropping perf links would make libbpf disable their events.
        for (_, link) in session.links_mut() {
            link.disconnect();
        }
        Ok(Attached {
            programs: meta.programs.len(),
            replaced: false,
            warnings,
        })
    }

    /// Lets the members of a group read it. Returns messages about the mode of bpffs,
    /// which concerns all users.
    pub(super) fn let_read(&self, hidden: &Path, group: Option<u32>) -> Result<Vec<String>> {
        let Some(group) = group else {
            return Ok(Vec::new());
        };
        access::open_to(hidden, group)?;
        access::let_through(self)
    }
}

pub(super) fn make_folders(hidden: &Path) -> Result<()> {
    let folders = FOLDERS.map(|folder| hidden.join(folder));
    for folder in std::iter::once(hidden.to_owned()).chain(folders) {
        make(&folder).with_context(|| format!("failed to make `{}`", folder.display()))?;
    }
    Ok(())
}

/// The maps, and the iterators over those that belong to tasks.
pub(super) fn pin_maps(session: &Session, hidden: &Path) -> Result<()> {
    for (name, walk) in session.reader().states.walks() {
        walk.pin(&hidden.join(ITERATORS).join(name))?;
    }
    for map in session.object().maps().filter(MapImpl::autocreate) {
        let name = map.name().to_string_lossy();
        // If libbpf has no memory to probe for names, it creates maps without, and a
        // replacement could not find them.
        if Map::new(map.as_fd())?.name.is_empty() {
            bail!("map `{name}` got no name in the kernel; try again");
        }
        dispatch::pin(&map, hidden, MAPS, &pin_name(&name))?;
    }
    Ok(())
}

/// The object's BTF and `meta`: the kernel's BTF lacks tags on old kernels and needs
/// privileges.
pub(super) fn pin_words(hidden: &Path, meta: &Meta, tally: &Tally) -> Result<()> {
    pinned::pin_frozen(&hidden.join(BTF), &tally.btf)?;
    meta.pin(hidden)
}

/// A name for each link: that of its program, with a number if it has several.
fn link_names(session: &mut Session) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (program, _) in session.links_mut() {
        let same = |name: &&String| name.split('@').next() == Some(program);
        names.push(match names.iter().filter(same).count() {
            0 => program.clone(),
            number => format!("{program}@{number}"),
        });
    }
    names
}

fn pin_links(session: &mut Session, names: &[String], hidden: &Path) -> Result<()> {
    for ((program, link), name) in session.links_mut().iter().zip(names) {
        dispatch::pin(link, hidden, LINKS, name).with_context(|| {
            format!(
                "failed to pin the link of program `{program}`: links of its kind can be pinned since Linux 5.15"
            )
        })?;
    }
    Ok(())
}

pub(super) fn programs(
    session: &Session,
    tally: &Tally,
    dispatchers: &[Dispatcher],
) -> Result<Vec<PinnedProgram>> {
    let programs = session.object().progs().filter(ProgramImpl::autoload);
    let programs = programs.filter(|it| {
        let name = it.name().to_string_lossy();
        !tally.schema.runs_on_request(&name)
    });
    programs
        .map(|program| {
            let name = program.name().to_string_lossy().into_owned();
            Ok(PinnedProgram {
                section: program.section().to_string_lossy().into_owned(),
                target: session.target(tally, &name)?,
                has_dispatcher: dispatchers.iter().any(|it| it.name == name),
                name,
            })
        })
        .collect()
}

/// The pins in the folders, and the links that will be pinned.
pub(super) fn pins(hidden: &Path, links: &[String]) -> Result<Vec<String>> {
    let mut pins: BTreeSet<String> = links.iter().map(|name| format!("{LINKS}/{name}")).collect();
    for folder in FOLDERS {
        let names = names(&hidden.join(folder))?.into_iter();
        pins.extend(names.map(|name| format!("{folder}/{name}")));
    }
    Ok(pins.into_iter().collect())
}

/// `meta` of an instance that begins now.
pub(super) fn meta(
    tally: &Tally,
    programs: Vec<PinnedProgram>,
    pins: Vec<String>,
    options: &AttachOptions,
) -> Meta {
    let now = millis(SystemTime::now());
    Meta {
        layout: LAYOUT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        tally: tally.name.clone(),
        since_ms: now,
        attached_at: monotonic_now(),
        programs,
        pins,
        options: Some(options.given.iter().cloned().collect()),
        options_since_ms: Some(now),
    }
}

pub(super) fn put_in_place(from: &Path, to: &Path) -> Result<()> {
    let flags = RenameFlags::RENAME_NOREPLACE;
    renameat2(AT_FDCWD, from, AT_FDCWD, to, flags)
        .map_err(|error| anyhow!(error))
        .with_context(|| format!("failed to put the instance at `{}`", to.display()))
}
