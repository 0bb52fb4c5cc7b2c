//! What a live map's bytes mean: its full name, its types and its tags, as far
//! as its BTF tells.

use std::sync::Arc;

use anyhow::{Result, bail};

use super::histogram::Histogram;
use super::labels::Labels;
use super::parse::{LeftOut, parse};
use super::table::{MetricKind, Number, Table};
use super::tags::Tags;
use super::types::{Kind, Place, Type};
use crate::error::{unknown, usage};

/// What the kernel tells about a map without its BTF.
#[derive(Debug, Clone, Default)]
pub struct MapFacts {
    /// At most 15 characters of it.
    pub name: String,
    /// In bytes.
    pub key_size: usize,
    /// In bytes, of one CPU.
    pub value_size: usize,
    /// How many entries fit.
    pub max_entries: u32,
    /// Of its BTF; 0 where it has none.
    pub btf_id: u32,
    /// Within the BTF; 0 where the key has no type.
    pub key_type_id: u32,
    /// Within the BTF; 0 where the value has no type.
    pub value_type_id: u32,
}

/// What is known about a map.
#[derive(Debug, Clone)]
pub struct Declaration {
    /// The full name.
    pub name: String,
    /// Of the map itself.
    pub tags: Tags,
    /// The key: all of its bytes.
    pub key: Place,
    /// The value: all bytes of one.
    pub value: Place,
    /// Both, as columns.
    pub table: Table,
    /// Whether BTF says what is in it.
    pub has_types: bool,
}

impl Declaration {
    /// A type that does not fit the map's sizes is no help: bytes are bytes, and
    /// as many as an integer has are an integer.
    pub(super) fn new(
        facts: &MapFacts,
        name: String,
        tags: Tags,
        key: Option<Arc<Type>>,
        value: Option<Arc<Type>>,
    ) -> Self {
        let has_types = key.is_some() || value.is_some();
        let or_bytes = |ty: Option<Arc<Type>>, size: usize| match (ty, size) {
            (Some(ty), size) if ty.size == size => ty,
            (_, 1 | 2 | 4 | 8) => Type::unsigned(size),
            _ => Type::opaque(size),
        };
        let key = or_bytes(key, facts.key_size);
        let value = or_bytes(value, facts.value_size);
        let table = Table::new(&name, &tags, facts.max_entries, &key, &value);
        Self {
            name,
            tags,
            key: Place::whole(key),
            value: Place::whole(value),
            table,
            has_types,
        }
    }

    /// The bytes of a key, from text.
    pub fn parse_key(&self, text: &str, labels: &Labels) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.key.ty.size];
        let (refused, tags) = (LeftOut::Refused, self.key_tags());
        parse(&self.key, &tags, text, refused, labels, &mut bytes)
            .map_err(|error| at("key", text, &error))?;
        Ok(bytes)
    }

    /// Writes text into the bytes of a value.
    pub fn parse_value(
        &self,
        text: &str,
        left_out: LeftOut,
        labels: &Labels,
        bytes: &mut [u8],
    ) -> Result<()> {
        parse(
            &self.value,
            &self.value_tags(),
            text,
            left_out,
            labels,
            bytes,
        )
        .map_err(|error| at("value", text, &error))
    }

    /// The number inside of a value that a path leads to: `calls`, `a.b`, `c[2]`;
    /// without a path the only one. And whether it may be below zero.
    pub fn number(&self, path: Option<&str>) -> Result<(Number, bool)> {
        let metrics = &self.table.metrics;
        let place = match (path, &metrics[..]) {
            (Some(path), _) => self.find(path)?,
            (None, [only]) if only.kind != MetricKind::Histogram => only.place.clone(),
            _ => {
                let names: Vec<&str> = metrics.iter().map(|it| it.name.as_str()).collect();
                return Err(usage(format!(
                    "say which number, as FIELD=DELTA; there are {}",
                    names.join(", ")
                )));
            }
        };
        let name = path.unwrap_or("value");
        let number = Number::at(name, &place).map_err(|error| usage(error.to_string()))?;
        Ok((number, place.ty.kind == Kind::Int { signed: true }))
    }

    fn find(&self, path: &str) -> Result<Place> {
        let mut place = self.value.clone();
        let steps = path.replace('[', ".").replace(']', "");
        // A value that is no struct has the name of its column.
        if place.ty.members().is_empty() && path == "value" {
            return Ok(place);
        }
        for step in steps.split('.') {
            place = match &place.ty.kind {
                Kind::Array { element, len } => {
                    let i = step.parse().ok().filter(|i| i < len);
                    let i = i.ok_or_else(|| usage(format!("`{path}`: no element `{step}`")))?;
                    place.element(element, i)
                }
                _ => place
                    .member(step)
                    .ok_or_else(|| unknown("field", path, self.names()))?,
            };
        }
        Ok(place)
    }

    fn names(&self) -> Vec<&str> {
        let metrics = self.table.metrics.iter().map(|it| it.name.as_str());
        metrics
            .chain(self.table.details.iter().map(|it| it.name.as_str()))
            .collect()
    }

    /// Every number of a value that counts something, for all of them to be
    /// taken out at once. Gauges, text and flags are no counts.
    pub fn counts(&self) -> Result<Vec<Number>> {
        let mut counts = Vec::new();
        for metric in &self.table.metrics {
            match metric.kind {
                MetricKind::Gauge => {}
                MetricKind::Counter => counts.push(Number::at(&metric.name, &metric.place)?),
                MetricKind::Histogram => counts.extend((0..Histogram::CELLS).map(|i| Number {
                    offset: metric.place.bit_offset / 8 + 8 * i,
                    width: 8,
                })),
            }
        }
        for detail in &self.table.details {
            counts.extend(words(&detail.place)?);
        }
        match counts.is_empty() {
            true => bail!("there is nothing in its values that counts"),
            false => Ok(counts),
        }
    }

    /// The tags that describe the key: the map's decoder, where the key is a
    /// scalar or text.
    pub fn key_tags(&self) -> Tags {
        let is_whole = self.key.ty.members().is_empty();
        Tags {
            decoder: self.tags.decoder.clone().filter(|_| is_whole),
            ..Tags::default()
        }
    }

    /// The tags that describe the value: what the map is tagged with besides,
    /// where the value is a scalar.
    pub fn value_tags(&self) -> Tags {
        let is_whole = self.value.ty.members().is_empty();
        Tags {
            unit: self.tags.unit.clone().filter(|_| is_whole),
            ..Tags::default()
        }
    }
}

/// The numbers of a long array, and of bytes without a type.
fn words(place: &Place) -> Result<Vec<Number>> {
    let width = match &place.ty.kind {
        Kind::Array { element, .. } if element.is_number() => element.size,
        // It may count, and cannot be taken.
        Kind::Int { .. } if place.ty.size > 8 => return Ok(vec![Number::at("value", place)?]),
        Kind::Opaque if place.ty.size.is_multiple_of(8) => 8,
        Kind::Opaque => 4,
        _ => return Ok(Vec::new()),
    };
    let word = Type::unsigned(width);
    let places = (0..place.ty.size / width.max(1)).map(|i| place.element(&word, i));
    if !place.ty.size.is_multiple_of(width.max(1)) {
        bail!("its values have no types, and bytes that are no numbers of 4");
    }
    places.map(|place| Number::at("value", &place)).collect()
}

fn at(what: &str, text: &str, error: &anyhow::Error) -> anyhow::Error {
    usage(format!("{what} `{}`: {error:#}", text.escape_debug()))
}
