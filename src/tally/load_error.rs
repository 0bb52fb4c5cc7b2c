//! Why the kernel did not load a tally.

use std::io;

use anyhow::anyhow;
use libbpf_rs::MapType;

use super::catalogue::Tally;
use super::support::Support;
use crate::host;
use crate::sys::log;

/// Names the tally, the reason and the fix. Following a command needs programs and maps
/// of its own.
pub(super) fn explain(tally: &Tally, with_command: bool, error: &io::Error) -> anyhow::Error {
    // Taken first: the probes below load programs, which log too.
    let (refusal, tail) = (log::refusal(), log::tail());
    let failed = format!("failed to load tally `{}`", tally.name);
    let support = Support::probe();
    let obstacle = support.obstacles(tally).into_iter().next();
    let obstacle = obstacle.or_else(|| {
        support
            .lacks_map(MapType::TaskStorage, 4)
            .filter(|_| with_command)
    });
    if let Some(obstacle) = obstacle {
        return anyhow!("{failed}: {obstacle}");
    }
    let Some(refusal) = refusal else {
        let reason = host::advice(error.raw_os_error().unwrap_or_default());
        return anyhow!("{failed}: {reason}{tail}");
    };
    let (program, reason, place) = (refusal.program, refusal.reason, refusal.place);
    // The verifier says so of a map whose descriptor libbpf could not get.
    if reason.ends_with("is not pointing to valid bpf_map") {
        return anyhow!("{failed}: {}", host::advice(libc::EMFILE));
    }
    let hint = if reason.contains("bpf_probe_read") {
        " (lockdown=confidentiality forbids it)"
    } else {
        ""
    };
    anyhow!("{failed}: the verifier refused program `{program}`: {reason}{hint}{place}")
}
