//! `ktally list`: what can be counted, and with which options.

use std::ffi::{OsStr, OsString};
use std::io::Write;

use anyhow::Result;

use super::{obstacles, output, plural, style, warn, warn_of};
use crate::cli::{Exit, Global, ListArgs, describe, value_name};
use crate::error::Usage;
use crate::names;
use crate::render::{
    Column, Format, Style, heading, kind_name, metric_fields, sentence, write_rows,
};
use crate::schema::{Decoder, Kind, Label, OptionSpec, Table, Unit, Value};
use crate::tally::{Loader, Session, Support, Tally};

pub(super) fn list(global: &Global, args: &ListArgs) -> Result<Exit> {
    let (tallies, is_one) = match &args.tally {
        Some(name) => find(name, &args.compile.flags())?,
        None => (Tally::builtins()?, false),
    };
    tallies.iter().for_each(warn_of);
    let support = Support::probe();
    let listed: Vec<Listed<'_>> = tallies
        .iter()
        .map(|tally| {
            let mut obstacles = obstacles(&support, tally);
            if is_one && obstacles.is_empty() {
                obstacles.extend(refusal(tally));
            }
            (tally, obstacles)
        })
        .collect();
    let (out, how) = (&mut output::out(), (global.output, style(global)));
    if global.output == Format::Table && is_one {
        for tally in &listed {
            in_full(out, global, tally)?;
        }
        return Ok(Exit::Done);
    }
    write_rows(out, how, &tally_columns(), &listed)?;
    if global.output == Format::Table {
        write_obstacles(out, &listed, &support, &style(global))?;
    }
    Ok(Exit::Done)
}

/// A tally, or several that answer to a word; whether it is the one that was named.
fn find(name: &OsStr, flags: &[OsString]) -> Result<(Vec<Tally>, bool)> {
    Tally::find_with(name, flags).map_or_else(
        |error| match Tally::search(&name.to_string_lossy())? {
            found if error.is::<Usage>() && !found.is_empty() => Ok((found, false)),
            _ => Err(error),
        },
        |tally| Ok((vec![tally], true)),
    )
}

/// A tally, and why it cannot run here.
type Listed<'t> = (&'t Tally, Vec<String>);

/// Loads a tally, without attaching it, and returns why the kernel refuses it.
fn refusal(tally: &Tally) -> Option<String> {
    match Loader::new(tally, &[], false).and_then(|loader| Session::load(loader, None, None)) {
        Ok(session) => {
            session.warnings().iter().for_each(|warning| warn(warning));
            None
        }
        // The tally needs an option.
        Err(error) if error.is::<Usage>() => None,
        Err(error) => format!("{error:#}").lines().next().map(str::to_owned),
    }
}

fn tally_columns<'t>() -> [Column<'t, &'t Listed<'t>>; 7] {
    type Of<'t> = Column<'t, &'t Listed<'t>>;
    [
        Of::text("name", |(tally, _)| (&tally.name).into()),
        Of::text("summary", |(tally, _)| tally.summary().into()),
        Of::exact("like", |(tally, _)| tally.schema.like.iter().collect()),
        Of::exact("runs_here", |(_, obstacles)| obstacles.is_empty().into()),
        Of::exact("obstacles", |(_, obstacles)| obstacles.iter().collect()),
        Of::exact("tables", |(tally, _)| {
            let tables = tally.schema.tables.iter();
            tables.map(|table| table_object(table, tally)).collect()
        }),
        Of::text("options", |(tally, _)| {
            let options = tally.schema.options.iter();
            options.map(|option| option_object(option, tally)).collect()
        })
        .shown_as(|(tally, _)| {
            let options = tally.schema.options.iter();
            let flags: Vec<String> = options
                .map(|option| format!("--{}", option.flag()))
                .collect();
            flags.join(" ")
        })
        .spare(),
    ]
}

/// Prints a reason that all tallies share only once.
fn write_obstacles(
    out: &mut dyn Write,
    listed: &[Listed<'_>],
    support: &Support,
    style: &Style,
) -> Result<()> {
    let common = support.lacks_capabilities();
    if let Some(lack) = &common {
        sentence(out, &format!("none can run here: {lack}"), style)?;
    }
    for (tally, obstacles) in listed {
        for obstacle in obstacles {
            if Some(obstacle) != common.as_ref() {
                let text = format!("{} cannot run here: {obstacle}", tally.name);
                sentence(out, &text, style)?;
            }
        }
    }
    Ok(())
}

/// Prints a tally's tables, columns and options.
fn in_full(out: &mut dyn Write, global: &Global, (tally, obstacles): &Listed<'_>) -> Result<()> {
    let style = style(global);
    let title = format!("{}: {}", tally.name, tally.summary());
    heading(out, title.trim_end_matches(": "), &style)?;
    for obstacle in obstacles {
        sentence(out, &format!("cannot run here: {obstacle}"), &style)?;
    }
    if !tally.schema.like.is_empty() {
        let like = tally.schema.like.join(", ");
        sentence(out, &format!("other tools: {like}"), &style)?;
    }
    for remark in tally.remarks() {
        sentence(out, &remark, &style)?;
    }
    let how = (Format::Table, style);
    for table in &tally.schema.tables {
        let rows = plural(table.max_entries.into(), "row");
        let sorted = table.sort_by.as_ref();
        let sorted = sorted.map_or_else(String::new, |column| format!(", sorted by {column}"));
        let with = tally.schema.option_of_table(table).map(OptionSpec::flag);
        let with = with.map_or_else(String::new, |flag| format!(", with --{flag}"));
        let help = match &*table.help {
            "" => String::new(),
            help => format!(": {help}"),
        };
        let most = match table.max_entries {
            0 => "of a size that ktally chooses".to_owned(),
            _ => format!("at most {rows}"),
        };
        let text = format!("table {}{help} ({most}{sorted}{with})", table.name);
        writeln!(out)?;
        sentence(out, &text, &style)?;
        type Of<'t> = Column<'t, ([&'t str; 3], String)>;
        let columns = [
            Of::text("column", |(row, _)| row[0].into()),
            Of::text("kind", |(row, _)| row[1].into()),
            Of::text("shown_as", |(row, _)| row[2].into()),
            Of::text("help", |(_, help)| help.clone().into()),
        ];
        write_rows(out, how, &columns, described(tally, table))?;
    }
    if tally.schema.options.is_empty() {
        return Ok(());
    }
    writeln!(out, "\noptions")?;
    type Of<'t> = Column<'t, &'t OptionSpec>;
    let columns = [
        Of::text("option", |option| {
            // The value of a bool is optional, and needs the `=`.
            let short = option.short.map(|letter| format!("-{letter}, "));
            let flag = format!("{}--{}", short.unwrap_or_default(), option.flag());
            match option.place.ty.kind {
                _ if option.is_found => format!("{flag}={}", value_name(option)).into(),
                Kind::Bool => format!("{flag}[=<{}>]", value_name(option)).into(),
                _ => flag.into(),
            }
        }),
        Of::text("value", |option| value_name(option).into()),
        Of::text("help", |option| describe(option, tally).into()),
    ];
    write_rows(out, how, &columns, &tally.schema.options)?;
    Ok(())
}

/// Name, kind, unit or decoder, and help of all columns.
fn described<'t>(
    tally: &'t Tally,
    table: &'t Table,
) -> impl Iterator<Item = ([&'t str; 3], String)> {
    let of_label = |label: &'t Label, kind| {
        let decoder = label.decoder.as_ref().map(Decoder::tag);
        let shown = decoder.unwrap_or(&label.place.ty.name);
        let with = with(tally, &label.with);
        let idle = (!label.idle.is_empty()).then(|| format!("{} last", label.idle.join(", ")));
        let help: Vec<String> = names::meaning(label)
            .into_iter()
            .chain(with)
            .chain(idle)
            .collect();
        ([&*label.name, kind, shown], help.join("; "))
    };
    let labels = table.labels.iter().map(move |it| of_label(it, "key"));
    let details = table.details.iter().map(move |it| of_label(it, "detail"));
    let metrics = table.metrics.iter().map(|metric| {
        let unit = metric.unit.as_ref().map_or("", Unit::name);
        let row = [&*metric.name, kind_name(metric.kind), unit];
        let help = [metric.help.clone()].into_iter();
        let help: Vec<String> = help.chain(with(tally, &metric.with)).collect();
        (row, help.join("; "))
    });
    labels.chain(metrics).chain(details)
}

fn with(tally: &Tally, with: &Option<String>) -> Option<String> {
    let (with, flag) = tally.schema.option_of(with)?.condition(&tally.rodata);
    Some(format!("{with} {flag}"))
}

fn flag_of<'t>(tally: &'t Tally, with: &Option<String>) -> Value<'t> {
    tally.schema.option_of(with).map(OptionSpec::flag).into()
}

fn option_object<'t>(option: &'t OptionSpec, tally: &'t Tally) -> Value<'t> {
    let has_default = option.given.is_none();
    let default = has_default.then(|| option.place.decode(&tally.rodata));
    Value::Fields(vec![
        ("name", option.flag().into()),
        ("short", option.short.map(String::from).into()),
        ("type", (&option.place.ty.name).into()),
        ("unit", option.unit.as_ref().map(Unit::name).into()),
        ("default", default.into()),
        ("help", (&option.help).into()),
    ])
}

fn table_object<'t>(table: &'t Table, tally: &'t Tally) -> Value<'t> {
    let object = |label| label_object(label, tally);
    let metric = |metric| {
        let mut fields = metric_fields(metric);
        fields.push(("with", flag_of(tally, &metric.with)));
        Value::Fields(fields)
    };
    Value::Fields(vec![
        ("name", (&table.name).into()),
        ("help", (&table.help).into()),
        ("max_rows", table.max_entries.into()),
        ("sort_by", table.sort_by.as_ref().into()),
        (
            "with",
            tally
                .schema
                .option_of_table(table)
                .map(OptionSpec::flag)
                .into(),
        ),
        ("keys", table.labels.iter().map(object).collect()),
        ("metrics", table.metrics.iter().map(metric).collect()),
        ("details", table.details.iter().map(object).collect()),
    ])
}

fn label_object<'t>(label: &'t Label, tally: &'t Tally) -> Value<'t> {
    Value::Fields(vec![
        ("name", (&label.name).into()),
        ("type", (&label.place.ty.name).into()),
        ("as", label.decoder.as_ref().map(Decoder::tag).into()),
        ("with", flag_of(tally, &label.with)),
        ("idle", label.idle.iter().collect()),
    ])
}
