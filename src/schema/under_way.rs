//! What a tally says is under way: events that have begun and not ended.

use std::sync::Arc;

use super::metric::{Metric, MetricKind};
use super::table::Table;
use super::types::{Kind, Place, Type};

/// `TALLY_ENDING` of the header: the start is being written, or its time is being
/// added to a row.
pub(crate) const ENDING: u64 = 1 << 63;

/// A map of starts, as `UNDER_WAY(table, column)` declares it.
#[derive(Debug, Clone, PartialEq)]
pub struct UnderWay {
    /// The map.
    pub(crate) map: String,
    /// The table that the events are counted in when they end.
    pub(crate) table: String,
    /// The cell that their time is added to; `None` where the column is a
    /// histogram, which has only events that ended.
    pub(crate) time: Option<usize>,
    /// The cell of their number.
    pub(crate) count: usize,
    key_size: usize,
    /// Where the `since` and the `key` of each start are in a value.
    places: Vec<(usize, usize)>,
}

impl UnderWay {
    /// Of the map's value type; gives the table a column for the number of events.
    /// `None` where the type has no start with a key of the table.
    pub(super) fn new(
        map: &str,
        column: &str,
        value: &Arc<Type>,
        table: &mut Table,
    ) -> Option<Self> {
        let mut places = Vec::new();
        find(value, 0, table.key_size, &mut places);
        let column = table.metrics.iter().find(|metric| metric.name == column)?;
        let with = column.with.clone();
        let time = (column.kind == MetricKind::Counter).then_some(column.cell);
        if places.is_empty() {
            return None;
        }
        Some(Self {
            map: map.to_owned(),
            table: table.name.clone(),
            time,
            count: column_of(table, with),
            key_size: table.key_size,
            places,
        })
    }

    /// The program that hands out the values of a `TASK_STATE`.
    pub(crate) fn walk(&self) -> String {
        format!("tally_walk_{}", self.map)
    }

    /// The starts in a value: the number, the time and the key of each.
    pub(crate) fn starts<'v>(
        &self,
        value: &'v [u8],
    ) -> impl Iterator<Item = (usize, u64, &'v [u8])> {
        let starts = self.places.iter().enumerate();
        starts.filter_map(|(i, (since, key))| {
            let since = value.get(*since..)?.first_chunk().copied()?;
            let since = u64::from_ne_bytes(since);
            let key = value.get(*key..*key + self.key_size)?;
            (since != 0).then_some((i, since, key))
        })
    }
}

/// Structs with the members `since` and `key`, at any depth.
fn find(ty: &Arc<Type>, offset: usize, key_size: usize, places: &mut Vec<(usize, usize)>) {
    const MOST: usize = 64;
    if places.len() >= MOST {
        return;
    }
    if let Kind::Array { element, len } = &ty.kind {
        for i in 0..(*len).min(MOST) {
            find(element, offset + i * element.size, key_size, places);
        }
    }
    let members = ty.struct_members();
    let member = |name: &str, is_fit: &dyn Fn(usize) -> bool| {
        let member = members.iter().find(|member| member.name == name)?;
        is_fit(member.place.ty.size).then_some(offset + member.place.bit_offset / 8)
    };
    let since = member("since", &|size| size == 8);
    let key = member("key", &|size| size >= key_size);
    if let Some(start) = since.zip(key) {
        places.push(start);
        return;
    }
    for member in members {
        let offset = offset + member.place.bit_offset / 8;
        find(&member.place.ty, offset, key_size, places);
    }
}

/// The cell of the table's column for events that are under way, which are known with
/// this option.
fn column_of(table: &mut Table, with: Option<String>) -> usize {
    let kind = MetricKind::UnderWay;
    if let Some(column) = table.metrics.iter().find(|metric| metric.kind == kind) {
        return column.cell;
    }
    let cell = table.cells();
    let mut place = Place::whole(Type::unsigned(8));
    place.bit_offset = table.value_size * 8;
    table.metrics.push(Metric {
        name: "under_way".to_owned(),
        help: "events that have begun and not ended".to_owned(),
        kind,
        is_declared: true,
        place,
        unit: None,
        cell,
        greatest: None,
        with,
    });
    cell
}
