//! The schedule of readings, and waiting for it, for signals and for room to write.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::host;

pub(super) struct Schedule {
    run_for: Option<Duration>,
    end: Option<Instant>,
    every: Option<Duration>,
    next: Option<Instant>,
    left_out: u64,
}

impl Schedule {
    /// An instant beyond the clock's range never comes.
    pub(super) fn new(run_for: Option<Duration>, every: Option<Duration>) -> Self {
        let now = Instant::now();
        Self {
            run_for,
            end: run_for.and_then(|run_for| now.checked_add(run_for)),
            every,
            next: every.and_then(|every| now.checked_add(every)),
            left_out: 0,
        }
    }

    /// How long counting takes, unless a signal ends it first.
    pub(super) fn run_for(&self) -> Option<Duration> {
        self.run_for
    }

    /// When counting ends, unless a signal ends it first.
    pub(super) fn end(&self) -> Option<Instant> {
        self.end
    }

    /// The number of intervals without a reading, because reading took longer.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The instant of the next reading, and whether it is the last.
    pub(super) fn next(&mut self) -> (Option<Instant>, bool) {
        let (Some(next), Some(every)) = (self.next, self.every) else {
            return (self.end, true);
        };
        if self.end.is_some_and(|end| next >= end) {
            return (self.end, true);
        }
        // A slow reader skips intervals instead of reading in a rush.
        let behind = Instant::now().saturating_duration_since(next);
        let late = behind.as_nanos() / every.as_nanos().max(1);
        let late = u32::try_from(late).unwrap_or(u32::MAX);
        self.left_out += u64::from(late);
        let steps = late.saturating_add(1);
        self.next = next.checked_add(every.saturating_mul(steps));
        (Some(next), false)
    }
}

/// Signals as a file descriptor: SIGINT, SIGTERM and SIGHUP, or more. Signals that were
/// ignored from the start, as under `nohup`, stay ignored.
pub(super) struct Signals {
    fd: SignalFd,
    came: Cell<Option<Signal>>,
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    Time,
    Signal,
    /// There is room to write.
    Room,
    /// The command ended.
    End,
    /// A process's stack was taken.
    StackProcess,
}

impl Signals {
    pub(super) fn block() -> Result<Self> {
        let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
        Self::block_these(SigSet::from_iter(signals))
    }

    /// Blocks all signals that would end the process; it can still be suspended.
    pub(super) fn block_all() -> Result<Self> {
        use Signal::{SIGCHLD, SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH};
        let mut set = SigSet::all();
        for signal in [
            SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT, SIGCHLD, SIGURG, SIGWINCH,
        ] {
            set.remove(signal);
        }
        Self::block_these(set)
    }

    fn block_these(mut set: SigSet) -> Result<Self> {
        let ignores = host::ignores();
        for signal in Signal::iterator().filter(|signal| ignores(*signal as i32)) {
            set.remove(signal);
        }
        set.thread_block()
            .context("failed to block SIGTERM and others")?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .context("failed to open a signal descriptor")?;
        Ok(Self {
            fd,
            came: Cell::new(None),
        })
    }

    /// The last signal that the calls below received.
    pub(super) fn came(&self) -> Option<Signal> {
        self.came.get()
    }

    /// Whether a signal comes before the instant. Without an instant, waits for ever.
    pub(super) fn wait_until(&self, instant: Option<Instant>) -> Result<bool> {
        Ok(self.wait(instant, [])? == Wake::Signal)
    }

    /// Waits for the instant, a signal, or another readable descriptor. Returns at once
    /// if a signal came before.
    pub(super) fn wait<'fd>(
        &self,
        instant: Option<Instant>,
        others: impl IntoIterator<Item = (Option<BorrowedFd<'fd>>, Wake)>,
    ) -> Result<Wake> {
        if self.came().is_some() {
            return Ok(Wake::Signal);
        }
        let others = others.into_iter();
        let others = others.filter_map(|(fd, wake)| Some((fd?, PollFlags::POLLIN, wake)));
        self.first_of(instant, others).context("failed to wait")
    }

    /// Waits for room to write, until the instant or the next signal.
    pub(super) fn wait_for_room(
        &self,
        file: &impl AsFd,
        instant: Option<Instant>,
    ) -> io::Result<Wake> {
        // A descriptor with an error is ready too: writing then reports it.
        self.first_of(instant, [(file.as_fd(), PollFlags::POLLOUT, Wake::Room)])
    }

    /// The first that is ready: room, then signals, then the rest in order.
    fn first_of<'fd>(
        &self,
        instant: Option<Instant>,
        others: impl IntoIterator<Item = (BorrowedFd<'fd>, PollFlags, Wake)>,
    ) -> io::Result<Wake> {
        let mut fds = Vec::new();
        let mut wakes = Vec::new();
        for (fd, flags, wake) in others {
            fds.push(PollFd::new(fd, flags));
            wakes.push(wake);
        }
        fds.push(PollFd::new(self.fd.as_fd(), PollFlags::POLLIN));
        loop {
            match poll(&mut fds, timeout(instant)) {
                Ok(0) if instant.is_some_and(|instant| Instant::now() < instant) => {}
                Ok(0) => return Ok(Wake::Time),
                Ok(_) => {
                    let mut ready = fds.iter().zip(&wakes);
                    match ready.find(|(fd, _)| fd.any() == Some(true)) {
                        Some((_, Wake::Room)) => return Ok(Wake::Room),
                        _ if self.take() => return Ok(Wake::Signal),
                        Some((_, wake)) => return Ok(*wake),
                        None => {}
                    }
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn take(&self) -> bool {
        let Ok(Some(info)) = self.fd.read_signal() else {
            return false;
        };
        let signal = Signal::try_from(info.ssi_signo as i32);
        self.came.set(Some(signal.unwrap_or(Signal::SIGTERM)));
        true
    }
}

fn timeout(instant: Option<Instant>) -> PollTimeout {
    let Some(instant) = instant else {
        return PollTimeout::NONE;
    };
    let left = instant.saturating_duration_since(Instant::now());
    // Rounded up, so that the last millisecond is not spent spinning.
    let millis = left.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(i32::try_from(millis).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(run_for: u64, every: Option<u64>) -> Vec<u64> {
        let start = Instant::now();
        let mut schedule = Schedule::new(
            Some(Duration::from_secs(run_for)),
            every.map(Duration::from_secs),
        );
        let mut seconds = Vec::new();
        loop {
            let (instant, is_last) = schedule.next();
            let after = instant.map(|instant| instant - start);
            seconds.extend(after.map(|after| after.as_secs()));
            if is_last {
                return seconds;
            }
        }
    }

    #[test]
    fn the_last_reading_is_at_the_end() {
        assert_eq!(readings(5, None), [5]);
        assert_eq!(readings(3, Some(1)), [1, 2, 3]);
        assert_eq!(readings(5, Some(2)), [2, 4, 5]);
        assert_eq!(readings(5, Some(60)), [5]);
        assert_eq!(readings(0, Some(1)), [0]);
    }

    #[test]
    fn without_an_end_only_a_signal_ends_it() {
        let mut for_ever = Schedule::new(None, None);
        assert_eq!(for_ever.next(), (None, true));
        let mut too_long = Schedule::new(Some(Duration::MAX), Some(Duration::MAX));
        assert_eq!(too_long.next(), (None, true));
    }
}
