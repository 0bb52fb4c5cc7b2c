//! Reads BTF through libbpf, into the owned types of the schema: the only files
//! there that know libbpf.

mod extract;
mod found;
mod live;
mod module;
mod object;
mod raw;
pub(crate) mod walk;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use anyhow::{Context, Result};
use libbpf_rs::Btf;
use libbpf_rs::btf::types::{self, IntEncoding, MemberAttr};
use libbpf_rs::btf::{BtfKind, BtfType, HasSize, ReferencesType, TypeId};

use super::table::Table;
use super::tags::{Decoder, Tags};
use super::types::{Kind, Member, Place, Type, Variant};
use crate::sys;

pub(crate) use found::TABLE_TYPES;
pub use live::KernelBtf;
pub(crate) use live::MapBtf;
pub use object::Schema;
pub(crate) use object::{declared_types, raw_btf};

/// A variable of a section, with the tags beside it.
#[derive(Debug)]
struct Variable {
    name: String,
    ty: TypeId,
    byte_offset: usize,
    tags: Tags,
}

/// What a map's definition says, as far as it matters here.
#[derive(Default)]
struct Definition {
    map_type: u32,
    key: Option<TypeId>,
    value: Option<TypeId>,
    key_size: Option<u32>,
    value_size: Option<u32>,
    /// 0 where the loader decides.
    max_entries: u32,
}

/// Types by id, each built once; tags by what they are on.
struct Reader<'a> {
    btf: &'a Btf<'a>,
    types: HashMap<TypeId, Arc<Type>>,
    /// Of each of them, how many scalars it has.
    leaves: HashMap<*const Type, usize>,
    tags: HashMap<(TypeId, Option<u32>), Tags>,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// Limit on nested types: C has none so deep, and deeper ones are bytes.
    const DEEPEST: usize = 64;
    /// Limit on flattened members: a few bytes of hostile BTF can describe
    /// exponentially many.
    const MOST_LEAVES: usize = 1 << 16;

    fn new(btf: &'a Btf<'a>) -> Self {
        let mut tags: HashMap<_, Tags> = HashMap::new();
        for tag in all::<types::DeclTag<'_>>(btf) {
            let target = (tag.referenced_type_id(), tag.component_index());
            tags.entry(target).or_default().add(&string(tag.name()));
        }
        Self {
            btf,
            types: HashMap::new(),
            leaves: HashMap::new(),
            tags,
            depth: 0,
        }
    }

    fn tags(&self, id: TypeId, component: Option<u32>) -> Tags {
        self.tags.get(&(id, component)).cloned().unwrap_or_default()
    }

    /// The variables of a section of the object.
    fn section(&self, name: &str) -> Vec<Variable> {
        let sections = all::<types::DataSec<'_>>(self.btf);
        let Some(section) = sections
            .into_iter()
            .find(|s| s.name() == Some(OsStr::new(name)))
        else {
            return Vec::new();
        };
        section
            .iter()
            .filter_map(|info| {
                let var: types::Var<'_> = self.btf.type_by_id(info.ty)?;
                Some(Variable {
                    name: string(var.name()),
                    ty: var.referenced_type_id(),
                    byte_offset: info.offset as usize,
                    tags: self.tags(info.ty, None),
                })
            })
            .collect()
    }

    fn functions(&self) -> HashMap<String, Tags> {
        all::<types::Func<'_>>(self.btf)
            .into_iter()
            .map(|func| (string(func.name()), self.tags(func.type_id(), None)))
            .collect()
    }

    fn place(&mut self, var: &Variable) -> Place {
        Place::whole(self.ty(var.ty)).shifted(var.byte_offset * 8)
    }

    fn table(&mut self, var: &Variable) -> Option<Table> {
        let definition = self.definition(var.ty)?;
        let (key, value) = (self.ty(definition.key?), self.ty(definition.value?));
        let max_entries = definition.max_entries;
        Some(Table::new(&var.name, &var.tags, max_entries, &key, &value))
    }

    /// A map's definition: `__type(key, ...)` is a member that points to the
    /// type, `__uint(max_entries, n)` one that points to an array of n.
    fn definition(&self, id: TypeId) -> Option<Definition> {
        let members: types::Struct<'_> = self.btf.type_by_id(id)?;
        let mut definition = Definition::default();
        for member in members.iter() {
            let Some(pointer) = self.btf.type_by_id::<types::Ptr<'_>>(member.ty) else {
                continue;
            };
            let target = pointer.referenced_type_id();
            let number = || {
                let array: types::Array<'_> = self.btf.type_by_id(target)?;
                u32::try_from(array.capacity()).ok()
            };
            match member.name.and_then(OsStr::to_str) {
                Some("type") => definition.map_type = number()?,
                Some("key") => definition.key = Some(target),
                Some("value") => definition.value = Some(target),
                Some("key_size") => definition.key_size = Some(number()?),
                Some("value_size") => definition.value_size = Some(number()?),
                Some("max_entries") => definition.max_entries = number()?,
                _ => {}
            }
        }
        Some(definition)
    }

    /// The type of this id; a type that does not exist, or that contains
    /// itself, is opaque.
    fn ty(&mut self, id: TypeId) -> Arc<Type> {
        if let Some(ty) = self.types.get(&id) {
            return Arc::clone(ty);
        }
        self.depth += 1;
        let mut ty = match self.btf.type_by_id::<BtfType<'_>>(id) {
            Some(ty) if self.depth <= Self::DEEPEST => self.build(ty),
            _ => Type::opaque(0),
        };
        self.depth -= 1;
        let mut leaves = self.leaves(&ty);
        if leaves > Self::MOST_LEAVES {
            (ty, leaves) = (Type::opaque(ty.size), 1);
        }
        self.leaves.insert(Arc::as_ptr(&ty), leaves);
        self.types.insert(id, Arc::clone(&ty));
        ty
    }

    /// What it is made of was counted before.
    fn leaves(&self, ty: &Type) -> usize {
        let of = |ty: &Arc<Type>| self.leaves.get(&Arc::as_ptr(ty)).copied().unwrap_or(1);
        match &ty.kind {
            Kind::Struct(members) | Kind::Union(members) => {
                let leaves = members.iter().map(|member| of(&member.place.ty));
                leaves.fold(1, usize::saturating_add)
            }
            Kind::Array { element, .. } => of(element),
            _ => 1,
        }
    }

    fn build(&mut self, ty: BtfType<'a>) -> Arc<Type> {
        let name = string(ty.name());
        match ty.kind() {
            BtfKind::Int => int(ty, name),
            BtfKind::Typedef => {
                let inner = self.next(ty);
                // An anonymous struct is known by its typedef; a named one keeps its name.
                if inner.struct_members().is_empty() || inner.name.is_empty() {
                    Type::new(name, inner.size, inner.kind.clone())
                } else {
                    inner
                }
            }
            BtfKind::Const | BtfKind::Volatile | BtfKind::Restrict | BtfKind::TypeTag => {
                self.next(ty)
            }
            BtfKind::Ptr => Type::new("void *", 8, Kind::Pointer),
            BtfKind::Array => types::Array::try_from(ty).map_or_else(
                |_| Type::opaque(0),
                |array| Type::array(self.ty(array.ty()), array.capacity()),
            ),
            BtfKind::DataSec => self.data_section(ty, name),
            BtfKind::Struct | BtfKind::Union => self.composite(ty, &name),
            BtfKind::Enum | BtfKind::Enum64 => enumeration(self.btf, ty, &name),
            BtfKind::Float => {
                let size = types::Float::try_from(ty).map_or(0, |float| float.size());
                Type::new(name, size, Kind::Float)
            }
            _ => Type::opaque(0),
        }
    }

    /// The type that a typedef or a qualifier is of.
    fn next(&mut self, ty: BtfType<'a>) -> Arc<Type> {
        let next = ty.next_type();
        next.map_or_else(|| Type::opaque(0), |next| self.ty(next.type_id()))
    }

    /// The variables of a section are as good as the members of a struct.
    fn data_section(&mut self, ty: BtfType<'a>, name: String) -> Arc<Type> {
        let size = types::DataSec::try_from(ty).map_or(0, |section| section.size());
        let variables = self.section(&name);
        let members = variables.iter().map(|var| Member {
            name: var.name.clone(),
            place: self.place(var),
            tags: var.tags.clone(),
        });
        Type::new(name, size, Kind::Struct(members.collect()))
    }

    fn composite(&mut self, ty: BtfType<'a>, name: &str) -> Arc<Type> {
        let Ok(composite) = types::Composite::try_from(ty) else {
            return Type::opaque(0);
        };
        let members = composite
            .iter()
            .zip(0..)
            .map(|(member, component)| Member {
                name: string(member.name),
                place: self.member_place(member.ty, member.attr),
                tags: self.member_tags(ty.type_id(), component, member.ty),
            })
            .collect();
        let (keyword, kind) = if composite.is_struct {
            ("struct", Kind::Struct(members))
        } else {
            ("union", Kind::Union(members))
        };
        Type::new(c_name(keyword, name), composite.size(), kind)
    }

    /// A pointer to a function is shown as that, unless its author says otherwise.
    fn member_tags(&self, of: TypeId, component: u32, id: TypeId) -> Tags {
        let mut tags = self.tags(of, Some(component));
        let pointer = self.btf.type_by_id::<types::Ptr<'_>>(id);
        let target = pointer.and_then(|it| it.next_type());
        let is_function = target.is_some_and(|it| it.kind() == BtfKind::FuncProto);
        if tags.decoder.is_none() && is_function {
            tags.decoder = Some(Decoder::KSYM);
        }
        tags
    }

    fn member_place(&mut self, id: TypeId, attr: MemberAttr) -> Place {
        let (offset, bits) = match attr {
            MemberAttr::Normal { offset } => (offset, None),
            MemberAttr::BitField { size, offset } => (offset, Some(size)),
        };
        Place {
            bit_offset: offset as usize,
            bits,
            ty: self.ty(id),
        }
    }
}

fn int(ty: BtfType<'_>, name: String) -> Arc<Type> {
    let Ok(int) = types::Int::try_from(ty) else {
        return Type::opaque(0);
    };
    let kind = match int.encoding {
        IntEncoding::Bool => Kind::Bool,
        // clang calls a plain `char` a signed integer.
        _ if int.size() == 1 && name == "char" => Kind::Char,
        IntEncoding::Signed => Kind::Int { signed: true },
        IntEncoding::Char | IntEncoding::None => Kind::Int { signed: false },
    };
    Type::new(name, int.size(), kind)
}

/// Before clang 15 no enum says that it is signed, and one with values below zero
/// looks like one with values from 2^31 on. Where no enum says so, these are below
/// zero, as they are for bpftool.
fn enumeration(btf: &Btf<'_>, ty: BtfType<'_>, name: &str) -> Arc<Type> {
    let (size, signed, variants) = if let Ok(narrow) = types::Enum::try_from(ty) {
        let says_so = |narrow: &types::Enum<'_>| narrow.is_signed();
        let is_signed = says_so(&narrow)
            || narrow.iter().any(|v| v.value > i32::MAX.into())
                && !all::<types::Enum<'_>>(btf).iter().any(says_so);
        let signed = |value: i64| {
            if is_signed {
                i64::from(value as i32)
            } else {
                value
            }
        };
        let variants = narrow
            .iter()
            .map(|v| variant(v.name, signed(v.value).into()));
        (narrow.size(), is_signed, variants.collect())
    } else if let Ok(wide) = types::Enum64::try_from(ty) {
        let variants = wide.iter().map(|v| variant(v.name, v.value));
        (wide.size(), wide.is_signed(), variants.collect())
    } else {
        (0, false, Vec::new())
    };
    Type::new(c_name("enum", name), size, Kind::Enum { signed, variants })
}

fn variant(name: Option<&OsStr>, value: i128) -> Variant {
    let name = string(name);
    Variant { name, value }
}

/// The part of the kernel's BTF that an object with this BTF needs: `None` where all of
/// it is needed, or there is none.
pub(crate) fn kernel_btf_for(object: &[u8]) -> Option<File> {
    let part = sys::btf::with_kernel_btf(|kernel| extract::extract(kernel, object));
    file_of(&part.ok()??).ok()
}

/// libbpf reads BTF from files alone.
fn file_of(btf: &[u8]) -> Result<File> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let mut file = File::from(memfd_create(c"btf", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(btf)?;
    Ok(file)
}

/// From bytes of any origin.
fn parse_btf(bytes: &[u8]) -> Result<Btf<'static>> {
    let file = file_of(bytes)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Btf::from_path(path).context("failed to parse BTF")
}

fn all<'a, K: TryFrom<BtfType<'a>>>(btf: &'a Btf<'a>) -> Vec<K> {
    from(btf, 1).collect()
}

/// The types from this number on.
fn from<'a, K: TryFrom<BtfType<'a>>>(btf: &'a Btf<'a>, first: usize) -> impl Iterator<Item = K> {
    let ids = (first..btf.len()).filter_map(|id| u32::try_from(id).ok());
    ids.filter_map(|id| btf.type_by_id(TypeId::from(id)))
}

fn c_name(keyword: &str, name: &str) -> String {
    match name {
        "" => String::new(),
        _ => format!("{keyword} {name}"),
    }
}

fn string(name: Option<&OsStr>) -> String {
    name.map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}
