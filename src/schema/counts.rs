//! The numbers of a value that BPF programs can change in place.

use anyhow::{Result, bail};

use super::types::{Kind, Member, Place, Type, number};

/// A whole number inside of a value that BPF programs can add to and exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    /// From the start of the value, in bytes: a multiple of the width.
    pub offset: usize,
    /// In bytes: 4 or 8.
    pub width: usize,
    /// Whether two of them are the greater one, rather than their sum.
    pub is_maximum: bool,
}

impl Number {
    /// At a place of an integer. An error says why programs cannot: BPF has
    /// atomic operations of 4 and 8 bytes alone.
    pub(crate) fn at(name: &str, place: &Place) -> Result<Self> {
        let (offset, width) = (place.bit_offset / 8, place.ty.size);
        let is_integer = place.ty.is_scalar() && place.bits.is_none();
        if !is_integer || !matches!(width, 4 | 8) || !offset.is_multiple_of(width) {
            bail!(
                "`{name}` is not an aligned integer of 4 or 8 bytes, and BPF can change no other number atomically"
            );
        }
        let is_maximum = false;
        Ok(Self {
            offset,
            width,
            is_maximum,
        })
    }

    pub(crate) fn of(self, value: &[u8]) -> u64 {
        let bytes = value.get(self.offset..self.offset + self.width);
        bytes.and_then(number).unwrap_or(0) as u64
    }

    pub(crate) fn add_to(self, value: &mut [u8], more: u64) {
        let sum = match self.is_maximum {
            true => self.of(value).max(more),
            false => self.of(value).wrapping_add(more),
        };
        let sum = sum.to_le_bytes();
        if let Some(bytes) = value.get_mut(self.offset..self.offset + self.width) {
            bytes.copy_from_slice(&sum[..self.width]);
        }
    }
}

/// What can be taken out of a value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counts {
    /// All of them.
    pub numbers: Vec<Number>,
    /// The names of what looks like one, and is left alone.
    pub(crate) left: Vec<String>,
}

impl Counts {
    /// A number of which only the greatest is kept.
    pub(super) fn add_maximum(&mut self, name: &str, place: &Place) {
        match Number::at(name, place) {
            Ok(number) => self.numbers.push(Number {
                is_maximum: true,
                ..number
            }),
            Err(_) => self.left.push(name.to_owned()),
        }
    }

    /// All of it, or nothing.
    pub(super) fn add(&mut self, name: &str, words: Vec<Place>) {
        let numbers = words.iter().map(|place| Number::at(name, place));
        match numbers.collect::<Result<Vec<_>>>() {
            Ok(numbers) => self.numbers.extend(numbers),
            Err(_) => self.left.push(name.to_owned()),
        }
    }
}

/// What these are not.
pub(crate) fn no_counts(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    format!(
        "{} (only aligned integers of 4 or 8 bytes, outside of unions, can be taken atomically)",
        names.join(", ")
    )
}

/// The numbers of a type that has several, and of bytes without a type.
pub(super) fn words(place: &Place) -> Vec<Place> {
    let split = |width: usize| {
        let word = Type::unsigned(width);
        let places = (0..place.ty.size / width).map(|i| place.element(&word, i));
        places.collect()
    };
    match &place.ty.kind {
        Kind::Int { .. } => vec![place.clone()],
        Kind::Opaque if place.ty.size.is_multiple_of(8) => split(8),
        Kind::Opaque if place.ty.size.is_multiple_of(4) => split(4),
        Kind::Opaque => vec![place.clone()],
        Kind::Array { element, len } => {
            // Whatever hostile BTF says of its length.
            let most = place.ty.size.checked_div(element.size).unwrap_or(0);
            let elements = (0..most.min(*len)).map(|i| place.element(element, i));
            elements.flat_map(|element| words(&element)).collect()
        }
        Kind::Struct(members) => {
            let is_count = |member: &&Member| {
                !member.is_hidden() && member.tags.gauge.is_none() && member.tags.decoder.is_none()
            };
            let members = members.iter().filter(is_count);
            let places = members.map(|member| member.place.shifted(place.bit_offset));
            places.flat_map(|place| words(&place)).collect()
        }
        _ => Vec::new(),
    }
}
