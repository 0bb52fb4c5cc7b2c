//! The row `other` of a tally's table, which is in another map of the same object.

use super::{Map, iterator, open};
use crate::schema::MapBtf;

/// The section where the header puts it.
const SECTION: &str = ".bss.ktally";

impl Map {
    /// The value of the row `other`, if this is the table `name` of a tally. The
    /// kernel holds the BTF of each object once, so maps with the same BTF are of
    /// one object. `None` also without the privilege to list maps.
    pub(crate) fn other(&self, name: &str, btf: &MapBtf) -> Option<Vec<u8>> {
        let btf_id = Some(self.facts.btf_id).filter(|id| *id != 0)?;
        let maps = iterator::maps().ok()?.into_iter();
        let mut sections = maps.filter(|map| map.name() == SECTION).filter_map(|map| {
            let section = open::open(map.id).ok()?;
            (section.facts.btf_id == btf_id).then_some(section)
        });
        let section = sections.next()?;
        let value = btf.declaration(&section.facts).value;
        let mut variables = value.ty.members().iter();
        let other = variables.find(|it| it.name.strip_suffix("_other") == Some(name))?;
        let bytes = section.lookup(&[0; 4]).ok().flatten()?;
        Some(other.place.bytes(&bytes)?.to_vec())
    }
}
