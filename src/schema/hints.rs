//! What a user says about tables on the command line, in place of tags in the object.

use std::sync::Arc;

use anyhow::Result;

use super::Declaration;
use super::found::Origin;
use super::histogram::as_slots;
use super::metric::{Metric, MetricKind};
use super::table::Table;
use super::tags::Decoder;
use super::types::{Kind, Type};
use crate::error::{unknown, usage};

/// What a user says about tables.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hints {
    /// The tables to show; all that hold no state if it is empty.
    pub tables: Vec<String>,
    /// Columns that only grow.
    pub counters: Vec<String>,
    /// Fields of keys and values, `FIELD` or `TABLE.FIELD`, and how they are shown.
    pub decoders: Vec<(String, Decoder)>,
    /// Whether they are for several tallies or maps, so that some know nothing of a field.
    pub are_for_several: bool,
}

impl Hints {
    /// The chosen tables, as these hints have them.
    pub(crate) fn apply(&self, tables: Vec<Table>) -> Result<Vec<Table>> {
        let tables = self.chosen(tables)?;
        if self.decoders.is_empty() && self.counters.is_empty() {
            return Ok(tables);
        }
        self.check(&tables)?;
        tables
            .into_iter()
            .map(|table| self.apply_to(table))
            .collect()
    }

    /// The same of a live map.
    pub(crate) fn apply_to_map(&self, map: Declaration) -> Result<Declaration> {
        if self.decoders.is_empty() {
            return Ok(map);
        }
        self.check(std::slice::from_ref(&map.table))?;
        let table = self.apply_to(map.table.clone())?;
        Ok(map.with_table(table))
    }

    fn chosen(&self, mut tables: Vec<Table>) -> Result<Vec<Table>> {
        for name in &self.tables {
            if !self.are_for_several && !tables.iter().any(|table| table.name == *name) {
                let known = tables.iter().map(|table| table.name.as_str());
                return Err(unknown("table", name, known));
            }
        }
        let is_named = tables.iter().any(|table| self.tables.contains(&table.name));
        if self.tables.is_empty() || self.are_for_several && !is_named {
            return Ok(tables);
        }
        let place = |table: &Table| self.tables.iter().position(|name| *name == table.name);
        tables.retain(|table| place(table).is_some());
        tables.sort_by_key(|table| place(table));
        Ok(tables)
    }

    /// Each field is one of some table.
    fn check(&self, tables: &[Table]) -> Result<()> {
        let decoded = self.decoders.iter().map(|(field, _)| field);
        for field in decoded.chain(&self.counters) {
            let has = |table: &Table| {
                let name = field_of(field, table);
                fields(table).any(|it| it == name || is_element(it, name))
            };
            if !self.are_for_several && !tables.iter().any(has) {
                let known: Vec<&str> = tables.iter().flat_map(fields).collect();
                return Err(unknown("field", field, known));
            }
        }
        Ok(())
    }

    fn apply_to(&self, table: Table) -> Result<Table> {
        let is_found = table.is_found;
        let is_under_way = |it: &&Metric| it.kind == MetricKind::UnderWay;
        let under_way = table.metrics.iter().find(is_under_way).cloned();
        let decoders = self.decoders.iter().map(|(field, decoder)| {
            let path = field_of(field, &table).to_owned();
            (path, decoder.clone())
        });
        let decoders: Vec<(String, Decoder)> = decoders.collect();
        let counters = self
            .counters
            .iter()
            .map(|it| field_of(it, &table).to_owned());
        let counters: Vec<String> = counters.collect();
        let mut done = Ok(());
        let mut table = table.made_from(|origin| done = origin.show(&decoders));
        done?;
        table.metrics.extend(under_way);
        if is_found {
            table = table.found();
        }
        for (path, decoder) in &decoders {
            if *decoder == Decoder::LOG2 && table.label(path).is_some() {
                table.bucket_by(path)?;
            } else if path == "value" && *decoder != Decoder::LOG2 {
                table.name_values(decoder);
            }
        }
        table.count_up(&counters);
        Ok(table)
    }
}

/// The columns and other fields of a table.
fn fields(table: &Table) -> impl Iterator<Item = &str> {
    let details = table.details.iter().map(|detail| detail.name.as_str());
    table.columns().chain(details)
}

/// Without the name of the table before it.
fn field_of<'f>(field: &'f str, table: &Table) -> &'f str {
    let rest = field.strip_prefix(table.name.as_str());
    rest.and_then(|rest| rest.strip_prefix('.'))
        .unwrap_or(field)
}

/// `name.3` is an element of `name`.
fn is_element(column: &str, name: &str) -> bool {
    let rest = column
        .strip_prefix(name)
        .and_then(|it| it.strip_prefix('.'));
    rest.is_some_and(|rest| rest.parse::<usize>().is_ok())
}

impl Origin {
    /// Shows fields of the key or the value by decoders. Those of all of a value, and
    /// buckets in a key, are columns of another kind: see [`Hints::apply_to`].
    fn show(&mut self, decoders: &[(String, Decoder)]) -> Result<()> {
        for (path, decoder) in decoders {
            let of_value = path.strip_prefix("value.").unwrap_or(path);
            let is_bucket = *decoder == Decoder::LOG2;
            if let Some(key) = shown(&self.key, path, decoder).filter(|_| !is_bucket) {
                self.key = key?;
            } else if path == "key" || self.names_key(path) {
                self.tags.decoder = Some(decoder.clone());
            } else if path == "value" && is_bucket {
                self.value = slots(path, &self.value)?;
            } else if let Some(value) = shown(&self.value, of_value, decoder) {
                self.value = value?;
            }
        }
        Ok(())
    }

    /// A key that is not a struct has the name of its decoder.
    fn names_key(&self, path: &str) -> bool {
        let decoder = self.tags.decoder.as_ref();
        self.key.members().is_empty() && decoder.is_some_and(|it| it.name() == path)
    }
}

/// The type with a decoder on the member that a path leads to; `None` if it has none.
fn shown(ty: &Arc<Type>, path: &str, decoder: &Decoder) -> Option<Result<Arc<Type>>> {
    let Kind::Struct(members) = &ty.kind else {
        return None;
    };
    let mut members = members.clone();
    for member in &mut members {
        let inner = match (member.name.as_str(), path.strip_prefix(&*member.name)) {
            ("", _) => path,
            (_, Some("")) => {
                if *decoder != Decoder::LOG2 {
                    member.tags.decoder = Some(decoder.clone());
                } else {
                    match slots(path, &member.place.ty) {
                        Ok(slots) => member.place.ty = slots,
                        Err(error) => return Some(Err(error)),
                    }
                }
                return Some(Ok(Type::new(&*ty.name, ty.size, Kind::Struct(members))));
            }
            (_, Some(rest)) if rest.starts_with('.') => &rest[1..],
            _ => continue,
        };
        match shown(&member.place.ty, inner, decoder) {
            Some(Ok(inner)) => member.place.ty = inner,
            Some(Err(error)) => return Some(Err(error)),
            None => continue,
        }
        return Some(Ok(Type::new(&*ty.name, ty.size, Kind::Struct(members))));
    }
    None
}

fn slots(path: &str, ty: &Type) -> Result<Arc<Type>> {
    as_slots(ty).ok_or_else(|| {
        usage(format!(
            "`--as {path}=log2`: a log2 histogram is an array of 8 to 64 integers, and `{path}` is `{}`",
            ty.name
        ))
    })
}
