//! From a query to a plan: the key and value of a table, and the numbers that the
//! program reads in .rodata.

use std::collections::HashMap;

use anyhow::{Context, Result};

use super::column::{Column, Measure, measures, value, values_of};
use super::condition::Filter;
use super::event::{Event, World};
use super::field::{Base, Field, Read};
use super::interval::{End, Scopes};
use super::write::Spot;
use crate::error::usage;
use crate::schema::{Names, Place};

/// The limits of the program: `COUNT_FIELDS`, `COUNT_FILTERS`, `COUNT_KEY`.
const MOST_FIELDS: usize = 8;
const MOST_FILTERS: usize = 4;
const LARGEST_KEY: usize = 256;

/// What is asked for, as it is written.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// As [`Event::parse`] takes it.
    pub event: String,
    /// When the function returns, not when it is called.
    pub at_return: bool,
    /// The expressions of the key.
    pub by: Vec<String>,
    /// Expressions of numbers that are added up.
    pub sum: Vec<String>,
    /// Those whose greatest is kept.
    pub max: Vec<String>,
    /// Those whose least is kept.
    pub min: Vec<String>,
    /// Those that are spread over buckets: `EXPR`, or `EXPR:STEP`.
    pub histogram: Vec<String>,
    /// `EXPR OP VALUE`.
    pub filters: Vec<String>,
    /// `EXPR=DECODER`.
    pub decoders: Vec<String>,
    /// The event at which it ends: the time from one to the other is counted.
    pub to: Option<String>,
    /// What both events have; the current task if nothing is given.
    pub per: Option<String>,
}

/// What a program is to do.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(crate) event: Event,
    pub(crate) key: Vec<Column>,
    pub(crate) key_size: usize,
    pub(crate) values: Vec<Column>,
    pub(crate) value_size: usize,
    pub(crate) filters: Vec<Filter>,
    /// Of an interval; the event is its start then.
    pub(crate) end: Option<End>,
    /// A bit for each argument that may only be copied.
    opaque: u32,
    /// What the program takes, as C declares it.
    pub(crate) arguments: Vec<String>,
}

const UNITS: [&str; 5] = ["ns", "us", "ms", "s", "bytes"];

impl Plan {
    /// Fails where the kernel does not have what is asked for, or the program no room.
    pub fn new(query: &Query, world: &World<'_>, names: &dyn Names) -> Result<Self> {
        let scopes = Scopes::new(query, world)?;
        let end = scopes.end(query.per.as_deref())?;
        let decoders = decoders(&query.decoders)?;
        let field = |text: &str| {
            let decoder = decoders.get(text).copied();
            let decoder = decoder.filter(|it| !UNITS.contains(it));
            scopes.field(text, decoder)
        };
        let key = query.by.iter().map(|text| field(text));
        let (key, key_size) = key_of(key.collect::<Result<_>>().context("--by")?)?;
        let values = measures(query)?.into_iter().map(|(flag, text, measure)| {
            let unit = decoders.get(text).copied();
            let unit = unit.filter(|it| UNITS.contains(it));
            let (field, own) = scopes.value(text).context(flag)?;
            let unit = unit.or(own).map(str::to_owned);
            value(field, measure, unit).context(flag)
        });
        let (values, value_size) = values_of(values.collect::<Result<_>>()?)?;
        let filters = query.filters.iter().map(|text| {
            let filter = Filter::parse(text, &field, names);
            filter.with_context(|| format!("--where `{text}`"))
        });
        let filters: Vec<Filter> = filters.collect::<Result<_>>()?;
        if filters.len() > MOST_FILTERS {
            return Err(most("--where", filters.len(), MOST_FILTERS));
        }
        Ok(Self {
            event: scopes.start.event.clone(),
            key,
            key_size,
            values,
            value_size,
            filters,
            end,
            opaque: scopes.start.opaque(),
            arguments: scopes.start.declared(),
        })
    }

    /// One line about it.
    pub(crate) fn summary(&self) -> String {
        let by: Vec<&str> = self.key.iter().map(|it| it.name.as_str()).collect();
        let filters: Vec<&str> = self.filters.iter().map(|it| it.text.as_str()).collect();
        let mut summary = match &self.end {
            Some(end) => format!("time from {} to {}", self.event.name(), end.event.name()),
            None => format!("events of {}", self.event.name()),
        };
        if !filters.is_empty() {
            summary += &format!(" where {}", filters.join(" and "));
        }
        if !by.is_empty() {
            summary += &format!(", by {}", by.join(" and "));
        }
        summary
    }

    /// The programs that it needs: their names, sections and events.
    pub(crate) fn programs(&self) -> Vec<(String, String, &Event)> {
        let named = |event: &'_ Event, part| format!("{}{part}", event.program());
        let (first, section) = (&self.event, self.event.section());
        match &self.end {
            None => vec![(named(first, ""), section, first)],
            Some(_) if self.is_of_one_event() => vec![(named(first, "_both"), section, first)],
            Some(End { event: end, .. }) => vec![
                (named(end, "_to"), end.own_section(), end),
                (named(first, "_from"), first.own_section(), first),
            ],
        }
    }

    /// Whether an interval ends with the event that begins the next one: then one program
    /// does both.
    pub(super) fn is_of_one_event(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.event == self.event)
    }

    /// All that is read.
    fn fields(&self) -> impl Iterator<Item = &Field> {
        let columns = self.key.iter().chain(&self.values).map(|it| &it.field);
        let filters = self.filters.iter().map(|it| &it.field);
        let pairs = self.end.iter().flat_map(|end| &end.pairs);
        columns.chain(filters).chain(pairs)
    }

    /// Writes it over a `struct count_plan` of zeroes.
    pub(crate) fn write(&self, place: &Place, rodata: &mut [u8]) -> Result<()> {
        let place = place.clone();
        let mut plan = Spot { place, rodata };
        let is_one = self.is_of_one_event();
        let (at_end, at_start): (Vec<&Field>, Vec<&Field>) =
            self.fields().partition(|it| it.at_end && !is_one);
        plan.set("key_size", self.key_size as u64)?;
        plan.set("bases", bases(&at_start))?;
        plan.set("opaque", copied(self.opaque, &at_start))?;
        if let Some(end) = &self.end {
            plan.set("end_bases", bases(if is_one { &at_start } else { &at_end }))?;
            plan.set("end_opaque", copied(end.opaque, &at_end))?;
            for (i, field) in end.pairs.iter().enumerate() {
                plan.of("pairs", i)?.field(field, 0)?;
            }
        }
        let (key, key_at_end) = split(&self.key, |it| it.field.at_end);
        let (filters, filters_at_end) = split(&self.filters, |it| it.field.at_end);
        plan.set("field_count", key.len() as u64)?;
        plan.set("end_field_count", key_at_end.len() as u64)?;
        plan.set("filter_count", filters.len() as u64)?;
        plan.set("end_filter_count", filters_at_end.len() as u64)?;
        plan.set("value_count", self.values.len() as u64)?;
        plan.set("has_stacks", self.has_stacks().into())?;
        for (i, column) in key.into_iter().chain(key_at_end).enumerate() {
            plan.of("fields", i)?.field(&column.field, column.at)?;
        }
        for (i, column) in self.values.iter().enumerate() {
            let mut value = plan.of("values", i)?;
            value.of("field", 0)?.field(&column.field, column.at)?;
            value.set("measure", column.measure.number())?;
            if let Measure::Linear(step) = column.measure {
                value.set("step", step)?;
            }
        }
        for (i, filter) in filters.into_iter().chain(filters_at_end).enumerate() {
            let mut to = plan.of("filters", i)?;
            to.of("field", 0)?.field(&filter.field, 0)?;
            filter.write(&mut to)?;
        }
        Ok(())
    }
}

/// What is read when an interval begins, and what when it ends.
pub(super) fn split<T>(all: &[T], at_end: impl Fn(&T) -> bool) -> (Vec<&T>, Vec<&T>) {
    all.iter().partition(|it| !at_end(it))
}

/// A bit for each base.
fn bases(fields: &[&Field]) -> u64 {
    // The registers of a system call have its number.
    let calls = fields.iter().any(|field| field.base == Base::Call);
    let bases = fields.iter().map(|field| field.base.number());
    bases.fold(u64::from(calls), |bits, base| bits | 1 << base)
}

/// A pointer that is a value itself is copied, so that it is a number to the verifier.
fn copied(opaque: u32, fields: &[&Field]) -> u64 {
    let pointers = fields.iter().filter(|field| field.is_pointer());
    let words = pointers.filter(|field| field.read == Read::Word);
    words.fold(opaque.into(), |bits, field| match field.base {
        Base::Argument(number) => bits | 1 << number,
        _ => bits,
    })
}

pub(super) fn most(what: &str, number: usize, most: usize) -> anyhow::Error {
    usage(format!(
        "{what} is given {number} values, of at most {most}"
    ))
}

/// `EXPR=DECODER`, each.
fn decoders(texts: &[String]) -> Result<HashMap<&str, &str>> {
    fn split(text: &String) -> Result<(&str, &str)> {
        text.split_once('=')
            .ok_or_else(|| usage(format!("--as `{text}`: write it as EXPR=DECODER")))
    }
    texts.iter().map(split).collect()
}

/// Stacks come last, as keys without them stay small.
fn key_of(mut fields: Vec<Field>) -> Result<(Vec<Column>, usize)> {
    if fields.len() > MOST_FIELDS {
        return Err(most("--by", fields.len(), MOST_FIELDS));
    }
    fields.sort_by_key(|field| field.stored.is_stack());
    let (mut end, mut alignment) = (0, 1);
    let mut columns: Vec<Column> = Vec::new();
    for field in fields {
        if columns.iter().any(|it| it.name == field.name) {
            return Err(usage(format!("--by names `{}` twice", field.name)));
        }
        let at = usize::next_multiple_of(end, field.stored.alignment());
        alignment = alignment.max(field.stored.alignment());
        end = at + field.stored.size();
        if !field.stored.is_stack() && end > LARGEST_KEY {
            return Err(usage(format!(
                "--by: up to `{}` the key has {end} bytes, of at most {LARGEST_KEY}",
                field.name
            )));
        }
        columns.push(Column {
            name: field.name.clone(),
            field,
            at,
            measure: Measure::Key,
            unit: None,
        });
    }
    // A key without parts is one byte, so that there is one row.
    Ok((columns, end.max(1).next_multiple_of(alignment)))
}
