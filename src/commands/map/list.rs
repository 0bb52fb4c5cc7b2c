//! `list` and `show`: facts about maps, without their entries.

use std::io::Write;

use anyhow::Result;

use super::{MapCommand, note, output};
use crate::cli::Exit;
use crate::map::{Access, Inventory, Listed, Used, flag_names};
use crate::render::{self, Format, heading, object, write_json, write_rows};
use crate::schema::{Unit, Value, whole_number};
use crate::text::escape;

impl MapCommand<'_> {
    pub(super) fn list(&self) -> Result<Exit> {
        let mut inventory = Inventory::collect()?;
        let how = (self.global.output, super::style(self.global));
        let maps = inventory.maps(&self.btf);
        write_rows(&mut output::out(), how, &columns(), maps)?;
        inventory.notes.iter().for_each(|text| note(text));
        Ok(Exit::Done)
    }

    pub(super) fn show(&self, name: &str) -> Result<Exit> {
        let (map, declaration) = self.open(name, Access::Read)?;
        let inventory = Inventory::details_only();
        let listed = inventory.describe(map, declaration);
        let (out, style) = (&mut output::out(), super::style(self.global));
        let mut columns = columns();
        columns.extend([
            Column::exact("declaration", |it| it.declaration.as_c().into()),
            Column::exact("help", |it| (&it.declaration.table.help).into()),
            Column::exact("frozen", |it| it.map.is_frozen().into()),
        ]);
        match self.global.output {
            Format::Json | Format::Jsonl => write_json(out, &object(&columns, &listed))?,
            Format::Csv => write_rows(out, (Format::Csv, style), &columns, [listed])?,
            _ => self.in_full(out, &listed)?,
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
        let memory = map.memlock().map(|bytes| Unit::Bytes.scale(bytes as f64));
        let mut line = |what: &str, text: &str| {
            if text.is_empty() {
                Ok(())
            } else {
                writeln!(out, "{what:<9} {}", escape(text))
            }
        };
        line("help", &declaration.table.help)?;
        line(
            "sizes",
            &format!("{} bytes to {} bytes", map.key_size, map.value_size),
        )?;
        line("used", &format!("{} of {}", listed.used, map.max_entries))?;
        line("memory", memory.as_deref().unwrap_or("-"))?;
        line("flags", &flag_names(map.flags).join(" "))?;
        line("frozen", if map.is_frozen() { "yes" } else { "no" })?;
        line("pins", &pins(listed).join(" "))?;
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

type Column = render::Column<'static, Listed>;

fn columns() -> Vec<Column> {
    vec![
        Column::number("id", |it| it.map.id.into()).shown_as(|it| it.map.id.to_string()),
        Column::text("type", |it| it.map.type_name().into()),
        Column::text("name", |it| (&it.declaration.name).into()),
        Column::text("key", |it| type_of(it, &it.declaration.key.ty.name))
            .shown_as(|it| type_or_size(it, &it.declaration.key.ty.name, it.map.key_size))
            .spare(),
        Column::exact("key_size", |it| (it.map.key_size as u64).into()),
        Column::text("value", |it| type_of(it, &it.declaration.value.ty.name))
            .shown_as(|it| type_or_size(it, &it.declaration.value.ty.name, it.map.value_size))
            .spare(),
        Column::exact("value_size", |it| (it.map.value_size as u64).into()),
        Column::number("used", |it| match it.used {
            Used::Exactly(used) | Used::AtLeast(used) => used.into(),
            Used::Unknown => Value::Null,
        })
        .shown_as(|it| format!("{}/{}", it.used, whole_number(it.map.max_entries.into())))
        .titled("USED/MAX"),
        Column::exact("used_is_exact", |it| {
            matches!(it.used, Used::Exactly(_)).into()
        }),
        Column::exact("max_entries", |it| it.map.max_entries.into()),
        Column::number("memory", |it| it.map.memlock().into()).unit(Unit::Bytes),
        Column::text("flags", |it| flag_names(it.map.flags).into_iter().collect())
            .shown_as(|it| flag_names(it.map.flags).join(" "))
            .spare(),
        Column::text("pins", |it| pins(it).into_iter().collect()).shown_as(|it| pins(it).join(" ")),
        Column::text("held_by", |it| {
            let holders = it.holders.iter();
            let holders = holders.map(|holder| {
                let (pid, comm) = (holder.pid.into(), (&holder.comm).into());
                Value::Fields(vec![("pid", pid), ("comm", comm)])
            });
            holders.collect()
        })
        .shown_as(holders)
        .titled("HELD_BY"),
        Column::exact("programs", |it| {
            let programs = it.programs.iter();
            let programs = programs.map(|program| {
                let (id, name) = (program.id.into(), (&program.name).into());
                let kind = (&program.kind).into();
                Value::Fields(vec![("id", id), ("name", name), ("type", kind)])
            });
            programs.collect()
        }),
    ]
}

/// The type of a key or value, if BTF has it.
fn type_of<'r>(listed: &Listed, name: &'r str) -> Value<'r> {
    let is_known = listed.declaration.has_types && !name.is_empty();
    is_known.then_some(name).into()
}

fn type_or_size(listed: &Listed, name: &str, size: usize) -> String {
    match type_of(listed, name) {
        Value::Null => format!("{size} bytes"),
        known => known.to_string(),
    }
}

fn pins(listed: &Listed) -> Vec<String> {
    let pins = listed.pins.iter();
    pins.map(|path| path.display().to_string()).collect()
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

/// Names in BTF are untrusted text.
fn escape_lines(text: &str) -> String {
    let lines: Vec<String> = text
        .lines()
        .map(|line| escape(line).replace("\\t", "\t"))
        .collect();
    lines.join("\n")
}
