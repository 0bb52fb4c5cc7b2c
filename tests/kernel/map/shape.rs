//! C types at random, and what two programs make of their bytes.

use std::fmt::Write;

use serde_json::{Map as Object, Value as Json};

/// Numbers that look random; the same from the same seed.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Below `sides`.
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 33) as usize) % sides
    }

    /// Bytes of all kinds: any, small ones, letters, and runs of zeroes.
    pub(super) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let run = 1 + self.roll(8);
            let kind = self.roll(5);
            bytes.extend((0..run).map(|_| match kind {
                0 => 0,
                1 => self.roll(4) as u8,
                2 => 0xff,
                3 => b'a' + self.roll(26) as u8,
                _ => self.roll(256) as u8,
            }));
        }
        bytes.truncate(len);
        bytes
    }
}

/// A C type that bpftool can show as well: no floats.
#[derive(Debug)]
pub(super) enum Shape {
    /// Of this size in bytes.
    Int {
        size: usize,
        signed: bool,
    },
    Char,
    Bool,
    Pointer,
    /// Names and their values.
    Enum(Vec<(String, i64)>),
    /// `char` arrays.
    Text(usize),
    Array(Box<Shape>, usize),
    /// A struct, or a union; members without a name are structs and unions.
    Members {
        is_union: bool,
        members: Vec<Member>,
    },
}

#[derive(Debug)]
pub(super) struct Member {
    name: String,
    shape: Shape,
    bits: Option<usize>,
}

/// Makes shapes, with names that no other has.
pub(super) struct Shapes<'d> {
    pub(super) dice: &'d mut Dice,
    names: usize,
}

impl<'d> Shapes<'d> {
    pub(super) fn new(dice: &'d mut Dice) -> Self {
        Self { dice, names: 0 }
    }

    /// With names from this number on.
    pub(super) fn after(self, names: usize) -> Self {
        Self { names, ..self }
    }

    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    /// Any, no deeper than this.
    pub(super) fn any(&mut self, depth: usize) -> Shape {
        match self.dice.roll(if depth == 0 { 9 } else { 14 }) {
            0..=3 => self.int(),
            4 => Shape::Char,
            5 => Shape::Bool,
            6 => Shape::Pointer,
            7 => self.enumeration(),
            8 => Shape::Text(1 + self.dice.roll(20)),
            9 | 10 => {
                let len = 1 + self.dice.roll(4);
                match self.any(depth - 1) {
                    Shape::Char => Shape::Text(len),
                    element => Shape::Array(Box::new(element), len),
                }
            }
            11 => self.members(depth, true),
            _ => self.members(depth, false),
        }
    }

    fn int(&mut self) -> Shape {
        let size = [1, 2, 4, 8, 4, 8, 16][self.dice.roll(7)];
        let signed = self.dice.roll(2) == 0;
        Shape::Int { size, signed }
    }

    fn enumeration(&mut self) -> Shape {
        let count = 1 + self.dice.roll(4);
        let mut value = self.dice.roll(5) as i64 - 3;
        let mut variants = Vec::new();
        for _ in 0..count {
            variants.push((self.name("NAME"), value));
            value += 1 + self.dice.roll(100) as i64;
        }
        Shape::Enum(variants)
    }

    /// A struct or union.
    pub(super) fn members(&mut self, depth: usize, is_union: bool) -> Shape {
        let mut members = Vec::new();
        // bpftool calls each of them "", and JSON has one member of a name.
        let mut has_anonymous = false;
        for _ in 0..1 + self.dice.roll(5) {
            let (shape, bits) = match self.dice.roll(4) {
                0 => {
                    let size = [1, 2, 4, 8][self.dice.roll(4)];
                    let signed = self.dice.roll(2) == 0;
                    (
                        Shape::Int { size, signed },
                        Some(1 + self.dice.roll(8 * size)),
                    )
                }
                _ => (self.any(depth - 1), None),
            };
            let is_anonymous =
                matches!(shape, Shape::Members { .. }) && !has_anonymous && self.dice.roll(3) == 0;
            has_anonymous |= is_anonymous;
            let name = if is_anonymous {
                String::new()
            } else {
                self.name("m")
            };
            members.push(Member { name, shape, bits });
        }
        Shape::Members { is_union, members }
    }
}

impl Shape {
    /// As C declares something of this name.
    pub(super) fn declare(&self, name: &str) -> String {
        match self {
            Self::Int { size: 16, signed } => {
                format!(
                    "{} __int128 {name}",
                    if *signed { "signed" } else { "unsigned" }
                )
            }
            Self::Int { size, signed } => {
                format!("__{}{} {name}", if *signed { 's' } else { 'u' }, size * 8)
            }
            Self::Char => format!("char {name}"),
            Self::Bool => format!("bool {name}"),
            Self::Pointer => format!("void *{name}"),
            Self::Text(len) => format!("char {name}[{len}]"),
            Self::Array(element, len) => element.declare(&format!("{name}[{len}]")),
            Self::Enum(variants) => {
                let names = variants
                    .iter()
                    .map(|(name, value)| format!("{name} = {value}"));
                format!("enum {{ {} }} {name}", names.collect::<Vec<_>>().join(", "))
            }
            Self::Members { is_union, members } => {
                let mut text = (if *is_union { "union {\n" } else { "struct {\n" }).to_owned();
                for member in members {
                    let declared = member.shape.declare(&member.name);
                    match member.bits {
                        Some(bits) => writeln!(text, "{declared} : {bits};").unwrap(),
                        None => writeln!(text, "{declared};").unwrap(),
                    }
                }
                text + "} " + name
            }
        }
    }

    /// Whether bpftool's JSON and ours say the same. What differs by intention:
    ///
    /// - characters and enums are signed there; so are compared as their bits;
    /// - bitfields are unsigned there;
    /// - 128-bit numbers are hex in quotes there, and numbers here;
    /// - a `char` array is text there only where all of it is printable and it
    ///   ends in a NUL, and numbers otherwise; here it is always text;
    /// - anonymous members are members called "" there; here they are those of
    ///   the struct that they are in.
    pub(super) fn same(&self, theirs: &Json, ours: &Json) -> Result<(), String> {
        let agree = match self {
            Self::Bool => theirs == ours,
            Self::Int { size, .. } => bits(theirs, 8 * size) == bits(ours, 8 * size),
            Self::Char => bits(theirs, 8) == bits(ours, 8),
            Self::Pointer => bits(theirs, 64) == bits(ours, 64),
            Self::Enum(variants) => {
                let number = |json: &Json| match json.as_str() {
                    Some(name) => {
                        let known = variants.iter().find(|(known, _)| known == name);
                        known.map(|(_, value)| u128::from(*value as u32))
                    }
                    None => bits(json, 32),
                };
                number(theirs) == number(ours) && ours.is_string() == theirs.is_string()
            }
            Self::Text(_) => text(theirs).as_deref() == ours.as_str(),
            Self::Array(element, len) => return list(element, *len, theirs, ours),
            Self::Members { members, .. } => return fields(members, theirs, ours),
        };
        match agree {
            true => Ok(()),
            false => Err(format!("{self:?}: they say {theirs}, we say {ours}")),
        }
    }
}

/// The low bits of a number, in quotes or not; `None` for all else.
fn bits(json: &Json, width: usize) -> Option<u128> {
    let text = match json {
        Json::Number(number) => number.to_string(),
        Json::String(text) => text.clone(),
        _ => return None,
    };
    let number = match text.strip_prefix("0x") {
        Some(hex) => u128::from_str_radix(hex, 16).ok()?,
        None => match text.parse::<i128>() {
            Ok(number) => number as u128,
            Err(_) => text.parse().ok()?,
        },
    };
    Some(match width {
        128 => number,
        _ => number & ((1 << width) - 1),
    })
}

fn text(json: &Json) -> Option<String> {
    match json {
        Json::String(text) => Some(escaped(text.as_bytes())),
        Json::Array(bytes) => {
            let bytes: Option<Vec<u8>> = bytes
                .iter()
                .map(|byte| Some(bits(byte, 8)? as u8))
                .collect();
            let bytes = bytes?;
            let end = bytes
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(bytes.len());
            Some(escaped(&bytes[..end]))
        }
        _ => None,
    }
}

/// As it can be typed: what is not UTF-8, and what would be read as an escape.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid();
        for (i, c) in valid.char_indices() {
            match c {
                '\\' if valid[i + 1..].starts_with(['x', 'u', 'n', 'r', 't']) => text += "\\x5c",
                _ => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            text += &format!("\\x{byte:02x}");
        }
    }
    text
}

fn list(element: &Shape, len: usize, theirs: &Json, ours: &Json) -> Result<(), String> {
    let (Json::Array(theirs), Json::Array(ours)) = (theirs, ours) else {
        return Err(format!("they say {theirs}, we say {ours}: no lists"));
    };
    if (theirs.len(), ours.len()) != (len, len) {
        return Err(format!(
            "{} and {} elements of {len}",
            theirs.len(),
            ours.len()
        ));
    }
    theirs
        .iter()
        .zip(ours)
        .try_for_each(|(theirs, ours)| element.same(theirs, ours))
}

fn fields(members: &[Member], theirs: &Json, ours: &Json) -> Result<(), String> {
    let (Json::Object(theirs), Json::Object(ours)) = (theirs, ours) else {
        return Err(format!("they say {theirs}, we say {ours}: no objects"));
    };
    let mut names = Vec::new();
    all_names(members, &mut names);
    // In the order of the declaration, and nothing else.
    if !ours.keys().eq(&names) {
        return Err(format!("we say {ours:?}, where {names:?} are declared"));
    }
    for Member {
        name,
        shape,
        bits: width,
    } in members
    {
        let found = |object: &Object<String, Json>| object.get(name).cloned();
        let theirs = found(theirs).ok_or_else(|| format!("they have no `{name}`"))?;
        let ours = match name.is_empty() {
            true => Json::Object(ours.clone()),
            false => found(ours).ok_or_else(|| format!("we have no `{name}`"))?,
        };
        let said = match (width, name.is_empty(), shape) {
            (Some(width), ..) if bits(&theirs, *width) == bits(&ours, *width) => Ok(()),
            (Some(width), ..) => Err(format!("{width} bits: they say {theirs}, we say {ours}")),
            (None, true, Shape::Members { members, .. }) => inner(members, &theirs, &ours),
            _ => shape.same(&theirs, &ours),
        };
        said.map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

/// Of an anonymous member: our object has other members, too.
fn inner(members: &[Member], theirs: &Json, ours: &Json) -> Result<(), String> {
    let mut names = Vec::new();
    all_names(members, &mut names);
    let mut own = ours.clone();
    if let Json::Object(own) = &mut own {
        own.retain(|name, _| names.contains(&name.as_str()));
    }
    fields(members, theirs, &own)
}

fn all_names<'m>(members: &'m [Member], names: &mut Vec<&'m str>) {
    for member in members {
        match (&member.shape, member.name.as_str()) {
            (Shape::Members { members, .. }, "") => all_names(members, names),
            (_, name) => names.push(name),
        }
    }
}
