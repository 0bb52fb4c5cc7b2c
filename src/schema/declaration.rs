//! What a live map's bytes mean: its full name, its types and its tags, as far
//! as its BTF tells.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};

use super::counts::{Counts, Number, no_counts, words};
use super::decode::Names;
use super::input::dotted;
use super::metric::MetricKind;
use super::parse::{LeftOut, parse};
use super::table::{Label, Table};
use super::tags::{Decoder, Tags};
use super::types::{Kind, Place, Type};
use crate::error::{unknown, usage};

/// What the kernel tells about a map without its BTF.
#[derive(Debug, Clone, Default)]
pub struct MapFacts {
    /// At most 15 characters of it.
    pub name: String,
    /// Of `enum bpf_map_type`.
    pub(crate) type_number: u32,
    /// In bytes.
    pub(crate) key_size: usize,
    /// In bytes, of one CPU.
    pub(crate) value_size: usize,
    /// How many entries fit.
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
    pub name: String,
    /// The names that are declared for it, where none of them is certain.
    pub possible_names: Vec<String>,
    /// Of the map itself.
    pub tags: Tags,
    /// The key: all of its bytes.
    pub key: Place,
    /// The value: all bytes of one.
    pub value: Place,
    /// Both, as columns.
    pub table: Table,
    /// How a value is written, where the type of the map says so.
    pub value_decoder: Option<Decoder>,
    /// Whether BTF says what is in it.
    pub has_types: bool,
}

impl Declaration {
    /// A type that does not fit the map's sizes is not used: bytes are bytes, and
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

    /// The bytes of a key, from text.
    pub(crate) fn parse_key(&self, text: &str, names: &dyn Names) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.key.ty.size];
        let (refused, tags) = (LeftOut::Refused, self.key_tags());
        parse(&self.key, &tags, text, refused, names, &mut bytes)
            .map_err(|error| at("key", text, &error))?;
        Ok(bytes)
    }

    /// Writes text into the bytes of a value.
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
    /// taken out at once. Gauges, text and names are no counts, nor is what is
    /// two things at once: the members of a union.
    pub fn counts(&self) -> Result<Counts> {
        self.check_unlocked()?;
        let mut counts = Counts::default();
        for metric in &self.table.metrics {
            match metric.kind {
                MetricKind::Gauge => {}
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
    use crate::schema::types::Member;

    fn declaration(members: Vec<(&str, usize, Arc<Type>)>) -> Declaration {
        let members = members.into_iter().map(|(name, offset, ty)| Member {
            name: name.to_owned(),
            place: Place::whole(ty).shifted(offset * 8),
            tags: Tags::default(),
        });
        let value = Arc::new(Type {
            name: "struct value".to_owned(),
            size: 64,
            kind: Kind::Struct(members.collect()),
        });
        let facts = MapFacts {
            key_size: 4,
            value_size: 64,
            ..MapFacts::default()
        };
        let none = (String::new(), Tags::default());
        Declaration::new(&facts, none.0, none.1, None, Some(value))
    }

    fn ty(name: &str, size: usize, kind: Kind) -> Arc<Type> {
        Arc::new(Type {
            name: name.to_owned(),
            size,
            kind,
        })
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
        let declaration = Declaration::new(&facts, String::new(), Tags::default(), None, None);
        assert_eq!(declaration.table.cells(), 0);
        let [id] = &declaration.table.details[..] else {
            panic!("{:?}", declaration.table);
        };
        let bytes = 123_456u32.to_ne_bytes();
        assert_eq!(id.place.decode(&bytes).to_string(), "123456");
        let mut parsed = [0; 4];
        declaration
            .parse_value(
                "123456",
                LeftOut::Refused,
                &crate::schema::decode::Plain,
                &mut parsed,
            )
            .unwrap();
        assert_eq!(parsed, bytes);
    }

    fn array(element: Arc<Type>, len: usize) -> Arc<Type> {
        let size = element.size.saturating_mul(len);
        ty("", size, Kind::Array { element, len })
    }

    #[test]
    fn what_is_two_things_at_once_is_no_count() {
        let [byte, word] = [1, 8].map(Type::unsigned);
        let either = [("words", array(word.clone(), 2)), ("bytes", array(byte, 4))];
        let either = either.map(|(name, ty)| Member {
            name: name.to_owned(),
            place: Place::whole(ty),
            tags: Tags::default(),
        });
        let either = ty("", 16, Kind::Union(either.into()));
        let counts = declaration(vec![
            ("calls", 0, word.clone()),
            ("", 8, either),
            ("long", 24, array(word, 3)),
            ("odd", 49, Type::unsigned(4)),
        ]);
        let counts = counts.counts().unwrap();
        let at = |offset| Number { offset, width: 8 };
        assert_eq!(counts.numbers, [0, 24, 32, 40].map(at));
        assert_eq!(counts.left, ["odd", "words", "bytes"]);
    }

    #[test]
    fn a_lock_at_any_depth_forbids_changes_in_place() {
        let lock = ty("struct bpf_spin_lock", 4, Kind::Struct(Vec::new()));
        let locked = declaration(vec![("n", 8, Type::unsigned(8)), ("l", 0, array(lock, 1))]);
        for error in [locked.counts().err(), locked.number(None).err()] {
            assert!(error.unwrap().to_string().contains("bpf_spin_lock"));
        }
    }

    /// Hostile BTF may claim so.
    #[test]
    fn elements_without_bytes_are_not_counted() {
        let nothing = ty("", 0, Kind::Struct(Vec::new()));
        let endless = ty(
            "",
            8,
            Kind::Array {
                element: nothing,
                len: usize::MAX,
            },
        );
        let error = declaration(vec![("endless", 0, endless)]).counts();
        assert!(error.unwrap_err().to_string().contains("nothing"));
    }
}
