//! A value that can be read: the way to it, and what it is.

use std::sync::Arc;

use crate::schema::{Decoder, Kind, Place, Tags, Type};

/// How many pointers a program follows: `COUNT_HOPS`.
pub(crate) const MOST_HOPS: usize = 6;
/// Bytes of a text: `COUNT_TEXT`.
pub(crate) const TEXT: usize = 64;

/// Where a way begins: `enum count_base`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    Argument(u8),
    Context,
    Task,
    Return,
    Pid,
    Tid,
    Ppid,
    Uid,
    Cgroup,
    Cpu,
    Call,
    /// At an end: since its start.
    Time,
}

impl Base {
    pub(crate) const ARGUMENTS: usize = 12;

    pub(crate) fn number(self) -> u8 {
        const FIRST: u8 = Base::ARGUMENTS as u8;
        match self {
            Self::Argument(number) => number,
            Self::Context => FIRST,
            Self::Task => FIRST + 1,
            Self::Return => FIRST + 2,
            Self::Pid => FIRST + 3,
            Self::Tid => FIRST + 4,
            Self::Ppid => FIRST + 5,
            Self::Uid => FIRST + 6,
            Self::Cgroup => FIRST + 7,
            Self::Cpu => FIRST + 8,
            Self::Call => FIRST + 9,
            Self::Time => FIRST + 10,
        }
    }
}

/// What a program does at the end of the way: `enum count_kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    Word = 1,
    Number,
    Bytes,
    String,
    RecordString,
    Comm,
    KernelStack,
    UserStack,
}

/// How it is kept in a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    Unsigned(usize),
    Signed(usize),
    Text(usize),
    Bytes(usize),
    KernelStack,
    UserStack,
}

impl Stored {
    /// Frames of `struct tally_kstack` and `struct tally_ustack`, with the process.
    const KERNEL_STACK: usize = 48 * 8;
    const USER_STACK: usize = 8 + 79 * 8;

    pub(crate) fn number(size: usize, signed: bool) -> Self {
        match signed {
            true => Self::Signed(size),
            false => Self::Unsigned(size),
        }
    }

    pub(crate) fn size(self) -> usize {
        match self {
            Self::Unsigned(size) | Self::Signed(size) => size,
            Self::Text(size) | Self::Bytes(size) => size,
            Self::KernelStack => Self::KERNEL_STACK,
            Self::UserStack => Self::USER_STACK,
        }
    }

    pub(crate) fn alignment(self) -> usize {
        match self {
            Self::Unsigned(size) | Self::Signed(size) => size,
            Self::Text(_) | Self::Bytes(_) => 1,
            Self::KernelStack | Self::UserStack => 8,
        }
    }

    pub(crate) fn is_stack(self) -> bool {
        matches!(self, Self::KernelStack | Self::UserStack)
    }

    pub(crate) fn is_text(self) -> bool {
        matches!(self, Self::Text(_))
    }

    pub(crate) fn is_number(self) -> bool {
        matches!(self, Self::Unsigned(_) | Self::Signed(_))
    }

    /// As C writes it, with the name of the member.
    pub(crate) fn declare(self, name: &str) -> String {
        match self {
            Self::Unsigned(size) => format!("__u{} {name}", 8 * size),
            Self::Signed(size) => format!("__s{} {name}", 8 * size),
            Self::Text(size) => format!("char {name}[{size}]"),
            Self::Bytes(size) => format!("__u8 {name}[{size}]"),
            Self::KernelStack => format!("struct tally_kstack {name}"),
            Self::UserStack => format!("struct tally_ustack {name}"),
        }
    }

    /// As text is read for it.
    pub(crate) fn ty(self) -> Arc<Type> {
        let number = |size, signed| Type::new("", size, Kind::Int { signed });
        match self {
            Self::Unsigned(size) => number(size, false),
            Self::Signed(size) => number(size, true),
            Self::Text(size) => Type::array(Type::new("char", 1, Kind::Char), size),
            other => Type::array(number(1, false), other.size()),
        }
    }
}

/// A value: how a program reads it, and how it is shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    /// The column: what was written.
    pub(crate) name: String,
    pub(crate) read: Read,
    pub(crate) base: Base,
    /// From the base; a pointer is read at each of them but the last.
    pub(crate) offsets: Vec<u32>,
    /// In bytes, of a number in memory.
    pub(crate) size: usize,
    /// Of a part of a number: by how much it is shifted, and its width.
    pub(crate) shift: u8,
    pub(crate) bits: u8,
    pub(crate) stored: Stored,
    pub(crate) decoder: Option<String>,
    /// Its type in C, for people.
    pub(crate) c_type: String,
    /// Of an interval: whether it is read when that ends.
    pub(crate) at_end: bool,
    /// The way in C: a name, and the members behind each pointer; none where CO-RE has
    /// no words for it.
    pub(crate) path: Option<Vec<String>>,
    /// Of an array in a record: how many, and the first.
    pub(crate) elements: Option<(usize, Box<Field>)>,
}

impl Field {
    /// What every event has.
    pub(crate) fn of_base(name: &str, base: Base, size: usize, decoder: &str) -> Self {
        Self {
            name: name.to_owned(),
            read: Read::Word,
            base,
            offsets: vec![0],
            size: 8,
            shift: 0,
            bits: 0,
            stored: Stored::Unsigned(size),
            decoder: Some(decoder.to_owned()),
            c_type: format!("__u{}", 8 * size),
            at_end: false,
            path: None,
            elements: None,
        }
    }

    pub(crate) fn of_kind(name: &str, read: Read, stored: Stored, decoder: &str) -> Self {
        Self {
            read,
            stored,
            c_type: stored.declare("").replace(" [", "["),
            ..Self::of_base(name, Base::Context, 8, decoder)
        }
    }

    pub(crate) fn is_pointer(&self) -> bool {
        self.c_type.contains('*')
    }

    pub(crate) fn is_signed(&self) -> bool {
        matches!(self.stored, Stored::Signed(_))
    }

    pub(crate) fn place(&self) -> Place {
        Place::whole(self.stored.ty())
    }

    pub(crate) fn tags(&self) -> Tags {
        Tags {
            decoder: self.decoder.as_deref().map(Decoder::from_tag),
            ..Tags::default()
        }
    }
}
