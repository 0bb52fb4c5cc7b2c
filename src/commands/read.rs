//! `ktally read`: what an attached tally has counted. Also `run @INSTANCE`.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::clock::{Schedule, Signals, Wake};
use super::face::{self, Face, Source};
use super::note;
use crate::cli::{Exit, Global, RunArgs};
use crate::error::usage;
use crate::names::HostNames;
use crate::snapshot::Reading;
use crate::tally::{Instance, InstanceName, Instances};

pub(super) fn read(global: &Global, args: &RunArgs) -> Result<Exit> {
    let text = args.tally.to_string_lossy();
    let label = InstanceName::parse(text.strip_prefix('@').unwrap_or(&text))?;
    if args.loading.max_rows.is_some() || args.loading.all_programs || !args.command.is_empty() {
        return Err(usage(
            "what is attached has its room, its programs and its filters already: --max-rows, --all-programs and a command are for those who start counting",
        ));
    }
    // A half-made instance is not for reading.
    if let Some(folder) = Instances::look()? {
        folder.notes.iter().for_each(|what| note(what));
    }
    let mut instance = Instance::open(&label)?;
    let named = (instance.meta.tally.as_str(), instance.summary());
    let mut face = Face::of_many(global, args, named, instance.tables())?;
    let signals = Signals::block()?;
    // Without a time, what there is by now.
    let schedule = match (args.run_for, args.every) {
        (None, None) => Schedule::new(Some(Duration::ZERO), None),
        (run_for, every) => {
            face.start_from(instance.read()?);
            Schedule::new(run_for, every)
        }
    };
    let exit = face::show(&mut face, &mut instance, &signals, schedule)?;
    if args.every.is_some() && instance.has_stopped()? {
        note(&format!("instance `{label}` counts no more"));
    }
    Ok(exit)
}

impl Source for Instance {
    fn read(&self) -> Result<Reading> {
        Self::read(self)
    }

    fn wait(
        &self,
        _names: &HostNames,
        signals: &Signals,
        instant: Option<Instant>,
    ) -> Result<Wake> {
        signals.wait(instant, [])
    }

    fn has_ended(&self) -> Result<bool> {
        self.has_stopped()
    }

    /// Reading does not end it.
    fn finish(&mut self, _wake: Wake, _signals: &Signals) -> Result<()> {
        Ok(())
    }

    fn stop(&mut self) {}
}
