//! `--until` and `--alert`: conditions on the rows of each reading.

use anyhow::Result;

use crate::cli::{Exit, RunArgs};
use crate::error::{say, usage};
use crate::names::local;
use crate::schema::{Names, Table};
use crate::snapshot::{Condition, Query, Reading, Watch};

#[derive(Default)]
pub(super) struct Conditions {
    until: Option<Watch>,
    alert: Option<Watch>,
    is_met: bool,
    was_alerted: bool,
}

impl Conditions {
    /// An error if no row of these tables can meet them.
    pub(super) fn new(
        args: &RunArgs,
        query: &Query,
        tables: &[Table],
        names: &dyn Names,
    ) -> Result<Self> {
        let watch = |flag: &str, condition: &Option<Condition>| {
            let condition = condition.as_ref();
            let watch = condition.map(|it| {
                let watch = Watch::new((flag, it), query, tables, names);
                watch.map_err(|error| usage(format!("`--{flag} {it}`: {error:#}")))
            });
            watch.transpose()
        };
        Ok(Self {
            until: watch("until", &args.until)?,
            alert: watch("alert", &args.alert)?,
            ..Self::default()
        })
    }

    /// Looks at what is shown of a tally.
    pub(super) fn look(
        &mut self,
        tally: &str,
        tables: &[Table],
        reading: &Reading,
        names: &dyn Names,
    ) {
        for (table, read) in tables.iter().zip(&reading.tables) {
            let met = |watch: &Watch| watch.look(table, &read.rows, names);
            self.is_met |= self.until.as_ref().and_then(met).is_some();
            if let Some((alert, met)) = self.alert.as_ref().and_then(|it| Some((it, met(it)?))) {
                self.was_alerted = true;
                let (time, first) = (local(reading.time), met.first);
                let more = match met.rows {
                    1 => String::new(),
                    rows => format!(" (the first of {rows} rows)"),
                };
                say(&format!(
                    "ktally: alert: {time} {tally}: {alert}: {first}{more}"
                ));
            }
        }
    }

    /// Whether a reading met `--until`.
    pub(super) fn is_met(&self) -> bool {
        self.is_met
    }

    /// The exit code of a run in which nothing failed.
    pub(super) fn exit(&self) -> Exit {
        match self {
            _ if self.was_alerted => Exit::Alert,
            Self {
                until: Some(_),
                is_met: false,
                ..
            } => Exit::NotMet,
            _ => Exit::Done,
        }
    }
}
