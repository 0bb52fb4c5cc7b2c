//! What the tabs are of: what counts, and the page of programs and maps.

use anyhow::Result;
use caps::Capability;

use super::bpf::{self, Page, Shared};
use crate::cli::{Chosen, TopArgs};
use crate::commands::source::{Operands, Source};
use crate::schema::Table;
use crate::snapshot::Reading;
use crate::tally::{Tally, with_fields};
use crate::tui::{Feed, Overview, Tab};

/// What is asked for.
pub(super) struct Wanted {
    operands: Operands,
    is_light: bool,
    /// The page of programs and maps, where that is asked for.
    page: Option<Shared>,
}

/// What is read.
pub(super) struct Opened {
    pub(super) sources: Vec<Watched>,
    /// Of an overview: what cannot count here, and why.
    pub(super) absent: Option<Vec<String>>,
    /// What reading takes.
    pub(super) capabilities: Vec<Capability>,
}

impl Wanted {
    pub(super) fn of(args: &TopArgs, tallies: Vec<Chosen>, texts: Shared) -> Result<Self> {
        let operands = Operands {
            tallies,
            instances: Operands::instances(&args.tally)?,
            maps: args.maps.clone(),
            as_counters: false,
            hints: args.hints(),
            max_rows: args.loading.max_rows,
        };
        Ok(Self {
            operands,
            is_light: args.light,
            page: args.bpf.then_some(texts),
        })
    }

    /// Loads, attaches and opens all of it.
    pub(super) fn open(&self) -> Result<Opened> {
        if let Some(texts) = &self.page {
            return Ok(Opened {
                sources: vec![Watched::bpf(texts)?],
                absent: None,
                capabilities: Page::CAPABILITIES.to_vec(),
            });
        }
        if self.operands.is_empty() {
            return self.overview();
        }
        let sources = self.operands.open()?;
        Ok(Opened {
            sources: sources.into_iter().map(Watched::Counts).collect(),
            absent: None,
            capabilities: Vec::new(),
        })
    }

    /// Of each tally that says so, in the order of their places.
    fn overview(&self) -> Result<Opened> {
        let mut tallies = Tally::builtins()?;
        tallies.retain(|tally| {
            let tables = &tally.schema.tables;
            let is_dear = tables.iter().any(|table| table.is_dear);
            tables.iter().any(|table| !table.overview.is_empty()) && !(self.is_light && is_dear)
        });
        tallies.sort_by_key(|tally| {
            let tables = tally.schema.tables.iter();
            tables.flat_map(|table| table.overview.clone()).min()
        });
        let (mut sources, mut absent) = (Vec::new(), Vec::new());
        let mut last_error = None;
        for tally in tallies {
            let given = with_fields(&tally.schema, &[], &[Overview::PROCESS]);
            match Source::run(&tally, &given, self.operands.max_rows) {
                Ok(source) => sources.push(Watched::Counts(source)),
                Err(error) => {
                    absent.push(format!("{} ({})", tally.name, error.root_cause()));
                    last_error = Some(error);
                }
            }
        }
        match (sources.is_empty(), last_error) {
            (true, Some(error)) => Err(error),
            _ => Ok(Opened {
                sources,
                absent: Some(absent),
                capabilities: Vec::new(),
            }),
        }
    }
}

/// What is read, in as many tabs as it has tables.
pub(super) enum Watched {
    Counts(Source),
    Bpf(Box<Page>, Vec<Table>),
}

impl Watched {
    fn bpf(texts: &Shared) -> Result<Self> {
        Ok(Self::Bpf(Box::new(Page::open(texts)?), bpf::tables()))
    }

    pub(super) fn tables(&self) -> &[Table] {
        match self {
            Self::Counts(source) => &source.tables,
            Self::Bpf(_, tables) => tables,
        }
    }

    pub(super) fn tabs(&self) -> Vec<Tab> {
        let (command, name, summary) = match self {
            Self::Counts(it) => (&*it.command, &*it.name, &*it.summary),
            Self::Bpf(..) => ("top --bpf", "bpf", bpf::MEASURES),
        };
        let tables = self.tables();
        let tabs = tables.iter().map(|table| {
            let name = match tables.len() {
                1 => name.to_owned(),
                _ => format!("{name}.{}", table.name),
            };
            let (command, summary) = (command.to_owned(), summary.to_owned());
            Tab::new(Feed::new(command, name, summary, table.clone()))
        });
        tabs.collect()
    }

    pub(super) fn read(&mut self) -> Result<Reading> {
        match self {
            Self::Counts(source) => source.read(),
            Self::Bpf(page, tables) => page.read(tables),
        }
    }
}
