//! The second set of an instance that can be rotated: its programs, loaded once more,
//! with tables of their own. All other maps are those of the first set, so that what
//! began in one set can end in the other.

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use libbpf_rs::{MapCore, MapImpl, Object, OpenMapMut, OpenObject};

use super::dispatch::{self, Dispatcher};
use super::layout::{MAPS_1, PROGRAMS_1, is_constant, pin_name};
use super::meta::PinnedProgram;
use super::pinned::open_map;
use crate::map::Access;
use crate::schema::Schema;
use crate::tally::load::Loader;
use crate::tally::skeleton::Loaded;

pub(super) struct Spare {
    loaded: Loaded,
    schema: Schema,
}

impl Spare {
    /// With the tables that are pinned in a folder, or new ones.
    pub(super) fn load(
        loader: &mut Loader<'_>,
        first: &Object,
        tables: Option<&Path>,
        max_rows: Option<u32>,
    ) -> Result<Self> {
        let schema = loader.schema.clone();
        let loaded = loader.load(max_rows, |object| {
            share_maps(object, first, tables, &schema)
        });
        Ok(Self {
            loaded: loaded.context("failed to load the second set of programs")?,
            schema,
        })
    }

    pub(super) fn pin(&self, folder: &Path, dispatchers: &[Dispatcher]) -> Result<()> {
        for map in self.loaded.object().maps().filter(MapImpl::autocreate) {
            let pin = pin_name(&map.name().to_string_lossy());
            if is_of_set(&self.schema, &pin) {
                dispatch::pin(&map, folder, MAPS_1, &pin)?;
            }
        }
        for program in self.loaded.object().progs() {
            let name = program.name().to_string_lossy();
            if dispatchers.iter().any(|it| it.name == name) {
                dispatch::pin(&program, folder, PROGRAMS_1, &name)?;
            }
        }
        Ok(())
    }
}

/// Whether each set has a map of its own under this name: a table, or what is beside
/// the tables.
fn is_of_set(schema: &Schema, pin: &str) -> bool {
    pin == "@bss@ktally" || schema.tables.iter().any(|table| table.name == pin)
}

fn share_maps(
    object: &mut OpenObject,
    first: &Object,
    tables: Option<&Path>,
    schema: &Schema,
) -> Result<()> {
    let share = |map: &mut OpenMapMut<'_>| {
        let name = map.name().to_owned();
        let pin = pin_name(&name.to_string_lossy());
        if is_constant(&pin) {
            return Ok(());
        }
        if is_of_set(schema, &pin) {
            return tables.map_or(Ok(()), |tables| {
                let table = open_map(&tables.join(&pin), Access::Write)?;
                Ok(map.reuse_fd(table.as_fd())?)
            });
        }
        let shared = first.maps().find(|it| it.name() == name);
        let shared = shared.context("the first set has no such map")?;
        Ok(map.reuse_fd(shared.as_fd())?)
    };
    for mut map in object.maps_mut().filter(|map| map.autocreate()) {
        let shared: Result<()> = share(&mut map);
        shared
            .with_context(|| format!("failed to share map `{}`", map.name().to_string_lossy()))?;
    }
    Ok(())
}

/// Programs take turns only behind dispatchers.
pub(super) fn check_rotatable(programs: &[PinnedProgram]) -> Result<()> {
    if let Some(program) = programs.iter().find(|it| !it.has_dispatcher) {
        bail!(
            "program `{}` ({}) has no dispatcher, so the tally cannot be rotated; attach it without --rotatable",
            program.name,
            program.section
        );
    }
    Ok(())
}
