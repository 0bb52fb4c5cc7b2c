//! What a program's section says: the kind of the program, and its event.

use super::catalogue::Tally;

/// A program's name and its section.
pub(super) type Program = (String, String);

/// The kinds that libbpf attaches, by their section or by `ATTACH(...)`.
const ATTACHED: [&str; 24] = [
    "fentry",
    "fexit",
    "fmod_ret",
    "kprobe",
    "kprobe.multi",
    "kprobe.session",
    "kretprobe",
    "kretprobe.multi",
    "kretsyscall",
    "ksyscall",
    "lsm",
    "perf_event",
    "raw_tp",
    "raw_tp.w",
    "raw_tracepoint",
    "raw_tracepoint.w",
    "tp",
    "tp_btf",
    "tracepoint",
    "uprobe",
    "uprobe.multi",
    "uretprobe",
    "uretprobe.multi",
    "usdt",
];

/// The kind of a program and its target: `tp_btf` and `sys_enter`. A sleepable program
/// (`.s`) is of the same kind.
pub(super) fn parse(section: &str) -> (&str, &str) {
    let section = section.trim_start_matches('?');
    let (kind, target) = section.split_once('/').unwrap_or((section, ""));
    (kind.strip_suffix(".s").unwrap_or(kind), target)
}

/// Whether libbpf has a way to attach programs of this kind.
pub(super) fn is_attached(kind: &str) -> bool {
    ATTACHED.contains(&kind)
}

/// Whether the kernel runs programs of this section only when a user asks for
/// it, so that they count nothing by themselves.
pub(super) fn runs_on_request(section: &str) -> bool {
    matches!(parse(section).0, "iter" | "syscall")
}

/// A place in the kernel's code, whatever kind of program is attached to it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Event<'a> {
    Tracepoint(&'a str),
    Call(&'a str),
    Return(&'a str),
    SystemCall(&'a str),
    SystemReturn(&'a str),
}

/// Kinds of programs for one event, the cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
enum Kind {
    Trampoline,
    RawTracepoint,
    Tracepoint,
    Probe,
}

/// The event of a section; `None` where there is one kind of program for it.
fn event(section: &str) -> Option<(Event<'_>, Kind)> {
    let (kind, target) = parse(section);
    // Only fentry writes a module's function as `MODULE:FUNCTION`.
    let name = target.rsplit(':').next().unwrap_or_default();
    let system_call = ["__x64_sys_", "__arm64_sys_"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix));
    let call = system_call.map_or(Event::Call(name), Event::SystemCall);
    let at_return = system_call.map_or(Event::Return(name), Event::SystemReturn);
    let event = match kind {
        _ if target.is_empty() => return None,
        "tp_btf" => (Event::Tracepoint(target), Kind::Trampoline),
        "raw_tp" | "raw_tp.w" | "raw_tracepoint" | "raw_tracepoint.w" => {
            (Event::Tracepoint(target), Kind::RawTracepoint)
        }
        "tp" | "tracepoint" => (tracepoint(target), Kind::Tracepoint),
        "fentry" => (call, Kind::Trampoline),
        "fexit" => (at_return, Kind::Trampoline),
        "kprobe" | "kprobe.multi" => (call, Kind::Probe),
        "kretprobe" | "kretprobe.multi" => (at_return, Kind::Probe),
        "ksyscall" => (Event::SystemCall(target), Kind::Probe),
        "kretsyscall" => (Event::SystemReturn(target), Kind::Probe),
        _ => return None,
    };
    Some(event)
}

/// Tracepoints have unique names, so the group is left out. Those of one system call
/// are no tracepoints of the kernel but calls of a function.
fn tracepoint(target: &str) -> Event<'_> {
    let name = target.rsplit('/').next().unwrap_or_default();
    let call = |prefix| name.strip_prefix(prefix);
    match (call("sys_enter_"), call("sys_exit_")) {
        (Some(call), _) => Event::SystemCall(call),
        (_, Some(call)) => Event::SystemReturn(call),
        _ => Event::Tracepoint(name),
    }
}

/// Programs that would count an event twice, each with the one that counts it. Of
/// several kinds of programs for an event the first that works is used, else the last.
pub(super) fn duplicates<'t>(
    tally: &'t Tally,
    works: impl Fn(&[&Program]) -> bool,
) -> Vec<(&'t Program, &'t Program)> {
    let mut events: Vec<(Event<'_>, Vec<(Kind, &Program)>)> = Vec::new();
    for program in &tally.programs {
        // The author has chosen already.
        if tally.all_programs || tally.alternative(&program.0).is_some() {
            continue;
        }
        let Some((event, kind)) = event(&program.1) else {
            continue;
        };
        match events.iter_mut().find(|(known, _)| *known == event) {
            Some((_, programs)) => programs.push((kind, program)),
            None => events.push((event, vec![(kind, program)])),
        }
    }
    let of_event = |(_, mut programs): (_, Vec<(Kind, &'t Program)>)| {
        programs.sort_by(|(a, _), (b, _)| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        let mut kinds = programs.chunk_by(|(a, _), (b, _)| a == b);
        let last = kinds.next_back().unwrap_or_default();
        let chosen = kinds.find(|of_kind| {
            let programs: Vec<&Program> = of_kind.iter().map(|(_, program)| *program).collect();
            works(&programs)
        });
        let (kind, chosen) = chosen.unwrap_or(last)[0];
        let others = programs
            .into_iter()
            .filter(move |(other, _)| *other != kind);
        others.map(move |(_, other)| (other, chosen))
    };
    events.into_iter().flat_map(of_event).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_programs_have_events_in_common() {
        let same = |sections: &[&str], expected: Event<'_>| {
            let mut kinds = Vec::new();
            for section in sections {
                let (event, kind) = event(section).unwrap();
                assert_eq!(event, expected, "{section}");
                kinds.push(kind);
            }
            assert!(kinds.is_sorted(), "{kinds:?}");
        };
        same(
            &[
                "tp_btf/sched_switch",
                "raw_tp/sched_switch",
                "?raw_tracepoint.w/sched_switch",
                "tp/sched/sched_switch",
                "tracepoint/sched/sched_switch",
            ],
            Event::Tracepoint("sched_switch"),
        );
        same(
            &[
                "fentry/vfs_read",
                "fentry.s/vfs_read",
                "kprobe/vfs_read",
                "kprobe.multi/vfs_read",
            ],
            Event::Call("vfs_read"),
        );
        same(&["fexit/nfs:f", "kretprobe/f"], Event::Return("f"));
        same(
            &[
                "fentry/__x64_sys_nanosleep",
                "tp/syscalls/sys_enter_nanosleep",
                "ksyscall/nanosleep",
                "kprobe/__arm64_sys_nanosleep",
            ],
            Event::SystemCall("nanosleep"),
        );
        same(
            &[
                "fexit/__x64_sys_read",
                "tracepoint/syscalls/sys_exit_read",
                "kretsyscall/read",
            ],
            Event::SystemReturn("read"),
        );
        for none in [
            "kprobe",
            "perf_event",
            "uprobe//bin/sh:main",
            "",
            "iter/task",
        ] {
            assert_eq!(event(none), None, "{none}");
        }
    }

    #[test]
    fn every_kind_with_an_event_is_attached() {
        assert!(ATTACHED.is_sorted());
        for kind in ATTACHED {
            assert!(is_attached(parse(&format!("{kind}/target")).0));
        }
        assert!(is_attached(parse("?fentry.s/f").0));
        assert!(!is_attached("xdp") && !is_attached("iter"));
        assert!(runs_on_request("iter.s/task") && runs_on_request("syscall"));
        assert!(!runs_on_request("ksyscall/read"));
    }
}
