//! What is done with rows before they are shown: filter, group, sort, cut.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use anyhow::Result;

use super::column::Column;
use super::filter::{Condition, Filter};
use super::order::{Rank, Sort, Sorting};
use super::{Rows, Selection, add};
use crate::error::{unknown, usage};
use crate::schema::{Kind, Names, Place, Table, Type};

/// What the user wants to see of a reading.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Query {
    /// The labels to group by; `None` keeps every label.
    pub(crate) by: Option<Vec<String>>,
    /// What rows must have, all of it.
    pub(crate) filters: Vec<Condition>,
    /// The column to sort by; `None` leaves it to the table.
    pub(crate) sort: Option<Sort>,
    /// How many rows to show at most.
    pub(crate) top: Option<usize>,
}

impl Query {
    /// The fields that it groups by and filters by, and that none of these tables has.
    pub(crate) fn lacking(&self, tables: &[Table]) -> BTreeSet<&str> {
        let filtered = self.filters.iter().map(|condition| &condition.field);
        let fields = self.by.iter().flatten().chain(filtered);
        let fields = fields.map(String::as_str);
        fields.filter(|it| !has_column(tables, it)).collect()
    }

    /// Refuses names that no table has, and filters that no row can pass, before
    /// anything is loaded.
    pub(crate) fn check(&self, tables: &[Table], names: &dyn Names) -> Result<()> {
        let labels = tables.iter().flat_map(|table| &table.labels);
        let labels: Vec<&str> = labels.map(|label| label.name.as_str()).collect();
        let by = self.by.as_deref().unwrap_or_default();
        for (i, name) in by.iter().enumerate() {
            if !labels.contains(&name.as_str()) {
                let known = tables.iter().flat_map(Table::fields);
                return Err(unknown("field", name, known));
            }
            if by[..i].contains(name) {
                return Err(usage(format!("`--by` names `{name}` twice")));
            }
        }
        for filter in &self.filters {
            let checked = filter.check("where", tables, names);
            checked.map_err(|error| usage(format!("`--where {filter}`: {error:#}")))?;
        }
        self.check_sort(tables, &labels)
    }

    fn check_sort(&self, tables: &[Table], labels: &[&str]) -> Result<()> {
        let Some(Sort { column, .. }) = &self.sort else {
            return Ok(());
        };
        if !has_column(tables, column) {
            let columns = tables.iter().flat_map(Table::columns);
            return Err(unknown("column", column, columns));
        }
        let is_left_out = self.by.as_ref().is_some_and(|by| !by.contains(column));
        if is_left_out && labels.contains(&column.as_str()) {
            return Err(usage(format!(
                "rows grouped without `{column}` cannot be sorted by it"
            )));
        }
        Ok(())
    }

    /// The rows to show of a table: only they are named.
    pub(crate) fn apply<'r>(
        &self,
        table: &Table,
        rows: &'r Rows,
        names: &dyn Names,
    ) -> Selection<'r> {
        let filter = self.filter(table, names);
        let kept = (0..rows.len()).filter(|row| filter.keeps_key(rows.key(*row), names));
        let (table, rows, (order, matching)) = match self.grouping(table, names) {
            Some(by) => {
                let (table, rows) = self.group(table, rows, kept, &by, names);
                let order = self.order(&table, &rows, (0..rows.len(), &filter), names);
                (table, Cow::Owned(rows), order)
            }
            None => {
                let order = self.order(table, rows, (kept, &filter), names);
                (table.clone(), Cow::Borrowed(rows), order)
            }
        };
        Selection::new(table, rows, order, matching)
    }

    /// Whether rows of a table are grouped, so that [`Query::apply`] has to be asked.
    pub(crate) fn groups(&self, table: &Table, names: &dyn Names) -> bool {
        self.grouping(table, names).is_some()
    }

    /// The filters, as they are asked of the rows of a table.
    pub(crate) fn filter<'t>(&self, table: &'t Table, names: &dyn Names) -> Filter<'t> {
        Filter::new(&self.filters, table, names)
    }

    /// What the rows of a table are ordered by.
    pub(crate) fn sorting<'t>(&self, table: &'t Table, names: &dyn Names) -> Sorting<'t> {
        Sorting::new(table, self.sort.as_ref(), names)
    }

    /// The labels to group by: what looks the same is one row.
    fn grouping(&self, table: &Table, names: &dyn Names) -> Option<Vec<String>> {
        let mut labels = table.labels.iter();
        let looks_same = table.hides_key || labels.any(|label| names.joins(label));
        let whole = || table.labels.iter().map(|label| label.name.clone());
        let by = self.by.clone();
        by.or_else(|| looks_same.then(|| whole().collect()))
    }

    /// The numbers of one group are added up.
    fn group(
        &self,
        table: &Table,
        rows: &Rows,
        kept: impl Iterator<Item = usize>,
        by: &[String],
        names: &dyn Names,
    ) -> (Table, Rows) {
        let mut projection = Projection::new(table, by);
        if self.by.is_some() {
            // Text has no sum.
            projection.table.details.clear();
        }
        let has_details = !projection.table.details.is_empty();
        let mut groups = Rows::of(&projection.table);
        let mut known: HashMap<Vec<u8>, usize> = HashMap::new();
        for row in kept {
            let key = projection.key(rows.key(row));
            let identity = projection.identity(&key, names);
            let group = *known.entry(identity).or_insert_with(|| {
                groups.push(&key);
                groups.len() - 1
            });
            add(&table.metrics, groups.cells_mut(group), rows.cells(row));
            if has_details {
                let values = rows.values(row, table.value_size);
                values.for_each(|value| groups.keep_value(group, value));
            }
        }
        (projection.table, groups)
    }

    /// Rows that counted something and pass by their numbers, the greatest first.
    fn order(
        &self,
        table: &Table,
        rows: &Rows,
        (kept, filter): (impl Iterator<Item = usize>, &Filter<'_>),
        names: &dyn Names,
    ) -> (Vec<usize>, usize) {
        let sorting = self.sorting(table, names);
        let is_shown = |cells| !table.counts_nothing(cells) && filter.keeps_cells(cells);
        let mut order: Vec<(Rank, usize)> = kept
            .filter(|row| is_shown(rows.cells(*row)))
            .map(|row| (sorting.rank(rows.key(row), rows.cells(row), names), row))
            .collect();
        // By the key where ranks are equal: the same order every time.
        let compare = |(rank_a, a): &(Rank, usize), (rank_b, b): &(Rank, usize)| {
            let by_key = || rows.key(*a).cmp(rows.key(*b));
            rank_a.cmp(rank_b).then_with(by_key)
        };
        let matching = order.len();
        if let Some(top) = self.top.filter(|top| *top < matching) {
            // To sort all of them takes much longer.
            order.select_nth_unstable_by(top, compare);
            order.truncate(top);
        }
        order.sort_unstable_by(compare);
        // Not `into_iter`, which would keep the memory of the ranks.
        (order.iter().map(|(_, row)| *row).collect(), matching)
    }
}

fn has_column(tables: &[Table], name: &str) -> bool {
    let mut tables = tables.iter();
    tables.any(|table| Column::of(table, name).is_some())
}

/// A table with fewer labels, and how its keys come from those of the whole.
struct Projection {
    table: Table,
    sources: Vec<Place>,
}

impl Projection {
    fn new(table: &Table, by: &[String]) -> Self {
        let mut projected = table.clone();
        projected.labels.clear();
        projected.hides_key = false;
        projected.key_size = 0;
        let mut sources = Vec::new();
        for label in by.iter().filter_map(|name| table.label(name)) {
            let mut label = table.labels[label].clone();
            sources.push(label.place.clone());
            // A bitfield gets bytes of its own.
            let ty = match label.place.bits {
                Some(_) if matches!(label.place.ty.kind, Kind::Int { signed: false }) => {
                    Type::unsigned(label.place.ty.size)
                }
                _ => label.place.ty.clone(),
            };
            label.place = Place {
                bit_offset: projected.key_size * 8,
                bits: label.place.bits,
                ty,
            };
            projected.key_size += label.place.ty.size;
            projected.labels.push(label);
        }
        Self {
            table: projected,
            sources,
        }
    }

    /// Rows of one identity are one row.
    fn identity(&self, key: &[u8], names: &dyn Names) -> Vec<u8> {
        let mut identity = key.to_vec();
        let labels = self.table.labels.iter();
        for label in labels.filter(|label| names.joins(label)) {
            let start = label.place.bit_offset / 8;
            identity[start..start + label.place.ty.size].fill(0);
            identity.extend(names.of(label, key).to_string().bytes().chain([0]));
        }
        identity
    }

    fn key(&self, key: &[u8]) -> Vec<u8> {
        let mut projected = Vec::with_capacity(self.table.key_size);
        for source in &self.sources {
            match (source.bits, source.raw(key)) {
                (Some(_), Some(raw)) => {
                    let mut bytes = raw.to_le_bytes().to_vec();
                    bytes.resize(source.ty.size, 0);
                    projected.extend(bytes);
                }
                _ => projected.extend(source.bytes(key).unwrap_or_default()),
            }
        }
        projected.resize(self.table.key_size, 0);
        projected
    }
}

#[cfg(test)]
mod tests;
