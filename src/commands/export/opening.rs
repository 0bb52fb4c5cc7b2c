//! What is asked for, and opening all of it.

use std::time::SystemTime;

use anyhow::{Context, Result};
use humantime::format_rfc3339_seconds;
use nix::unistd::User;

use super::exported::Limits;
use crate::cli::{Chosen, ExportArgs};
use crate::commands::source::{Operands, Source};
use crate::commands::warn;
use crate::error::usage;

pub(super) struct Wanted {
    operands: Operands,
    max_series: usize,
    pub(super) takes_attached: bool,
    /// Whether the kernel measures what programs cost.
    pub(super) is_measured: bool,
    /// Whom the process runs as once all is open.
    pub(super) user: Option<User>,
}

impl Wanted {
    pub(super) fn of(args: &ExportArgs, tallies: Vec<Chosen>) -> Result<Self> {
        let operands = Operands {
            tallies,
            instances: Operands::instances(&args.tally)?,
            maps: args.maps.clone(),
            as_counters: args.as_counter,
            hints: args.hints(),
            max_rows: args.loading.max_rows,
        };
        let wanted = Self {
            operands,
            max_series: args.max_series,
            takes_attached: args.attached,
            is_measured: args.cost,
            user: args.user.as_deref().map(user).transpose()?,
        };
        if wanted.operands.is_empty() && !wanted.takes_attached {
            return Err(usage(
                "name tallies of `ktally list`, or @INSTANCE, --attached or --map MAP",
            ));
        }
        let follows = wanted.takes_attached || !wanted.operands.instances.is_empty();
        if wanted.user.is_some() && follows {
            return Err(usage(
                "only root can follow instances, by their pins: leave out --user, or run as a user of `ktally attach --readable-by` from the start",
            ));
        }
        Ok(wanted)
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            most: self.max_series,
            hints: self.operands.hints.clone(),
            start: format_rfc3339_seconds(SystemTime::now()).to_string(),
        }
    }

    /// Opens all of it, under names that differ.
    pub(super) fn open(&self) -> Result<Vec<Source>> {
        let sources = self.operands.open()?;
        for (i, source) in sources.iter().enumerate() {
            source.warnings().iter().for_each(|warning| warn(warning));
            if sources[..i].iter().any(|other| other.name == source.name) {
                let name = &source.name;
                return Err(usage(format!(
                    "two of these are called `{name}`: export one"
                )));
            }
        }
        Ok(sources)
    }
}

fn user(name: &str) -> Result<User> {
    let found = User::from_name(name).with_context(|| format!("failed to look up `{name}`"))?;
    found.ok_or_else(|| usage(format!("there is no user `{name}`")))
}
