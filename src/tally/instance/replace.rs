//! What a new object takes over from the instance that it replaces, and
//! whether it can.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use libbpf_rs::{MapType, OpenObject};

use super::folder::{ENTRIES, LINKS, MAPS, SLOTS, names};
use super::meta::{BTF, Member, Meta, open_map, read_bytes};
use super::pin_name;
use crate::map::Map;
use crate::schema::declared_types;
use crate::sys;
use crate::tally::Tally;
use crate::text::NEXT_LINE;

/// Gives the maps of an instance to an object that is open: all but constants,
/// which are the new one's.
pub(super) fn keep_maps(
    object: &mut OpenObject,
    place: &Path,
    tally: &Tally,
    max_rows: Option<u32>,
) -> Result<()> {
    let old_types = declared_types(&read_bytes(&place.join(BTF))?)?;
    let new_types = declared_types(&tally.btf)?;
    let mut pinned = names(&place.join(MAPS))?;
    for mut map in object.maps_mut().filter(|map| map.autocreate()) {
        let name = map.name().to_string_lossy().into_owned();
        let pin = pin_name(&name);
        if is_constant(&pin) || !pinned.contains(&pin) {
            continue;
        }
        pinned.retain(|known| *known != pin);
        let old = open_map(&place.join(MAPS).join(&pin), false)?;
        let key = name.find('.').map_or(name.as_str(), |dot| &name[dot..]);
        compare_types(&name, old_types.get(key), new_types.get(key))?;
        let sizes = (map.map_type(), map.key_size(), map.value_size());
        compare_shape(&name, &old, sizes)?;
        let is_array = matches!(map.map_type(), MapType::Array | MapType::PercpuArray);
        let is_table = tally.schema.tables.iter().any(|table| table.name == name);
        if is_array && old.max_entries != map.max_entries() {
            bail!(
                "array `{name}` has {} entries, and would have {}",
                old.max_entries,
                map.max_entries()
            );
        }
        if let Some(rows) =
            max_rows.filter(|rows| is_table && !is_array && *rows != old.max_entries)
        {
            bail!(
                "table `{name}` has room for {} rows, and --max-rows says {rows}",
                old.max_entries
            );
        }
        use std::os::fd::AsFd;
        map.reuse_fd(old.as_fd())
            .with_context(|| format!("failed to go on with map `{name}`"))?;
    }
    // State that is no more needed may go; what was counted may not.
    let old = crate::schema::Schema::of_raw(&read_bytes(&place.join(BTF))?)?;
    let lost = old.tables.iter().find(|table| pinned.contains(&table.name));
    if let Some(table) = lost {
        bail!("table `{}` would be lost", table.name);
    }
    Ok(())
}

fn is_constant(pin: &str) -> bool {
    pin.starts_with("@rodata") || pin.starts_with("@kconfig")
}

fn compare_types(name: &str, old: Option<&String>, new: Option<&String>) -> Result<()> {
    let lines = |text: Option<&String>| -> Vec<String> {
        text.into_iter()
            .flat_map(|text| text.lines().map(str::to_owned))
            .collect()
    };
    let (old, new) = (lines(old), lines(new));
    if old == new {
        return Ok(());
    }
    bail!(
        "map `{name}` has other types:{NEXT_LINE}{}",
        difference(&old, &new).join(NEXT_LINE)
    );
}

/// The lines that only the old has, and those that only the new has.
fn difference(old: &[String], new: &[String]) -> Vec<String> {
    let same_head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let tails = old[same_head..]
        .iter()
        .rev()
        .zip(new[same_head..].iter().rev());
    let same_tail = tails.take_while(|(a, b)| a == b).count();
    let only = |lines: &[String], sign: char| -> Vec<String> {
        lines[same_head..lines.len() - same_tail]
            .iter()
            .map(|line| format!("{sign} {}", line.trim()))
            .collect()
    };
    [only(old, '-'), only(new, '+')].concat()
}

fn compare_shape(name: &str, old: &Map, new: (MapType, u32, u32)) -> Result<()> {
    let was = (old.ty, old.key_size as u32, old.value_size as u32);
    if was != new {
        bail!(
            "map `{name}` is a {:?} of {} bytes to {}, and would be a {:?} of {} bytes to {}",
            was.0,
            was.1,
            was.2,
            new.0,
            new.1,
            new.2
        );
    }
    Ok(())
}

/// Only programs that are attached to the same places can take turns without an
/// event being lost or counted twice.
pub(super) fn check_programs(old: &[Member], new: &[Member]) -> Result<()> {
    let by_name = |members: &[Member]| -> HashMap<String, String> {
        let place = |member: &Member| match &member.target {
            Some(target) => format!("{} to {target}", member.section),
            None => member.section.clone(),
        };
        let members = members.iter();
        members
            .map(|member| (member.name.clone(), place(member)))
            .collect()
    };
    let (was, is) = (by_name(old), by_name(new));
    let mut difference: Vec<String> = Vec::new();
    for (sign, from, other) in [('-', &was, &is), ('+', &is, &was)] {
        let only = from
            .iter()
            .filter(|(name, place)| other.get(*name) != Some(place));
        let mut lines: Vec<String> = only
            .map(|(name, place)| format!("{sign} program `{name}` ({place})"))
            .collect();
        lines.sort();
        difference.extend(lines);
    }
    if !difference.is_empty() {
        bail!(
            "other programs, or elsewhere, cannot go on without a gap; detach it, and attach it anew:{NEXT_LINE}{}",
            difference.join(NEXT_LINE)
        );
    }
    if let Some(member) = old.iter().chain(new).find(|member| !member.has_entry) {
        bail!(
            "program `{}` ({}) has no entry: its kind cannot be replaced without a gap",
            member.name,
            member.section
        );
    }
    Ok(())
}

/// Pins links, entries and slots once more, for the folder that will be in
/// place; the links' names.
pub(super) fn pin_again(old: &Meta, place: &Path, hidden: &Path) -> Result<Vec<String>> {
    use std::os::fd::AsFd;
    let mut links = Vec::new();
    for pin in &old.pins {
        let (kind, name) = pin.split_once('/').unwrap_or_default();
        if ![ENTRIES, SLOTS, LINKS].contains(&kind) {
            continue;
        }
        let fd = sys::map::open_pin(&place.join(pin), false)
            .with_context(|| format!("failed to open `{}`", place.join(pin).display()))?;
        sys::map::pin(fd.as_fd(), &hidden.join(pin))
            .with_context(|| format!("failed to pin to `{}`", hidden.join(pin).display()))?;
        if kind == LINKS {
            links.push(name.to_owned());
        }
    }
    Ok(links)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_has_what_differs() {
        let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
        assert_eq!(
            difference(&lines("a\nb\nc\nd"), &lines("a\nx\ny\nd")),
            ["- b", "- c", "+ x", "+ y"]
        );
        assert_eq!(difference(&lines("a"), &lines("a\na")), ["+ a"]);
    }

    #[test]
    fn programs_take_turns_at_the_same_places() {
        let member = |name: &str, section: &str| Member {
            name: name.into(),
            section: section.into(),
            target: None,
            has_entry: true,
        };
        let old = [member("a", "tp_btf/x"), member("b", "tp_btf/y")];
        assert!(check_programs(&old, &[old[1].clone(), old[0].clone()]).is_ok());
        let error = check_programs(&old, &[member("a", "tp_btf/z"), old[1].clone()]).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("- program `a` (tp_btf/x)"), "{error}");
        assert!(error.contains("+ program `a` (tp_btf/z)"), "{error}");
        assert!(!error.contains("`b`"), "{error}");
    }
}
