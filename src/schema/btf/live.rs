//! The BTF of what the kernel holds: of maps, and its own.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result};
use libbpf_rs::Btf;
use libbpf_rs::btf::{BtfType, TypeId, types};

use super::module::Module;
use super::walk::TRACEPOINT;
use super::{Definition, Reader, enumeration, from, parse_btf};
use crate::schema::declaration::{Declaration, MapFacts};
use crate::schema::tags::Tags;
use crate::schema::types::{Kind, Type, Variant};
use crate::sys;

/// The BTF that maps were loaded with, read once for all maps that share it.
#[derive(Default)]
pub(crate) struct MapBtf {
    known: RefCell<HashMap<u32, Option<Rc<Btf<'static>>>>>,
    /// The value of each type of the kernel's that a map holds.
    of_kernel: RefCell<HashMap<u32, Option<Arc<Type>>>>,
}

impl MapBtf {
    /// What is known about a map; without BTF, or where it is not to be had, its
    /// sizes alone.
    pub(crate) fn declaration(&self, facts: &MapFacts) -> Declaration {
        let value = self.kernel_type(facts.kernel_value_type_id);
        match self.btf(facts.btf_id) {
            Some(btf) => Reader::new(&btf).declaration(facts, value),
            None => Declaration::new(facts, facts.name.clone(), Tags::default(), [None, value]),
        }
    }

    /// A type of the kernel's own BTF. Structs of modules are not in it: what this
    /// id is there has another size, and is not taken for the value.
    fn kernel_type(&self, id: u32) -> Option<Arc<Type>> {
        let read = || {
            let btf = KernelBtf::load().ok()?.btf;
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

/// The running kernel's own BTF.
pub struct KernelBtf {
    pub(super) btf: Btf<'static>,
    /// The types from here on are what it offers: all, or those of a module alone.
    pub(super) first: usize,
    /// What has the BTF of modules; read only for what the kernel itself has not.
    pub(super) folder: PathBuf,
    pub(super) modules: OnceCell<Vec<Module>>,
}

impl KernelBtf {
    /// From /sys/kernel/btf/vmlinux; fails where the kernel has none.
    pub fn load() -> Result<Self> {
        let btf = Btf::from_vmlinux().context("failed to read the kernel's BTF")?;
        Ok(Self {
            folder: "/sys/kernel/btf".into(),
            ..Self::new(btf)
        })
    }

    /// Without modules.
    pub(super) fn new(btf: Btf<'static>) -> Self {
        Self {
            btf,
            first: 1,
            folder: PathBuf::new(),
            modules: OnceCell::new(),
        }
    }

    /// Every type of the kernel, as the "vmlinux.h" that C files include.
    pub fn as_c_header(&self) -> Result<String> {
        let types = sys::btf_as_c(&self.btf).context("failed to write the kernel's types as C")?;
        Ok(format!(
            "#ifndef __VMLINUX_H__\n#define __VMLINUX_H__\n\
             #pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)\n\
             {types}\
             #pragma clang attribute pop\n#endif\n"
        ))
    }

    /// The names of one of the kernel's enums, or of a module's; none where it has no such
    /// enum.
    pub(crate) fn enum_variants(&self, name: &str) -> Vec<Variant> {
        let wanted = Some(OsStr::new(name));
        let mut enums = self.enums();
        let found = enums.find(|ty| ty.name() == wanted);
        if let Some(ty) = found {
            return self.variants(ty);
        }
        let module = self.modules().iter().find(|it| it.enums.contains(name));
        let whole = module.and_then(|module| self.with(module).ok());
        whole.map_or_else(Vec::new, |whole| whole.enum_variants(name))
    }

    /// The same of the enum that has this name among its own, as an enum need have none.
    pub(crate) fn enum_with(&self, variant: &str) -> Vec<Variant> {
        let mut enums = self.enums().filter_map(|ty| types::Enum::try_from(ty).ok());
        let wanted = Some(OsStr::new(variant));
        let found = enums.find(|ty| ty.iter().any(|it| it.name == wanted));
        found.map_or_else(Vec::new, |ty| self.variants(*ty))
    }

    fn enums(&self) -> impl Iterator<Item = BtfType<'_>> {
        from::<BtfType<'_>>(&self.btf, 1).filter(BtfType::is_any_enum)
    }

    fn variants(&self, ty: BtfType<'_>) -> Vec<Variant> {
        match Type::clone(&enumeration(&self.btf, ty, "")).kind {
            Kind::Enum { variants, .. } => variants,
            _ => Vec::new(),
        }
    }

    /// Whether tp_btf and raw_tp programs can attach to this tracepoint.
    pub(crate) fn has_tracepoint(&self, name: &str) -> bool {
        self.has::<types::Typedef<'_>>(&format!("{TRACEPOINT}{name}"))
            || self
                .modules()
                .iter()
                .any(|it| it.tracepoints.contains(name))
    }

    /// Whether the kernel has a function of this name.
    pub(crate) fn has_function(&self, name: &str) -> bool {
        self.has::<types::Func<'_>>(name)
            || self.modules().iter().any(|it| it.functions.contains(name))
    }

    pub(super) fn has<'s, K: TryFrom<BtfType<'s>>>(&'s self, name: &str) -> bool {
        !name.contains('\0') && self.btf.type_by_name::<K>(name).is_some()
    }
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

impl Reader<'_> {
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
            ..Declaration::new(facts, name, tags.unwrap_or_default(), [key, value])
        }
    }
}
