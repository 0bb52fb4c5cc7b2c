//! What an object without tags on its maps declares: the maps that count, its variables,
//! and the constants that its own loader sets.

use libbpf_rs::MapType;
use libbpf_rs::btf::types;
use libbpf_rs::btf::{BtfKind, BtfType, TypeId};

use super::{Definition, Reader, Variable, all, string};
use crate::schema::option::OptionSpec;
use crate::schema::table::Table;
use crate::schema::tags::Tags;
use crate::schema::types::Type;

/// The types of maps that a table can be.
pub(crate) const TABLE_TYPES: [MapType; 6] = [
    MapType::Array,
    MapType::Hash,
    MapType::LruHash,
    MapType::LruPercpuHash,
    MapType::PercpuArray,
    MapType::PercpuHash,
];

/// The sections of variables that programs change.
const SECTIONS: [&str; 2] = [".bss", ".data"];

impl Reader<'_> {
    /// Each map that is read by its keys, then the variables.
    pub(super) fn found_tables(&mut self, maps: &[Variable]) -> Vec<Table> {
        let maps = maps.iter().filter_map(|var| self.found_table(var));
        let mut tables: Vec<Table> = maps.collect();
        for section in all::<types::DataSec<'_>>(self.btf) {
            let name = string(section.name());
            let is_it = |it: &&str| name == **it || name.starts_with(&format!("{it}."));
            if SECTIONS.iter().any(is_it) && !section.is_empty() {
                let ty = self.ty(section.type_id());
                tables.push(Table::of_section(&name, &ty));
            }
        }
        tables
    }

    fn found_table(&mut self, var: &Variable) -> Option<Table> {
        let definition = self.definition(var.ty)?;
        if !TABLE_TYPES.contains(&MapType::from(definition.map_type)) {
            return None;
        }
        let key = self.found_type(definition.key, definition.key_size)?;
        let value = self.found_type(definition.value, definition.value_size)?;
        let (tags, max_entries) = (Tags::default(), definition.max_entries);
        Some(Table::new(&var.name, &tags, max_entries, &key, &value).found())
    }

    /// A type that only has a size is a number, or bytes.
    fn found_type(
        &mut self,
        id: Option<TypeId>,
        size: Option<u32>,
    ) -> Option<std::sync::Arc<Type>> {
        match (id, size) {
            (Some(id), _) => Some(self.ty(id)),
            (None, Some(size @ (1 | 2 | 4 | 8))) => Some(Type::unsigned(size as usize)),
            (None, size) => size.map(|size| Type::opaque(size as usize)),
        }
    }

    /// The constants that a loader sets before it loads.
    pub(super) fn settings(&mut self, rodata: &[Variable]) -> Vec<OptionSpec> {
        let settings = rodata.iter().filter(|var| self.is_volatile(var.ty));
        let settings: Vec<&Variable> = settings.collect();
        let settings = settings.into_iter().map(|var| OptionSpec {
            name: var.name.clone(),
            help: String::new(),
            place: self.place(var),
            unit: None,
            decoder: None,
            short: None,
            given: None,
            is_found: true,
        });
        settings.filter(OptionSpec::is_typed).collect()
    }

    /// `const volatile`, in either order.
    fn is_volatile(&self, mut id: TypeId) -> bool {
        while let Some(ty) = self.btf.type_by_id::<BtfType<'_>>(id) {
            match (ty.kind(), ty.next_type()) {
                (BtfKind::Volatile, _) => return true,
                (BtfKind::Const, Some(next)) => id = next.type_id(),
                (BtfKind::Array, _) => match types::Array::try_from(ty) {
                    Ok(array) => id = array.ty(),
                    Err(_) => return false,
                },
                _ => return false,
            }
        }
        false
    }

    /// The maps through which programs send events to their own loader.
    pub(super) fn senders(&self, maps: &[Variable]) -> Vec<String> {
        use MapType::{PerfEventArray, RingBuf};
        let is_sender =
            |it: &Definition| matches!(MapType::from(it.map_type), PerfEventArray | RingBuf);
        let maps = maps.iter();
        let senders = maps.filter(|var| self.definition(var.ty).as_ref().is_some_and(is_sender));
        senders.map(|var| var.name.clone()).collect()
    }
}
