//! What has no types in BTF: the records of tracepoints, as tracefs describes them, and
//! registers.

use anyhow::Result;

use super::expression::{Expression, Step, Word};
use super::field::{Base, Field, Read, Stored, TEXT};
use super::members::decoder_of_name;
use super::resolve::{has_elements, past_end};
use crate::error::usage;

/// What an expression that begins with such a field leads to: that, or an element of it.
pub(super) fn resolve_field(
    field: Field,
    expression: &Expression,
    decoder: Option<&str>,
) -> Result<Field> {
    let (text, name) = (&expression.text, &field.name);
    let fault = match (&expression.steps[..], &field.elements) {
        ([], Some((len, first))) if first.size > 1 && decoder.is_none() => {
            has_elements(name, &field.c_type, *len)
        }
        ([], _) => return Ok(shown_as(field, decoder)),
        ([Step::Element(index, _)], Some((len, first))) if index < len => {
            let mut element = Field::clone(first);
            element.name.clone_from(text);
            let offsets = element.offsets.iter_mut();
            offsets.for_each(|offset| *offset += (first.size * index) as u32);
            return Ok(shown_as(element, decoder));
        }
        ([Step::Element(index, at), ..], Some((len, _))) if index >= len => {
            past_end(name, *len, *at)
        }
        (
            [
                Step::Element(..),
                Step::Member(Word { at, .. }) | Step::Element(_, at),
                ..,
            ],
            Some(_),
        )
        | ([Step::Member(Word { at, .. }) | Step::Element(_, at), ..], _) => {
            format!("`{name}` has no members, at position {at}")
        }
    };
    Err(usage(format!("`{text}`: {fault}")))
}

/// A register may have the address of a text.
fn shown_as(mut field: Field, decoder: Option<&str>) -> Field {
    let is_word = field.read == Read::Word;
    if decoder == Some("text") && (is_word || field.read == Read::Number) {
        if !is_word {
            field.offsets.push(0);
        }
        return Field {
            read: Read::String,
            stored: Stored::Text(TEXT),
            decoder: None,
            ..field
        };
    }
    let decoder = decoder.map(str::to_owned).or(field.decoder);
    Field { decoder, ..field }
}

/// The fields of a `format` of tracefs, without those that all records have.
pub(crate) fn fields(format: &str) -> Vec<Field> {
    let lines = format.lines().map(str::trim);
    let lines = lines.filter_map(|line| line.strip_prefix("field:"));
    lines.filter_map(field).collect()
}

/// `unsigned short common_type; offset:0; size:2; signed:0;`
fn field(line: &str) -> Option<Field> {
    let mut parts = line.split(';').map(str::trim);
    let declaration = parts.next()?;
    let number = |part: Option<&str>, what: &str| part?.strip_prefix(what)?.parse().ok();
    let offset: u32 = number(parts.next(), "offset:")?;
    let size = number(parts.next(), "size:")? as usize;
    let signed = number(parts.next(), "signed:") == Some(1);
    let (ty, name) = declaration.rsplit_once(' ')?;
    let (name, len) = match name.split_once('[') {
        Some((name, len)) => (name, Some(len.trim_end_matches(']'))),
        None => (name, None),
    };
    if name.starts_with("common_") {
        return None;
    }
    let whole = |read, stored, offsets: &[u32]| Field {
        read,
        stored,
        offsets: offsets.to_vec(),
        size,
        decoder: None,
        c_type: match len {
            Some(len) => format!("{ty}[{len}]"),
            None => ty.to_owned(),
        },
        ..Field::of_base(name, Base::Context, 8, "")
    };
    let text = Stored::Text(size.clamp(1, TEXT));
    Some(match len {
        _ if ty.starts_with("__data_loc char") => {
            whole(Read::RecordString, Stored::Text(TEXT), &[offset])
        }
        // Elsewhere in the record, as many as there are.
        _ if ty.contains("_loc ") => return None,
        _ if ty.contains("char") && ty.contains('*') => {
            whole(Read::String, Stored::Text(TEXT), &[offset, 0])
        }
        Some(_) if ty == "char" => whole(Read::String, text, &[offset]),
        Some(len) => {
            let bytes = Stored::Bytes(size.clamp(1, TEXT));
            let len = len.parse().ok().filter(|len| *len > 0);
            let first = len.and_then(|len| number_of(name, ty, offset, size / len, signed));
            Field {
                elements: len.zip(first.map(Box::new)),
                ..whole(Read::Bytes, bytes, &[offset])
            }
        }
        None => number_of(name, ty, offset, size, signed)?,
    })
}

fn number_of(name: &str, ty: &str, offset: u32, size: usize, signed: bool) -> Option<Field> {
    if !matches!(size, 1 | 2 | 4 | 8) {
        return None;
    }
    Some(Field {
        read: Read::Number,
        stored: Stored::number(size, signed),
        offsets: vec![offset],
        size,
        bits: if signed && size < 8 {
            8 * size as u8
        } else {
            0
        },
        decoder: decoder(ty),
        c_type: ty.to_owned(),
        ..Field::of_base(name, Base::Context, 8, "")
    })
}

fn decoder(ty: &str) -> Option<String> {
    let decoder = match ty {
        "bool" => "bool",
        _ if ty.contains('*') => "hex",
        _ => decoder_of_name(ty)?,
    };
    Some(decoder.to_owned())
}
