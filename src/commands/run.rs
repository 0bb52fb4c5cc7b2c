//! `ktally run`: count, print, leave nothing behind.

use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Instant;

use anyhow::Result;
use caps::Capability;
use nix::sys::signal::Signal;

use super::readings::{self, Source};
use super::report::{Counted, Report};
use super::wait::{Schedule, Signals, Wake};
use super::{note, warn, warn_of};
use crate::cli::{Exit, Global, RunArgs};
use crate::names::HostNames;
use crate::snapshot::Reading;
use crate::tally::{Command, RawOption, Session, Tally, resolve, with_fields};

pub(super) fn run(
    global: &Global,
    args: &RunArgs,
    tally: &Tally,
    given: &[RawOption],
) -> Result<Exit> {
    let given = with_fields(&tally.schema, given, &args.view.selection.fields());
    let options = resolve(&tally.schema.options, &given)?;
    let counted = Counted::new(&tally.name, tally.summary(), tally.tables(&options)?);
    let mut report = Report::of_many(global, args, vec![counted])?;

    warn_of(tally);

    let command = match &args.command[..] {
        [] => None,
        words => Some(Command::start(words)?),
    };
    let rows = args.loading.max_rows;
    // The verifier may take a minute. A signal ends that at once: nothing counts yet,
    // and the kernel frees what is loaded with the process.
    let mut session = Session::load(tally, &options, rows, command.as_ref())?;
    // From here on signals are blocked and polled, so that none is lost.
    let signals = Signals::block()?;
    session.attach(tally)?;
    session.warnings().iter().for_each(|warning| warn(warning));
    if global.verbose || (io::stderr().is_terminal() && args.run_for.is_none()) {
        note("counting; Ctrl-C ends it");
    }
    let mut run = Run {
        session,
        command,
        status: None,
    };
    let schedule = Schedule::new(args.run_for, args.every);
    if let Some(command) = &mut run.command {
        command.release()?;
    }
    let exit = readings::show(&mut report, &mut run, &signals, schedule)?;
    // A failure of ktally has precedence over the status of the command.
    Ok(match (exit, run.status) {
        (Exit::Done, Some(status)) => Exit::Command(status),
        _ => exit,
    })
}

/// A tally that counts for this process alone, and the command that it is about.
struct Run {
    session: Session,
    command: Option<Command>,
    /// The exit status of the command, unless the run ended it.
    status: Option<u8>,
}

impl Source for Run {
    fn read(&self) -> Result<Vec<Reading>> {
        Ok(vec![self.session.read()?])
    }

    /// The command may have changed its user.
    fn capabilities(&self) -> Option<Capability> {
        self.command.as_ref().map(|_| Capability::CAP_KILL)
    }

    /// A signal or the command's end may come first. Meanwhile it records processes
    /// whose stacks were taken.
    fn wait(&self, names: &HostNames, signals: &Signals, instant: Option<Instant>) -> Result<Wake> {
        loop {
            let sources = [
                (self.command.as_ref().map(Command::end), Wake::End),
                (self.session.stack_processes_fd(), Wake::StackProcess),
            ];
            let wake = signals.wait(instant, sources)?;
            for (pid, address) in self.session.take_stack_processes()? {
                names.remember(pid, address);
            }
            match wake {
                // A busy ring is always readable; it must not starve the timer.
                Wake::StackProcess if instant.is_some_and(|it| it <= Instant::now()) => {
                    return Ok(Wake::Time);
                }
                Wake::StackProcess => {}
                wake => return Ok(wake),
            }
        }
    }

    /// Of a command that goes on, the last reading has what is under way.
    fn finish(&mut self, wake: Wake) -> Result<()> {
        if let (Some(command), Wake::End) = (&mut self.command, wake) {
            self.status = ended(command)?;
        }
        self.session.detach();
        Ok(())
    }

    fn end(&mut self, wake: Wake, signals: &Signals) -> Result<()> {
        let Some(command) = &mut self.command else {
            return Ok(());
        };
        if wake != Wake::End {
            command.stop(signals.came().unwrap_or(Signal::SIGTERM))?;
            let status = status(command.wait()?);
            self.status = status.filter(|_| wake != Wake::Time);
        }
        Ok(())
    }

    fn stop(&mut self) {
        self.session.detach();
    }
}

/// The status of a command that has ended.
fn ended(command: &mut Command) -> Result<Option<u8>> {
    let ended = command.wait()?;
    let status = status(ended);
    if !ended.success() {
        let how = ended.to_string().replace(": ", " ");
        note(&format!("the command ended with {how}"));
    }
    Ok(status)
}

/// As in a shell: 128 and the number of the signal that ended it.
fn status(ended: ExitStatus) -> Option<u8> {
    let status = ended.code().or(ended.signal().map(|signal| 128 + signal));
    status.and_then(|status| u8::try_from(status).ok())
}
