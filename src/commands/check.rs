//! `ktally check`: what this host allows, and the fix for what it does not.

use anyhow::Result;

use super::{obstacles, output, style};
use crate::cli::{Exit, Global};
use crate::host::{self, Fact};
use crate::render::{Column, object, write_json, write_rows};
use crate::schema::Value;
use crate::tally::{Support, Tally, fentry_fact, namespace_facts};

/// A tally, and why it cannot run here.
type Checked = (String, Vec<String>);

pub(super) fn check(global: &Global) -> Result<Exit> {
    let mut facts = host::facts();
    facts.push(fentry_fact());
    facts.extend(namespace_facts());
    let support = Support::probe();
    let checked = |tally: Tally| {
        let obstacles = obstacles(&support, &tally);
        (tally.name, obstacles)
    };
    let tallies: Vec<Checked> = Tally::builtins()?.into_iter().map(checked).collect();

    let out = &mut output::out();
    if global.output.is_json() {
        let (of_facts, of_tallies) = (fact_columns(), tally_columns());
        let facts = facts.iter().map(|fact| object(&of_facts, fact));
        let tallies = tallies.iter().map(|tally| object(&of_tallies, tally));
        let (facts, tallies) = (facts.collect(), tallies.collect());
        let report = Value::Fields(vec![("facts", facts), ("tallies", tallies)]);
        write_json(out, &report)?;
    } else {
        // A tally is one more fact about this host.
        facts.extend(tallies.into_iter().map(|(name, obstacles)| Fact {
            name: format!("tally {name}").into(),
            fix: (!obstacles.is_empty()).then(|| obstacles.join("; ")),
            found: String::new(),
        }));
        write_rows(out, (global.output, style(global)), &fact_columns(), facts)?;
    }
    Ok(Exit::Done)
}

fn fact_columns() -> [Column<'static, Fact>; 4] {
    type Of = Column<'static, Fact>;
    [
        Of::text("name", |fact| (&*fact.name).into()).titled("WHAT"),
        Of::text("ok", |fact| fact.fix.is_none().into())
            .shown_as(|fact| if fact.fix.is_none() { "ok" } else { "no" }.to_owned()),
        Of::text("found", |fact| (&fact.found).into()).shown_as(|fact| {
            let all = [Some(&fact.found), fact.fix.as_ref()];
            let all = all.into_iter().flatten().filter(|text| !text.is_empty());
            all.map(String::as_str).collect::<Vec<_>>().join("; ")
        }),
        Of::exact("fix", |fact| fact.fix.as_ref().into()),
    ]
}

fn tally_columns() -> [Column<'static, Checked>; 3] {
    type Of = Column<'static, Checked>;
    [
        Of::text("name", |(name, _)| name.into()),
        Of::text("ok", |(_, obstacles)| obstacles.is_empty().into()),
        Of::text("obstacles", |(_, obstacles)| obstacles.iter().collect()),
    ]
}
