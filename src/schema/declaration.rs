//! What a live map's bytes mean: its full name, its types and its tags, as far
//! as its BTF tells.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};

use super::counts::{Counts, Number, no_counts, words};
use super::decode::Names;
use super::input::dotted;
use super::label::Label;
use super::metric::MetricKind;
use super::parse::{LeftOut, parse};
use super::table::Table;
use super::tags::{Decoder, Tags};
use super::types::{Kind, Place, Type};
use super::value::Value;
use crate::error::{unknown, usage};

/// What the kernel tells about a map without its BTF.
#[derive(Debug, Clone, Default)]
pub struct MapFacts {
    /// At most 15 characters of it.
    pub name: String,
    /// Of `enum bpf_map_type`.
    pub(crate) type_number: u32,
    /// In bytes.
    pub key_size: usize,
    /// In bytes, of one CPU.
    pub value_size: usize,
    pub(crate) max_entries: u32,
    /// Of its BTF; 0 where it has none.
    pub(crate) btf_id: u32,
    /// Within the BTF; 0 where the key has no type.
    pub(crate) key_type_id: u32,
    /// Within the BTF; 0 where the value has no type.
    pub(crate) value_type_id: u32,
    /// A key is an id of 8 bytes, with these tags, whatever the kernel takes.
    pub(crate) id_keys: Option<Tags>,
    /// Within the kernel's own BTF, for a map that holds one of its structs; else 0.
    pub(crate) kernel_value_type_id: u32,
    /// How a value is written, where the type of the map says so.
    pub(crate) value_decoder: Option<Decoder>,
}

impl MapFacts {
    /// The kernel keeps 15 characters of a name.
    pub(crate) const MOST_NAME: usize = 15;

    /// Whether the kernel would call a map of this name so.
    pub(crate) fn may_be_called(&self, full: &str) -> bool {
        self.name == full.get(..Self::MOST_NAME).unwrap_or(full)
    }
}

/// What is known about a map.
#[derive(Debug, Clone)]
pub struct Declaration {
    /// The full name where it is certain, else the kernel's.
    pub(crate) name: String,
    /// The names that are declared for it, where none of them is certain.
    pub(crate) possible_names: Vec<String>,
    pub(crate) tags: Tags,
    pub(crate) key: Place,
    /// The value: all bytes of one.
    pub value: Place,
    /// Both, as columns.
    pub table: Table,
    /// How a value is written, where the type of the map says so.
    pub(crate) value_decoder: Option<Decoder>,
    /// Whether BTF says what is in it.
    pub(crate) has_types: bool,
}

impl Declaration {
    /// From the types of key and value. A type that does not fit the map's sizes is
    /// not used: bytes are bytes, and as many as an integer has are an integer.
    pub fn new(
        facts: &MapFacts,
        name: String,
        tags: Tags,
        [key, value]: [Option<Arc<Type>>; 2],
    ) -> Self {
        let has_types = key.is_some() || value.is_some();
        let or_bytes = |ty: Option<Arc<Type>>, size: usize| match (ty, size) {
            (Some(ty), size) if ty.size == size => ty,
            (_, 1 | 2 | 4 | 8) => Type::unsigned(size),
            _ => Type::opaque(size),
        };
        let (key, tags) = match facts.id_keys.clone() {
            Some(Tags { decoder, .. }) => (Type::unsigned(8), Tags { decoder, ..tags }),
            None => (or_bytes(key, facts.key_size), tags),
        };
        let value = or_bytes(value, facts.value_size);
        let mut table = Table::new(&name, &tags, facts.max_entries, &key, &value);
        if let Some(decoder) = &facts.value_decoder {
            table.name_values(decoder);
        }
        Self {
            name,
            possible_names: Vec::new(),
            tags,
            key: Place::whole(key),
            value: Place::whole(value),
            table,
            value_decoder: facts.value_decoder.clone(),
            has_types,
        }
    }

    /// With the types and decoders of this table, which was made of it.
    pub(super) fn with_table(self, table: Table) -> Self {
        let Some(origin) = &table.origin else {
            return self;
        };
        let value = table.details.iter().find(|detail| detail.name == "value");
        Self {
            tags: origin.tags.clone(),
            key: Place::whole(Arc::clone(&origin.key)),
            value: Place::whole(Arc::clone(&origin.value)),
            value_decoder: value.and_then(|it| it.decoder.clone()),
            table,
            ..self
        }
    }

    pub(crate) fn parse_key(&self, text: &str, names: &dyn Names) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.key.ty.size];
        let (refused, tags) = (LeftOut::Refused, self.key_tags());
        parse(&self.key, &tags, text, refused, names, &mut bytes)
            .map_err(|error| at("key", text, &error))?;
        Ok(bytes)
    }

    pub(crate) fn parse_value(
        &self,
        text: &str,
        left_out: LeftOut,
        names: &dyn Names,
        bytes: &mut [u8],
    ) -> Result<()> {
        parse(
            &self.value,
            &self.value_tags(),
            text,
            left_out,
            names,
            bytes,
        )
        .map_err(|error| at("value", text, &error))
    }

    /// What the copies of a value, one of each CPU, amount to.
    pub(crate) fn sum<'v>(&'v self, copies: &[&'v [u8]], names: &'v dyn Names) -> Value<'v> {
        let tags = self.value_tags();
        let values = copies
            .iter()
            .map(|copy| names.whole(&self.value, &tags, copy));
        let mut sum = Value::sum(values.collect());
        let metrics = self.table.metrics.iter();
        for metric in metrics.filter(|metric| metric.kind.is_extreme()) {
            let mut cells = vec![0; self.table.cells()];
            copies
                .iter()
                .for_each(|copy| metric.add_value(copy, &mut cells));
            sum.set(&metric.name, metric.value(&cells));
        }
        sum
    }

    /// The number inside of a value that a path leads to: `calls`, `a.b`, `c[2]`;
    /// without a path the only one. And whether it may be below zero.
    pub fn number(&self, path: Option<&str>) -> Result<(Number, bool)> {
        self.check_unlocked()?;
        let metrics = &self.table.metrics;
        let place = match (path, &metrics[..]) {
            (Some(path), _) => self.find(path)?,
            (None, [only]) if only.kind != MetricKind::Histogram => only.place.clone(),
            (None, []) => {
                return Err(usage(
                    "there is no number in its values that can be added to",
                ));
            }
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
        let steps = dotted(path);
        // A value that is not a struct has the name of its column.
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
    /// taken out at once. Gauges, text and names are no counts, nor is what is
    /// two things at once: the members of a union.
    pub fn counts(&self) -> Result<Counts> {
        self.check_unlocked()?;
        let mut counts = Counts::default();
        for metric in &self.table.metrics {
            match metric.kind {
                MetricKind::Gauge | MetricKind::UnderWay => {}
                MetricKind::Maximum | MetricKind::Minimum => {
                    counts.add_maximum(&metric.name, &metric.place);
                }
                MetricKind::Counter => counts.add(&metric.name, vec![metric.place.clone()]),
                MetricKind::Histogram => counts.add(&metric.name, words(&metric.place)),
            }
        }
        let details = &self.table.details;
        for detail in details.iter().filter(|detail| detail.decoder.is_none()) {
            let words = words(&detail.place);
            let overlaps = |other: &&Label| other.place.overlaps(&detail.place);
            match details.iter().filter(overlaps).count() {
                1 => counts.add(&detail.name, words),
                _ if words.is_empty() => {}
                _ => counts.left.push(detail.name.clone()),
            }
        }
        match (counts.numbers.is_empty(), &counts.left[..]) {
            (false, _) => Ok(counts),
            (true, []) => bail!("there is nothing in its values that counts"),
            (true, left) => bail!(
                "there is nothing to take in its values: {}",
                no_counts(left)
            ),
        }
    }

    /// Who holds the lock adds by other means than atomic ones.
    fn check_unlocked(&self) -> Result<()> {
        ensure!(
            !self.value.ty.has_lock(),
            "its values have a bpf_spin_lock, and what programs write under it meanwhile would be lost; `update --lock` takes the lock"
        );
        Ok(())
    }

    /// The tags that describe the key: the map's decoder, where the key is a
    /// scalar or text.
    pub(crate) fn key_tags(&self) -> Tags {
        let is_whole = self.key.ty.members().is_empty();
        Tags {
            decoder: self.tags.decoder.clone().filter(|_| is_whole),
            ..Tags::default()
        }
    }

    /// The tags that describe the value: what the map is tagged with besides,
    /// where the value is a scalar.
    pub(crate) fn value_tags(&self) -> Tags {
        let is_whole = self.value.ty.members().is_empty();
        Tags {
            unit: self.tags.unit.clone().filter(|_| is_whole),
            decoder: self.value_decoder.clone(),
            ..Tags::default()
        }
    }
}

fn at(what: &str, text: &str, error: &anyhow::Error) -> anyhow::Error {
    usage(format!("{what} `{text}`: {error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::decode::Plain;
    use crate::schema::testing::{member, structure, union};
    use crate::schema::types::Member;

    fn declaration(members: Vec<Member>) -> Declaration {
        let facts = MapFacts {
            key_size: 4,
            value_size: 64,
            ..MapFacts::default()
        };
        let types = [None, Some(structure(64, members))];
        Declaration::new(&facts, String::new(), Tags::default(), types)
    }

    /// A number that is pasted back is not one that counts.
    #[test]
    fn ids_are_no_columns_of_numbers() {
        let facts = MapFacts {
            key_size: 4,
            value_size: 4,
            value_decoder: Some(Decoder::ID),
            ..MapFacts::default()
        };
        let map = Declaration::new(&facts, String::new(), Tags::default(), [None, None]);
        assert_eq!(map.table.cells(), 0);
        let [id] = &map.table.details[..] else {
            panic!("{:?}", map.table);
        };
        let (bytes, mut parsed) = (123_456u32.to_ne_bytes(), [0; 4]);
        assert_eq!(id.place.decode(&bytes).to_string(), "123456");
        map.parse_value("123456", LeftOut::Refused, &Plain, &mut parsed)
            .unwrap();
        assert_eq!(parsed, bytes);
    }

    #[test]
    fn what_is_two_things_at_once_is_no_count() {
        let [byte, half, word] = [1, 4, 8].map(Type::unsigned);
        let words = |len| Type::array(word.clone(), len);
        let either = vec![
            member("words", 0, &words(2)),
            member("bytes", 0, &Type::array(byte, 4)),
        ];
        let counts = declaration(vec![
            member("calls", 0, &word),
            member("", 8, &union(16, either)),
            member("long", 24, &words(3)),
            member("odd", 49, &half),
        ]);
        let counts = counts.counts().unwrap();
        let at = |offset| Number {
            offset,
            width: 8,
            is_maximum: false,
        };
        assert_eq!(counts.numbers, [0, 24, 32, 40].map(at));
        assert_eq!(counts.left, ["odd", "words", "bytes"]);
    }

    #[test]
    fn a_lock_at_any_depth_forbids_changes_in_place() {
        let lock = Type::new("struct bpf_spin_lock", 4, Kind::Struct(Vec::new()));
        let locks = Type::array(lock, 1);
        let locked = declaration(vec![
            member("n", 8, &Type::unsigned(8)),
            member("l", 0, &locks),
        ]);
        for error in [locked.counts().err(), locked.number(None).err()] {
            assert!(error.unwrap().to_string().contains("bpf_spin_lock"));
        }
    }

    /// Hostile BTF may claim so.
    #[test]
    fn elements_without_bytes_are_not_counted() {
        let endless = Type::array(structure(0, Vec::new()), usize::MAX);
        let error = declaration(vec![member("endless", 0, &endless)]).counts();
        assert!(error.unwrap_err().to_string().contains("nothing"));
    }
}
