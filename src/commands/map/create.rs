//! `create`: a new map, pinned.

use anyhow::{Result, anyhow};

use super::{MapCommand, note};
use crate::cli::{CreateArgs, Exit};
use crate::error::{unknown, usage};
use crate::host;
use crate::map::{Access, Map, NewMap, create, flag_bit, type_names, type_number, types_with};

impl MapCommand<'_> {
    pub(super) fn create(&self, args: &CreateArgs) -> Result<Exit> {
        let like = args.like.as_deref();
        let like = like.map(|name| self.open(name, Access::Read)).transpose()?;
        let like = like.as_ref().map(|(map, _)| map);
        let inner = args.inner.as_deref();
        let inner = inner
            .map(|name| self.open(name, Access::Read))
            .transpose()?;
        let kind = match (&args.kind, like) {
            (Some(kind), _) => type_number(kind)
                .ok_or_else(|| unknown("map type", kind, type_names().iter().copied()))?,
            (None, Some(like)) => like.type_number,
            (None, None) => return Err(usage("a new map has a --type, or is --like another")),
        };
        let holds_maps = ["hash_of_maps", "array_of_maps"].map(type_number);
        if args.inner.is_some() && !holds_maps.contains(&Some(kind)) {
            return Err(usage(
                "--inner is for maps of type hash_of_maps or array_of_maps",
            ));
        }
        let new = shape(args, kind, like)?;
        // BTF describes these sizes only.
        let has_same_sizes = |like: &&Map| {
            let sizes = (like.key_size, like.value_size);
            sizes == (new.key_size as usize, new.value_size as usize)
        };
        let types = like.filter(has_same_sizes).map(types_with).transpose()?;
        host::mount_bpffs_for(&args.path)?;
        let inner = inner.as_ref().map(|(map, _)| map);
        let map = create(&new, types.flatten().as_ref(), inner)?;
        map.pin(&args.path)
            .map_err(|error| anyhow!("{error:#}; the map is gone again"))?;
        note(&format!("made map {}", map.title()));
        Ok(Exit::Done)
    }
}

/// The new map, of which `like` gives what is not asked for.
fn shape(args: &CreateArgs, kind: u32, like: Option<&Map>) -> Result<NewMap> {
    let name = match (&args.name, args.path.file_name()) {
        (Some(name), _) => name.clone(),
        (None, Some(file)) => file.to_string_lossy().into_owned(),
        (None, None) => return Err(usage("a pin is a file: name one")),
    };
    let size = |given: Option<u32>, of: fn(&Map) -> usize| {
        given
            .or_else(|| like.and_then(|like| u32::try_from(of(like)).ok()))
            .unwrap_or(0)
    };
    let flags = args
        .flags
        .iter()
        .filter_map(clap::ValueEnum::to_possible_value);
    let flags = flags.fold(0, |all, flag| all | flag_bit(flag.get_name()));
    Ok(NewMap {
        type_number: kind,
        name,
        key_size: size(args.key, |like| like.key_size),
        value_size: size(args.value, |like| like.value_size),
        max_entries: args
            .max_entries
            .or(like.map(|like| like.max_entries))
            .unwrap_or(1),
        flags: match (args.flags.is_empty(), like) {
            (true, Some(like)) => like.flags,
            _ => flags,
        },
    })
}
