//! Types of every shape, and bytes for them.

use std::sync::Arc;

use ktally::schema::{Declaration, Kind, MapFacts, Member, Place, Tags, Type, Variant};
use proptest::collection::vec;
use proptest::prelude::*;

/// A type, before its members have names and places.
#[derive(Debug, Clone)]
pub enum Shape {
    Int(usize, bool),
    Char,
    Bool,
    Float(usize),
    Enum(usize, bool, Vec<i64>),
    Pointer,
    Opaque(usize),
    Text(usize),
    Array(Box<Shape>, usize),
    Struct(Vec<Part>),
    Union(Vec<Part>),
}

/// A member: a bitfield of so many of its bits, perhaps, or without a name.
#[derive(Debug, Clone)]
pub struct Part {
    shape: Shape,
    bits: Option<usize>,
    anonymous: bool,
}

fn int() -> impl Strategy<Value = Shape> {
    let size = prop::sample::select(vec![1usize, 2, 4, 8, 16]);
    (size, any::<bool>()).prop_map(|(size, signed)| Shape::Int(size, signed))
}

/// Whose bytes are all in what is printed, whatever they are.
fn exact() -> impl Strategy<Value = Shape> {
    prop_oneof![
        4 => int(),
        1 => Just(Shape::Char),
        1 => Just(Shape::Pointer),
        1 => (1usize..20).prop_map(Shape::Opaque),
    ]
}

fn leaf() -> impl Strategy<Value = Shape> {
    let size = prop::sample::select(vec![1usize, 2, 4, 8]);
    let values = vec(any::<i64>(), 0..4);
    prop_oneof![
        4 => exact(),
        1 => Just(Shape::Bool),
        1 => prop::sample::select(vec![4usize, 8, 16]).prop_map(Shape::Float),
        1 => (size, any::<bool>(), values).prop_map(|(size, signed, values)| Shape::Enum(size, signed, values)),
        2 => (1usize..20).prop_map(Shape::Text),
    ]
}

/// `wide` says what the members of unions may be: they share their bytes, so
/// only [`exact`] ones are all printed in full.
fn nested(leaf: BoxedStrategy<Shape>, with_unions: bool) -> BoxedStrategy<Shape> {
    leaf.prop_recursive(4, 24, 5, move |inner| {
        let part = (
            inner.clone(),
            prop::option::weighted(0.2, 1usize..128),
            prop::bool::weighted(0.2),
        );
        let part = part.prop_map(|(shape, bits, anonymous)| Part {
            shape,
            bits,
            anonymous,
        });
        let array = (inner, 0usize..4).prop_map(|(shape, len)| Shape::Array(Box::new(shape), len));
        let parts = vec(part, 0..5);
        match with_unions {
            true => prop_oneof![
                2 => array,
                3 => parts.clone().prop_map(Shape::Struct),
                1 => parts.prop_map(Shape::Union),
            ]
            .boxed(),
            false => prop_oneof![1 => array, 2 => parts.prop_map(Shape::Struct)].boxed(),
        }
    })
    .boxed()
}

/// Any type.
pub fn any_type() -> impl Strategy<Value = Arc<Type>> {
    nested(leaf().boxed(), true).prop_map(|shape| build(&shape, &mut 0))
}

/// A type, and bytes of it that it says all about: `parse(print(x)) = x`.
pub fn exact_value() -> impl Strategy<Value = (Arc<Type>, Vec<u8>)> {
    let union = vec(exact(), 1..4).prop_map(|shapes| {
        let part = |shape| Part {
            shape,
            bits: None,
            anonymous: false,
        };
        Shape::Union(shapes.into_iter().map(part).collect())
    });
    let leaf = prop_oneof![6 => leaf(), 1 => union].boxed();
    nested(leaf, false).prop_flat_map(|shape| {
        let ty = build(&shape, &mut 0);
        let bytes = vec(any::<u8>(), ty.size);
        bytes.prop_map(move |noise| {
            let mut bytes = vec![0; ty.size];
            fill(&Place::whole(Arc::clone(&ty)), &noise, &mut bytes);
            (Arc::clone(&ty), bytes)
        })
    })
}

/// A type, and any bytes.
pub fn any_value() -> impl Strategy<Value = (Arc<Type>, Vec<u8>)> {
    any_type().prop_flat_map(|ty| {
        let bytes = vec(
            prop_oneof![2 => any::<u8>(), 1 => Just(0), 1 => 32u8..127],
            ty.size,
        );
        (Just(ty), bytes)
    })
}

/// A map of these types.
pub fn declaration(key: &Arc<Type>, value: &Arc<Type>) -> Declaration {
    let mut facts = MapFacts::default();
    (facts.key_size, facts.value_size) = (key.size, value.size);
    let types = [key, value].map(|ty| Some(Arc::clone(ty)));
    Declaration::new(&facts, "x".into(), Tags::default(), types)
}

/// Members one behind the other; each with a name that no other has.
fn build(shape: &Shape, names: &mut usize) -> Arc<Type> {
    let char = || Type::new("char", 1, Kind::Char);
    match shape {
        Shape::Int(size, signed) => Type::new("t", *size, Kind::Int { signed: *signed }),
        Shape::Char => char(),
        Shape::Bool => Type::new("bool", 1, Kind::Bool),
        Shape::Float(size) => Type::new("float", *size, Kind::Float),
        Shape::Pointer => Type::new("void *", 8, Kind::Pointer),
        Shape::Opaque(size) => Type::opaque(*size),
        Shape::Enum(size, signed, values) => enumeration(*size, *signed, values),
        Shape::Text(len) => Type::array(char(), *len),
        Shape::Array(element, len) => Type::array(build(element, names), *len),
        Shape::Struct(parts) => {
            let (members, end) = members(parts, names, false);
            Type::new("struct s", end, Kind::Struct(members))
        }
        Shape::Union(parts) => {
            let (members, end) = members(parts, names, true);
            Type::new("union u", end, Kind::Union(members))
        }
    }
}

fn enumeration(size: usize, signed: bool, values: &[i64]) -> Arc<Type> {
    let unused = 64 - 8 * size;
    let mut variants: Vec<Variant> = Vec::new();
    for (i, value) in values.iter().enumerate() {
        let value = match signed {
            true => i128::from(value << unused >> unused),
            false => i128::from((*value as u64) << unused >> unused),
        };
        let name = format!("NAME{i}");
        variants.push(Variant { name, value });
    }
    Type::new("enum e", size, Kind::Enum { signed, variants })
}

/// In bits. Compilers put none that is wider where it needs a 17th byte.
const WIDEST: usize = 120;

fn members(parts: &[Part], names: &mut usize, overlap: bool) -> (Vec<Member>, usize) {
    let (mut bit, mut most) = (0usize, 0);
    let mut members = Vec::new();
    for part in parts {
        let ty = build(&part.shape, names);
        let may_have_bits = matches!(ty.kind, Kind::Int { .. } | Kind::Bool | Kind::Enum { .. });
        let bits = part
            .bits
            .filter(|_| may_have_bits)
            .map(|bits| 1 + (bits - 1) % (8 * ty.size).min(WIDEST));
        if overlap || bits.is_none() {
            bit = if overlap { 0 } else { bit.next_multiple_of(8) };
        }
        let is_nested = matches!(ty.kind, Kind::Struct(_) | Kind::Union(_));
        *names += 1;
        members.push(Member {
            name: match part.anonymous && is_nested {
                true => String::new(),
                false => format!("m{names}"),
            },
            place: Place {
                bit_offset: bit,
                bits: bits.map(|bits| bits as u8),
                ty: Arc::clone(&ty),
            },
            tags: Tags::default(),
        });
        bit += bits.unwrap_or(8 * ty.size);
        most = most.max(bit);
    }
    (members, most.div_ceil(8))
}

/// Writes noise wherever a type says something, as it says it: no padding, text
/// of characters up to its NULs, numbers for floats.
fn fill(place: &Place, noise: &[u8], bytes: &mut [u8]) {
    let (start, size) = (place.bit_offset / 8, place.ty.size);
    match &place.ty.kind {
        _ if place.bits.is_some() => {
            let width = match place.ty.kind {
                Kind::Bool => 1,
                _ => place.width(),
            };
            for bit in place.bit_offset..place.bit_offset + width {
                let mask = 1 << (bit % 8);
                bytes[bit / 8] = bytes[bit / 8] & !mask | noise[bit / 8] & mask;
            }
        }
        Kind::Struct(members) => {
            for member in members {
                fill(&member.place.shifted(place.bit_offset), noise, bytes);
            }
        }
        Kind::Array { element, .. } if element.kind == Kind::Char => {
            const LETTERS: &[u8] = br#"abz09 ,.=:[]{}"'\/-_~"#;
            let len = noise
                .get(start)
                .map_or(0, |byte| usize::from(*byte) % (size + 1));
            for i in start..start + len {
                bytes[i] = LETTERS[usize::from(noise[i]) % LETTERS.len()];
            }
            // A letter of two bytes, and a line's end.
            if len > 2 {
                bytes[start..start + 3].copy_from_slice("é\n".as_bytes());
            }
        }
        Kind::Array { element, len } => {
            for i in 0..*len {
                fill(&place.element(element, i), noise, bytes);
            }
        }
        Kind::Bool => bytes[start] = noise[start] & 1,
        Kind::Float => {
            let exponent = if size == 4 { 3 } else { 7 };
            bytes[start..start + size].copy_from_slice(&noise[start..start + size]);
            // Neither infinite nor NaN.
            if size <= 8 {
                bytes[start + exponent] &= 0xbf;
            }
        }
        _ => bytes[start..start + size].copy_from_slice(&noise[start..start + size]),
    }
}
