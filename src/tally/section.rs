//! What a program's section says: the kind of the program, and its event.

use std::collections::BTreeMap;

use super::catalogue::Tally;

/// A program's name and its section.
pub(super) type Program = (String, String);

/// The kinds that libbpf attaches, by their section or by `ATTACH(...)`.
const ATTACHED: &str = "fentry fexit fmod_ret kprobe kprobe.multi kprobe.session kretprobe \
     kretprobe.multi kretsyscall ksyscall lsm perf_event raw_tp raw_tp.w raw_tracepoint \
     raw_tracepoint.w tp tp_btf tracepoint uprobe uprobe.multi uretprobe uretprobe.multi usdt";

/// The kind of a program and its target: `tp_btf` and `sys_enter`. A sleepable program
/// (`.s`) is of the same kind.
pub(super) fn parse(section: &str) -> (&str, &str) {
    let section = section.trim_start_matches('?');
    let (kind, target) = section.split_once('/').unwrap_or((section, ""));
    (kind.strip_suffix(".s").unwrap_or(kind), target)
}

/// Whether libbpf has a way to attach programs of this kind.
pub(super) fn is_attached(kind: &str) -> bool {
    ATTACHED.split(' ').any(|attached| attached == kind)
}

/// How `--attach` gives the target of a program of this kind; `None` where there is no
/// way.
pub(super) fn target_form(kind: &str) -> Option<&'static str> {
    Some(match kind.split('/').next().unwrap_or_default() {
        "kprobe" | "ksyscall" | "kprobe.multi" | "kprobe.session" => "kprobe:FUNCTION",
        "kretprobe" | "kretsyscall" | "kretprobe.multi" => "kretprobe:FUNCTION",
        "uprobe" | "uprobe.multi" => "uprobe:PATH:FUNCTION",
        "uretprobe" | "uretprobe.multi" => "uretprobe:PATH:FUNCTION",
        "usdt" => "usdt:PATH:PROVIDER:NAME",
        "perf_event" => "cpu-clock@HZ",
        "tp" | "tracepoint" => "tracepoint:GROUP:NAME",
        "raw_tp" | "raw_tp.w" | "raw_tracepoint" | "raw_tracepoint.w" => "raw_tp:NAME",
        "fentry" | "fexit" | "fmod_ret" | "lsm" => "kernel:FUNCTION",
        "tp_btf" => "kernel:TRACEPOINT",
        "xdp" | "xdp.frags" => "xdp:INTERFACE",
        "cgroup_skb" | "cgroup" | "sockops" | "sk_skb" => "cgroup:PATH",
        "iter" | "syscall" | "struct_ops" | "freplace" => return None,
        "tc" | "tcx" | "classifier" => "tcx:INTERFACE:ingress",
        "action" => return None,
        _ => "kprobe:FUNCTION, or another target of docs/objects-of-others.md",
    })
}

/// Whether the kernel runs programs of this section only when a user asks for
/// it, so that they count nothing by themselves.
pub(super) fn runs_on_request(section: &str) -> bool {
    matches!(parse(section).0, "iter" | "syscall")
}

/// A place in the kernel's code, whatever kind of program is attached to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event<'a> {
    Tracepoint(&'a str),
    Call(&'a str),
    Return(&'a str),
    SystemCall(&'a str),
    SystemReturn(&'a str),
}

/// Kinds of programs for one event, the cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    let mut events: BTreeMap<Event<'_>, BTreeMap<Kind, Vec<&'t Program>>> = BTreeMap::new();
    for program in &tally.programs {
        // The author has chosen already.
        if tally.all_programs || tally.alternative(&program.0).is_some() {
            continue;
        }
        if let Some((event, kind)) = event(&program.1) {
            let kinds = events.entry(event).or_default();
            kinds.entry(kind).or_default().push(program);
        }
    }
    let mut duplicates = Vec::new();
    for kinds in events.values() {
        // To ask whether programs work may load them, so the last kind is not asked.
        let mut candidates = kinds.iter();
        let last = candidates.next_back();
        let Some((chosen, used)) = candidates.find(|(_, it)| works(it)).or(last) else {
            continue;
        };
        let others = kinds.iter().filter(|(kind, _)| *kind != chosen);
        duplicates.extend(others.flat_map(|(_, it)| it).map(|it| (*it, used[0])));
    }
    duplicates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_programs_have_events_in_common() {
        for (sections, expected) in [
            (
                "tp_btf/sched_switch raw_tp/sched_switch ?raw_tracepoint.w/sched_switch \
                 tp/sched/sched_switch tracepoint/sched/sched_switch",
                Event::Tracepoint("sched_switch"),
            ),
            (
                "fentry/vfs_read fentry.s/vfs_read kprobe/vfs_read kprobe.multi/vfs_read",
                Event::Call("vfs_read"),
            ),
            ("fexit/nfs:f kretprobe/f", Event::Return("f")),
            (
                "fentry/__x64_sys_nanosleep tp/syscalls/sys_enter_nanosleep ksyscall/nanosleep \
                 kprobe/__arm64_sys_nanosleep",
                Event::SystemCall("nanosleep"),
            ),
            (
                "fexit/__x64_sys_read tracepoint/syscalls/sys_exit_read kretsyscall/read",
                Event::SystemReturn("read"),
            ),
        ] {
            let found: Vec<_> = sections.split(' ').map(|it| event(it).unwrap()).collect();
            assert!(found.iter().all(|(it, _)| *it == expected), "{found:?}");
            assert!(found.is_sorted_by_key(|(_, kind)| kind), "{found:?}");
        }
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
        assert!(ATTACHED.split(' ').is_sorted());
        for kind in ATTACHED.split(' ') {
            assert!(is_attached(parse(&format!("{kind}/target")).0));
        }
        assert!(is_attached(parse("?fentry.s/f").0));
        assert!(!is_attached("xdp") && !is_attached("iter"));
        assert!(runs_on_request("iter.s/task") && runs_on_request("syscall"));
        assert!(!runs_on_request("ksyscall/read"));
    }
}
