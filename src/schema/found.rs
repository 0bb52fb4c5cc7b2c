//! Maps that no author described with tags: what their types say.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Result;

use super::histogram::{Histogram, SLOTS as SLOTS_TYPE, as_slots};
use super::metric::{Metric, MetricKind};
use super::table::{Table, is_of};
use super::tags::Tags;
use super::types::{Kind, Member, Type};
use crate::error::usage;

/// The types of key and value, and the tags on the map.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Origin {
    pub(super) tags: Tags,
    pub(super) key: Arc<Type>,
    pub(super) value: Arc<Type>,
}

/// What authors call the buckets of a log2 histogram.
const SLOTS: &str = "slots";

impl Table {
    /// The table of a map without tags. Nothing says which of its numbers only grow, so
    /// they are shown as they are. Arrays called `slots` are log2 histograms. A column
    /// of the value with the name of one of the key is `value.NAME`.
    pub(crate) fn found(self) -> Self {
        let mut table = self.made_from(|origin| origin.value = with_slots(&origin.value));
        let undeclared = |it: &&mut Metric| !it.is_declared && it.kind == MetricKind::Counter;
        for number in table.metrics.iter_mut().filter(undeclared) {
            number.kind = MetricKind::Gauge;
        }
        let mut taken: HashSet<String> = table.labels.iter().map(|it| it.name.clone()).collect();
        let metrics = table.metrics.iter_mut().map(|it| &mut it.name);
        for name in metrics.chain(table.details.iter_mut().map(|it| &mut it.name)) {
            while !taken.insert(name.clone()) {
                *name = format!("value.{name}");
            }
        }
        table.is_found = table
            .origin
            .as_ref()
            .is_some_and(|it| it.tags.table.is_none());
        table
    }

    /// The same map with another key or value.
    pub(super) fn made_from(self, change: impl FnOnce(&mut Origin)) -> Self {
        let Some(mut origin) = self.origin.clone() else {
            return self;
        };
        change(&mut origin);
        let Origin { tags, key, value } = &origin;
        let mut table = Self::new(&self.name, tags, self.max_entries, key, value);
        table.shows_idle = self.shows_idle;
        table
    }

    /// A row of the variables of a section.
    pub(super) fn of_section(name: &str, section: &Arc<Type>) -> Self {
        let no_key = Type::new("", 4, Kind::Struct(Vec::new()));
        let mut table = Self::new(name, &Tags::default(), 1, &no_key, section).found();
        table.shows_idle = true;
        table
    }

    /// Makes one histogram of the rows that differ in this field alone, which is the
    /// index of a bucket.
    pub(super) fn bucket_by(&mut self, field: &str) -> Result<()> {
        let label = self.label(field).map(|label| self.labels.remove(label));
        let (Some(label), [number]) = (label, &mut self.metrics[..]) else {
            return Err(usage(format!(
                "`--as {field}=log2`: rows are buckets where a value is one number, and those of table `{}` have {}",
                self.name,
                self.metrics.len()
            )));
        };
        let ty = &number.place.ty;
        number.place.ty = Type::new(SLOTS_TYPE, ty.size, ty.kind.clone());
        number.kind = MetricKind::Histogram;
        self.bucket = Some(label.place);
        self.hides_key = true;
        Ok(())
    }

    /// Adds the numbers of one value to the cells of its row.
    pub(crate) fn add_row(&self, key: &[u8], value: &[u8], cells: &mut [u64]) {
        self.add_cells(value, cells);
        if let Some(bucket) = &self.bucket {
            let last = Histogram::BUCKETS - 1;
            let bucket = bucket
                .raw(key)
                .map_or(last, |it| it.min(last as u128) as usize);
            let counted = std::mem::take(&mut cells[0]);
            cells[1 + bucket] = cells[1 + bucket].wrapping_add(counted);
        }
    }

    /// All numbers that no author described only grow.
    pub(crate) fn count_up_all(&mut self) {
        let undeclared = self.metrics.iter().filter(|it| !it.is_declared);
        let names: Vec<String> = undeclared.map(|it| it.name.clone()).collect();
        self.count_up(&names);
    }

    /// These numbers only grow.
    pub(super) fn count_up(&mut self, columns: &[String]) {
        for metric in &mut self.metrics {
            let is_named = columns.iter().any(|column| is_of(&metric.name, column));
            if is_named && metric.kind == MetricKind::Gauge {
                (metric.kind, metric.is_declared) = (MetricKind::Counter, true);
                // What only grows is never below zero, whatever its type.
                if metric.is_signed() {
                    metric.place.ty = Type::unsigned(metric.place.ty.size);
                }
            }
        }
    }

    /// Whether a row has nothing to show: of an array, what no program wrote to.
    pub(crate) fn is_unused(&self, is_array: bool, mut values: impl Iterator<Item = u8>) -> bool {
        self.is_found && is_array && self.max_entries > 1 && values.all(|byte| byte == 0)
    }
}

/// The padding in a table's key: how many bytes, and the member before them.
pub(crate) fn padding(table: &Table) -> Vec<(usize, &str)> {
    let key = table.origin.as_ref().map(|origin| &origin.key);
    let members = key.map(|key| key.struct_members()).unwrap_or_default();
    let ends = members
        .iter()
        .map(|it| it.place.bit_offset + it.place.width());
    let starts = members.iter().skip(1).map(|it| it.place.bit_offset);
    let starts = starts.chain(key.map(|key| key.size * 8));
    let holes = members.iter().zip(ends.zip(starts));
    let holes = holes.filter(|(_, (end, start))| *start >= end + 8);
    holes
        .map(|(it, (end, start))| ((start - end) / 8, &*it.name))
        .collect()
}

/// The type with its slots as histograms, at any depth, and without the kernel's own
/// structs, such as locks and timers.
fn with_slots(ty: &Arc<Type>) -> Arc<Type> {
    let Kind::Struct(members) = &ty.kind else {
        return Arc::clone(ty);
    };
    let of_kernel = |member: &&Member| !member.place.ty.name.starts_with("struct bpf_");
    let members = members.iter().filter(of_kernel).map(|member| {
        let mut member = member.clone();
        let slots = as_slots(&member.place.ty).filter(|_| member.name == SLOTS);
        member.place.ty = slots.unwrap_or_else(|| with_slots(&member.place.ty));
        member
    });
    Type::new(&*ty.name, ty.size, Kind::Struct(members.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::testing::{member, structure};

    fn found(key: Vec<Member>, value: Vec<Member>) -> Table {
        let (key, value) = (structure(8, key), structure(512, value));
        Table::new("t", &Tags::default(), 8, &key, &value).found()
    }

    #[test]
    fn numbers_are_gauges_and_names_are_not_shared() {
        let word = Type::unsigned(4);
        let both = vec![member("pid", 0, &word), member("ts", 4, &word)];
        let table = found(both.clone(), both);
        let columns: Vec<&str> = table.columns().collect();
        assert_eq!(columns, ["pid", "ts", "value.pid", "value.ts"]);
        assert!(table.metrics.iter().all(|it| it.kind == MetricKind::Gauge));
        assert_eq!(table.fault(), None);
    }

    /// Four bytes each, beside text; the edges are those of their author.
    #[test]
    fn slots_are_histograms() {
        let slots = Type::array(Type::unsigned(4), 27);
        let hist = structure(108, vec![member("slots", 0, &slots)]);
        let other = Type::array(Type::unsigned(4), 65);
        let table = found(
            Vec::new(),
            vec![member("hist", 0, &hist), member("slots", 108, &other)],
        );
        let [hist] = &table.metrics[..] else {
            panic!("{:?}", table.metrics);
        };
        assert_eq!(
            (&*hist.name, hist.kind),
            ("hist.slots", MetricKind::Histogram)
        );
        let mut value = vec![0; 512];
        value[..8].copy_from_slice(&[1, 0, 0, 0, 2, 0, 0, 0]);
        value[104] = 5;
        let mut cells = vec![0; table.cells()];
        table.add_cells(&value, &mut cells);
        let read = hist.histogram(&cells);
        let pairs: Vec<_> = read.pairs().collect();
        assert_eq!(pairs, [[1, 1], [3, 2], [(1 << 27) - 1, 5]]);
        assert_eq!((read.sum(), read.count()), (None, 8));
    }

    #[test]
    fn unused_elements_of_arrays_are_no_rows() {
        let table = found(Vec::new(), Vec::new());
        assert!(table.is_unused(true, [0, 0].into_iter()));
        assert!(!table.is_unused(true, [0, 1].into_iter()));
        assert!(!table.is_unused(false, [0, 0].into_iter()));
    }
}
