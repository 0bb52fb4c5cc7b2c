//! What an object declares.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result};
use libbpf_rs::btf::types;
use libbpf_rs::{AsRawLibbpf, Btf, OpenObject};

use super::{Reader, Variable, all, parse_btf, string};
use crate::schema::hints::Hints;
use crate::schema::label::Label;
use crate::schema::metric::Metric;
use crate::schema::option::OptionSpec;
use crate::schema::table::Table;
use crate::schema::tags::{Decoder, Tags};
use crate::schema::types::Place;
use crate::schema::under_way::UnderWay;
use crate::sys;

/// What an object declares: all that ktally knows about a tally.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    /// `TALLY(summary)`.
    pub(crate) summary: Option<String>,
    /// Behind the summary: other tools for the same question.
    pub(crate) like: Vec<String>,
    /// In the order of the object.
    pub options: Vec<OptionSpec>,
    /// In the order of the object.
    pub tables: Vec<Table>,
    /// Whether no table has tags, so that it is the object of another program.
    pub is_found: bool,
    /// Tables of others that hold state: see [`Schema::set_apart`].
    pub(crate) states: Vec<Table>,
    /// The maps that send events to the object's own loader, and count nothing.
    pub(crate) senders: Vec<String>,
    /// Where each table's `struct tally_health` is in `.bss.ktally`.
    pub(crate) health: HashMap<String, Place>,
    /// Where each table's row `other` is in `.bss.ktally`; objects of earlier
    /// headers have none.
    pub(crate) others: HashMap<String, Place>,
    /// The maps that hold what is under way.
    pub(crate) under_way: Vec<UnderWay>,
    /// The maps that only some options need.
    pub(crate) optional_maps: Vec<OptionalMap>,
    /// The tables that the options in force do not need.
    pub(crate) left_out: Vec<Table>,
    /// Where the counter of gaps in its events is, in `.bss.ktally`; `None` where
    /// no program looks for them.
    pub(crate) gaps: Option<Place>,
    /// Where the counter of attempts to raise a maximum that were given up is, in
    /// `.bss.ktally`; `None` where no program raises one.
    pub(crate) unraised: Option<Place>,
    /// Where the flag is that says whether this kernel can raise maxima, in
    /// `.rodata`.
    pub(crate) maxima: Option<Place>,
    /// Where the flag is that makes it follow a command, in `.rodata`; `None`
    /// where no program asks for it.
    pub(crate) follow: Option<Place>,
    /// Where the PID namespace stands whose numbers it filters and shows, in
    /// `.rodata`; `None` where no program asks for it.
    pub(crate) pids: Option<Place>,
    /// Where the plan of `ktally count` is, in `.rodata`.
    pub(crate) plan: Option<Place>,
    /// The tags of each function, by name.
    pub functions: HashMap<String, Tags>,
}

/// A map that is there only with an option, or only without it.
#[derive(Debug, Clone)]
pub(crate) struct OptionalMap {
    map: String,
    option: String,
    is_with: bool,
}

impl OptionalMap {
    fn of(var: &Variable) -> Option<Self> {
        let (option, is_with) = match (&var.tags.with, &var.tags.without) {
            (Some(option), _) => (option, true),
            (None, option) => (option.as_ref()?, false),
        };
        Some(Self {
            map: var.name.clone(),
            option: option.clone(),
            is_with,
        })
    }
}

impl Schema {
    /// Of an object that is open, before libbpf rewrites its BTF for the kernel.
    pub(crate) fn of_object(object: &OpenObject) -> Result<Self> {
        with_btf(object, Self::of_btf)
    }

    /// What makes it no tally that can be run: a table whose columns cannot be
    /// shown, an option that cannot be typed, or is not in the object's `.rodata`.
    pub fn fault(&self, rodata: &[u8]) -> Option<String> {
        let table = |table: &Table| Some(format!("table `{}`: {}", table.name, table.fault()?));
        let option = |option: &OptionSpec| {
            let OptionSpec { name, .. } = option;
            if option.place.bytes(rodata).is_none() {
                return Some(format!(
                    "option `{name}` is not within .rodata: the object is damaged; compile it again"
                ));
            }
            (!option.is_typed()).then(|| {
                format!(
                    "option `{name}` has a type that cannot be given on the command line (`{}`): use an integer, bool, enum, or a char array",
                    option.place.ty.name
                )
            })
        };
        let mut faults = self.tables.iter().filter_map(table);
        faults
            .next()
            .or_else(|| self.options.iter().find_map(option))
    }

    /// Shows tables of this name only on request, unless there are no others.
    pub(crate) fn set_apart(&mut self, names: &[String]) {
        let is_state = |table: &Table| names.contains(&table.name);
        if self.tables.iter().any(|table| !is_state(table)) {
            let tables = std::mem::take(&mut self.tables).into_iter();
            (self.states, self.tables) = tables.partition(is_state);
        }
    }

    /// Follows what a user says about the tables.
    pub(crate) fn adapt(&mut self, hints: &Hints) -> Result<()> {
        let mut tables = self.tables.clone();
        if !hints.tables.is_empty() {
            tables.append(&mut self.states);
        }
        self.tables = hints.apply(tables)?;
        let tables = &self.tables;
        let is_shown = |state: &UnderWay| tables.iter().any(|it| it.name == state.table);
        self.under_way.retain(is_shown);
        Ok(())
    }

    /// Whether a program counts nothing by itself: it runs when counting begins, or for
    /// a reading.
    pub(crate) fn runs_on_request(&self, program: &str) -> bool {
        self.runs_at_start(program) || self.under_way.iter().any(|it| it.walk() == program)
    }

    /// Whether a program runs once, when counting begins.
    pub(crate) fn runs_at_start(&self, program: &str) -> bool {
        self.functions.get(program).is_some_and(|it| it.at_start)
    }

    /// Whether a program is `WITH(option)`, and the option is off in these contents of
    /// `.rodata`.
    pub(crate) fn is_program_off(&self, program: &str, rodata: &[u8]) -> bool {
        let with = self.functions.get(program).and_then(|it| it.with.as_ref());
        let mut options = self.options.iter();
        options.any(|it| Some(&it.name) == with && it.is_off(rodata))
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

    /// The maps that these contents of `.rodata` have no need of.
    pub(crate) fn unneeded_maps(&self, rodata: &[u8]) -> Vec<&str> {
        let is_unneeded = |it: &&OptionalMap| {
            let mut options = self.options.iter();
            let option = options.find(|option| option.name == it.option);
            let of_plan = || self.plan.as_ref()?.member(&it.option);
            let place = option.map(|it| it.place.clone()).or_else(of_plan);
            place.is_some_and(|place| (place.raw(rodata) == Some(0)) == it.is_with)
        };
        let maps = self.optional_maps.iter().filter(is_unneeded);
        maps.map(|it| it.map.as_str()).collect()
    }

    /// Without the maps that these contents of `.rodata` have no need of.
    pub(crate) fn in_force(&self, rodata: &[u8]) -> Self {
        let unneeded = self.unneeded_maps(rodata);
        let mut schema = self.clone();
        let is_needed = |map: &String| !unneeded.contains(&map.as_str());
        let tables = std::mem::take(&mut schema.tables).into_iter();
        (schema.tables, schema.left_out) = tables.partition(|table| is_needed(&table.name));
        schema.under_way.retain(|state| is_needed(&state.map));
        schema
    }

    /// Whether there are other maps with this option than without it.
    pub(crate) fn selects_maps(&self, option: &OptionSpec) -> bool {
        let mut maps = self.optional_maps.iter();
        maps.any(|it| it.option == option.name)
    }

    /// The option without which a table is not there.
    pub fn option_of_table(&self, table: &Table) -> Option<&OptionSpec> {
        let mut maps = self.optional_maps.iter().filter(|it| it.is_with);
        let map = maps.find(|it| it.map == table.name)?;
        self.options.iter().find(|option| option.name == map.option)
    }

    /// These tables without the columns that are off with these contents of
    /// `.rodata`.
    pub(crate) fn with_options(&self, mut tables: Vec<Table>, rodata: &[u8]) -> Vec<Table> {
        let is_on = |with: &Option<String>| {
            let option = self.option_of(with);
            option.is_none_or(|it| !it.is_off(rodata))
        };
        let maxima = self.maxima.as_ref().and_then(|flag| flag.raw(rodata));
        let is_raised = |it: &Metric| !it.kind.is_extreme() || maxima != Some(0);
        for table in &mut tables {
            table.metrics.retain(|it| is_raised(it) && is_on(&it.with));
            let labels = table.labels.drain(..);
            let (on, off): (_, Vec<Label>) = labels.partition(|it| is_on(&it.with));
            table.labels = on;
            table.off = off.into_iter().map(|it| it.name).collect();
        }
        tables
    }

    /// The option that a column is `with`; `None` where it is always counted.
    pub fn option_of(&self, with: &Option<String>) -> Option<&OptionSpec> {
        let with = with.as_ref()?;
        self.options.iter().find(|option| option.name == *with)
    }

    /// The options without which these columns are not counted, each behind its column.
    pub(crate) fn options_for<'f>(&self, fields: &[&'f str]) -> Vec<(&'f str, &OptionSpec)> {
        let tables = || self.tables.iter().chain(&self.left_out);
        let option_for = |field: &&'f str| {
            let homes = tables().filter_map(|it| Some((it, &it.labels[it.label(field)?])));
            // A table that is always there comes first.
            let home = homes.min_by_key(|(table, _)| self.option_of_table(table).is_some());
            let (table, label) = home?;
            let option = self
                .option_of(&label.with)
                .or_else(|| self.option_of_table(table));
            Some((*field, option?))
        };
        fields.iter().filter_map(option_for).collect()
    }

    /// Of raw BTF, as [`raw_btf`] gives it.
    pub(crate) fn of_raw(raw: &[u8]) -> Result<Self> {
        Ok(Self::of_btf(&parse_btf(raw)?))
    }

    /// Of BTF from anywhere. Total: what is malformed or unknown is left out.
    pub fn of_btf(btf: &Btf<'_>) -> Self {
        let mut reader = Reader::new(btf);
        let rodata = reader.section(".rodata");
        let counters = reader.section(".bss.ktally");
        let given = reader.places_of(&rodata, "_given");
        let options = rodata.iter().filter_map(|var| {
            Some(OptionSpec {
                name: var.name.clone(),
                help: var.tags.option.clone()?,
                place: reader.place(var),
                unit: var.tags.unit.clone(),
                decoder: var.tags.decoder.clone(),
                short: var.tags.short,
                given: given.get(&var.name).cloned(),
                is_found: false,
            })
        });
        let mut options: Vec<OptionSpec> = options.collect();
        let maps = reader.section(".maps");
        let tables = maps.iter().filter(|var| var.tags.table.is_some());
        let mut tables: Vec<Table> = tables.filter_map(|var| reader.table(var)).collect();
        let is_found = tables.is_empty();
        if is_found {
            tables = reader.found_tables(&maps);
            options.extend(reader.settings(&rodata));
        }
        let under_way = maps.iter().filter_map(|var| {
            let (table, column) = var.tags.under_way.as_ref()?.split_once('.')?;
            let table = tables.iter_mut().find(|it| it.name == table)?;
            let value = reader.definition(var.ty)?.value?;
            UnderWay::new(&var.name, column, &reader.ty(value), table)
        });
        let under_way = under_way.collect();
        let mut license = reader.section("license").into_iter();
        let license = license.find(|var| var.tags.tally.is_some());
        let license = license.map(|var| var.tags).unwrap_or_default();
        Self {
            summary: license.tally,
            like: license.like,
            options,
            tables,
            is_found,
            states: Vec::new(),
            senders: reader.senders(&maps),
            health: reader.places_of(&counters, "_health"),
            others: reader.places_of(&counters, "_other"),
            under_way,
            optional_maps: maps.iter().filter_map(OptionalMap::of).collect(),
            left_out: Vec::new(),
            gaps: reader.place_with(&counters, |tags| tags.gaps),
            unraised: reader.place_with(&counters, |tags| tags.unraised),
            maxima: reader.place_with(&rodata, |tags| tags.maxima),
            follow: reader.place_with(&rodata, |tags| tags.follow),
            pids: reader.place_with(&rodata, |tags| tags.pids),
            plan: reader.place_with(&rodata, |tags| tags.plan),
            functions: reader.functions(),
        }
    }
}

impl Reader<'_> {
    /// Of the variables that end with a suffix, by what stands before it.
    fn places_of(&mut self, variables: &[Variable], suffix: &str) -> HashMap<String, Place> {
        let variables = variables.iter();
        let places = variables.filter_map(|var| {
            let name = var.name.strip_suffix(suffix)?;
            Some((name.to_owned(), self.place(var)))
        });
        places.collect()
    }

    /// Of the first variable that is tagged so.
    fn place_with(&mut self, variables: &[Variable], is_it: fn(&Tags) -> bool) -> Option<Place> {
        let variable = variables.iter().find(|var| is_it(&var.tags))?;
        Some(self.place(variable))
    }
}

/// The BTF of an object that is open, with all of its tags; none where it has
/// none.
pub(crate) fn raw_btf(object: &OpenObject) -> Result<Vec<u8>> {
    with_btf(object, sys::program::raw_btf)
}

fn with_btf<T: Default>(object: &OpenObject, read: impl Fn(&Btf<'_>) -> T) -> Result<T> {
    // SAFETY: the pointer is valid for as long as `object` is borrowed, and
    // nothing here outlives this function.
    let raw = unsafe { object.as_libbpf_object().as_ref() };
    let btf = Btf::from_bpf_object(raw).context("failed to read the object's BTF")?;
    Ok(btf.map(|btf| read(&btf)).unwrap_or_default())
}

/// What is in every map that raw BTF declares, as C without tags, by the name
/// of the map or of the section.
pub(crate) fn declared_types(raw: &[u8]) -> Result<HashMap<String, String>> {
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
