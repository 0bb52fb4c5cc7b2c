//! What is asked for, and opening all of it.

use std::time::SystemTime;

use anyhow::{Context, Result};
use humantime::format_rfc3339_seconds;
use nix::unistd::User;

use super::exported::Limits;
use crate::cli::{Chosen, ExportArgs};
use crate::commands::source::Source;
use crate::commands::warn;
use crate::error::usage;
use crate::schema::{Hints, MapBtf};
use crate::tally::InstanceName;

pub(super) struct Wanted {
    tallies: Vec<Chosen>,
    instances: Vec<InstanceName>,
    maps: Vec<String>,
    as_counters: bool,
    hints: Hints,
    max_rows: Option<u32>,
    max_series: usize,
    pub(super) takes_attached: bool,
    /// Whether the kernel measures what programs cost.
    pub(super) is_measured: bool,
    /// Whom the process runs as once all is open.
    pub(super) user: Option<User>,
}

impl Wanted {
    pub(super) fn of(args: &ExportArgs, tallies: Vec<Chosen>) -> Result<Self> {
        let operands = args.tally.iter().map(|it| it.to_string_lossy());
        let instances = operands.filter_map(|it| it.strip_prefix('@').map(InstanceName::parse));
        let wanted = Self {
            tallies,
            instances: instances.collect::<Result<_>>()?,
            maps: args.maps.clone(),
            as_counters: args.as_counter,
            hints: args.hints(),
            max_rows: args.loading.max_rows,
            max_series: args.max_series,
            takes_attached: args.attached,
            is_measured: args.cost,
            user: args.user.as_deref().map(user).transpose()?,
        };
        let names = [
            wanted.tallies.len(),
            wanted.instances.len(),
            wanted.maps.len(),
        ];
        if names.iter().sum::<usize>() == 0 && !wanted.takes_attached {
            return Err(usage(
                "name tallies of `ktally list`, or @INSTANCE, --attached or --map MAP",
            ));
        }
        let follows = wanted.takes_attached || !wanted.instances.is_empty();
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
            hints: self.hints.clone(),
            start: format_rfc3339_seconds(SystemTime::now()).to_string(),
        }
    }

    /// Loads, attaches and opens all of it.
    pub(super) fn open(&self) -> Result<Vec<Source>> {
        let tallies = self.tallies.iter();
        let tallies = tallies.map(|it| Source::run(&it.tally, &it.given, self.max_rows));
        let instances = self.instances.iter();
        let instances = instances.map(|it| Source::attached(it, &self.hints));
        let btf = MapBtf::default();
        let maps = self.maps.iter();
        let maps = maps.map(|it| Source::map(it, &btf, self.as_counters, &self.hints));
        let sources: Vec<Source> = tallies
            .chain(instances)
            .chain(maps)
            .collect::<Result<_>>()?;
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
