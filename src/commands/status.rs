//! `ktally status`: what is attached, and how it fares.

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value as Json, json};

use super::{note, output, style, warn};
use crate::cli::{Exit, Global, Output, StatusArgs, flag};
use crate::error::{NotFound, usage};
use crate::map::{Inventory, Used};
use crate::names::HostNames;
use crate::render::columns;
use crate::schema::{Kind, OptionSpec, Unit};
use crate::snapshot::Reading;
use crate::tally::{Cost, Instance, Instances, TableUsage, measure, pinnable_by_others};

/// An instance, and what was asked about it.
struct Report {
    instance: Instance,
    reading: Reading,
    fill: Vec<TableUsage>,
    has_stopped: bool,
    cost: Option<Rate>,
}

/// What its programs did in a second.
struct Rate {
    runs: f64,
    nanos: f64,
}

pub(super) fn status(global: &Global, args: &StatusArgs) -> Result<Exit> {
    if !matches!(global.output, Output::Table | Output::Json) {
        return Err(usage("`status` writes a table or JSON: -o json"));
    }
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
    let mut exit = Exit::Done;
    let mut instances = Vec::new();
    for label in folder.names()? {
        match Instance::open(&label) {
            Ok(instance) => instances.push(instance),
            // Detached meanwhile.
            Err(error) if error.is::<NotFound>() => {}
            Err(error) => {
                warn(&format!("{error:#}"));
                exit = Exit::Incomplete;
            }
        }
    }
    if instances.is_empty() {
        folder.close();
        nothing(global)?;
        return Ok(exit);
    }
    warn_of_writers(&instances)?;
    let costs = match args.cost {
        true => measured(&instances)?,
        false => instances.iter().map(|_| None).collect(),
    };
    let inventory = Inventory::counts_only();
    let reports: Vec<Report> = instances
        .into_iter()
        .zip(costs)
        .map(|(instance, cost)| {
            Ok(Report {
                reading: instance.read()?,
                fill: instance.usage(&inventory),
                has_stopped: instance.has_stopped()?,
                cost,
                instance,
            })
        })
        .collect::<Result<_>>()?;
    let mut out = output::out();
    match global.output {
        Output::Json => {
            let all: Vec<Json> = reports.iter().map(as_json).collect();
            writeln!(out, "{}", Json::Array(all))?;
        }
        _ => write_table(&mut out, global, &reports, args.cost)?,
    }
    Ok(exit)
}

/// The mode of a folder may have changed since it was attached.
fn warn_of_writers(instances: &[Instance]) -> Result<()> {
    for instance in instances {
        if let Ok(Some(_)) = instance.readable_by()
            && let Some(folder) = pinnable_by_others()?
        {
            warn(&format!(
                "readers of instance `{}` can change its counts, as others may pin maps in `{}`",
                instance.name,
                folder.display()
            ));
        }
    }
    Ok(())
}

fn nothing(global: &Global) -> Result<Exit> {
    if global.output == Output::Json {
        writeln!(output::out(), "[]")?;
    }
    note("nothing is attached; `ktally attach NAME` leaves a tally of `ktally list` counting");
    Ok(Exit::Done)
}

/// The kernel measures for a second.
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

fn write_table(
    out: &mut dyn Write,
    global: &Global,
    reports: &[Report],
    with_cost: bool,
) -> Result<()> {
    let mut head = vec![
        "INSTANCE", "TALLY", "STATE", "SINCE", "ROWS/MAX", "DROPPED", "MISSED", "MEMORY",
        "PROGRAMS", "VERSION", "OPTIONS",
    ];
    let mut right = vec![
        false, false, false, false, true, true, true, true, true, false, false,
    ];
    if with_cost {
        head.splice(10..10, ["EVENTS/s", "ns/EVENT"]);
        right.splice(10..10, [true, true]);
    }
    let with_gaps = reports.iter().any(has_gaps);
    if with_gaps {
        head.insert(7, "GAPS");
        right.insert(7, true);
    }
    let head: Vec<String> = head.into_iter().map(str::to_owned).collect();
    let rows: Vec<Vec<String>> = reports
        .iter()
        .map(|report| as_row(report, with_cost, with_gaps))
        .collect();
    columns(out, &head, &right, &rows, &style(global))?;
    Ok(())
}

/// Whether the kernel did not report some events: rare enough for a column of
/// its own only where it is so.
fn has_gaps(report: &Report) -> bool {
    report.reading.gaps.is_some_and(|gaps| gaps > 0)
}

fn as_row(report: &Report, with_cost: bool, with_gaps: bool) -> Vec<String> {
    let Report {
        instance, reading, ..
    } = report;
    let meta = &instance.meta;
    let fill = match &report.fill[..] {
        [one] => format!("{}/{}", used(one.used), one.max),
        many => {
            let of = |fill: &TableUsage| format!("{} {}/{}", fill.table, used(fill.used), fill.max);
            many.iter().map(of).collect::<Vec<_>>().join(", ")
        }
    };
    let mut row = vec![
        instance.name.to_string(),
        meta.tally.clone(),
        state(report).to_owned(),
        humantime::format_rfc3339_seconds(meta.since()).to_string(),
        fill,
        known(dropped(reading)),
        known(reading.missed),
        Unit::Bytes.scale(instance.memory as f64),
        meta.programs.len().to_string(),
        meta.version.clone(),
        options(instance),
    ];
    if with_cost {
        let [events, nanos] = match &report.cost {
            Some(rate) => [format!("{:.0}", rate.runs), format!("{:.0}", rate.nanos)],
            None => ["-".to_owned(), "-".to_owned()],
        };
        row.splice(10..10, [events, nanos]);
    }
    if with_gaps {
        let gaps = reading.gaps;
        row.insert(
            7,
            gaps.map_or_else(|| "-".to_owned(), |gaps| gaps.to_string()),
        );
    }
    row
}

fn known(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn state(report: &Report) -> &'static str {
    match report.has_stopped {
        true => "stopped",
        false => "counting",
    }
}

fn used(used: Used) -> String {
    match used {
        Used::Exactly(rows) => rows.to_string(),
        Used::AtLeast(rows) => format!("{rows}+"),
        Used::Unknown => "-".to_owned(),
    }
}

/// Unknown where it is unknown of a table.
fn dropped(reading: &Reading) -> Option<u64> {
    reading.tables.iter().map(|table| table.dropped).sum()
}

/// Those that were given. Earlier versions did not note which, so those are taken
/// that are not off.
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

/// As they would be typed; and since when, if others held before.
fn options(instance: &Instance) -> String {
    let labels = HostNames::new();
    let typed = |option: &OptionSpec| match option.place.ty.kind {
        Kind::Bool => format!("--{}", flag(option)),
        _ => format!(
            "--{} {}",
            flag(option),
            labels.option(option, &instance.rodata)
        ),
    };
    let mut words: Vec<String> = given(instance).map(typed).collect();
    let meta = &instance.meta;
    if meta.options_since() != meta.since() {
        let since = humantime::format_rfc3339_seconds(meta.options_since());
        words.push(format!("(since {since})"));
    }
    words.join(" ")
}

fn as_json(report: &Report) -> Json {
    let Report {
        instance, reading, ..
    } = report;
    let (meta, labels) = (&instance.meta, HostNames::new());
    let options = given(instance).map(|option| {
        let value = labels.option(option, &instance.rodata);
        (option.name.clone(), json!(value))
    });
    let tables = report.fill.iter().zip(&reading.tables).map(|(fill, table)| {
        let used = match fill.used {
            Used::Exactly(rows) => Some(rows),
            _ => None,
        };
        json!({"name": fill.table, "rows": used, "max_rows": fill.max, "dropped": table.dropped})
    });
    let programs = meta.programs.iter().map(|program| {
        json!({"name": program.name, "section": program.section, "target": program.target})
    });
    let mut all = json!({
        "label": instance.name.as_str(),
        "tally": meta.tally,
        "state": state(report),
        "since": humantime::format_rfc3339_millis(meta.since()).to_string(),
        "seconds": (reading.seconds * 1e5).round() / 1e5,
        "version": meta.version,
        "options": options.collect::<serde_json::Map<String, Json>>(),
        "options_since": humantime::format_rfc3339_millis(meta.options_since()).to_string(),
        "tables": tables.collect::<Vec<_>>(),
        "dropped": dropped(reading),
        "missed": reading.missed,
        "memory": instance.memory,
        "programs": programs.collect::<Vec<_>>(),
    });
    if let Some(gaps) = reading.gaps {
        all["gaps"] = json!(gaps);
    }
    if let Some(rate) = &report.cost {
        all["events_per_second"] = json!(rate.runs);
        all["nanoseconds_per_event"] = json!(rate.nanos);
    }
    all
}
