//! Tests that the running kernel cannot run.

use std::fs;
use std::io;

use ktally::host;
use ktally::tally::{Support, Tally};

/// Why this kernel cannot run a test: only functions that have looked whether it
/// is true make one.
#[derive(Debug)]
pub struct Impossible(String);

impl Impossible {
    /// The kernel is older than that.
    pub fn before(series: (u32, u32), what: &str) -> Option<Self> {
        let (major, minor) = series;
        let is_true = kernel_series() < series;
        is_true.then(|| Self(format!("{what} needs Linux {major}.{minor}")))
    }

    /// A line of the program's says so: `Linux 5.11` is among its words.
    pub fn told_by(stderr: &str) -> Option<Self> {
        let names_newer = |line: &&str| {
            let series = line
                .split_once("Linux ")
                .map(|(_, it)| host::kernel_version(it));
            series.is_some_and(|series| kernel_series() < series)
        };
        let line = stderr.lines().find(names_newer)?;
        Some(Self(line.to_owned()))
    }

    /// An error of a tally that does not start. Panics where it is not true.
    pub fn of(tally: &Tally, error: &anyhow::Error) -> Self {
        let error = format!("{error:#}");
        let obstacles = Support::probe().obstacles(tally);
        let told = obstacles.iter().find(|reason| error.ends_with(*reason));
        let is_true = told.is_some_and(|reason| {
            let event = reason.strip_prefix("this kernel has no tracepoint `");
            let lacks =
                |name: &str| !kernel_has(&format!("btf_trace_{}", name.trim_end_matches('`')));
            Self::told_by(reason).is_some() || event.is_some_and(lacks)
        });
        assert!(is_true, "{error}");
        Self(error)
    }

    /// It refuses to execute such programs.
    pub fn to_execute(what: &str, error: &io::Error) -> Option<Self> {
        let is_true = error.raw_os_error() == Some(libc::ENOEXEC);
        is_true.then(|| Self(format!("it runs no {what}")))
    }

    /// Ends the test: it fails, in words that `tests/vm/judge.awk` knows.
    #[track_caller]
    pub fn end(self) -> ! {
        panic!("impossible on this kernel: {}", self.0);
    }
}

/// Ends a test that wants what this kernel is too old for.
#[track_caller]
pub fn needs(series: (u32, u32), what: &str) {
    if let Some(impossible) = Impossible::before(series, what) {
        impossible.end();
    }
}

/// The running kernel's series.
pub fn kernel_series() -> (u32, u32) {
    host::kernel_version(&host::kernel_release())
}

/// Whether the running kernel's BTF has this name, of whatever it is.
pub fn kernel_has(name: &str) -> bool {
    let btf = fs::read("/sys/kernel/btf/vmlinux").unwrap();
    let name = [b"\0", name.as_bytes(), b"\0"].concat();
    btf.windows(name.len()).any(|it| it == name)
}
