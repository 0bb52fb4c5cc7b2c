//! Reads BTF through libbpf, into the owned types of this room: the only file
//! here that knows libbpf.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result};
use libbpf_rs::btf::types::{self, IntEncoding, MemberAttr};
use libbpf_rs::btf::{BtfKind, BtfType, HasSize, ReferencesType, TypeId};
use libbpf_rs::{AsRawLibbpf, Btf, OpenObject};

use super::declaration::{Declaration, MapFacts};
use super::table::{OptionSpec, Table};
use super::tags::{Decoder, Tags};
use super::types::{Kind, Member, Place, Type, Variant};
use crate::sys;

/// What an object declares: all that ktally knows about a tally.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    /// `TALLY(summary)`.
    pub summary: Option<String>,
    /// In the order of the object.
    pub options: Vec<OptionSpec>,
    /// In the order of the object.
    pub tables: Vec<Table>,
    /// Where each table's `struct tally_health` is in `.bss.ktally`.
    pub health: HashMap<String, Place>,
    /// Where the counter of gaps in its events is, in `.bss.ktally`; `None` where
    /// no program looks for them.
    pub gaps: Option<Place>,
    /// Where the flag is that makes it follow a command, in `.rodata`; `None`
    /// where no program asks for it.
    pub follow: Option<Place>,
    /// Where the PID namespace stands whose numbers it filters and shows, in
    /// `.rodata`; `None` where no program asks for it.
    pub pids: Option<Place>,
    /// The tags of each function, by name.
    pub functions: HashMap<String, Tags>,
}

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

impl Definition {
    /// Whether a live map has the type and the sizes that are declared.
    fn agrees(&self, facts: &MapFacts) -> bool {
        let id = |id: Option<TypeId>| id.map_or(0, u32::from);
        let fits = |declared: Option<u32>, size| declared.is_none_or(|it| it as usize == size);
        self.map_type == facts.type_number
            && (id(self.key), id(self.value)) == (facts.key_type_id, facts.value_type_id)
            && fits(self.key_size, facts.key_size)
            && fits(self.value_size, facts.value_size)
    }

    fn agrees_in_full(&self, facts: &MapFacts) -> bool {
        self.agrees(facts) && [0, facts.max_entries].contains(&self.max_entries)
    }
}

impl Schema {
    /// Of an object that is open, before libbpf rewrites its BTF for the kernel.
    pub fn of_object(object: &OpenObject) -> Result<Self> {
        // SAFETY: the pointer is valid for as long as `object` is borrowed, and
        // nothing here outlives this function.
        let raw = unsafe { object.as_libbpf_object().as_ref() };
        let btf = Btf::from_bpf_object(raw).context("failed to read the object's BTF")?;
        Ok(btf.map(|btf| Self::of_btf(&btf)).unwrap_or_default())
    }

    /// What makes it no tally that can be run: a table whose columns cannot be
    /// shown, an option that cannot be typed, or is not in the object's `.rodata`.
    pub fn fault(&self, rodata: &[u8]) -> Option<String> {
        let table = |table: &Table| Some(format!("table `{}`: {}", table.name, table.fault()?));
        let option = |option: &OptionSpec| {
            let ty = &option.place.ty;
            let is_typed = ty.is_scalar() && ty.kind != Kind::Pointer || ty.is_text();
            let OptionSpec { name, .. } = option;
            if option.place.bytes(rodata).is_none() {
                return Some(format!(
                    "option `{name}` is not within .rodata: the object is damaged; compile it again"
                ));
            }
            (!is_typed).then(|| {
                format!(
                    "option `{name}` is of a type that nobody can type (`{}`): use an integer, bool, enum, or a char array",
                    ty.name
                )
            })
        };
        let mut faults = self.tables.iter().filter_map(table);
        faults
            .next()
            .or_else(|| self.options.iter().find_map(option))
    }

    /// What `AS(...)` says, each once.
    pub fn decoders(&self) -> BTreeSet<&Decoder> {
        let tables = self.tables.iter();
        let labels = tables.flat_map(|table| table.labels.iter().chain(&table.details));
        let decoders = labels.filter_map(|label| label.decoder.as_ref());
        let options = self.options.iter();
        let options = options.filter_map(|option| option.decoder.as_ref());
        decoders.chain(options).collect()
    }

    /// These tables without the columns that are off with these contents of
    /// `.rodata`.
    pub fn with_options(&self, mut tables: Vec<Table>, rodata: &[u8]) -> Vec<Table> {
        let is_off = |name: &String| {
            let mut options = self.options.iter();
            let option = options.find(|option| option.name == *name);
            option.is_some_and(|option| option.place.raw(rodata) == Some(0))
        };
        for table in &mut tables {
            table
                .labels
                .retain(|label| !label.with.as_ref().is_some_and(is_off));
        }
        tables
    }

    /// Of raw BTF, as [`raw_btf`] gives it.
    pub fn of_raw(raw: &[u8]) -> Result<Self> {
        Ok(Self::of_btf(&parse_btf(raw)?))
    }

    /// Of BTF from anywhere. Total: what is malformed or unknown is left out.
    pub fn of_btf(btf: &Btf<'_>) -> Self {
        let mut reader = Reader::new(btf);
        let rodata = reader.section(".rodata");
        let given: HashMap<String, Place> = rodata
            .iter()
            .filter_map(|var| {
                let option = var.name.strip_suffix("_given")?;
                Some((option.to_owned(), reader.place(var)))
            })
            .collect();
        let options = rodata
            .iter()
            .filter_map(|var| {
                Some(OptionSpec {
                    name: var.name.clone(),
                    help: var.tags.option.clone()?,
                    place: reader.place(var),
                    unit: var.tags.unit.clone(),
                    decoder: var.tags.decoder.clone(),
                    given: given.get(&var.name).cloned(),
                })
            })
            .collect();
        let follow = rodata.iter().find(|var| var.tags.follow);
        let follow = follow.map(|var| reader.place(var));
        let pids = rodata.iter().find(|var| var.tags.pids);
        let pids = pids.map(|var| reader.place(var));
        let tables = reader
            .section(".maps")
            .iter()
            .filter(|var| var.tags.table.is_some())
            .filter_map(|var| reader.table(var))
            .collect();
        let counters = reader.section(".bss.ktally");
        let gaps = counters.iter().find(|var| var.tags.gaps);
        let gaps = gaps.map(|var| reader.place(var));
        let health = counters
            .iter()
            .filter_map(|var| {
                let table = var.name.strip_suffix("_health")?;
                Some((table.to_owned(), reader.place(var)))
            })
            .collect();
        let summary = reader
            .section("license")
            .into_iter()
            .find_map(|var| var.tags.tally);
        Self {
            summary,
            options,
            tables,
            health,
            gaps,
            follow,
            pids,
            functions: reader.functions(),
        }
    }
}

/// The BTF of an object that is open, with all of its tags; none where it has
/// none.
pub fn raw_btf(object: &OpenObject) -> Result<Vec<u8>> {
    // SAFETY: the pointer is valid for as long as `object` is borrowed, and
    // nothing here outlives this function.
    let raw = unsafe { object.as_libbpf_object().as_ref() };
    let btf = Btf::from_bpf_object(raw).context("failed to read the object's BTF")?;
    Ok(btf
        .map(|btf| sys::program::raw_btf(&btf))
        .unwrap_or_default())
}

/// What is in every map that raw BTF declares, as C without tags, by the name
/// of the map or of the section.
pub fn declared_types(raw: &[u8]) -> Result<HashMap<String, String>> {
    let btf = parse_btf(raw)?;
    let mut reader = Reader::new(&btf);
    let mut types = HashMap::new();
    for var in reader.section(".maps") {
        if let Some(definition) = reader.definition(var.ty) {
            let (key, value) = (definition.key, definition.value);
            let mut c = String::new();
            for (what, id) in [("key", key), ("value", value)] {
                if let Some(id) = id {
                    c += &reader.ty(id).as_c(what);
                }
            }
            types.insert(var.name, c);
        }
    }
    for section in all::<types::DataSec<'_>>(&btf) {
        let name = string(section.name());
        let c = reader.ty(section.type_id()).as_c("");
        types.insert(name, c);
    }
    Ok(types)
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
    /// No C type nests deeper; a hostile one that does ends as bytes.
    const DEEPEST: usize = 64;
    /// Nor has any so many members of members; a few hostile bytes can say so.
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

    /// What a live map declares. The kernel cuts names to 15 characters. The full
    /// name is that of the one declaration in `.maps` that agrees with the map, or
    /// that of a section; where no or several declarations agree, it is unknown.
    fn declaration(&mut self, facts: &MapFacts, of_kernel: Option<Arc<Type>>) -> Declaration {
        let mut ty = |id| (id != 0).then(|| self.ty(TypeId::from(id)));
        let (key, value) = (ty(facts.key_type_id), ty(facts.value_type_id));
        let value = value.or(of_kernel);
        let declared: Vec<_> = self
            .section(".maps")
            .into_iter()
            .filter(|var| facts.may_be_called(&var.name))
            .filter_map(|var| Some((self.definition(var.ty)?, var)))
            .collect();
        let only = |agrees: fn(&Definition, &MapFacts) -> bool| {
            let mut agreeing = declared.iter().filter(|(it, _)| agrees(it, facts));
            let first = agreeing.next().map(|(_, var)| var);
            first.filter(|_| agreeing.next().is_none())
        };
        let section: Option<types::DataSec<'_>> =
            self.btf.type_by_id(TypeId::from(facts.value_type_id));
        let section = section.and_then(|section| section.name()?.to_str());
        let name = match (only(Definition::agrees_in_full), section) {
            (Some(var), _) => Some(var.name.clone()),
            (None, Some(section)) => {
                let object = facts.name.split('.').next().unwrap_or_default();
                Some(format!("{object}{section}"))
            }
            (None, None) => None,
        };
        // A map that was made larger or smaller still has the declared types.
        let tags = only(Definition::agrees).map(|var| var.tags.clone());
        let possible_names = match name {
            Some(_) => Vec::new(),
            None => declared.iter().map(|(_, var)| var.name.clone()).collect(),
        };
        let name = name.unwrap_or_else(|| facts.name.clone());
        Declaration {
            possible_names,
            ..Declaration::new(facts, name, tags.unwrap_or_default(), key, value)
        }
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
                let inner = ty
                    .next_type()
                    .map_or_else(|| Type::opaque(0), |next| self.ty(next.type_id()));
                // An anonymous struct is known by its typedef; a named one keeps its name.
                match inner.struct_members().is_empty() || inner.name.is_empty() {
                    true => Arc::new(Type {
                        name,
                        ..Type::clone(&inner)
                    }),
                    false => inner,
                }
            }
            BtfKind::Const | BtfKind::Volatile | BtfKind::Restrict | BtfKind::TypeTag => ty
                .next_type()
                .map_or_else(|| Type::opaque(0), |next| self.ty(next.type_id())),
            BtfKind::Ptr => Arc::new(Type {
                name: "void *".to_owned(),
                size: 8,
                kind: Kind::Pointer,
            }),
            BtfKind::Array => self.array(ty),
            BtfKind::DataSec => self.data_section(ty, name),
            BtfKind::Struct | BtfKind::Union => self.composite(ty, &name),
            BtfKind::Enum | BtfKind::Enum64 => enumeration(self.btf, ty, &name),
            BtfKind::Float => Arc::new(Type {
                name,
                size: types::Float::try_from(ty).map_or(0, |float| float.size()),
                kind: Kind::Float,
            }),
            _ => Type::opaque(0),
        }
    }

    fn array(&mut self, ty: BtfType<'a>) -> Arc<Type> {
        let Ok(array) = types::Array::try_from(ty) else {
            return Type::opaque(0);
        };
        let (element, len) = (self.ty(array.ty()), array.capacity());
        Arc::new(Type {
            name: format!("{}[{len}]", element.name),
            size: element.size.saturating_mul(len),
            kind: Kind::Array { element, len },
        })
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
        Arc::new(Type {
            kind: Kind::Struct(members.collect()),
            name,
            size,
        })
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
                tags: self.tags(ty.type_id(), Some(component)),
            })
            .collect();
        let keyword = if composite.is_struct {
            "struct"
        } else {
            "union"
        };
        Arc::new(Type {
            name: c_name(keyword, name),
            size: composite.size(),
            kind: match composite.is_struct {
                true => Kind::Struct(members),
                false => Kind::Union(members),
            },
        })
    }

    fn member_place(&mut self, id: TypeId, attr: MemberAttr) -> Place {
        let ty = self.ty(id);
        match attr {
            MemberAttr::Normal { offset } => Place {
                bit_offset: offset as usize,
                bits: None,
                ty,
            },
            MemberAttr::BitField { size, offset } => Place {
                bit_offset: offset as usize,
                bits: Some(size),
                ty,
            },
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
    Arc::new(Type {
        name,
        size: int.size(),
        kind,
    })
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
        let value = |value: i64| match is_signed {
            true => i128::from(value as i32),
            false => i128::from(value),
        };
        let variants = narrow
            .iter()
            .map(|v| (string(v.name), value(v.value)))
            .collect();
        (narrow.size(), is_signed, variants)
    } else if let Ok(wide) = types::Enum64::try_from(ty) {
        let variants = wide.iter().map(|v| (string(v.name), v.value)).collect();
        (wide.size(), wide.is_signed(), variants)
    } else {
        (0, false, Vec::new())
    };
    let variants = variants
        .into_iter()
        .map(|(name, value)| Variant { name, value })
        .collect();
    Arc::new(Type {
        name: c_name("enum", name),
        size,
        kind: Kind::Enum { signed, variants },
    })
}

/// The BTF that maps were loaded with, read once for all maps that share it.
#[derive(Default)]
pub struct MapBtf {
    known: RefCell<HashMap<u32, Option<Rc<Btf<'static>>>>>,
    /// The value of each type of the kernel's that a map holds.
    of_kernel: RefCell<HashMap<u32, Option<Arc<Type>>>>,
}

impl MapBtf {
    /// What is known about a map; without BTF, or where it is not to be had, its
    /// sizes alone.
    pub fn declaration(&self, facts: &MapFacts) -> Declaration {
        let value = self.kernel_type(facts.kernel_value_type_id);
        match self.btf(facts.btf_id) {
            Some(btf) => Reader::new(&btf).declaration(facts, value),
            None => Declaration::new(facts, facts.name.clone(), Tags::default(), None, value),
        }
    }

    /// A type of the kernel's own BTF. Structs of modules are not in it: what this
    /// id is there has another size, and is not taken for the value.
    fn kernel_type(&self, id: u32) -> Option<Arc<Type>> {
        let read = || {
            let btf = KernelBtf::load().ok()?.0;
            Some(Reader::new(&btf).ty(TypeId::from(id)))
        };
        let mut known = self.of_kernel.borrow_mut();
        (id != 0).then(|| known.entry(id).or_insert_with(read).clone())?
    }

    fn btf(&self, id: u32) -> Option<Rc<Btf<'static>>> {
        let load = || match id {
            0 => None,
            id => load_btf(id).ok().flatten().map(Rc::new),
        };
        self.known
            .borrow_mut()
            .entry(id)
            .or_insert_with(load)
            .clone()
    }
}

/// BTF that the kernel holds; `None` for that of a module. libbpf reads it only
/// from files.
fn load_btf(id: u32) -> Result<Option<Btf<'static>>> {
    let (bytes, is_module) = sys::btf_by_id(id).context("failed to ask the kernel for BTF")?;
    if is_module {
        return Ok(None);
    }
    parse_btf(&bytes).map(Some)
}

/// BTF from its bytes, whoever's they are.
fn parse_btf(bytes: &[u8]) -> Result<Btf<'static>> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let mut file = File::from(memfd_create(c"btf", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Btf::from_path(path).context("failed to parse BTF")
}

/// The running kernel's own BTF.
pub struct KernelBtf(Btf<'static>);

impl KernelBtf {
    /// From /sys/kernel/btf/vmlinux; fails where the kernel has none.
    pub fn load() -> Result<Self> {
        Ok(Self(
            Btf::from_vmlinux().context("failed to read the kernel's BTF")?,
        ))
    }

    /// Every type of the kernel, as the "vmlinux.h" that C files include.
    pub fn as_c_header(&self) -> Result<String> {
        let types = sys::btf_as_c(&self.0).context("failed to write the kernel's types as C")?;
        Ok(format!(
            "#ifndef __VMLINUX_H__\n#define __VMLINUX_H__\n\
             #pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)\n\
             {types}\
             #pragma clang attribute pop\n#endif\n"
        ))
    }

    /// The names of one of the kernel's enums; none where it has no such enum.
    pub fn enum_variants(&self, name: &str) -> Vec<Variant> {
        let wanted = Some(OsStr::new(name));
        let found = all::<BtfType<'_>>(&self.0)
            .into_iter()
            .find(|ty| ty.is_any_enum() && ty.name() == wanted);
        match found.map(|ty| Type::clone(&enumeration(&self.0, ty, name)).kind) {
            Some(Kind::Enum { variants, .. }) => variants,
            _ => Vec::new(),
        }
    }

    /// Whether tp_btf and raw_tp programs can attach to this tracepoint.
    pub fn has_tracepoint(&self, name: &str) -> bool {
        self.has::<types::Typedef<'_>>(&format!("btf_trace_{name}"))
    }

    /// Whether the kernel has a function of this name.
    pub fn has_function(&self, name: &str) -> bool {
        self.has::<types::Func<'_>>(name)
    }

    fn has<'s, K: TryFrom<BtfType<'s>>>(&'s self, name: &str) -> bool {
        !name.contains('\0') && self.0.type_by_name::<K>(name).is_some()
    }
}

fn all<'a, K: TryFrom<BtfType<'a>>>(btf: &'a Btf<'a>) -> Vec<K> {
    (1..btf.len())
        .filter_map(|id| btf.type_by_id(TypeId::from(u32::try_from(id).ok()?)))
        .collect()
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
