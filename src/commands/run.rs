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
use crate::cli::{Chosen, Exit, Global, RunArgs};
use crate::names::HostNames;
use crate::snapshot::Reading;
use crate::tally::{Command, Loader, ResolvedOption, Session, resolve, with_fields};

pub(super) fn run(global: &Global, args: &RunArgs, tallies: &[Chosen]) -> Result<Exit> {
    let fields = args.fields();
    let options = tallies.iter().map(|chosen| options(chosen, &fields));
    let options = options.collect::<Result<Vec<_>>>()?;
    let counted = tallies.iter().zip(&options).map(|(it, options)| {
        let (tally, tables) = (&it.tally, it.tally.tables(options)?);
        Ok(Counted::new(&tally.name, tally.summary(), tables))
    });
    let mut report = Report::of_many(global, args, counted.collect::<Result<_>>()?)?;
    tallies.iter().for_each(tell);

    let mut run = Run::load(args, tallies, &options)?;
    // From here on signals are blocked and polled, so that none is lost.
    let signals = Signals::block()?;
    for (session, chosen) in run.sessions.iter_mut().zip(tallies) {
        session.attach(&chosen.tally)?;
        session.warnings().iter().for_each(|warning| warn(warning));
    }
    if global.verbose || (io::stderr().is_terminal() && args.run_for.is_none()) {
        note("counting; Ctrl-C ends it");
    }
    let schedule = Schedule::new(args.run_for, args.every());
    if let Some(command) = &mut run.command {
        command.release()?;
    }
    let exit = readings::show(&mut report, &mut run, &signals, schedule)?;
    // A failure of ktally has precedence over the status of the command, and so has
    // what was waited for.
    Ok(match (exit, run.status) {
        (Exit::Done, Some(status)) if args.until.is_none() => Exit::Command(status),
        _ => exit,
    })
}

/// Those that are given, and those that these fields need.
fn options(chosen: &Chosen, fields: &[&str]) -> Result<Vec<ResolvedOption>> {
    let schema = &chosen.tally.schema;
    let given = with_fields(schema, &chosen.given, fields);
    resolve(&schema.options, &given)
}

/// Reports what counts in another way than asked for.
fn tell(chosen: &Chosen) {
    warn_of(&chosen.tally);
    chosen.tally.remarks().iter().for_each(|it| note(it));
    for flag in &chosen.lacks {
        let name = &chosen.tally.name;
        note(&format!(
            "tally `{name}` has no option `--{flag}`: it counts without it"
        ));
    }
}

/// Tallies that count for this process alone, and the command that they are about.
struct Run {
    sessions: Vec<Session>,
    command: Option<Command>,
    /// The exit status of the command, unless the run ended it.
    status: Option<u8>,
}

impl Source for Run {
    fn read(&self) -> Result<Vec<Reading>> {
        self.sessions.iter().map(Session::read).collect()
    }

    /// The command may have changed its user.
    fn capabilities(&self) -> Option<Capability> {
        self.command.as_ref().map(|_| Capability::CAP_KILL)
    }

    fn shares_terminal(&self) -> bool {
        self.command.is_some()
    }

    /// A signal or the command's end may come first. Meanwhile it records processes
    /// whose stacks were taken.
    fn wait(&self, names: &HostNames, signals: &Signals, instant: Option<Instant>) -> Result<Wake> {
        loop {
            let command = self.command.as_ref().map(Command::end);
            let stacks = self.sessions.iter().map(Session::stack_processes_fd);
            let stacks = stacks.map(|fd| (fd, Wake::StackProcess));
            let wake = signals.wait(instant, [(command, Wake::End)].into_iter().chain(stacks))?;
            for session in &self.sessions {
                for (pid, address) in session.take_stack_processes()? {
                    names.remember(pid, address);
                }
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
        self.detach();
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
        self.detach();
    }
}

impl Run {
    fn load(args: &RunArgs, tallies: &[Chosen], options: &[Vec<ResolvedOption>]) -> Result<Self> {
        // All are checked before one is loaded.
        let loaders = tallies.iter().zip(options);
        let loaders =
            loaders.map(|(it, options)| Loader::new(&it.tally, options, !args.command.is_empty()));
        let loaders = loaders.collect::<Result<Vec<_>>>()?;
        let command = match &args.command[..] {
            [] => None,
            words => Some(Command::start(words)?),
        };
        // The verifier may take a minute. A signal ends that at once: nothing counts yet,
        // and the kernel frees what is loaded with the process.
        let sessions = loaders
            .into_iter()
            .map(|loader| Session::load(loader, args.loading.max_rows, command.as_ref()));
        Ok(Self {
            sessions: sessions.collect::<Result<_>>()?,
            command,
            status: None,
        })
    }

    fn detach(&mut self) {
        self.sessions.iter_mut().for_each(Session::detach);
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
