//! What a live map's bytes mean: its full name, its types and its tags, as far
//! as its BTF tells.

use std::sync::Arc;

use super::table::Table;
use super::tags::Tags;
use super::types::{Place, Type};

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
