//! `ktally status`: what is attached, and what it has lost.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use humantime::{format_rfc3339_millis, format_rfc3339_seconds};

use super::{note, output, style, warn};
use crate::cli::{Exit, Global, StatusArgs};
use crate::error::NotFound;
use crate::map::{Inventory, Used};
use crate::names::HostNames;
use crate::render::{self, seconds, write_rows};
use crate::schema::{Kind, OptionSpec, Unit, Value, whole_number};
use crate::snapshot::{Reading, TableReading};
use crate::tally::{Cost, Instance, Instances, TableUsage, measure, pinnable_by_others};

/// An instance, and what its line shows.
struct Attached {
    instance: Instance,
    reading: Reading,
    usage: Vec<TableUsage>,
    has_stopped: bool,
    cost: Option<Rate>,
}

struct Rate {
    runs: f64,
    nanos: f64,
}

pub(super) fn status(global: &Global, args: &StatusArgs) -> Result<Exit> {
    let Some(folder) = Instances::look()? else {
        return nothing(global);
    };
    folder.notes.iter().for_each(|what| note(what));
    for stranger in folder.strangers()? {
        note(&format!(
            "`{}` is not ktally's: left alone",
            stranger.display()
        ));
    }
    let (instances, exit) = open_all(&folder)?;
    if instances.is_empty() {
        folder.close();
        nothing(global)?;
        return Ok(exit);
    }
    warn_of_writers(&instances);
    let costs = if args.cost {
        measured(&instances)?
    } else {
        instances.iter().map(|_| None).collect()
    };
    let inventory = Inventory::counts_only();
    let attached: Vec<Attached> = instances
        .into_iter()
        .zip(costs)
        .map(|(instance, cost)| {
            Ok(Attached {
                reading: instance.read()?,
                usage: instance.usage(&inventory),
                has_stopped: instance.has_stopped()?,
                cost,
                instance,
            })
        })
        .collect::<Result<_>>()?;
    write(global, attached, args.cost)?;
    Ok(exit)
}

/// Warns of instances that cannot be opened.
fn open_all(folder: &Instances) -> Result<(Vec<Instance>, Exit)> {
    let (mut instances, mut exit) = (Vec::new(), Exit::Done);
    for name in folder.names()? {
        match Instance::open(&name) {
            Ok(instance) => instances.push(instance),
            // It was just detached.
            Err(error) if error.is::<NotFound>() => {}
            Err(error) => {
                warn(&format!("{error:#}"));
                exit = Exit::Incomplete;
            }
        }
    }
    Ok((instances, exit))
}

/// The mode of a folder may have changed since the instances were attached. Who may
/// only read the instances may not be allowed to look.
fn warn_of_writers(instances: &[Instance]) {
    for instance in instances {
        if let Ok(Some(_)) = instance.readable_by()
            && let Ok(Some(folder)) = pinnable_by_others()
        {
            warn(&format!(
                "readers of instance `{}` can change its counts, as others may pin maps in `{}`",
                instance.name,
                folder.display()
            ));
        }
    }
}

fn nothing(global: &Global) -> Result<Exit> {
    write(global, Vec::new(), false)?;
    note("nothing is attached; `ktally attach NAME` leaves a tally of `ktally list` counting");
    Ok(Exit::Done)
}

/// Lets the kernel measure for a second.
fn measured(instances: &[Instance]) -> Result<Vec<Option<Rate>>> {
    const TIME: Duration = Duration::from_secs(1);
    let costs = || -> Result<Vec<Option<Cost>>> { instances.iter().map(Instance::cost).collect() };
    let held = measure()?;
    let (start, before) = (std::time::Instant::now(), costs()?);
    std::thread::sleep(TIME);
    let (seconds, after) = (start.elapsed().as_secs_f64(), costs()?);
    drop(held);
    let rates = before.into_iter().zip(after).map(|(before, after)| {
        let (before, after) = (before?, after?);
        let runs = after.runs.saturating_sub(before.runs) as f64;
        let time = after.time.saturating_sub(before.time) as f64;
        Some(Rate {
            runs: runs / seconds,
            nanos: if runs > 0.0 { time / runs } else { 0.0 },
        })
    });
    Ok(rates.collect())
}

fn write(global: &Global, attached: Vec<Attached>, with_cost: bool) -> Result<()> {
    let most = |lost: Lost| attached.iter().filter_map(|it| lost(&it.reading)).max();
    let rare = RARE.map(|(name, lost)| (name, lost, most(lost)));
    let names = HostNames::new();
    let columns = columns(&names, with_cost, rare);
    let how = (global.output, style(global));
    write_rows(&mut output::out(), how, &columns, attached)?;
    Ok(())
}

type Lost = fn(&Reading) -> Option<u64>;

/// Losses that only some tallies look for, and that are rare.
const RARE: [(&str, Lost); 2] = [("gaps", |it| it.gaps), ("unraised", |it| it.unraised)];

type Column<'c> = render::Column<'c, Attached>;

/// `rare` with the most that an instance has of each.
fn columns<'n>(
    names: &'n HostNames,
    with_cost: bool,
    rare: [(&'static str, Lost, Option<u64>); 2],
) -> Vec<Column<'n>> {
    let mut columns = vec![
        Column::text("instance", |it| it.instance.name.as_str().into()),
        Column::text("tally", |it| (&it.instance.meta.tally).into()),
        Column::text("state", |it| state(it).into()),
        Column::text("since", |it| millis(it.instance.meta.since()))
            .shown_as(|it| format_rfc3339_seconds(it.instance.meta.since()).to_string()),
        Column::exact("seconds", |it| seconds(it.reading.seconds)),
        Column::number("tables", tables)
            .shown_as(rows_of_max)
            .titled("ROWS/MAX"),
        Column::number("other", |it| other(it).into()),
        Column::number("dropped", |it| dropped(it).into()),
        Column::number("missed", |it| it.reading.missed.into()),
    ];
    // A table has the column only if there are any.
    for (name, lost, most) in rare {
        let column = Column::number(name, move |it: &Attached| lost(&it.reading).into());
        columns.extend(most.map(|most| column.in_tables(most > 0)));
    }
    columns.extend([
        Column::number("memory", |it| it.instance.memory.into()).unit(Unit::Bytes),
        Column::number("programs", programs)
            .shown_as(|it| it.instance.meta.programs.len().to_string())
            .spare(),
        Column::text("version", |it| (&it.instance.meta.version).into()).spare(),
    ]);
    if with_cost {
        columns.extend([
            rate("events_per_second", "EVENTS/s", |rate| rate.runs),
            rate("nanoseconds_per_event", "ns/EVENT", |rate| rate.nanos),
        ]);
    }
    columns.extend([
        Column::text("options", |it| options(&it.instance, names))
            .shown_as(|it| typed(&it.instance, names))
            .spare(),
        Column::exact("options_since", |it| {
            millis(it.instance.meta.options_since())
        }),
    ]);
    columns
}

fn rate(name: &'static str, title: &str, number: fn(&Rate) -> f64) -> Column<'static> {
    let number = move |it: &Attached| it.cost.as_ref().map(number);
    Column::number(name, move |it| number(it).map(Value::Float).into())
        .shown_as(move |it| {
            number(it).map_or("-".to_owned(), |it| whole_number(it.round() as i128))
        })
        .titled(title)
}

fn millis(time: SystemTime) -> Value<'static> {
    format_rfc3339_millis(time).to_string().into()
}

fn state(it: &Attached) -> &'static str {
    if it.has_stopped {
        "stopped"
    } else {
        "counting"
    }
}

fn tables(it: &Attached) -> Value<'_> {
    let tables = it.usage.iter().zip(&it.reading.tables);
    let table = |(usage, table): (&'_ TableUsage, &TableReading)| {
        let rows = match usage.used {
            Used::Exactly(rows) => Some(rows),
            _ => None,
        };
        Value::Fields(vec![
            ("name", usage.table.name.clone().into()),
            ("rows", rows.into()),
            ("max_rows", usage.max.into()),
            ("other", table.other_events(&usage.table).into()),
            ("dropped", table.dropped.into()),
        ])
    };
    tables.map(table).collect()
}

fn rows_of_max(it: &Attached) -> String {
    let one = |usage: &TableUsage| format!("{}/{}", usage.used, whole_number(usage.max.into()));
    match &it.usage[..] {
        [usage] => one(usage),
        many => {
            let named = |usage: &TableUsage| format!("{} {}", usage.table.name, one(usage));
            many.iter().map(named).collect::<Vec<_>>().join(", ")
        }
    }
}

fn programs(it: &Attached) -> Value<'_> {
    let programs = it.instance.meta.programs.iter();
    let program = programs.map(|program| {
        Value::Fields(vec![
            ("name", (&program.name).into()),
            ("section", (&program.section).into()),
            ("target", program.target.as_ref().into()),
        ])
    });
    program.collect()
}

/// `None` if it is unknown for a table.
fn dropped(it: &Attached) -> Option<u64> {
    it.reading.tables.iter().map(|table| table.dropped).sum()
}

/// The events of all rows `other`.
fn other(it: &Attached) -> Option<u64> {
    let tables = it.usage.iter().zip(&it.reading.tables);
    let events = tables.map(|(usage, it)| it.other_events(&usage.table));
    events.sum()
}

/// The options that were given; for instances of earlier versions, which did not
/// record them, those that are not off.
fn given(instance: &Instance) -> impl Iterator<Item = &OptionSpec> {
    let is_on = |option: &OptionSpec| match &option.given {
        Some(given) => given.raw(&instance.rodata) != Some(0),
        None => option
            .place
            .bytes(&instance.rodata)
            .is_some_and(|bytes| bytes.iter().any(|byte| *byte != 0)),
    };
    let is_given = move |option: &&OptionSpec| match &instance.meta.options {
        Some(given) => given.contains_key(&option.name),
        None => is_on(option),
    };
    instance.schema.options.iter().filter(is_given)
}

fn options<'r>(instance: &'r Instance, names: &HostNames) -> Value<'r> {
    let options = given(instance);
    let value = |option: &'r OptionSpec| {
        let value = names.option(option, &instance.rodata);
        (option.name.as_str(), value)
    };
    Value::Fields(options.map(value).collect())
}

/// The options as one would type them, and since when, if they were replaced.
fn typed(instance: &Instance, names: &HostNames) -> String {
    let typed = |option: &OptionSpec| match option.place.ty.kind {
        Kind::Bool => format!("--{}", option.flag()),
        _ => {
            let value = names.option(option, &instance.rodata);
            format!("--{} {value}", option.flag())
        }
    };
    let mut words: Vec<String> = given(instance).map(typed).collect();
    let meta = &instance.meta;
    if meta.options_since() != meta.since() {
        let since = format_rfc3339_seconds(meta.options_since());
        words.push(format!("(since {since})"));
    }
    words.join(" ")
}
