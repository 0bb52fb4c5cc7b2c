//! From an expression to the way to its value: steps, sizes, decoder.

use anyhow::Result;

use super::expression::{Expression, Step};
use super::field::{Base, Field, MOST_HOPS, Read, Stored, TEXT};
use super::members::{decoder_of, flat};
use super::record::resolve_field;
use super::scope::{Root, Scope};
use crate::error::{unknown_text, usage};
use crate::schema::KernelBtf;
use crate::schema::walk::{Id, Node, Shape};

/// Finds the value that an expression leads to. `decoder` is what `--as` says of it.
pub(crate) fn resolve(scope: &Scope<'_>, text: &str, decoder: Option<&str>) -> Result<Field> {
    let expression = Expression::parse(text)?;
    let start = |base, ty, in_memory| Walk {
        kernel: scope.kernel,
        text: &expression.text,
        base,
        offsets: vec![0],
        in_memory,
        ty,
        bits: None,
        name: expression.root.text.clone(),
        path: Some(vec![expression.root.text.clone()]),
    };
    let mut walk = match scope.root(&expression.root)? {
        Root::Word(base, ty) => start(base, ty, false),
        Root::Memory(base, ty) => {
            let mut walk = start(base, ty, true);
            walk.enter();
            walk
        }
        Root::Field(field) => return resolve_field(field, &expression, decoder),
    };
    for step in &expression.steps {
        match step {
            Step::Member(name) => walk.member(&name.text, name.at)?,
            Step::Element(index, at) => walk.element(*index, *at)?,
        }
    }
    walk.end(decoder)
}

/// How far it has come.
struct Walk<'a> {
    kernel: &'a KernelBtf,
    text: &'a str,
    base: Base,
    offsets: Vec<u32>,
    /// Whether the value is in memory, at the offsets; if not, the base is the value.
    in_memory: bool,
    ty: Id,
    /// Of a bitfield: from the last offset, and its width.
    bits: Option<(u8, u8)>,
    /// The last word, for errors.
    name: String,
    /// As [`Field::path`].
    path: Option<Vec<String>>,
}

impl Walk<'_> {
    fn refuse<T>(&self, what: &str) -> Result<T> {
        Err(usage(format!("`{}`: {what}", self.text)))
    }

    fn node(&self) -> Node {
        self.kernel.node(self.ty)
    }

    /// Follows a pointer that was reached, to a type.
    fn follow(&mut self, to: Id) -> Result<()> {
        if self.in_memory {
            self.offsets.push(0);
            if self.offsets.len() > MOST_HOPS + 1 {
                let what = format!("there are more than {MOST_HOPS} pointers on the way");
                return self.refuse(&what);
            }
        }
        (self.in_memory, self.ty) = (true, to);
        self.enter();
        Ok(())
    }

    /// The members of what is behind a pointer follow.
    fn enter(&mut self) {
        if let Some(path) = &mut self.path {
            path.push(String::new());
        }
    }

    fn skip(&mut self, bytes: usize) -> Result<()> {
        let last = self.offsets.last_mut();
        let moved =
            last.and_then(|last| Some((u32::try_from(bytes).ok()?.checked_add(*last)?, last)));
        let Some((offset, last)) = moved else {
            return self.refuse("the value is too far away");
        };
        *last = offset;
        Ok(())
    }

    fn member(&mut self, name: &str, at: usize) -> Result<()> {
        if let Shape::Pointer(to) = self.node().shape {
            self.follow(to)?;
        }
        let what = self.kernel.c_name(self.ty);
        if let Some(fault) = self.has_no(name, &what) {
            return self.refuse(&format!("{fault}, at position {at}"));
        }
        let members = flat(self.kernel, self.ty);
        let Some(member) = members.iter().find(|it| it.name == name) else {
            let names = members.iter().map(|it| it.name.as_str());
            let unknown = unknown_text(&format!("member of `{what}`"), name, names);
            return self.refuse(&format!("{unknown} (at position {at})"));
        };
        self.skip(member.bit_offset / 8)?;
        self.bits = member
            .bits
            .map(|bits| ((member.bit_offset % 8) as u8, bits));
        (self.ty, self.name) = (member.ty, name.to_owned());
        self.add_to_path(name);
        Ok(())
    }

    /// Members are joined by dots, up to the next pointer.
    fn add_to_path(&mut self, member: &str) {
        if let Some(last) = self.path.as_mut().and_then(|path| path.last_mut()) {
            let dot = if last.is_empty() { "" } else { "." };
            *last = format!("{last}{dot}{member}");
        }
    }

    /// Why what was reached has no member of this name.
    fn has_no(&self, name: &str, what: &str) -> Option<String> {
        let owner = &self.name;
        Some(match self.node().shape {
            Shape::Composite(_) if self.in_memory => return None,
            Shape::Composite(_) => format!("`{owner}` is a value of `{what}`, not in memory"),
            Shape::Declared(_) => {
                format!("`{owner}` points to `{what}`, whose members are not in this kernel's BTF")
            }
            Shape::Pointer(_) => format!("`{owner}` points to pointers; write {owner}[0].{name}"),
            Shape::Array(..) => format!("`{owner}` has elements; write {owner}[0].{name}"),
            Shape::Void => format!("`{owner}` points to anything, whose members are not known"),
            _ => format!("`{owner}` (`{what}`) has no members"),
        })
    }

    fn element(&mut self, index: usize, at: usize) -> Result<()> {
        let name = self.name.clone();
        let element = match self.node().shape {
            Shape::Pointer(to) => {
                self.follow(to)?;
                to
            }
            Shape::Array(element, len) if len == 0 || index < len => element,
            Shape::Array(_, len) => {
                return self.refuse(&past_end(&name, len, at));
            }
            _ => {
                let what = self.kernel.c_name(self.ty);
                let what = format!("`{name}` (`{what}`) has no elements, at position {at}");
                return self.refuse(&what);
            }
        };
        self.ty = element;
        self.name = format!("{name}[{index}]");
        match self.path.as_mut().and_then(|path| path.last_mut()) {
            Some(last) if !last.is_empty() => *last = format!("{last}[{index}]"),
            // Behind a pointer there is no name to begin with.
            _ => self.path = None,
        }
        let size = self.node().size;
        if size == 0 {
            let what = format!("the elements of `{name}` have no size, at position {at}");
            return self.refuse(&what);
        }
        self.skip(size.saturating_mul(index))
    }

    /// The value at the end of the way.
    fn end(mut self, decoder: Option<&str>) -> Result<Field> {
        let c_type = self.kernel.c_name(self.ty);
        let (node, names) = self.only_member();
        let shown = decoder.map(str::to_owned);
        let is_text = decoder == Some("text");
        let stored = match &node.shape {
            _ if self.bits.is_some() => return self.bitfield(&node, shown, c_type),
            Shape::Pointer(to) if is_text || self.is_text(*to) => {
                self.follow(*to)?;
                return Ok(self.field(Read::String, Stored::Text(TEXT), None, c_type));
            }
            Shape::Array(element, len) if is_text || self.is_text(*element) => {
                let stored = Stored::Text((*len).clamp(1, TEXT));
                return self.in_place(Read::String, stored, None, c_type);
            }
            Shape::Int { .. } if is_text && node.size == 8 => {
                // A word that is an address; of which type does not matter.
                self.follow(0)?;
                return Ok(self.field(Read::String, Stored::Text(TEXT), None, c_type));
            }
            Shape::Array(element, _)
                if decoder.is_some()
                    && self.kernel.node(*element).size == 1
                    && node.size <= TEXT =>
            {
                return self.in_place(Read::Bytes, Stored::Bytes(node.size), shown, c_type);
            }
            Shape::Composite(name) if name == "struct in6_addr" => {
                let shown = shown.or(Some("ipv6".to_owned()));
                return self.in_place(Read::Bytes, Stored::Bytes(16), shown, c_type);
            }
            Shape::Int { signed, .. } | Shape::Enum { signed, .. }
                if matches!(node.size, 1 | 2 | 4 | 8) =>
            {
                Stored::number(node.size, *signed)
            }
            Shape::Bool | Shape::Pointer(_) => Stored::Unsigned(node.size),
            other => return self.no_value(other, &c_type),
        };
        let decoder = shown.or_else(|| decoder_of(self.kernel, &node, &names));
        Ok(self.number(stored, decoder, c_type))
    }

    /// A struct of one member is that member: `kuid_t`, `atomic_t`. Its type, and the
    /// names of all typedefs and structs on the way.
    fn only_member(&mut self) -> (Node, Vec<String>) {
        let mut names = Vec::new();
        loop {
            let node = self.node();
            names.extend(node.typedefs.iter().cloned());
            let members = self.kernel.members(self.ty);
            let [only] = &members[..] else {
                return (node, names);
            };
            let is_known =
                matches!(&node.shape, Shape::Composite(name) if name == "struct in6_addr");
            if is_known || only.bits.is_some() || !self.in_memory && only.bit_offset != 0 {
                return (node, names);
            }
            if self.skip(only.bit_offset / 8).is_err() {
                return (node, names);
            }
            self.ty = only.ty;
            if self.in_memory && !only.name.is_empty() {
                self.add_to_path(&only.name);
            } else {
                self.path = None;
            }
        }
    }

    fn is_text(&self, id: Id) -> bool {
        let node = self.kernel.node(id);
        let is_char = matches!(&node.shape, Shape::Int { name, .. } if name == "char" || name == "unsigned char");
        // `u8` is a number.
        is_char && node.typedefs.is_empty()
    }

    fn field(self, read: Read, stored: Stored, decoder: Option<String>, c_type: String) -> Field {
        Field {
            name: self.text.to_owned(),
            read,
            base: self.base,
            offsets: self.offsets,
            size: stored.size(),
            shift: 0,
            bits: 0,
            stored,
            decoder,
            c_type,
            at_end: false,
            path: self.path,
            elements: None,
        }
    }

    /// Of more than a number: it has to be in memory.
    fn in_place(
        self,
        read: Read,
        stored: Stored,
        decoder: Option<String>,
        c_type: String,
    ) -> Result<Field> {
        if !self.in_memory {
            return self.refuse(&format!("it is a `{c_type}` by value, not in memory"));
        }
        Ok(self.field(read, stored, decoder, c_type))
    }

    fn number(self, stored: Stored, decoder: Option<String>, c_type: String) -> Field {
        let in_memory = self.in_memory;
        let read = if in_memory { Read::Number } else { Read::Word };
        let field = self.field(read, stored, decoder, c_type);
        // Above a narrow number a register has anything, and memory zeroes.
        let is_part = field.size < 8 && (!in_memory || field.is_signed());
        let bits = if is_part { 8 * field.size as u8 } else { 0 };
        Field { bits, ..field }
    }

    fn bitfield(mut self, node: &Node, decoder: Option<String>, c_type: String) -> Result<Field> {
        let (shift, width) = self.bits.take().unwrap_or_default();
        let (signed, known) = match &node.shape {
            Shape::Int { signed, .. } => (*signed, None),
            Shape::Enum { signed, .. } => (*signed, decoder_of(self.kernel, node, &[])),
            Shape::Bool => (false, Some("bool".to_owned())),
            other => return self.no_value(other, &c_type),
        };
        // The smallest number that has all of it.
        let size = usize::from(shift + width).div_ceil(8).next_power_of_two();
        if size > 8 {
            return self.refuse("it is a bitfield of more than 8 bytes");
        }
        let stored = Stored::number(size, signed);
        let text = format!("{c_type}:{width}");
        let field = self.field(Read::Number, stored, decoder.or(known), text);
        Ok(Field {
            shift,
            bits: width,
            ..field
        })
    }

    fn no_value(&self, shape: &Shape, c_type: &str) -> Result<Field> {
        let name = &self.name;
        match shape {
            Shape::Composite(_) => {
                let members = flat(self.kernel, self.ty);
                let members: Vec<&str> =
                    members.iter().take(8).map(|it| it.name.as_str()).collect();
                self.refuse(&format!(
                    "`{name}` is `{c_type}`; write one of its members: {}",
                    members.join(", ")
                ))
            }
            Shape::Array(_, len) => self.refuse(&has_elements(name, c_type, *len)),
            Shape::Float => self.refuse("BPF has no floating point"),
            Shape::Declared(_) => self.refuse(&format!(
                "the members of `{c_type}` are not in this kernel's BTF"
            )),
            _ => self.refuse(&format!("`{c_type}` is not a type that can be read")),
        }
    }
}

pub(super) fn past_end(name: &str, len: usize, at: usize) -> String {
    let last = len.saturating_sub(1);
    format!("`{name}` has {len} elements, 0 to {last}, at position {at}")
}

pub(super) fn has_elements(name: &str, c_type: &str, len: usize) -> String {
    format!("`{name}` is `{c_type}`; write one of its {len} elements: {name}[0]")
}
