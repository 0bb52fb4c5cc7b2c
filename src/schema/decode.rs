//! Bytes to values, by type. Total: every run of bytes has a value, and what lies
//! past its end is no bytes.

use std::borrow::Cow;
use std::convert::Infallible;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::histogram::{Histogram, Scale};
use super::label::Label;
use super::metric::least;
use super::tags::{Decoder, Tags};
use super::types::{Kind, Member, Place, Type, number};
use super::value::Value;

/// Names for numbers, as the `AS(...)` of a place asks for.
pub trait Names {
    /// The name of the number or text at this place; `None` leaves it to its type.
    fn name<'a>(&self, decoder: &Decoder, place: &Place, bytes: &'a [u8]) -> Option<Value<'a>>;

    /// The number that a decoder shows as this name; `None` for a decoder that
    /// shows numbers, and for text that is itself a number.
    fn number(&self, decoder: &Decoder, name: &str) -> anyhow::Result<Option<i128>>;

    /// Whether hidden members are left out.
    fn hides(&self) -> bool {
        true
    }

    /// Whether rows that show the same here are one row, however their bytes
    /// differ: stacks differ by addresses, where people see functions.
    fn joins(&self, _label: &Label) -> bool {
        false
    }

    /// Whether something may get a name later that nothing has now.
    fn comes_and_goes(&self, _label: &Label) -> bool {
        false
    }

    /// What a row of this key is called in the label's column.
    fn of<'a>(&self, label: &'a Label, key: &'a [u8]) -> Value<'a> {
        let name = label.decoder.as_ref();
        name.and_then(|decoder| self.name(decoder, &label.place, key))
            .unwrap_or_else(|| label.place.decode(key))
    }

    /// The same for people: a process with its name, what runs in a cgroup.
    fn described<'a>(&self, label: &'a Label, key: &'a [u8]) -> Value<'a> {
        self.of(label, key)
    }

    /// A whole key or value: by names where it, or a member, has a decoder.
    /// Hidden members are left out.
    fn whole<'a>(&self, place: &'a Place, tags: &Tags, bytes: &'a [u8]) -> Value<'a> {
        named(place, tags, bytes, self)
    }
}

/// Has no names: numbers stay numbers, and nothing is hidden.
pub(crate) struct Plain;

impl Names for Plain {
    fn name<'a>(&self, _: &Decoder, _: &Place, _: &'a [u8]) -> Option<Value<'a>> {
        None
    }

    fn number(&self, _: &Decoder, _: &str) -> anyhow::Result<Option<i128>> {
        Ok(None)
    }

    fn hides(&self) -> bool {
        false
    }
}

impl Place {
    /// The value at this place. What lies past the end decodes as no bytes.
    pub fn decode<'a>(&'a self, bytes: &'a [u8]) -> Value<'a> {
        self.decode_with(bytes, &Plain)
    }

    /// The members of the struct or union at this place, and its bytes; `None`
    /// where there is something else.
    fn inside<'a>(&'a self, bytes: &'a [u8]) -> Option<(&'a [Member], &'a [u8])> {
        match &self.ty.kind {
            Kind::Struct(_) if Scale::of(&self.ty).is_some() => None,
            Kind::Struct(members) | Kind::Union(members) if self.bits.is_none() => {
                Some((members, self.bytes(bytes)?))
            }
            _ => None,
        }
    }

    fn decode_with<'a>(&'a self, bytes: &'a [u8], names: &(impl Names + ?Sized)) -> Value<'a> {
        let value = match self.bits {
            Some(bits) => self
                .raw(bytes)
                .map(|raw| scalar(&self.ty, raw, bits.into())),
            None => self.bytes(bytes).map(|bytes| whole(&self.ty, bytes, names)),
        };
        value.unwrap_or(Value::Bytes(Cow::Borrowed(&[])))
    }
}

/// What is at a place, by names where its tags, or those of its members, have a
/// decoder.
fn named<'a>(
    place: &'a Place,
    tags: &Tags,
    bytes: &'a [u8],
    names: &(impl Names + ?Sized),
) -> Value<'a> {
    if tags.minimum.is_some() {
        return least(place, bytes);
    }
    tags.decoder
        .as_ref()
        .and_then(|decoder| names.name(decoder, place, bytes))
        .unwrap_or_else(|| place.decode_with(bytes, names))
}

/// The same as [`named`], decoded as it is serialized: what a million entries
/// have in their structs never stands in memory.
pub struct Streamed<'a> {
    /// Of the whole.
    pub place: &'a Place,
    /// Of the place.
    pub tags: &'a Tags,
    /// In which the place is.
    pub bytes: &'a [u8],
    /// For what has a decoder.
    pub names: &'a dyn Names,
}

impl Serialize for Streamed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self {
            place, tags, bytes, ..
        } = *self;
        match place.inside(bytes) {
            Some((members, bytes)) if tags.decoder.is_none() => {
                let (mut map, names) = (serializer.serialize_map(None)?, self.names);
                each_member(members, bytes, names, &mut |member, bytes| {
                    let (place, tags) = (&member.place, &member.tags);
                    let value = Streamed {
                        place,
                        tags,
                        bytes,
                        names,
                    };
                    map.serialize_entry(&member.name, &value)
                })?;
                map.end()
            }
            _ => named(place, tags, bytes, self.names).serialize(serializer),
        }
    }
}

fn whole<'a>(ty: &'a Type, bytes: &'a [u8], names: &(impl Names + ?Sized)) -> Value<'a> {
    match &ty.kind {
        Kind::Array { .. } | Kind::Struct(_) if Scale::of(ty).is_some() => {
            Value::Histogram(Box::new(Histogram::of_bytes(ty, bytes)))
        }
        Kind::Array { element, .. } if element.kind == Kind::Char => text(bytes),
        Kind::Array { element, len } => Value::List(
            bytes
                .chunks_exact(element.size.max(1))
                .take(*len)
                .map(|bytes| whole(element, bytes, names))
                .collect(),
        ),
        Kind::Struct(members) | Kind::Union(members) => {
            let mut fields = Vec::with_capacity(members.len());
            let Ok(()) = each_member(members, bytes, names, &mut |member, bytes| {
                let value = named(&member.place, &member.tags, bytes, names);
                fields.push((member.name.as_str(), value));
                Ok::<_, Infallible>(())
            });
            Value::Fields(fields)
        }
        Kind::Float => match *bytes {
            [a, b, c, d] => Value::Float(f32::from_ne_bytes([a, b, c, d]).into()),
            [a, b, c, d, e, f, g, h] => Value::Float(f64::from_ne_bytes([a, b, c, d, e, f, g, h])),
            _ => Value::Bytes(bytes.into()),
        },
        Kind::Opaque => Value::Bytes(bytes.into()),
        _ => match number(bytes) {
            Some(raw) => scalar(ty, raw, bytes.len() * 8),
            None => Value::Bytes(bytes.into()),
        },
    }
}

/// The members that are shown, each with the bytes that it is in. Those of
/// anonymous structs and unions stand among their parent's; an anonymous bitfield
/// is padding.
fn each_member<'a, E>(
    members: &'a [Member],
    bytes: &'a [u8],
    names: &(impl Names + ?Sized),
    each: &mut impl FnMut(&'a Member, &'a [u8]) -> Result<(), E>,
) -> Result<(), E> {
    for member in members {
        if member.is_hidden() && names.hides() {
            continue;
        }
        if !member.name.is_empty() {
            each(member, bytes)?;
        } else if let Some((inner, bytes)) = member.place.inside(bytes) {
            each_member(inner, bytes, names, each)?;
        }
    }
    Ok(())
}

/// A number of `bits` bits as its type would have it.
fn scalar(ty: &Type, raw: u128, bits: usize) -> Value<'_> {
    let signed = || {
        let unused = 128 - bits.clamp(1, 128);
        ((raw << unused) as i128) >> unused
    };
    match &ty.kind {
        Kind::Bool => Value::Bool(raw != 0),
        Kind::Int { signed: true } => Value::Int(signed()),
        Kind::Enum {
            signed: is_signed,
            variants,
        } => {
            let number = if *is_signed { signed() } else { raw as i128 };
            match variants.iter().find(|variant| variant.value == number) {
                Some(variant) => Value::Text(Cow::Borrowed(&variant.name)),
                None => Value::Int(number),
            }
        }
        _ => Value::Uint(raw),
    }
}

/// Up to the first NUL. A byte that is not UTF-8 is `\xff`, and a backslash that
/// would be read as the start of an escape is `\x5c`: what is shown can be typed,
/// and different bytes look different.
pub(crate) fn text(bytes: &[u8]) -> Value<'_> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let bytes = &bytes[..end];
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.contains('\\')
    {
        return Value::Text(Cow::Borrowed(text));
    }
    let mut shown = String::new();
    for chunk in bytes.utf8_chunks() {
        let mut chars = chunk.valid().chars().peekable();
        while let Some(c) = chars.next() {
            match (c, chars.peek()) {
                ('\\', Some('x' | 'u' | 'n' | 'r' | 't')) => shown.push_str("\\x5c"),
                _ => shown.push(c),
            }
        }
        let invalid = chunk.invalid().iter();
        shown.extend(invalid.map(|byte| format!("\\x{byte:02x}")));
    }
    Value::Text(shown.into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::schema::Variant;
    use crate::schema::testing::{self, bitfield, int, member, structure, union};

    /// Each type with bytes of it, and the JSON that they are shown as.
    fn check<const N: usize>(cases: [(Arc<Type>, &[u8], &str); N]) {
        for (ty, bytes, json) in cases {
            let place = Place::whole(ty);
            let shown = serde_json::to_string(&place.decode(bytes)).unwrap();
            assert_eq!(shown, json, "{place:?}");
        }
    }

    #[test]
    fn integers_of_every_size_and_sign() {
        for size in [1, 2, 4, 8, 16] {
            let most = u128::MAX >> (128 - size * 8);
            check([
                (int(size, false), &vec![0xff; size], &most.to_string()),
                (int(size, true), &vec![0xff; size], "-1"),
            ]);
        }
        let pointer = Type::new("void *", 8, Kind::Pointer);
        check([
            (pointer, &[1, 0, 0, 0, 0, 0, 0, 0], "1"),
            (int(3, true), &[0xff; 3], "-1"),
        ]);
    }

    #[test]
    fn bools_floats_and_text() {
        let float = |size| Type::new("float", size, Kind::Float);
        let hex = format!("\"hex:{}\"", "ab".repeat(16));
        check([
            (Type::new("bool", 1, Kind::Bool), &[2], "true"),
            (float(8), &1.5f64.to_ne_bytes(), "1.5"),
            (float(4), &0.25f32.to_ne_bytes(), "0.25"),
            (float(8), &f64::NAN.to_ne_bytes(), "\"NaN\""),
            (float(16), &[0xab; 16], &hex),
            (testing::text(4), b"sh\0x", "\"sh\""),
            (testing::text(4), b"full", "\"full\""),
            (testing::text(4), b"\xff\n\0\0", r#""\\xff\n""#),
        ]);
    }

    #[test]
    fn enums_show_names_and_unknown_numbers() {
        let variants = [("LOW", -1), ("HIGH", i64::MAX.into())];
        let variants = variants.map(|(name, value)| Variant {
            name: name.to_owned(),
            value,
        });
        let kind = Kind::Enum {
            signed: true,
            variants: variants.into(),
        };
        let state = Type::new("enum state", 8, kind);
        check([
            (state.clone(), &(-1i64).to_ne_bytes(), "\"LOW\""),
            (state.clone(), &i64::MAX.to_ne_bytes(), "\"HIGH\""),
            (state, &7i64.to_ne_bytes(), "7"),
        ]);
    }

    #[test]
    fn structs_unions_bitfields_and_arrays() {
        let (byte, word, signed) = (int(1, false), int(4, false), int(4, true));
        let either = union(4, vec![member("word", 0, &signed), member("low", 0, &byte)]);
        let members = vec![
            bitfield("a", 0, 3, &signed),
            bitfield("", 3, 5, &signed),
            bitfield("b", 8, 9, &word),
            member("", 4, &either),
        ];
        let pairs = Type::array(Type::array(byte, 2), 2);
        assert_eq!(
            Place::whole(pairs.clone())
                .decode(&[1, 2, 3, 4])
                .to_string(),
            "[[1,2],[3,4]]"
        );
        check([
            (
                structure(8, members),
                &[0b111, 0xff, 1, 0, 0xfe, 0xff, 0xff, 0xff],
                r#"{"a":-1,"b":511,"word":-2,"low":254}"#,
            ),
            (pairs, &[1, 2, 3, 4], "[[1,2],[3,4]]"),
        ]);
    }

    /// What hostile BTF may claim: members past the end, arrays of nothing.
    #[test]
    fn nonsense_types_do_not_panic() {
        let (word, nothing) = (int(4, false), structure(0, vec![]));
        let zeros = Type::array(nothing.clone(), usize::MAX);
        let members = vec![
            member("past", 1, &word),
            bitfield("far", usize::MAX / 2, None, &word),
            bitfield("wide", 0, 255, &word),
            bitfield("none", 0, 0, &nothing),
            member("zeros", 0, &zeros),
        ];
        check([
            (
                structure(2, members),
                &[0; 2],
                r#"{"past":"hex:","far":"hex:","wide":"hex:","none":"hex:","zeros":[]}"#,
            ),
            (
                int(33, true),
                &[1; 33],
                &format!("\"hex:{}\"", "01".repeat(33)),
            ),
            (int(0, true), &[], "\"hex:\""),
            (word, &[0; 3], "\"hex:\""),
        ]);
    }
}
