//! What a program attaches to, as `ATTACH(...)` or `--attach` gives it.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use libbpf_rs::{OpenObject, ProgramAttachType, ProgramType, libbpf_sys};

use super::binary;
use super::catalogue::{Tally, lossy};
use crate::error::usage;
use crate::host;

/// What a program attaches to, with the options in it.
pub(super) enum Target<'a> {
    /// An event of perf on each CPU: of a timer with this frequency in Hz, or each one.
    Software {
        event: u32,
        hz: Option<u64>,
    },
    User {
        at_return: bool,
        file: PathBuf,
        function: &'a str,
    },
    Usdt {
        file: PathBuf,
        provider: &'a str,
        name: &'a str,
    },
    /// A probe of each kernel function that this matches.
    Kernel {
        at_return: bool,
        pattern: &'a str,
    },
    /// What fentry, fexit, tp_btf and lsm programs are loaded for.
    Traced(&'a str),
    Tracepoint {
        group: &'a str,
        name: &'a str,
    },
    RawTracepoint(&'a str),
    /// A network interface, by its number.
    Xdp(i32),
    Tcx {
        interface: i32,
        is_ingress: bool,
    },
    /// A cgroup's folder.
    Cgroup(PathBuf),
}

impl<'a> Target<'a> {
    pub(super) fn parse(target: &'a str) -> Result<Self> {
        if let Some(hz) = target.strip_prefix("cpu-clock@") {
            let event = libbpf_sys::PERF_COUNT_SW_CPU_CLOCK;
            let hz = Some(frequency(hz)?);
            return Ok(Self::Software { event, hz });
        }
        if let Some(number) = target.strip_prefix("software:") {
            // Not those of clocks, which would be too many.
            let is_countable = |event: &u32| (2..=8).contains(event);
            let event = number.parse().ok().filter(is_countable);
            let event =
                event.ok_or_else(|| anyhow!("`{number}` is not an event of perf_sw_ids"))?;
            return Ok(Self::Software { event, hz: None });
        }
        // A path may have a colon; the other parts have none.
        let (kind, rest) = target.split_once(':').unwrap_or((target, ""));
        Ok(match (kind, rest, rest.rsplit_once(':')) {
            ("uprobe" | "uretprobe", _, Some((path, function))) => Self::User {
                at_return: kind == "uretprobe",
                file: binary::find(path)?,
                function,
            },
            ("usdt", _, Some((path, name))) if path.contains(':') => {
                let (path, provider) = path.rsplit_once(':').unwrap_or_default();
                let file = binary::find(path)?;
                Self::Usdt {
                    file,
                    provider,
                    name,
                }
            }
            ("kprobe" | "kretprobe", pattern, None) => Self::Kernel {
                at_return: kind == "kretprobe",
                pattern,
            },
            ("kernel", name, None) if !name.is_empty() => Self::Traced(name),
            ("tracepoint" | "tp", _, Some((group, name))) => Self::Tracepoint { group, name },
            ("raw_tp", name, None) if !name.is_empty() => Self::RawTracepoint(name),
            ("xdp", name, None) => Self::Xdp(interface(name)?),
            ("tcx", _, Some((name, way @ ("ingress" | "egress")))) => Self::Tcx {
                interface: interface(name)?,
                is_ingress: way == "ingress",
            },
            ("cgroup", path, _) if path.starts_with('/') => Self::Cgroup(path.into()),
            _ => bail!("`{target}` is not a target that ktally can attach to"),
        })
    }

    /// The type of program for it, where a section does not say.
    fn program_type(&self) -> Option<ProgramType> {
        Some(match self {
            Self::Software { .. } => ProgramType::PerfEvent,
            Self::User { .. } | Self::Usdt { .. } | Self::Kernel { .. } => ProgramType::Kprobe,
            Self::Tracepoint { .. } => ProgramType::Tracepoint,
            Self::RawTracepoint(_) => ProgramType::RawTracepoint,
            Self::Xdp(_) => ProgramType::Xdp,
            Self::Tcx { .. } => ProgramType::SchedCls,
            Self::Traced(_) | Self::Cgroup(_) => return None,
        })
    }
}

/// Before loading: what libbpf has to know about the targets that the user gave.
pub(super) fn prepare(object: &mut OpenObject, tally: &Tally) -> Result<()> {
    for mut program in object.progs_mut() {
        let name = lossy(program.name());
        let tags = tally.schema.functions.get(&name);
        let target = tags.and_then(|tags| tags.attach.as_deref());
        let Some(target) = target.filter(|it| !it.contains('$')) else {
            continue;
        };
        let parsed = Target::parse(target)?;
        if program.prog_type() == ProgramType::Unspec {
            let ty = parsed.program_type();
            let ty = ty.ok_or_else(|| {
                usage(format!(
                    "program `{name}` has a section that does not say its type, and neither does `{target}`"
                ))
            })?;
            program.set_prog_type(ty);
        }
        match parsed {
            Target::Traced(of) => program
                .set_attach_target(0, Some(of.to_owned()))
                .with_context(|| format!("this kernel has no `{of}` for program `{name}`"))?,
            Target::Tcx { is_ingress, .. } => program.set_attach_type(if is_ingress {
                ProgramAttachType::TcxIngress
            } else {
                ProgramAttachType::TcxEgress
            }),
            _ => {}
        }
    }
    Ok(())
}

/// A number of samples per second that the kernel allows.
fn frequency(text: &str) -> Result<u64> {
    let most = host::max_sample_rate();
    let hz = text.parse().ok().filter(|hz| (1..=most).contains(hz));
    hz.ok_or_else(|| {
        anyhow!(
            "{text} samples a second; write 1 to {most}, which is kernel.perf_event_max_sample_rate"
        )
    })
}

fn interface(name: &str) -> Result<i32> {
    let number = nix::net::if_::if_nametoindex(name);
    let number = number.map_err(|_| anyhow!("this host has no network interface `{name}`"))?;
    Ok(i32::try_from(number)?)
}
