//! `list` and `show`: what there is to know about maps without reading them.

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};

use super::{MapCommand, note, output};
use crate::cli::{Exit, Output};
use crate::map::{Access, Inventory, Listed, Used, flag_names};
use crate::render::{Style, columns, csv_cells, heading};
use crate::schema::Unit;
use crate::text::escape;

impl MapCommand<'_> {
    pub(super) fn list(&self) -> Result<Exit> {
        let mut inventory = Inventory::collect()?;
        let maps = inventory.maps(&self.btf);
        let style = &super::style(self.global);
        let out = &mut output::out();
        match self.global.output {
            Output::Json => {
                let maps: Vec<Value> = maps.map(|map| as_json(&map)).collect();
                writeln!(out, "{}", Value::from(maps))?;
            }
            Output::Jsonl => {
                for map in maps {
                    writeln!(out, "{}", as_json(&map))?;
                }
            }
            Output::Csv => write_csv(out, maps, style)?,
            Output::Table | Output::Folded | Output::Svg => {
                let rows: Vec<Vec<String>> = maps.map(|map| as_row(&map)).collect();
                let head = HEAD.map(str::to_uppercase);
                let right = HEAD.map(|name| matches!(name, "id" | "memory"));
                columns(out, &head, &right, &rows, style)?;
            }
        }
        inventory.notes.iter().for_each(|text| note(text));
        Ok(Exit::Done)
    }

    pub(super) fn show(&self, name: &str) -> Result<Exit> {
        let (map, declaration) = self.open(name, Access::Read)?;
        let inventory = Inventory::details_only();
        let listed = inventory.describe(map, declaration);
        let out = &mut output::out();
        match self.global.output {
            Output::Json | Output::Jsonl => {
                let mut object = as_json(&listed);
                object["declaration"] = json!(listed.declaration.as_c());
                object["help"] = json!(listed.declaration.table.help);
                object["frozen"] = json!(listed.map.is_frozen());
                writeln!(out, "{object}")?;
            }
            Output::Csv => write_csv(out, [listed], &super::style(self.global))?,
            Output::Table | Output::Folded | Output::Svg => self.in_full(out, &listed)?,
        }
        inventory.notes.iter().for_each(|text| note(text));
        Ok(Exit::Done)
    }

    fn in_full(&self, out: &mut dyn Write, listed: &Listed) -> Result<()> {
        let Listed {
            map, declaration, ..
        } = listed;
        let title = format!("{} (id {}): {}", declaration.name, map.id, map.type_name());
        heading(out, &title, &super::style(self.global))?;
        let mut line = |what: &str, text: &str| match text.is_empty() {
            true => Ok(()),
            false => writeln!(out, "{what:<9} {}", escape(text)),
        };
        line("help", &declaration.table.help)?;
        line(
            "sizes",
            &format!("{} bytes to {} bytes", map.key_size, map.value_size),
        )?;
        line("used", &format!("{} of {}", used(listed), map.max_entries))?;
        line("memory", &memory(listed))?;
        line("flags", &flag_names(map.flags).join(" "))?;
        line("frozen", if map.is_frozen() { "yes" } else { "no" })?;
        line("pins", &pins(listed))?;
        line("held by", &holders(listed))?;
        line("programs", &programs(listed))?;
        if declaration.has_types {
            writeln!(out, "\n{}", escape_lines(&declaration.as_c()))?;
        } else {
            writeln!(out, "\nno BTF says what is in it")?;
        }
        Ok(())
    }
}

const HEAD: [&str; 10] = [
    "id", "type", "name", "key", "value", "used/max", "memory", "flags", "pins", "held by",
];

fn as_row(listed: &Listed) -> Vec<String> {
    let Listed {
        map, declaration, ..
    } = listed;
    let ty = |name: &str, size: usize| match (declaration.has_types, name) {
        (true, name) if !name.is_empty() => name.to_owned(),
        _ => format!("{size} bytes"),
    };
    vec![
        map.id.to_string(),
        map.type_name(),
        declaration.name.clone(),
        ty(&declaration.key.ty.name, map.key_size),
        ty(&declaration.value.ty.name, map.value_size),
        format!("{}/{}", used(listed), map.max_entries),
        memory(listed),
        flag_names(map.flags).join(" "),
        pins(listed),
        holders(listed),
    ]
}

fn write_csv(
    out: &mut dyn Write,
    maps: impl IntoIterator<Item = Listed>,
    style: &Style,
) -> Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    if !style.no_header {
        writer.write_record([
            "id",
            "type",
            "name",
            "key_size",
            "value_size",
            "used",
            "max_entries",
            "memory",
            "flags",
            "pins",
            "held_by",
        ])?;
    }
    for listed in maps {
        let (listed, map) = (&listed, &listed.map);
        writer.write_record(csv_cells(vec![
            map.id.to_string(),
            map.type_name(),
            listed.declaration.name.clone(),
            map.key_size.to_string(),
            map.value_size.to_string(),
            used(listed),
            map.max_entries.to_string(),
            map.memlock()
                .map_or_else(String::new, |bytes| bytes.to_string()),
            flag_names(map.flags).join(" "),
            pins(listed),
            holders(listed),
        ]))?;
    }
    writer.flush()?;
    Ok(())
}

fn as_json(listed: &Listed) -> Value {
    let Listed {
        map, declaration, ..
    } = listed;
    let (used, exact) = match listed.used {
        Used::Exactly(used) => (Some(used), true),
        Used::AtLeast(used) => (Some(used), false),
        Used::Unknown => (None, false),
    };
    let ty = |name: &str| (declaration.has_types && !name.is_empty()).then(|| name.to_owned());
    let holders: Vec<Value> = listed
        .holders
        .iter()
        .map(|holder| json!({"pid": holder.pid, "comm": holder.comm}))
        .collect();
    let programs: Vec<Value> = listed
        .programs
        .iter()
        .map(|it| json!({"id": it.id, "name": it.name, "type": it.kind}))
        .collect();
    json!({
        "id": map.id,
        "type": map.type_name(),
        "name": declaration.name,
        "key": ty(&declaration.key.ty.name),
        "key_size": map.key_size,
        "value": ty(&declaration.value.ty.name),
        "value_size": map.value_size,
        "used": used,
        "used_is_exact": exact,
        "max_entries": map.max_entries,
        "memory": map.memlock(),
        "flags": flag_names(map.flags),
        "pins": listed.pins,
        "held_by": holders,
        "programs": programs,
    })
}

fn used(listed: &Listed) -> String {
    match listed.used {
        Used::Exactly(used) => used.to_string(),
        Used::AtLeast(used) => format!("{used}+"),
        Used::Unknown => "-".to_owned(),
    }
}

fn memory(listed: &Listed) -> String {
    let bytes = listed.map.memlock();
    bytes.map_or_else(|| "-".to_owned(), |bytes| Unit::Bytes.scale(bytes as f64))
}

fn pins(listed: &Listed) -> String {
    let pins: Vec<String> = listed
        .pins
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    pins.join(" ")
}

fn holders(listed: &Listed) -> String {
    let holders: Vec<String> = listed
        .holders
        .iter()
        .map(|holder| format!("{}({})", holder.comm, holder.pid))
        .collect();
    holders.join(" ")
}

fn programs(listed: &Listed) -> String {
    let programs: Vec<String> = listed
        .programs
        .iter()
        .map(|it| format!("{} (id {}, {})", it.name, it.id, it.kind))
        .collect();
    programs.join(", ")
}

/// Names in BTF are somebody's text too.
fn escape_lines(text: &str) -> String {
    let lines: Vec<String> = text
        .lines()
        .map(|line| escape(line).replace("\\t", "\t"))
        .collect();
    lines.join("\n")
}
