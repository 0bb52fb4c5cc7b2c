//! The loop that `run` and `read` share: readings on schedule.

use std::time::Instant;

use anyhow::Result;
use caps::Capability;

use super::output::{Stdout, Writer};
use super::progress::Progress;
use super::report::Report;
use super::wait::{Schedule, Signals, Wake};
use super::{keep_capabilities, warn};
use crate::cli::Exit;
use crate::names::{self, HostNames};
use crate::snapshot::Reading;

/// Tallies that count for this process, or one that is attached.
pub(super) trait Source {
    /// A reading of each.
    fn read(&self) -> Result<Vec<Reading>>;

    /// A capability that is needed beside those for reading.
    fn capabilities(&self) -> Option<Capability> {
        None
    }

    /// Whether a command writes to the terminal meanwhile.
    fn shares_terminal(&self) -> bool {
        false
    }

    /// Waits until the instant, or until something else comes first.
    fn wait(
        &self,
        _names: &HostNames,
        signals: &Signals,
        instant: Option<Instant>,
    ) -> Result<Wake> {
        signals.wait(instant, [])
    }

    /// Whether counting has ended, so that the next reading is the last.
    fn has_ended(&self) -> Result<bool> {
        Ok(false)
    }

    /// Called before the last reading.
    fn finish(&mut self, _wake: Wake) -> Result<()> {
        Ok(())
    }

    /// Called after the last reading.
    fn end(&mut self, _wake: Wake, _signals: &Signals) -> Result<()> {
        Ok(())
    }

    /// Ends counting at once, while the output is blocked.
    fn stop(&mut self) {}
}

/// Writes readings on schedule.
pub(super) fn show(
    report: &mut Report,
    source: &mut dyn Source,
    signals: &Signals,
    mut schedule: Schedule,
) -> Result<Exit> {
    let stdout = Stdout::open()?;
    let mut needed = report.names.capabilities(report.tables());
    needed.extend(source.capabilities());
    keep_capabilities(needed);
    let run_for = schedule.run_for().filter(|_| !source.shares_terminal());
    let progress = Progress::new(run_for);
    loop {
        let (instant, is_last) = schedule.next();
        let wake = report.wait(source, signals, instant, &progress);
        progress.hide();
        let wake = wake?;
        let is_last = is_last || wake != Wake::Time || source.has_ended()?;
        let readings = match is_last {
            true => last(source, signals, wake)?,
            false => source.read()?,
        };
        let shown = report.show(
            readings,
            Writer {
                stdout: &stdout,
                signals,
                end: schedule.end().filter(|_| !is_last),
                stop: &mut || source.stop(),
            },
        );
        if stdout.was_cut() {
            warn("the output is incomplete: its reader stopped, and a signal ended it");
            return Ok(Exit::Incomplete);
        }
        shown?;
        if is_last {
            break;
        }
        if report.is_met() {
            // What was counted since is not shown.
            last(source, signals, Wake::Time)?;
            break;
        }
    }
    report.warn_at_end(schedule.left_out());
    Ok(report.exit())
}

/// The last readings, and the end of counting.
fn last(source: &mut dyn Source, signals: &Signals, wake: Wake) -> Result<Vec<Reading>> {
    source.finish(wake)?;
    let readings = source.read()?;
    source.end(wake, signals)?;
    Ok(readings)
}

impl Report {
    /// Waits until the instant, or until something else comes first. Meanwhile it
    /// shows the progress, and records the names of cgroups, because removed ones have
    /// none to ask for.
    fn wait(
        &self,
        source: &dyn Source,
        signals: &Signals,
        instant: Option<Instant>,
        progress: &Progress,
    ) -> Result<Wake> {
        loop {
            let (is_shown, is_seen) = (progress.show(), self.names.look(self.tables()));
            if !is_shown && !is_seen {
                return source.wait(&self.names, signals, instant);
            }
            let next = Instant::now() + names::PAUSE;
            let next = instant.map_or(next, |instant| instant.min(next));
            let wake = source.wait(&self.names, signals, Some(next))?;
            if wake != Wake::Time || instant == Some(next) {
                return Ok(wake);
            }
        }
    }
}
