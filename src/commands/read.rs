//! `ktally read`: what an attached tally has counted. Also `run @INSTANCE`.

use std::time::Duration;

use anyhow::Result;

use super::note;
use super::readings::{self, Source};
use super::report::{Counted, Report};
use super::wait::{Schedule, Signals};
use crate::cli::{Exit, Global, RunArgs};
use crate::error::usage;
use crate::snapshot::Reading;
use crate::tally::{Instance, InstanceName, Instances};

pub(super) fn read(global: &Global, args: &RunArgs) -> Result<Exit> {
    let text = args.tally.to_string_lossy();
    let name = InstanceName::parse(text.strip_prefix('@').unwrap_or(&text))?;
    let loading = &args.loading;
    let has_flag = loading.per_cpu_rows || loading.all_programs;
    if loading.max_rows.is_some() || has_flag || !args.command.is_empty() {
        return Err(usage(
            "an attached tally has its size, programs and filters already: --max-rows, --per-cpu-rows, --all-programs and a command are options of `run` and `attach`",
        ));
    }
    // Completes or removes half-made instances first.
    if let Some(folder) = Instances::look()? {
        folder.notes.iter().for_each(|what| note(what));
    }
    let mut instance = Instance::open_with(&name, &args.hints())?;
    let counted = Counted::of(&instance, &args.fields())?;
    let mut report = Report::of_many(global, args, vec![counted])?;
    let signals = Signals::block()?;
    // Without a time: one reading, of all that was counted.
    let schedule = match (args.run_for, args.every()) {
        (None, None) => Schedule::new(Some(Duration::ZERO), None),
        (run_for, every) => {
            report.start_from(Source::read(&instance)?);
            Schedule::new(run_for, every)
        }
    };
    let exit = readings::show(&mut report, &mut instance, &signals, schedule)?;
    if args.every().is_some() && instance.has_stopped()? {
        note(&format!("instance `{name}` has stopped"));
    }
    Ok(exit)
}

impl Source for Instance {
    fn read(&self) -> Result<Vec<Reading>> {
        Ok(vec![Self::read(self)?])
    }

    fn has_ended(&self) -> Result<bool> {
        self.has_stopped()
    }
}
