//! The maps of an instance, by the names that its description has.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::layout::{ITERATORS, pin_name};
use super::meta::Meta;
use super::pinned::{self, open_map};
use crate::map::{Access, Map, TaskWalk};
use crate::schema::{TABLE_TYPES, Table};
use crate::tally::under_way::Source;

/// The maps that `meta` names. Their types are checked, because any map may be pinned
/// there.
pub(super) struct PinnedMaps<'a> {
    folder: PathBuf,
    names: Vec<&'a str>,
}

impl<'a> PinnedMaps<'a> {
    pub(super) fn new(instance: &Path, meta: &'a Meta, kind: &'static str) -> Self {
        let pins = meta.pins.iter().filter_map(|pin| pin.split_once('/'));
        let pins = pins.filter(|(folder, _)| *folder == kind);
        Self {
            folder: instance.join(kind),
            names: pins.map(|(_, name)| name).collect(),
        }
    }

    fn open(&self, name: &str) -> Result<Map> {
        let is_pinned = self.names.contains(&name);
        ensure!(is_pinned, "map `{name}` is not among its pins");
        open_map(&self.folder.join(name), Access::Read)
    }

    pub(super) fn section(&self, name: &str) -> Result<Option<Map>> {
        if !self.names.contains(&name) {
            return Ok(None);
        }
        let map = self.open(name)?;
        pinned::check(&map)?;
        Ok(Some(map))
    }

    pub(super) fn state(&self, instance: &Path, name: &str) -> Result<Source> {
        let map = self.open(name)?;
        if !map.is_of_tasks() {
            return Ok(Source::Map(Box::new(map)));
        }
        let iterator = instance.join(ITERATORS).join(name);
        Ok(Source::Tasks(TaskWalk::pinned(&iterator, &map)?))
    }

    pub(super) fn table(&self, table: &Table) -> Result<(Table, Map)> {
        let map = self.open(&pin_name(&table.name))?;
        let sizes = (map.key_size, map.value_size);
        ensure!(
            TABLE_TYPES.contains(&map.ty) && sizes == (table.key_size, table.value_size),
            "table `{}` is not of its own types",
            table.name
        );
        let mut table = table.clone();
        table.max_entries = map.max_entries;
        Ok((table, map))
    }

    /// The memory of all of them, in bytes.
    pub(super) fn memory(&self) -> Result<u64> {
        let sizes = self.names.iter().map(|name| self.open(name));
        sizes.map(|map| Ok(map?.memlock().unwrap_or(0))).sum()
    }
}
