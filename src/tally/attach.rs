//! Attaches one program: by the name of its section, or by `ATTACH(...)`.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use libbpf_rs::{ErrorKind, Link, ProgramMut, TracepointCategory, num_possible_cpus};
use wildmatch::WildMatch;

use super::binary;
use super::catalogue::Tally;
use super::target::Target;
use crate::error::{unknown, usage};
use crate::host;
use crate::schema::Schema;
use crate::sys;

/// The target that `ATTACH(...)` of a program gives with these options.
pub(super) fn target(tally: &Tally, program: &str, rodata: &[u8]) -> Result<Option<String>> {
    let tags = tally.schema.functions.get(program);
    let target = tags.and_then(|tags| tags.attach.as_deref());
    target
        .map(|target| expand(target, &tally.schema, rodata))
        .transpose()
}

/// Checks that every target exists, and that the options of text in it were given.
pub(super) fn check_targets(tally: &Tally, rodata: &[u8]) -> Result<()> {
    let programs = tally.schema.functions.iter();
    let mut targets: Vec<(&str, &str)> = programs
        .filter_map(|(name, tags)| Some((name.as_str(), tags.attach.as_deref()?)))
        .collect();
    targets.sort_unstable();
    let missing = tally.schema.options.iter().find(|option| {
        option.place.ty.is_text()
            && option.place.decode(rodata).to_string().is_empty()
            && targets.iter().any(|(_, target)| {
                target
                    .split(':')
                    .any(|part| part == format!("${}", option.name))
            })
    });
    if let Some(option) = missing {
        return Err(usage(format!(
            "tally `{}` needs --{}: {}",
            tally.name,
            option.flag(),
            option.help
        )));
    }
    let mut checked = HashSet::new();
    for (program, target) in targets {
        let expanded = expand(target, &tally.schema, rodata)
            .with_context(|| format!("program `{program}` of tally `{}`", tally.name))?;
        check(&expanded, &mut checked)
            .map_err(|error| usage(format!("tally `{}`: {error:#}", tally.name)))?;
    }
    Ok(())
}

/// Replaces `$NAME` by the option's value. A `$` within a value stays as it is.
fn expand(target: &str, schema: &Schema, rodata: &[u8]) -> Result<String> {
    let mut pieces = target.split('$');
    let mut expanded = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = piece.find(|c| !is_name(c)).unwrap_or(piece.len());
        let (name, rest) = piece.split_at(end);
        let mut options = schema.options.iter();
        let Some(option) = options.find(|option| option.name == name) else {
            let known = schema.options.iter().map(|option| option.name.as_str());
            return Err(unknown("option", name, known).context(format!("ATTACH(\"{target}\")")));
        };
        expanded += &option.place.decode(rodata).to_string();
        expanded += rest;
    }
    Ok(expanded)
}

/// Refuses a target that does not exist, as far as that is known before loading.
/// `checked` has the functions that passed: programs at entry and return share one.
fn check(target: &str, checked: &mut HashSet<(PathBuf, String)>) -> Result<()> {
    match Target::parse(target)? {
        Target::User { file, function, .. }
            if checked.insert((file.clone(), function.to_owned())) =>
        {
            binary::check_function(&file, function)
        }
        _ => Ok(()),
    }
}

/// Why nothing can be attached to this target.
pub(super) fn lacks_target(target: &str) -> Option<String> {
    let checked = check(target, &mut HashSet::new());
    checked.err().map(|error| format!("{error:#}"))
}

/// Returns the links of a program: one, or one per CPU or function.
pub(super) fn attach(program: &ProgramMut<'_>, target: Option<&str>) -> Result<Vec<Link>> {
    let Some(target) = target else {
        return Ok(vec![program.attach()?]);
    };
    match Target::parse(target)? {
        Target::Software { event, hz } => attach_software(program, event, hz),
        Target::User {
            at_return,
            file,
            function,
        } => {
            let opts = libbpf_rs::UprobeOpts {
                retprobe: at_return,
                func_name: Some(function.to_owned()),
                ..Default::default()
            };
            let link = program
                .attach_uprobe_with_opts(-1, &file, 0, opts)
                .map_err(|error| match error.kind() {
                    ErrorKind::PermissionDenied => anyhow::Error::from(error).context(PROBES_FIX),
                    _ => error.into(),
                })
                .with_context(|| format!("failed to probe `{function}` in `{}`", file.display()))?;
            Ok(vec![link])
        }
        Target::Kernel { at_return, pattern } => attach_kernel(program, at_return, pattern),
        target => Ok(vec![attach_once(program, &target)?]),
    }
}

fn attach_once(program: &ProgramMut<'_>, target: &Target<'_>) -> Result<Link> {
    Ok(match target {
        Target::Usdt {
            file,
            provider,
            name,
        } => program
            .attach_usdt(-1, file, provider, name)
            .with_context(|| {
                let file = file.display();
                format!("failed to attach to the USDT probe `{provider}:{name}` of `{file}`")
            })?,
        Target::Tracepoint { group, name } => {
            program.attach_tracepoint(TracepointCategory::Custom((*group).to_owned()), name)?
        }
        Target::RawTracepoint(name) => program.attach_raw_tracepoint(name)?,
        Target::Xdp(interface) => program.attach_xdp(*interface)?,
        Target::Tcx { interface, .. } => sys::program::attach_tcx(program, *interface)
            .context("failed to attach to the traffic of an interface (since Linux 6.6)")?,
        Target::Cgroup(path) => {
            let folder = File::open(path);
            let folder = folder.with_context(|| format!("failed to open `{}`", path.display()))?;
            program.attach_cgroup(folder.as_raw_fd())?
        }
        // Its target was set before it was loaded.
        _ => program.attach()?,
    })
}

/// Probes a kernel function, or each function that matches a pattern and can be probed.
/// Every kernel with kprobes has single probes; few have multi-probes.
fn attach_kernel(program: &ProgramMut<'_>, at_return: bool, pattern: &str) -> Result<Vec<Link>> {
    const MOST: usize = 1000;
    let probe = |function: &str| program.attach_kprobe(at_return, function);
    if !pattern.contains(['*', '?']) {
        let link = probe(pattern)
            .with_context(|| format!("no function `{pattern}` to probe in this kernel"))?;
        return Ok(vec![link]);
    }
    let wanted = WildMatch::new(pattern);
    let functions: Vec<String> = host::kernel_functions()?
        .into_iter()
        .filter(|function| wanted.matches(function))
        .collect();
    ensure!(
        functions.len() <= MOST,
        "`{pattern}` matches {} functions, of at most {MOST}",
        functions.len()
    );
    // The kernel refuses functions that the probes themselves use.
    let links: Vec<Link> = functions.iter().filter_map(|it| probe(it).ok()).collect();
    ensure!(
        !links.is_empty(),
        "no function `{pattern}` to probe in this kernel"
    );
    Ok(links)
}

/// On each CPU that is online.
fn attach_software(program: &ProgramMut<'_>, event: u32, hz: Option<u64>) -> Result<Vec<Link>> {
    let mut links = Vec::new();
    for cpu in 0..i32::try_from(num_possible_cpus()?)? {
        match sys::software_event(event, hz, cpu) {
            Ok(event) => {
                use std::os::fd::IntoRawFd;
                // libbpf closes the event with the link.
                links.push(program.attach_perf_event(event.into_raw_fd())?);
            }
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("failed to open a perf event{}", paranoia()));
            }
        }
    }
    Ok(links)
}

const PROBES_FIX: &str =
    "the kernel requires CAP_SYS_ADMIN for functions of programs; run it as root";

/// Some distributions add levels above 2, at which CAP_PERFMON is not enough.
fn paranoia() -> &'static str {
    let level = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
    match level.unwrap_or_default().trim().parse() {
        Ok(3..) => {
            ": at this level of kernel.perf_event_paranoid the kernel requires CAP_SYS_ADMIN; give it, or `sysctl kernel.perf_event_paranoid=2`"
        }
        Ok(i32::MIN..3) | Err(_) => "",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use wildmatch::WildMatch;

    fn check(target: &str) -> anyhow::Result<()> {
        super::check(target, &mut HashSet::new())
    }

    #[test]
    fn patterns_match_all_of_a_name() {
        let is = |pattern: &str, text: &str| WildMatch::new(pattern).matches(text);
        assert!(is("vfs_*", "vfs_read") && is("vfs_*", "vfs_") && is("*", ""));
        assert!(is("*_read?", "vfs_readv") && is("v*s*d", "vfs_read"));
        assert!(!is("vfs_*", "do_vfs_read") && !is("vfs_?", "vfs_") && !is("", "a"));
        assert!(!is("vfs", "vfs_read") && !is("*x", "vfs_read"));
    }

    #[test]
    fn a_clock_ticks_as_often_as_the_kernel_allows() {
        assert!(check("cpu-clock@1").is_ok() && check("cpu-clock@99").is_ok());
        for hz in ["0", "4294967295", "-1", ""] {
            let error = check(&format!("cpu-clock@{hz}")).unwrap_err().to_string();
            let words = format!("{hz} samples a second; write 1 to ");
            assert!(error.starts_with(&words), "{error}");
            assert!(
                error.ends_with("kernel.perf_event_max_sample_rate"),
                "{error}"
            );
        }
        assert!(check("no-clock@1").is_err() && check("software:1").is_err());
        check("software:6").unwrap();
    }
}
