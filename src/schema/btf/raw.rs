//! BTF as bytes: a header, types, and names (include/uapi/linux/btf.h).

use libbpf_rs::btf::BtfKind;

/// The magic number, and version 1.
const BEGIN: [u8; 3] = [0x9f, 0xeb, 1];
const HEADER: u32 = 24;
/// `struct btf_type`: a name, what it is, and its size or another type.
pub(super) const TYPE: usize = 12;

/// The two parts of BTF.
pub(super) struct Raw<'b> {
    pub(super) types: &'b [u8],
    pub(super) names: &'b [u8],
}

/// Where a type is among the others, where its name is, and what it is.
pub(super) struct Head {
    pub(super) at: usize,
    pub(super) end: usize,
    pub(super) name: u32,
    pub(super) kind: BtfKind,
}

impl<'b> Raw<'b> {
    /// `struct btf_header`: behind it, each part has its place and its length. `None` where
    /// this is another format.
    pub(super) fn of(bytes: &'b [u8]) -> Option<Self> {
        if !bytes.starts_with(&BEGIN) {
            return None;
        }
        let header = word(bytes, 4)?;
        let part = |at| {
            let (place, len) = (word(bytes, at)?, word(bytes, at + 4)?);
            let part = bytes.get(header.checked_add(place)? as usize..)?;
            part.get(..len as usize)
        };
        Some(Self {
            types: part(8)?,
            names: part(16)?,
        })
    }

    /// All types, up to the first one of a kind that is not known.
    pub(super) fn heads(&self) -> impl Iterator<Item = Head> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let at = next;
            let (name, info) = (word(self.types, at)?, word(self.types, at + 4)?);
            let kind = kind(info)?;
            next = at + TYPE + rest(kind, info);
            Some(Head {
                at,
                end: next,
                name,
                kind,
            })
        })
    }
}

/// The text that begins there, up to its NUL.
pub(super) fn text(names: &[u8], at: usize) -> Option<&[u8]> {
    names.get(at..)?.split(|byte| *byte == 0).next()
}

pub(super) fn kind(info: u32) -> Option<BtfKind> {
    BtfKind::try_from(info >> 24 & 0x1f).ok()
}

/// The size of what follows a type.
pub(super) fn rest(kind: BtfKind, info: u32) -> usize {
    let count = (info & 0xffff) as usize;
    match kind {
        BtfKind::Int | BtfKind::Var | BtfKind::DeclTag => 4,
        BtfKind::Array => 12,
        BtfKind::Enum | BtfKind::FuncProto => 8 * count,
        BtfKind::Struct | BtfKind::Union | BtfKind::DataSec | BtfKind::Enum64 => 12 * count,
        _ => 0,
    }
}

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

/// The whole of both parts.
pub(super) fn written(types: &[u8], names: &[u8]) -> Vec<u8> {
    let [types_len, names_len] = [types, names].map(|part| part.len() as u32);
    let header = [HEADER, 0, types_len, types_len, names_len];
    let header = header.map(u32::to_le_bytes).concat();
    [&BEGIN[..], &[0], &header, types, names].concat()
}
