//! The part of the kernel's BTF that CO-RE needs for one object. libbpf compares the name
//! of each type that it seeks with those of all types of the kernel, which is most of the
//! time of a load; of these few it takes none.

use std::collections::{HashMap, HashSet, VecDeque};

use libbpf_rs::btf::BtfKind;

use super::raw::{Raw, TYPE, kind, rest, text, word, written};

/// All types of the kernel that have the names of types of an object, and what these are
/// made of: types behind pointers are without members, as CO-RE follows no pointer.
/// `None` where the kernel's BTF is of another form.
pub(crate) fn extract(kernel: &[u8], object: &[u8]) -> Option<Vec<u8>> {
    let kernel = Types::of(kernel)?;
    let object = Types::of(object)?;
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
    Some(written(&part.types, &part.strings))
}

/// BTF whose types can be taken by their numbers.
struct Types<'a> {
    raw: Raw<'a>,
    /// Where each type begins; the first one is void.
    offsets: Vec<u32>,
}

impl<'a> Types<'a> {
    /// `None` where a type is of a kind that is not known.
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let raw = Raw::of(bytes)?;
        let (mut offsets, mut end) = (vec![0], 0);
        for head in raw.heads() {
            offsets.push(head.at as u32);
            end = head.end;
        }
        (end == raw.types.len()).then_some(Self { raw, offsets })
    }

    fn ty(&self, id: usize) -> Option<&'a [u8]> {
        self.raw.types.get(*self.offsets.get(id)? as usize..)
    }

    fn name(&self, offset: u32) -> &'a [u8] {
        text(self.raw.names, offset as usize).unwrap_or_default()
    }

    /// The name of a type, if CO-RE seeks such types by their names.
    fn sought(&self, id: usize) -> Option<&'a [u8]> {
        let ty = self.ty(id)?;
        let is_sought = matches!(
            kind(word(ty, 4)?)?,
            BtfKind::Int
                | BtfKind::Struct
                | BtfKind::Union
                | BtfKind::Enum
                | BtfKind::Fwd
                | BtfKind::Typedef
                | BtfKind::Enum64
        );
        let name = self.name(word(ty, 0)?);
        (is_sought && !name.is_empty()).then_some(name)
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
    kernel: Types<'a>,
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
        let kind = kind(info)?;
        let is_record = matches!(kind, BtfKind::Struct | BtfKind::Union);
        let info = match is_record && !is_whole {
            true => info & !0xffff,
            false => info,
        };
        let name = self.name(word(ty, 0)?);
        let of = match kind {
            BtfKind::Ptr | BtfKind::FuncProto => self.id(of, false),
            BtfKind::Typedef
            | BtfKind::Volatile
            | BtfKind::Const
            | BtfKind::Restrict
            | BtfKind::TypeTag => self.id(of, is_whole),
            _ => of,
        };
        let rest = ty.get(TYPE..TYPE + rest(kind, info))?.chunks_exact(4);
        let rest: Vec<u32> = rest.filter_map(|it| word(it, 0)).collect();
        self.write(&[name, info, of]);
        // Names and types among what else a kind has.
        match kind {
            BtfKind::Array => {
                let types = [self.id(rest[0], is_whole), self.id(rest[1], false), rest[2]];
                self.write(&types);
            }
            BtfKind::Struct | BtfKind::Union => rest.chunks_exact(3).for_each(|member| {
                let member = [self.name(member[0]), self.id(member[1], true), member[2]];
                self.write(&member);
            }),
            BtfKind::FuncProto => rest.chunks_exact(2).for_each(|parameter| {
                let parameter = [self.name(parameter[0]), self.id(parameter[1], false)];
                self.write(&parameter);
            }),
            BtfKind::Enum | BtfKind::Enum64 => {
                let size = if kind == BtfKind::Enum { 2 } else { 3 };
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
            .extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }
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
        let mut object = Editor::new(&written(&[], &[0])).unwrap();
        object.structure(name, 4).unwrap();
        object.raw().unwrap()
    }

    fn kernel() -> Vec<u8> {
        let mut kernel = Editor::new(&written(&[], &[0])).unwrap();
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
