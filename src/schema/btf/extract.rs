//! The part of the kernel's BTF that CO-RE needs for one object. libbpf compares the name
//! of each type that it seeks with those of all types of the kernel, which is most of the
//! time of a load; of these few it takes none.

use std::collections::{HashMap, HashSet, VecDeque};

/// `BTF_KIND_*` of include/uapi/linux/btf.h.
const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FWD: u32 = 7;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const FLOAT: u32 = 16;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;
/// A name, what it is, and its size or another type.
const TYPE: usize = 12;

/// All types of the kernel that have the names of types of an object, and what these are
/// made of: types behind pointers are without members, as CO-RE follows no pointer.
/// `None` where the kernel's BTF is of another form.
pub(crate) fn extract(kernel: &[u8], object: &[u8]) -> Option<Vec<u8>> {
    let kernel = Raw::new(kernel)?;
    let object = Raw::new(object)?;
    let wanted = Names::new((1..object.offsets.len()).filter_map(|id| object.sought(id)));
    let roots = (1..kernel.offsets.len()).filter(|id| {
        let name = kernel.sought(*id);
        name.is_some_and(|name| wanted.has(name))
    });
    let roots: Vec<u32> = roots.map(|id| id as u32).collect();
    let mut part = Part {
        roots: roots.iter().copied().collect(),
        kernel,
        ids: HashMap::new(),
        waiting: VecDeque::new(),
        names: HashMap::new(),
        types: Vec::new(),
        strings: vec![0],
    };
    for root in roots {
        part.id(root, true);
    }
    while let Some((id, is_whole)) = part.waiting.pop_front() {
        part.copy(id, is_whole)?;
    }
    Some(part.raw())
}

/// BTF as it is in memory.
struct Raw<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins; the first one is void.
    offsets: Vec<u32>,
}

impl<'a> Raw<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        if word16(bytes, 0)? != MAGIC {
            return None;
        }
        let part = |at: usize| {
            let from = word(bytes, 4)? as usize + word(bytes, at)? as usize;
            bytes.get(from..from + word(bytes, at + 4)? as usize)
        };
        let (types, strings) = (part(8)?, part(16)?);
        let mut offsets = vec![0];
        let mut at = 0;
        while at < types.len() {
            offsets.push(at as u32);
            at += TYPE + rest(word(types, at + 4)?)?;
        }
        Some(Self {
            types,
            strings,
            offsets,
        })
    }

    fn ty(&self, id: usize) -> Option<&'a [u8]> {
        self.types.get(*self.offsets.get(id)? as usize..)
    }

    fn name(&self, offset: u32) -> &'a [u8] {
        let text = self.strings.get(offset as usize..).unwrap_or_default();
        let end = text.iter().position(|byte| *byte == 0);
        &text[..end.unwrap_or(text.len())]
    }

    /// The name of a type, if CO-RE seeks such types by their names.
    fn sought(&self, id: usize) -> Option<&'a [u8]> {
        let ty = self.ty(id)?;
        let is_sought = [INT, STRUCT, UNION, ENUM, FWD, TYPEDEF, ENUM64];
        if !is_sought.contains(&kind(word(ty, 4)?)) {
            return None;
        }
        Some(self.name(word(ty, 0)?)).filter(|name| !name.is_empty())
    }
}

/// Names without what is behind `___`, which CO-RE leaves out.
struct Names<'a> {
    all: HashSet<&'a [u8]>,
    /// Whether any begins with these two bytes: most others do not.
    begin: Vec<bool>,
}

impl<'a> Names<'a> {
    fn new(names: impl Iterator<Item = &'a [u8]>) -> Self {
        let all: HashSet<&[u8]> = names.map(essential).collect();
        let mut begin = vec![false; 1 << 16];
        all.iter().for_each(|name| begin[first_two(name)] = true);
        Self { all, begin }
    }

    fn has(&self, name: &[u8]) -> bool {
        self.begin[first_two(name)] && self.all.contains(essential(name))
    }
}

/// The first two bytes of a name, as a number.
fn first_two(name: &[u8]) -> usize {
    let byte = |at: usize| name.get(at).copied().unwrap_or(0);
    usize::from(byte(0)) << 8 | usize::from(byte(1))
}

/// As libbpf's `bpf_core_essential_name_len()`.
fn essential(name: &[u8]) -> &[u8] {
    let is_end = |it: &[u8]| it[0] != b'_' && it[1..4] == *b"___" && it[4] != b'_';
    let end = name.windows(5).rposition(is_end);
    end.map_or(name, |end| &name[..=end])
}

/// What is copied so far.
struct Part<'a> {
    kernel: Raw<'a>,
    roots: HashSet<u32>,
    /// The new number of each type, with its members or without.
    ids: HashMap<(u32, bool), u32>,
    waiting: VecDeque<(u32, bool)>,
    names: HashMap<u32, u32>,
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Part<'_> {
    /// The new number of a type, which is copied later.
    fn id(&mut self, id: u32, is_whole: bool) -> u32 {
        if id == 0 {
            return 0;
        }
        let known = (id, is_whole || self.roots.contains(&id));
        let next = self.ids.len() as u32 + 1;
        *self.ids.entry(known).or_insert_with(|| {
            self.waiting.push_back(known);
            next
        })
    }

    fn name(&mut self, offset: u32) -> u32 {
        let (kernel, strings) = (&self.kernel, &mut self.strings);
        *self.names.entry(offset).or_insert_with(|| {
            let new = strings.len() as u32;
            strings.extend_from_slice(kernel.name(offset));
            strings.push(0);
            new
        })
    }

    fn copy(&mut self, id: u32, is_whole: bool) -> Option<()> {
        let ty = self.kernel.ty(id as usize)?;
        let (info, of) = (word(ty, 4)?, word(ty, 8)?);
        let kind = kind(info);
        let is_record = [STRUCT, UNION].contains(&kind);
        let info = match is_record && !is_whole {
            true => info & !0xffff,
            false => info,
        };
        let name = self.name(word(ty, 0)?);
        let of = match kind {
            PTR | FUNC_PROTO => self.id(of, false),
            TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => self.id(of, is_whole),
            _ => of,
        };
        let rest = ty.get(TYPE..TYPE + rest(info)?)?.chunks_exact(4);
        let rest: Vec<u32> = rest.filter_map(|it| word(it, 0)).collect();
        self.write(&[name, info, of]);
        // Names and types among what else a kind has.
        match kind {
            ARRAY => {
                let types = [self.id(rest[0], is_whole), self.id(rest[1], false), rest[2]];
                self.write(&types);
            }
            STRUCT | UNION => rest.chunks_exact(3).for_each(|member| {
                let member = [self.name(member[0]), self.id(member[1], true), member[2]];
                self.write(&member);
            }),
            FUNC_PROTO => rest.chunks_exact(2).for_each(|parameter| {
                let parameter = [self.name(parameter[0]), self.id(parameter[1], false)];
                self.write(&parameter);
            }),
            ENUM | ENUM64 => {
                let size = if kind == ENUM { 2 } else { 3 };
                rest.chunks_exact(size).for_each(|value| {
                    let name = self.name(value[0]);
                    self.write(&[name]);
                    self.write(&value[1..]);
                });
            }
            _ => self.write(&rest),
        }
        Some(())
    }

    fn write(&mut self, words: &[u32]) {
        self.types
            .extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    }

    fn raw(self) -> Vec<u8> {
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let version = 1_u16;
        let mut raw = [MAGIC, version].map(u16::to_ne_bytes).concat();
        let header = [HEADER as u32, 0, types, types, strings];
        raw.extend(header.map(u32::to_ne_bytes).concat());
        raw.extend(self.types);
        raw.extend(self.strings);
        raw
    }
}

fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

/// The size of what follows a type; `None` of a kind that is not known.
fn rest(info: u32) -> Option<usize> {
    let count = (info & 0xffff) as usize;
    Some(match kind(info) {
        INT | VAR | DECL_TAG => 4,
        ARRAY => 12,
        STRUCT | UNION | DATASEC | ENUM64 => 12 * count,
        ENUM | FUNC_PROTO => 8 * count,
        PTR | FWD | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNC | FLOAT | TYPE_TAG => 0,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u32::from_ne_bytes)
}

fn word16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u16::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use libbpf_rs::btf::types::Struct;

    use super::super::parse_btf;
    use super::*;
    use crate::sys::btf::Editor;

    fn members(raw: &[u8], name: &str) -> Option<Vec<String>> {
        let btf = parse_btf(raw).unwrap();
        let found: Struct<'_> = btf.type_by_name(name)?;
        let names = found.iter().filter_map(|it| it.name?.to_str());
        Some(names.map(str::to_owned).collect())
    }

    /// An object with one struct of this name, which nothing is in.
    fn object(name: &str) -> Vec<u8> {
        let mut object = Editor::new(&empty()).unwrap();
        object.structure(name, 4).unwrap();
        object.raw().unwrap()
    }

    fn empty() -> Vec<u8> {
        let mut raw = [MAGIC, 1].map(u16::to_ne_bytes).concat();
        raw.extend([24, 0, 0, 0, 1].map(u32::to_ne_bytes).concat());
        raw.push(0);
        raw
    }

    fn kernel() -> Vec<u8> {
        let mut kernel = Editor::new(&empty()).unwrap();
        let int = kernel.int("int", 4, true).unwrap();
        let two = kernel.array(int, int, 2).unwrap();
        let inner = kernel.structure("inner", 8).unwrap();
        kernel.member("pair", two, 0).unwrap();
        kernel.structure("task", 12).unwrap();
        kernel.member("state", int, 0).unwrap();
        kernel.member("within", inner, 4).unwrap();
        kernel.structure("other", 4).unwrap();
        kernel.member("number", int, 0).unwrap();
        kernel.raw().unwrap()
    }

    #[test]
    fn a_type_is_taken_by_its_name_with_what_it_is_made_of() {
        for name in ["task", "task___since_6_1"] {
            let part = extract(&kernel(), &object(name)).unwrap();
            assert_eq!(members(&part, "task").unwrap(), ["state", "within"]);
            assert_eq!(members(&part, "inner").unwrap(), ["pair"]);
            assert_eq!(members(&part, "other"), None);
        }
    }

    #[test]
    fn names_are_compared_as_libbpf_does() {
        let names = ["a___b", "a", "a____b", "___b", "a___", "a___b___c"];
        let names = names.map(|name| essential(name.as_bytes()));
        let expected = ["a", "a", "a____b", "___b", "a___", "a___b"];
        assert_eq!(names, expected.map(str::as_bytes));
    }

    #[test]
    fn what_is_no_btf_is_refused() {
        let object = object("task");
        assert_eq!(extract(b"", &object), None);
        let mut unknown = kernel();
        // The kind of the first type.
        unknown[24 + 7] = 0x1f;
        assert_eq!(extract(&unknown, &object), None);
        let kernel = kernel();
        assert_eq!(extract(&kernel[..kernel.len() - 1], &object), None);
    }
}
