//! The types of the kernel as expressions walk through them: one step at a time, as
//! they are endless. The trees of the rest of the schema end at pointers.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use libbpf_rs::Btf;
use libbpf_rs::btf::types::{self, IntEncoding, MemberAttr};
use libbpf_rs::btf::{BtfKind, BtfType, HasSize, ReferencesType, TypeId};

use super::{KernelBtf, all, from, string};

/// The number of a type; 0 is `void`.
pub(crate) type Id = u32;

/// A type without its typedefs and qualifiers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// The typedefs that lead to it, the outermost first.
    pub(crate) typedefs: Vec<String>,
    pub(crate) size: usize,
    pub(crate) shape: Shape,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    Void,
    /// An integer or bool.
    Int {
        name: String,
        signed: bool,
    },
    Bool,
    Enum {
        name: String,
        signed: bool,
    },
    Float,
    Pointer(Id),
    Array(Id, usize),
    /// A struct or union, with its keyword.
    Composite(String),
    /// Only declared: its members are not known here.
    Declared(String),
    Function,
    Other,
}

/// A member of a struct or union, or an argument.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    /// Empty for an anonymous member.
    pub(crate) name: String,
    pub(crate) ty: Id,
    pub(crate) bit_offset: usize,
    /// The width of a bitfield.
    pub(crate) bits: Option<u8>,
}

/// What a function takes, and returns.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Prototype {
    pub(crate) arguments: Vec<Part>,
    pub(crate) returned: Id,
}

/// What BTF puts before the name of a tracepoint: of the type of its programs, and of
/// the function that calls them.
pub(super) const TRACEPOINT: &str = "btf_trace_";
const CALLER: &str = "__traceiter_";

/// Arrays of arrays, qualifiers and typedefs are no deeper in C.
const DEEPEST: usize = 32;

impl KernelBtf {
    /// From a file: raw BTF, or an object that has it.
    pub fn from_path(path: &Path) -> Result<Self> {
        let btf = Btf::from_path(path);
        let btf = btf.with_context(|| format!("failed to read BTF from `{}`", path.display()))?;
        Ok(Self::new(btf))
    }

    fn get(&self, id: Id) -> Option<BtfType<'_>> {
        self.btf.type_by_id(TypeId::from(id))
    }

    /// A type that does not exist is `Other`.
    pub(crate) fn node(&self, id: Id) -> Node {
        let mut typedefs = Vec::new();
        let mut id = id;
        for _ in 0..DEEPEST {
            let Some(ty) = self.get(id).filter(|_| id != 0) else {
                break;
            };
            match ty.kind() {
                BtfKind::Typedef => typedefs.push(string(ty.name())),
                BtfKind::Const | BtfKind::Volatile | BtfKind::Restrict | BtfKind::TypeTag => {}
                _ => {
                    let (shape, size) = self.shape(ty);
                    return Node {
                        typedefs,
                        size,
                        shape,
                    };
                }
            }
            id = ty.next_type().map_or(0, |next| next.type_id().into());
        }
        let shape = if id == 0 { Shape::Void } else { Shape::Other };
        Node {
            typedefs,
            size: 0,
            shape,
        }
    }

    fn shape(&self, ty: BtfType<'_>) -> (Shape, usize) {
        let name = string(ty.name());
        if let Ok(int) = types::Int::try_from(ty) {
            let shape = match int.encoding {
                IntEncoding::Bool => Shape::Bool,
                encoding => Shape::Int {
                    name,
                    signed: matches!(encoding, IntEncoding::Signed),
                },
            };
            return (shape, int.size());
        }
        if let Ok(pointer) = types::Ptr::try_from(ty) {
            return (Shape::Pointer(pointer.referenced_type_id().into()), 8);
        }
        if let Ok(array) = types::Array::try_from(ty) {
            let (element, len) = (array.ty().into(), array.capacity());
            let size = self.node(element).size.saturating_mul(len);
            return (Shape::Array(element, len), size);
        }
        if let Ok(composite) = types::Composite::try_from(ty) {
            let keyword = if composite.is_struct {
                "struct"
            } else {
                "union"
            };
            let name = format!("{keyword} {name}");
            return (Shape::Composite(name), composite.size());
        }
        if let Ok(narrow) = types::Enum::try_from(ty) {
            let signed = narrow.is_signed();
            return (Shape::Enum { name, signed }, narrow.size());
        }
        if let Ok(wide) = types::Enum64::try_from(ty) {
            let signed = wide.is_signed();
            return (Shape::Enum { name, signed }, wide.size());
        }
        match ty.kind() {
            BtfKind::Float => (
                Shape::Float,
                types::Float::try_from(ty).map_or(0, |it| it.size()),
            ),
            BtfKind::Fwd => (Shape::Declared(name), 0),
            BtfKind::FuncProto => (Shape::Function, 0),
            _ => (Shape::Other, 0),
        }
    }

    /// The members of a struct or union; none of any other type.
    pub(crate) fn members(&self, id: Id) -> Vec<Part> {
        let Some(ty) = self.get(id) else {
            return Vec::new();
        };
        let Ok(composite) = types::Composite::try_from(ty.skip_mods_and_typedefs()) else {
            return Vec::new();
        };
        let members = composite.iter().map(|member| {
            let (bit_offset, bits) = match member.attr {
                MemberAttr::Normal { offset } => (offset, None),
                MemberAttr::BitField { size, offset } => (offset, Some(size)),
            };
            Part {
                name: string(member.name),
                ty: member.ty.into(),
                bit_offset: bit_offset as usize,
                bits,
            }
        });
        members.collect()
    }

    /// What a tracepoint hands to its programs, without the first argument of its
    /// probes. `btf_trace_NAME` has the types; the names are those of
    /// `__traceiter_NAME`, or `arg0`, `arg1`...
    pub(crate) fn tracepoint(&self, name: &str) -> Option<Prototype> {
        let typedef: types::Typedef<'_> = self.named(&format!("{TRACEPOINT}{name}"))?;
        let caller: Option<types::Func<'_>> = self.named(&format!("{CALLER}{name}"));
        self.tracepoint_of(*typedef, caller.map(|it| *it))
    }

    fn tracepoint_of(
        &self,
        typedef: BtfType<'_>,
        caller: Option<BtfType<'_>>,
    ) -> Option<Prototype> {
        let pointer = types::Ptr::try_from(typedef.next_type()?).ok()?;
        let mut found = self.prototype(pointer.next_type()?)?;
        found.arguments.drain(..found.arguments.len().min(1));
        let names = caller.and_then(|caller| self.prototype(caller.next_type()?));
        let names = names.map_or_else(Vec::new, |names| names.arguments);
        if names.len() == found.arguments.len() + 1 {
            let named = names.into_iter().skip(1);
            for (argument, named) in found.arguments.iter_mut().zip(named) {
                argument.name = named.name;
            }
        }
        name_all(&mut found.arguments);
        Some(found)
    }

    /// What a function takes; arguments without a name are `arg0`, `arg1`...
    pub(crate) fn function(&self, name: &str) -> Option<Prototype> {
        self.function_of(*self.named::<types::Func<'_>>(name)?)
    }

    fn function_of(&self, function: BtfType<'_>) -> Option<Prototype> {
        let mut found = self.prototype(function.next_type()?)?;
        name_all(&mut found.arguments);
        Some(found)
    }

    /// All tracepoints, and all functions, by name; without those of modules.
    pub(crate) fn events(&self) -> [BTreeMap<String, Prototype>; 2] {
        let functions = from::<types::Func<'_>>(&self.btf, self.first);
        let functions: BTreeMap<String, _> = functions.map(|it| (string(it.name()), it)).collect();
        let tracepoints = from::<types::Typedef<'_>>(&self.btf, self.first);
        let tracepoints = tracepoints.filter_map(|typedef| {
            let name = string(typedef.name()).strip_prefix(TRACEPOINT)?.to_owned();
            let caller = functions.get(&format!("{CALLER}{name}"));
            let found = self.tracepoint_of(*typedef, caller.map(|it| **it))?;
            Some((name, found))
        });
        let tracepoints = tracepoints.collect();
        let functions = functions
            .iter()
            .filter_map(|(name, it)| Some((name.clone(), self.function_of(**it)?)));
        [tracepoints, functions.collect()]
    }

    fn prototype(&self, ty: BtfType<'_>) -> Option<Prototype> {
        let prototype = types::FuncProto::try_from(ty).ok()?;
        let arguments = prototype.iter().map(|argument| Part {
            name: string(argument.name),
            ty: argument.ty.into(),
            bit_offset: 0,
            bits: None,
        });
        Some(Prototype {
            arguments: arguments.collect(),
            returned: prototype.referenced_type_id().into(),
        })
    }

    /// The struct of this name.
    pub(crate) fn structure(&self, name: &str) -> Option<Id> {
        let ty: types::Struct<'_> = self.named(name)?;
        Some(ty.type_id().into())
    }

    /// Of a name that types of several kinds have, the one of this kind.
    fn named<'s, K: TryFrom<BtfType<'s>>>(&'s self, name: &str) -> Option<K> {
        let ids = 1..u32::try_from(self.btf.len()).unwrap_or(u32::MAX);
        let mut types = ids.filter_map(|id| self.get(id));
        types.find_map(|ty| {
            let is_it = ty.name().is_some_and(|it| it == name);
            K::try_from(ty).ok().filter(|_| is_it)
        })
    }

    /// The names of all tracepoints that tp_btf programs can attach to, sorted.
    pub(crate) fn tracepoints(&self) -> Vec<String> {
        let typedefs = all::<types::Typedef<'_>>(&self.btf).into_iter();
        let names = typedefs.filter_map(|it| {
            let name = string(it.name());
            name.strip_prefix(TRACEPOINT).map(str::to_owned)
        });
        let of_modules = self.modules().iter().flat_map(|it| it.tracepoints.clone());
        sorted(names.chain(of_modules).collect())
    }

    /// The names of all functions, sorted.
    pub(crate) fn functions(&self) -> Vec<String> {
        let functions = all::<types::Func<'_>>(&self.btf).into_iter();
        let of_modules = self.modules().iter().flat_map(|it| it.functions.clone());
        let functions = functions.map(|it| string(it.name()));
        sorted(functions.chain(of_modules).collect())
    }

    /// A type as C writes it.
    pub(crate) fn c_name(&self, id: Id) -> String {
        let node = self.node(id);
        if let Some(typedef) = node.typedefs.first() {
            return typedef.clone();
        }
        match node.shape {
            Shape::Void => "void".to_owned(),
            Shape::Int { name, .. } => name,
            Shape::Bool => "bool".to_owned(),
            Shape::Enum { name, .. } => format!("enum {name}"),
            Shape::Float => "float".to_owned(),
            Shape::Pointer(to) => match self.node(to).shape {
                Shape::Function => "function *".to_owned(),
                _ => format!("{} *", self.c_name(to)).replace("* *", "**"),
            },
            Shape::Array(element, len) => format!("{}[{len}]", self.c_name(element)),
            Shape::Composite(name) => name,
            Shape::Declared(name) => format!("struct {name}"),
            Shape::Function | Shape::Other => "function".to_owned(),
        }
    }
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names.dedup();
    names
}

fn name_all(arguments: &mut [Part]) {
    for (i, argument) in arguments.iter_mut().enumerate() {
        if argument.name.is_empty() {
            argument.name = format!("arg{i}");
        }
    }
}
