//! `ktally list`: what can be counted, and with which options.

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};

use super::{obstacles, output, plural, style, warn, warn_of};
use crate::cli::{Exit, Global, ListArgs, Output, describe, flag, value_name};
use crate::error::{Usage, usage};
use crate::render::{columns, heading};
use crate::schema::{Decoder, Kind, Label, MetricKind, Table, Unit};
use crate::tally::{Session, Support, Tally};

pub(super) fn list(global: &Global, args: &ListArgs) -> Result<Exit> {
    let tallies = match &args.tally {
        Some(name) => vec![Tally::find(name)?],
        None => Tally::builtins()?,
    };
    tallies.iter().for_each(warn_of);
    let support = Support::probe();
    let listed: Vec<Listed<'_>> = tallies
        .iter()
        .map(|tally| {
            let mut obstacles = obstacles(&support, tally);
            if args.tally.is_some() && obstacles.is_empty() {
                obstacles.extend(refusal(tally));
            }
            (tally, obstacles)
        })
        .collect();
    let out = &mut output::out();
    match global.output {
        Output::Json => {
            let all: Vec<Value> = listed.iter().map(as_json).collect();
            writeln!(out, "{}", Value::from(all))?;
        }
        Output::Jsonl => {
            for tally in &listed {
                writeln!(out, "{}", as_json(tally))?;
            }
        }
        Output::Csv | Output::Folded | Output::Svg => {
            return Err(usage("`list` writes table, json or jsonl"));
        }
        Output::Table if args.tally.is_some() => {
            for tally in &listed {
                in_full(out, global, tally)?;
            }
        }
        Output::Table => overview(out, global, &listed, &support)?,
    }
    Ok(Exit::Done)
}

/// A tally, and why it cannot run here.
type Listed<'t> = (&'t Tally, Vec<String>);

/// Why the kernel refuses a tally, found out by loading it; nothing is attached.
fn refusal(tally: &Tally) -> Option<String> {
    match Session::load(tally, &[], None, None) {
        Ok(session) => {
            session.warnings().iter().for_each(|warning| warn(warning));
            None
        }
        // It needs an option.
        Err(error) if error.is::<Usage>() => None,
        Err(error) => format!("{error:#}").lines().next().map(str::to_owned),
    }
}

/// A line a tally.
fn overview(
    out: &mut dyn Write,
    global: &Global,
    listed: &[Listed<'_>],
    support: &Support,
) -> Result<()> {
    let head = ["NAME", "SUMMARY", "TABLES", "OPTIONS"].map(str::to_owned);
    let rows: Vec<Vec<String>> = listed
        .iter()
        .map(|(tally, _)| {
            let tables: Vec<&str> = tally
                .schema
                .tables
                .iter()
                .map(|table| table.name.as_str())
                .collect();
            let options: Vec<String> = tally
                .schema
                .options
                .iter()
                .map(|option| format!("--{}", flag(option)))
                .collect();
            vec![
                tally.name.clone(),
                tally.summary().to_owned(),
                tables.join(" "),
                options.join(" "),
            ]
        })
        .collect();
    columns(out, &head, &[false; 4], &rows, &style(global))?;
    // What stops all of them is said once.
    let common = support.lacks_capabilities();
    if let Some(lack) = &common {
        writeln!(out, "none can run here: {lack}")?;
    }
    for (tally, obstacles) in listed {
        for obstacle in obstacles {
            if Some(obstacle) != common.as_ref() {
                writeln!(out, "{} cannot run here: {obstacle}", tally.name)?;
            }
        }
    }
    Ok(())
}

/// Everything that a tally says about itself.
fn in_full(out: &mut dyn Write, global: &Global, (tally, obstacles): &Listed<'_>) -> Result<()> {
    let style = style(global);
    heading(out, &format!("{}: {}", tally.name, tally.summary()), &style)?;
    for obstacle in obstacles {
        writeln!(out, "cannot run here: {obstacle}")?;
    }
    for table in &tally.schema.tables {
        writeln!(
            out,
            "\ntable {}: {} (at most {})",
            table.name,
            table.help,
            plural(table.max_entries.into(), "row")
        )?;
        let rows = table_columns(table);
        columns(
            out,
            &["COLUMN", "KIND", "SHOWN AS", "HELP"].map(str::to_owned),
            &[false; 4],
            &rows,
            &style,
        )?;
    }
    if tally.schema.options.is_empty() {
        return Ok(());
    }
    writeln!(out, "\noptions")?;
    let rows: Vec<Vec<String>> = tally
        .schema
        .options
        .iter()
        .map(|option| {
            // A bool's value may be left out, and cannot be set apart.
            let (flag, ty) = (flag(option), value_name(option));
            let flag = match option.place.ty.kind {
                Kind::Bool => format!("--{flag}[=<{ty}>]"),
                _ => format!("--{flag}"),
            };
            vec![flag, ty, describe(option, tally)]
        })
        .collect();
    columns(
        out,
        &["OPTION", "VALUE", "HELP"].map(str::to_owned),
        &[false; 3],
        &rows,
        &style,
    )?;
    Ok(())
}

fn table_columns(table: &Table) -> Vec<Vec<String>> {
    let labels = table.labels.iter().map(|label| {
        let kind = "label".to_owned();
        [label.name.clone(), kind, shown_as(label), String::new()]
    });
    let metrics = table.metrics.iter().map(|metric| {
        let unit = metric.unit.as_ref().map_or("", Unit::name);
        let kind = kind_name(metric.kind);
        [&metric.name, kind, unit, &metric.help].map(str::to_owned)
    });
    let details = table.details.iter().map(|detail| {
        let kind = "detail".to_owned();
        [detail.name.clone(), kind, shown_as(detail), String::new()]
    });
    let all = labels.chain(metrics).chain(details);
    all.map(Vec::from).collect()
}

fn shown_as(label: &Label) -> String {
    let ty = || label.place.ty.name.clone();
    label
        .decoder
        .as_ref()
        .map_or_else(ty, |decoder| decoder.tag().to_owned())
}

fn kind_name(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
    }
}

fn as_json((tally, obstacles): &Listed<'_>) -> Value {
    let options: Vec<Value> = tally
        .schema
        .options
        .iter()
        .map(|option| {
            json!({
                "name": flag(option),
                "type": option.place.ty.name,
                "unit": option.unit.as_ref().map(Unit::name),
                "default": option.given.is_none().then(|| option.place.decode(&tally.rodata)),
                "help": option.help,
            })
        })
        .collect();
    let tables: Vec<Value> = tally.schema.tables.iter().map(table_json).collect();
    json!({
        "name": tally.name,
        "summary": tally.summary(),
        "runs_here": obstacles.is_empty(),
        "obstacles": obstacles,
        "tables": tables,
        "options": options,
    })
}

fn table_json(table: &Table) -> Value {
    let parts = |labels: &[Label]| -> Vec<Value> {
        let labels = labels.iter();
        let part = |label: &Label| {
            json!({
                "name": label.name,
                "type": label.place.ty.name,
                "as": label.decoder.as_ref().map(Decoder::tag),
            })
        };
        labels.map(part).collect()
    };
    let metrics: Vec<Value> = table
        .metrics
        .iter()
        .map(|metric| {
            json!({
                "name": metric.name,
                "kind": kind_name(metric.kind),
                "unit": metric.unit.as_ref().map(Unit::name),
                "help": metric.help,
            })
        })
        .collect();
    json!({
        "name": table.name,
        "help": table.help,
        "max_rows": table.max_entries,
        "labels": parts(&table.labels),
        "metrics": metrics,
        "details": parts(&table.details),
    })
}
