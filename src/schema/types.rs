//! C types, as owned trees: what BTF says, with typedefs and qualifiers folded.

use std::sync::Arc;

use super::tags::Tags;

/// A C type: its name as written in C, if it has one, and its size in bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Type {
    /// `__u64`, `struct failure`, `enum state`; empty for anonymous types.
    pub name: String,
    /// In bytes, as the target lays it out.
    pub size: usize,
    /// What it is made of.
    pub kind: Kind,
}

/// The shapes that a type can have.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// An integer of 1 to 16 bytes.
    Int {
        /// Two's complement, rather than unsigned.
        signed: bool,
    },
    /// A `char`: a number by itself, text in an array.
    Char,
    /// `_Bool`.
    Bool,
    /// `float`, `double`, and wider ones, which are shown as bytes.
    Float,
    /// An enum of 1 to 8 bytes, in the order of its declaration.
    Enum {
        /// Whether values below zero exist.
        signed: bool,
        /// Its names.
        variants: Vec<Variant>,
    },
    /// So many elements, one after the other.
    Array {
        /// The type of each.
        element: Arc<Type>,
        /// How many.
        len: usize,
    },
    /// Members beside each other.
    Struct(Vec<Member>),
    /// Members on top of each other.
    Union(Vec<Member>),
    /// An address, 8 bytes.
    Pointer,
    /// Nothing that BTF describes: shown as bytes.
    Opaque,
}

/// One name of an enum.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// As written in C.
    pub name: String,
    /// Any 64-bit value, signed or not.
    pub value: i128,
}

/// A member of a struct or union.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Empty for an anonymous struct or union, whose members are reached
    /// without a name of its own.
    pub name: String,
    /// Where it is, within the struct.
    pub place: Place,
    /// What `ktally.bpf.h` left beside it.
    pub tags: Tags,
}

/// A value inside a run of bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// From the start of the bytes.
    pub bit_offset: usize,
    /// The width of a bitfield; `None` for a whole number of bytes.
    pub bits: Option<u8>,
    /// The declared type.
    pub ty: Arc<Type>,
}

impl Type {
    /// A type of any kind.
    pub fn new(name: impl Into<String>, size: usize, kind: Kind) -> Arc<Self> {
        let name = name.into();
        Arc::new(Self { name, size, kind })
    }

    /// An unsigned integer of so many bytes.
    pub fn unsigned(size: usize) -> Arc<Self> {
        Self::new(
            format!("__u{}", size * 8),
            size,
            Kind::Int { signed: false },
        )
    }

    /// Bytes about which nothing is known.
    pub fn opaque(size: usize) -> Arc<Self> {
        Self::new("", size, Kind::Opaque)
    }

    /// So many elements, one after the other.
    pub fn array(element: Arc<Self>, len: usize) -> Arc<Self> {
        let name = format!("{}[{len}]", element.name);
        let size = element.size.saturating_mul(len);
        Self::new(name, size, Kind::Array { element, len })
    }

    /// The members of a struct; none for any other type.
    pub(crate) fn struct_members(&self) -> &[Member] {
        match &self.kind {
            Kind::Struct(members) => members,
            _ => &[],
        }
    }

    /// The members of a struct or a union; none for any other type.
    pub(crate) fn members(&self) -> &[Member] {
        match &self.kind {
            Kind::Struct(members) | Kind::Union(members) => members,
            _ => &[],
        }
    }

    /// Whether this is a single number (or bool, or enum).
    pub(crate) fn is_scalar(&self) -> bool {
        matches!(
            self.kind,
            Kind::Int { .. } | Kind::Char | Kind::Bool | Kind::Enum { .. } | Kind::Pointer
        )
    }

    /// Whether this is a plain integer: something that can be counted with, in
    /// cells of 64 bits.
    pub(crate) fn is_number(&self) -> bool {
        matches!(self.kind, Kind::Int { .. }) && self.size <= 8
    }

    /// Whether programs change a value under a lock inside of it.
    pub(crate) fn has_lock(&self) -> bool {
        match &self.kind {
            Kind::Array { element, .. } => element.has_lock(),
            _ => {
                let mut members = self.members().iter();
                LOCKS.contains(&self.name.as_str())
                    || members.any(|member| member.place.ty.has_lock())
            }
        }
    }

    /// Whether this is an array of `char`.
    pub fn is_text(&self) -> bool {
        matches!(&self.kind, Kind::Array { element, .. } if element.kind == Kind::Char)
    }
}

impl Member {
    /// What its column is called.
    pub(crate) fn shown_name(&self) -> &str {
        self.tags.name.as_deref().unwrap_or(&self.name)
    }

    /// Whether it is not shown, and need not be given: its author said so, or it
    /// is the kernel's own, of which user space reads and writes only zeroes.
    pub(crate) fn is_hidden(&self) -> bool {
        self.tags.hidden || KERNELS_OWN.contains(&self.place.ty.name.as_str())
    }
}

/// What a program takes before it changes a value.
const LOCKS: [&str; 2] = ["struct bpf_spin_lock", "struct bpf_res_spin_lock"];

/// kernel/bpf/btf.c, `btf_get_field_type()`.
const KERNELS_OWN: [&str; 10] = [
    LOCKS[0],
    LOCKS[1],
    "struct bpf_timer",
    "struct bpf_wq",
    "struct bpf_task_work",
    "struct bpf_list_head",
    "struct bpf_list_node",
    "struct bpf_rb_root",
    "struct bpf_rb_node",
    "struct bpf_refcount",
];

impl Place {
    /// All of a type, from the first byte on.
    pub fn whole(ty: Arc<Type>) -> Self {
        Self {
            bit_offset: 0,
            bits: None,
            ty,
        }
    }

    /// The same, alone in bytes of its own.
    pub(crate) fn at_start(&self) -> Self {
        Self {
            bit_offset: 0,
            ..self.clone()
        }
    }

    /// The same, so many bits further on.
    pub fn shifted(&self, bits: usize) -> Self {
        Self {
            bit_offset: self.bit_offset + bits,
            ..self.clone()
        }
    }

    /// The bytes of a value that is not a bitfield; `None` past the end.
    pub(crate) fn bytes<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let start = self.bit_offset / 8;
        bytes.get(start..start.checked_add(self.ty.size)?)
    }

    /// The bits of this place as an unsigned number of at most 128 bits:
    /// little-endian, as BPF runs on every host that ktally is built for.
    /// `None` past the end, or where the value is wider.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Option<u128> {
        let width = self.width();
        let first = self.bit_offset / 8;
        let last = (self.bit_offset + width).div_ceil(8);
        let value = number(bytes.get(first..last)?)? >> (self.bit_offset % 8);
        match width {
            1..128 => Some(value & ((1 << width) - 1)),
            128 => Some(value),
            _ => None,
        }
    }

    /// Writes the low bits of a number; the place must be within the bytes.
    pub(crate) fn put(&self, bytes: &mut [u8], number: u128) {
        for i in 0..self.width().min(128) {
            let (byte, bit) = ((self.bit_offset + i) / 8, (self.bit_offset + i) % 8);
            let Some(byte) = bytes.get_mut(byte) else {
                return;
            };
            *byte = *byte & !(1 << bit) | (((number >> i) & 1) as u8) << bit;
        }
    }

    /// Writes all bytes of a value that is not a bitfield.
    pub(super) fn put_bytes(&self, bytes: &mut [u8], value: &[u8]) {
        let start = self.bit_offset / 8;
        if let Some(target) = bytes.get_mut(start..start.saturating_add(value.len())) {
            target.copy_from_slice(value);
        }
    }

    /// Of a struct or union, the place of the member of this name; those of
    /// anonymous members count as its own.
    pub(crate) fn member(&self, name: &str) -> Option<Self> {
        self.ty.members().iter().find_map(|member| {
            let place = member.place.shifted(self.bit_offset);
            match member.name.as_str() {
                "" => place.member(name),
                other => (other == name).then_some(place),
            }
        })
    }

    /// Of an array, the place of element `i`.
    pub fn element(&self, element: &Arc<Type>, i: usize) -> Self {
        Self {
            bit_offset: self.bit_offset + i * element.size * 8,
            bits: None,
            ty: Arc::clone(element),
        }
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let end = |place: &Self| place.bit_offset + place.width();
        self.bit_offset < end(other) && other.bit_offset < end(self)
    }

    /// In bits.
    pub fn width(&self) -> usize {
        self.bits.map_or(self.ty.size * 8, usize::from)
    }
}

/// Bytes as a number, the least first. `None` for no bytes, and for more than
/// 16 (a bitfield has them only if it is wider than 120 bits).
pub(super) fn number(bytes: &[u8]) -> Option<u128> {
    let mut word = [0; 16];
    word.get_mut(..bytes.len())?.copy_from_slice(bytes);
    (!bytes.is_empty()).then(|| u128::from_le_bytes(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitfields_straddle_bytes() {
        let place = Place {
            bit_offset: 6,
            bits: Some(5),
            ty: Type::unsigned(4),
        };
        assert_eq!(place.raw(&[0b1100_0000, 0b0000_0101]), Some(0b10111));
        assert_eq!(place.raw(&[0]), None);
    }
}
