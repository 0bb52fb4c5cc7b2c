//! Types for unit tests.

use std::sync::Arc;

use super::decode::Plain;
use super::parse::LeftOut;
use super::tags::Tags;
use super::types::{Kind, Member, Place, Type};

pub(crate) fn int(size: usize, signed: bool) -> Arc<Type> {
    Type::new("t", size, Kind::Int { signed })
}

/// An array of `char`.
pub(crate) fn text(len: usize) -> Arc<Type> {
    Type::array(Type::new("char", 1, Kind::Char), len)
}

pub(crate) fn structure(size: usize, members: Vec<Member>) -> Arc<Type> {
    Type::new("struct t", size, Kind::Struct(members))
}

pub(crate) fn union(size: usize, members: Vec<Member>) -> Arc<Type> {
    Type::new("", size, Kind::Union(members))
}

/// Without tags, from this byte on.
pub(crate) fn member(name: &str, byte: usize, ty: &Arc<Type>) -> Member {
    bitfield(name, 8 * byte, None, ty)
}

pub(crate) fn bitfield(
    name: &str,
    bit_offset: usize,
    bits: impl Into<Option<u8>>,
    ty: &Arc<Type>,
) -> Member {
    Member {
        name: name.to_owned(),
        place: Place {
            bit_offset,
            bits: bits.into(),
            ty: Arc::clone(ty),
        },
        tags: Tags::default(),
    }
}

/// The bytes of a text by its type alone.
pub(crate) fn read(ty: &Arc<Type>, text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; ty.size];
    let place = Place::whole(Arc::clone(ty));
    let tags = Tags::default();
    super::parse::parse(&place, &tags, text, LeftOut::Refused, &Plain, &mut bytes)
        .map(|()| bytes)
        .map_err(|error| error.to_string())
}

/// Each type with texts for it and their bytes.
pub(crate) fn check_read<const N: usize>(cases: [(&Arc<Type>, &str, &[u8]); N]) {
    for (ty, text, bytes) in cases {
        assert_eq!(read(ty, text).as_deref(), Ok(bytes), "{text}");
    }
}

/// Each type with texts that are none for it, and words of the error.
pub(crate) fn check_refused<const N: usize>(cases: [(&Arc<Type>, &str, &str); N]) {
    for (ty, text, words) in cases {
        let error = read(ty, text).unwrap_err();
        assert!(error.contains(words), "{text}: {error}");
    }
}
