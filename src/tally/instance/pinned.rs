//! Pinned maps of one value: the description and the state of an instance.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use libbpf_rs::MapType;

use crate::error::NotFound;
use crate::map::{Access, Map, MapFlags, MapRef, NewMap, create};

/// The key of an array's first value.
const FIRST: [u8; 4] = [0; 4];

/// `None` where the pin is missing.
pub(super) fn if_found<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(error) if error.is::<NotFound>() => Ok(None),
        result => result.map(Some),
    }
}

pub(super) fn open_map(path: &Path, access: Access) -> Result<Map> {
    MapRef::Pin(path.to_owned()).open_alone(access)
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    value(&open_map(path, Access::Read)?)
}

/// Overwrites the value in one update, which no signal interrupts.
pub(super) fn write(path: &Path, value: &[u8]) -> Result<()> {
    put(&open_map(path, Access::Write)?, value)
}

/// Pins a new map with a value that may change.
pub(super) fn pin(path: &Path, value: &[u8]) -> Result<()> {
    new(path, value)?.pin(path)
}

/// Pins a new map with a value that stays as it is.
pub(super) fn pin_frozen(path: &Path, value: &[u8]) -> Result<()> {
    let map = new(path, value)?;
    map.freeze()?;
    map.pin(path)
}

pub(super) fn value(map: &Map) -> Result<Vec<u8>> {
    check(map)?;
    let value = map.lookup(&FIRST)?;
    value.with_context(|| format!("map {} is empty", map.title()))
}

/// Checks the shape, because any map may be pinned under that name.
pub(super) fn check(map: &Map) -> Result<()> {
    ensure!(
        (map.ty, map.key_size, map.max_entries) == (MapType::Array, FIRST.len(), 1),
        "map {} is not an array of one value",
        map.title()
    );
    Ok(())
}

fn new(path: &Path, value: &[u8]) -> Result<Map> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = NewMap {
        type_number: MapType::Array as u32,
        name: format!("ktally_{}", name.trim_start_matches(['@', '+'])),
        key_size: 4,
        value_size: u32::try_from(value.len())?,
        max_entries: 1,
        flags: 0,
    };
    let map = create(&new, None, None)?;
    put(&map, value)?;
    Ok(map)
}

fn put(map: &Map, value: &[u8]) -> Result<()> {
    check(map)?;
    map.update(&FIRST, value, MapFlags::ANY)
}
