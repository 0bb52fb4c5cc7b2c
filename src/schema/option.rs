//! The options of a tally.

use super::tags::Decoder;
use super::types::{Kind, Place};
use super::unit::Unit;

/// An option: what `OPTION(...)` declared.
#[derive(Debug, Clone, PartialEq)]
pub struct OptionSpec {
    /// The variable's name in C; `--name` with dashes on the command line.
    pub name: String,
    /// One line.
    pub help: String,
    /// Its place in `.rodata`.
    pub place: Place,
    /// What it counts.
    pub unit: Option<Unit>,
    /// How it is read and shown.
    pub decoder: Option<Decoder>,
    /// `SHORT(letter)`.
    pub short: Option<char>,
    /// The place in `.rodata` of the flag `NAME_given`, if there is one.
    pub given: Option<Place>,
    /// Whether it is a constant without tags, which `--set NAME=VALUE` sets.
    pub is_found: bool,
}

impl OptionSpec {
    /// On the command line, without the dashes before it: `max_depth` is `max-depth`.
    pub fn flag(&self) -> String {
        if self.is_found {
            return format!("set {}", self.name);
        }
        self.name.replace('_', "-")
    }

    /// Whether its type can be given on the command line.
    pub(super) fn is_typed(&self) -> bool {
        let ty = &self.place.ty;
        ty.is_scalar() && ty.kind != Kind::Pointer || ty.is_text()
    }

    /// When what is `WITH` it is there: `with`, and what is typed; of one that is on by
    /// default `not with`.
    pub fn condition(&self, rodata: &[u8]) -> (&'static str, String) {
        match self.is_off(rodata) {
            true => ("with", format!("--{}", self.flag())),
            false => ("not with", format!("--{}=false", self.flag())),
        }
    }

    /// Whether it is false or zero in these contents of `.rodata`.
    pub(crate) fn is_off(&self, rodata: &[u8]) -> bool {
        self.place.raw(rodata) == Some(0)
    }
}
