//! A column that names what a row is about.

use super::tags::{Decoder, Tags};
use super::types::Place;

/// A column that names what a row is about: part of the key.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// The member's name; of a nested one, `outer.inner`.
    pub name: String,
    /// Where it is in the key.
    pub place: Place,
    /// How it is shown; by its type if this is `None`.
    pub decoder: Option<Decoder>,
    /// The option without which it says nothing.
    pub with: Option<String>,
    /// `IDLE(...)`: the values of rows that come last, unless they are sorted.
    pub idle: Vec<String>,
}

impl Label {
    pub(super) fn new(name: String, place: Place, tags: &Tags) -> Self {
        Self {
            name,
            place,
            decoder: tags.decoder.clone(),
            with: tags.with.clone(),
            idle: tags.idle.clone(),
        }
    }

    /// Whether it shows a stack: frames with `;` between them, root first.
    pub(crate) fn is_stack(&self) -> bool {
        let decoder = self.decoder.as_ref();
        decoder.is_some_and(|it| [Decoder::KSTACK, Decoder::USTACK].contains(it))
    }

    /// Whether it shows the address of a host.
    pub(crate) fn is_address(&self) -> bool {
        let decoder = self.decoder.as_ref().map(Decoder::tag);
        decoder.is_some_and(|tag| ["ip", "ipv4", "ipv6"].contains(&tag))
    }
}
