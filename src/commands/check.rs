//! `ktally check`: what this host allows, and the fix for what it does not.

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};

use super::{obstacles, output, style};
use crate::cli::{Exit, Global, Output};
use crate::error::usage;
use crate::host;
use crate::render::columns;
use crate::tally::{Support, Tally, fentry_fact, namespace_facts};

pub(super) fn check(global: &Global) -> Result<Exit> {
    let mut facts = host::facts();
    facts.push(fentry_fact());
    facts.extend(namespace_facts());
    let support = Support::probe();
    let tallies = Tally::builtins()?;
    let obstacles: Vec<(&str, Vec<String>)> = tallies
        .iter()
        .map(|tally| (tally.name.as_str(), obstacles(&support, tally)))
        .collect();

    let out = &mut output::out();
    match global.output {
        Output::Json | Output::Jsonl => {
            let facts: Vec<Value> = facts
                .iter()
                .map(|fact| json!({"name": fact.name, "ok": fact.fix.is_none(), "found": fact.found, "fix": fact.fix}))
                .collect();
            let tallies: Vec<Value> = obstacles
                .iter()
                .map(|(name, obstacles)| json!({"name": name, "ok": obstacles.is_empty(), "obstacles": obstacles}))
                .collect();
            writeln!(out, "{}", json!({"facts": facts, "tallies": tallies}))?;
        }
        Output::Csv | Output::Folded | Output::Svg => {
            return Err(usage("`check` writes table, json or jsonl"));
        }
        Output::Table => {
            let facts = facts.iter().map(|fact| {
                let ok = if fact.fix.is_none() { "ok" } else { "no" };
                let found = match &fact.fix {
                    Some(fix) => format!("{}; {fix}", fact.found),
                    None => fact.found.clone(),
                };
                vec![fact.name.to_owned(), ok.to_owned(), found]
            });
            let tallies = obstacles.iter().map(|(name, obstacles)| {
                let ok = if obstacles.is_empty() { "ok" } else { "no" };
                vec![format!("tally {name}"), ok.to_owned(), obstacles.join("; ")]
            });
            let rows: Vec<Vec<String>> = facts.chain(tallies).collect();
            columns(
                out,
                &["WHAT", "OK", "FOUND"].map(str::to_owned),
                &[false; 3],
                &rows,
                &style(global),
            )?;
        }
    }
    Ok(Exit::Done)
}
