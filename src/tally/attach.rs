//! Attaches one program: by its section's name, or by `ATTACH(...)` where that
//! cannot say enough.

use anyhow::{Context, Result, anyhow, bail};
use libbpf_rs::{Link, ProgramMut, libbpf_sys, num_possible_cpus};

use crate::sys;

/// The links of a program: one, or one a CPU.
pub(super) fn attach(program: &ProgramMut<'_>, target: Option<&str>) -> Result<Vec<Link>> {
    let Some(target) = target else {
        return Ok(vec![program.attach()?]);
    };
    if let Some(hz) = target.strip_prefix("cpu-clock@") {
        let hz = hz.parse().ok().filter(|hz| *hz > 0);
        let hz = hz.ok_or_else(|| anyhow!("`{target}` names no frequency above 0"))?;
        return attach_clock(program, hz);
    }
    match target.split(':').collect::<Vec<_>>()[..] {
        [kind @ ("uprobe" | "uretprobe"), path, function] => {
            let opts = libbpf_rs::UprobeOpts {
                retprobe: kind == "uretprobe",
                func_name: Some(function.to_owned()),
                ..Default::default()
            };
            let link = program
                .attach_uprobe_with_opts(-1, path, 0, opts)
                .with_context(|| format!("no function `{function}` to probe in `{path}`"))?;
            Ok(vec![link])
        }
        _ => bail!("`{target}` is nothing to attach to"),
    }
}

/// A timer on each CPU. CPUs that are possible but not online have none.
fn attach_clock(program: &ProgramMut<'_>, hz: u64) -> Result<Vec<Link>> {
    let mut links = Vec::new();
    for cpu in 0..i32::try_from(num_possible_cpus()?)? {
        match sys::software_event(libbpf_sys::PERF_COUNT_SW_CPU_CLOCK.into(), hz, cpu) {
            Ok(event) => {
                use std::os::fd::IntoRawFd;
                // libbpf closes the event with the link.
                links.push(program.attach_perf_event(event.into_raw_fd())?);
            }
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
            Err(error) => return Err(error).context("failed to open a perf event"),
        }
    }
    Ok(links)
}
