//! `run NAME -- COMMAND`: a command that is started stopped, and the part of
//! `ktally.bpf.h` that counts only what it and its children do.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use libbpf_rs::{MapCore, MapFlags, Object, OpenObject};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::catalogue::{Tally, lossy};
use super::load::set_needed;
use super::options::ResolvedOption;
use crate::error::usage;
use crate::sys;

/// The map of `ktally.bpf.h` that marks the tasks to follow.
pub(super) const FOLLOWED: &str = "tally_followed";
/// `TALLY_WAITS`.
const WAITS: u32 = 1;

/// How long `stop` waits after its signal before it sends SIGKILL.
const PATIENCE: Duration = Duration::from_secs(3);

/// A user's program, stopped before its first instruction until `release`. Dropping it
/// kills it.
#[derive(Debug)]
pub(crate) struct Command {
    name: String,
    process: sys::StoppedChild,
    status: Option<ExitStatus>,
}

impl Command {
    /// Forks. `release` looks for the program and executes it.
    pub(crate) fn start(words: &[OsString]) -> Result<Self> {
        let program = words.first().map(OsString::as_os_str).unwrap_or_default();
        let name = lossy(program);
        if name.is_empty() {
            return Err(usage("the command after `--` has no name"));
        }
        let words: Vec<CString> = words
            .iter()
            .map(|word| CString::new(OsStr::as_bytes(word)))
            .collect::<Result<_, _>>()
            .map_err(|_| usage("an argument has no NUL byte"))?;
        let process =
            sys::fork_stopped(words).with_context(|| format!("failed to start `{name}`"))?;
        Ok(Self {
            name,
            process,
            status: None,
        })
    }

    pub(crate) fn release(&mut self) -> Result<()> {
        let name = &self.name;
        self.process
            .release()
            .with_context(|| format!("failed to run `{name}`"))
    }

    /// Readable when it has ended.
    pub(crate) fn end(&self) -> BorrowedFd<'_> {
        self.process.pidfd()
    }

    /// Sends this signal, and SIGKILL if the command does not end in time; nothing if
    /// it has ended. Its children get neither.
    pub(crate) fn stop(&mut self, signal: Signal) -> Result<()> {
        self.kill(signal)?;
        if !self.has_ended_in(PATIENCE)? {
            self.kill(Signal::SIGKILL)?;
        }
        Ok(())
    }

    pub(crate) fn wait(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let status = self.process.wait();
        let status = status.context("failed to wait for the command")?;
        Ok(*self.status.insert(status))
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.process.pid())
    }

    fn kill(&self, signal: Signal) -> Result<()> {
        match self.status {
            Some(_) => Ok(()),
            // It is not reaped yet, so its number is not reused.
            None => kill(self.pid(), signal).context("failed to end the command"),
        }
    }

    fn has_ended_in(&self, patience: Duration) -> Result<bool> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.end(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(ended) => return Ok(ended > 0),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("failed to wait for the command"),
            }
        }
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        if self.status.is_none() {
            let _ = self.kill(Signal::SIGKILL);
            let _ = self.wait();
        }
    }
}

/// The flag that makes a tally's programs ask which tasks are followed.
pub(super) fn flag(tally: &Tally) -> Result<ResolvedOption> {
    let flag = tally.schema.follow.as_ref().ok_or_else(|| {
        usage(format!(
            "tally `{}` does not count by process, so it cannot be run with a command (its programs ask neither wanted_task() nor wanted()){}",
            tally.name,
            if tally.schema.is_found { "; `ktally list FILE` shows whether it has a constant for --set" } else { "" }
        ))
    })?;
    Ok(ResolvedOption {
        offset: flag.bit_offset / 8,
        bytes: vec![1],
    })
}

/// Before loading: selects the programs and the map that only following needs.
pub(super) fn prepare(object: &mut OpenObject, with_command: bool) -> Result<()> {
    for mut program in object.progs_mut() {
        if with_command && lossy(program.name()).starts_with("tally_follow_") {
            program.set_autoload(true);
        }
    }
    set_needed(object, FOLLOWED, with_command)
}

/// After loading: marks the command, which is followed from its exec on.
pub(super) fn follow(object: &Object, command: &Command) -> Result<()> {
    let map = object.maps().find(|map| map.name() == FOLLOWED);
    let map = map.ok_or_else(|| anyhow!("the object has no map `{FOLLOWED}`"))?;
    let key = command.process.pidfd().as_raw_fd().to_ne_bytes();
    map.update(&key, &WAITS.to_ne_bytes(), MapFlags::ANY)
        .with_context(|| format!("failed to follow `{}`", command.name))
}
