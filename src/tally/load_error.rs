//! Why the kernel did not load a tally.

use std::io;

use anyhow::anyhow;
use libbpf_rs::MapType;

use super::catalogue::Tally;
use super::section;
use super::support::Support;
use crate::host;
use crate::schema::KernelBtf;
use crate::sys::log;
use crate::text::NEXT_LINE;

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
        // Without BTF, as libbpf tries then, maps fail for another reason.
        let reason = match tail.contains("-EMFILE") {
            true => host::advice(libc::EMFILE),
            false => host::advice(error.raw_os_error().unwrap_or_default()),
        };
        return anyhow!("{failed}: {reason}{tail}");
    };
    let (program, reason, place) = (refusal.program, refusal.reason, refusal.place);
    // The verifier says so of a map whose descriptor libbpf could not get.
    if reason.ends_with("is not pointing to valid bpf_map") {
        return anyhow!("{failed}: {}", host::advice(libc::EMFILE));
    }
    let lesson = lesson(&reason)
        .or(lesson(&place))
        .map(|lesson| format!("{NEXT_LINE}{lesson}"));
    let arguments = arguments_of(tally, &program, &reason);
    anyhow!(
        "{failed}: the verifier refused program `{program}`: {reason}{place}{}{}",
        lesson.unwrap_or_default(),
        arguments.unwrap_or_default()
    )
}

/// What the verifier's words mean to an author.
const LESSONS: [(&str, &str); 22] = [
    (
        "_or_null'",
        "the pointer may be NULL: compare it with NULL first (tally_entry() never returns NULL)",
    ),
    (
        "possibly NULL pointer",
        "the pointer may be NULL: compare it with NULL first",
    ),
    (
        "bpf_probe_read",
        "lockdown=confidentiality forbids programs to read the kernel's memory",
    ),
    (
        "restricted function",
        "the helper is for programs with a licence like the GPL: TALLY() has one; else write char LICENSE[] SEC(\"license\") = \"GPL\"",
    ),
    (
        "variable-offset",
        "an index may be outside of the array: compare it with a constant first",
    ),
    (
        "invalid access to map value",
        "an index or an offset may be outside of the value: compare it with a constant first",
    ),
    (
        "outside of the allowed memory range",
        "an index or an offset may be outside of the memory: compare it with a constant first",
    ),
    (
        "unbounded memory access",
        "a length has no bound that the verifier sees: compare it with a constant first",
    ),
    (
        "unbounded min value",
        "a number may be negative: compare it with 0, or make it unsigned",
    ),
    (
        "min value is negative",
        "a number may be negative: compare it with 0, or make it unsigned",
    ),
    (
        "back-edge",
        "old kernels allow no loops: unroll it, with a constant bound",
    ),
    (
        "infinite loop detected",
        "the loop has no bound that the verifier sees: count to a constant",
    ),
    (
        "program is too large",
        "the verifier gave up: a loop has no small bound, or the program has too many branches",
    ),
    (
        "too complex",
        "the verifier gave up: a loop has no small bound, or the program has too many branches",
    ),
    (
        "invalid bpf_context access",
        "the program reads an argument that its event does not pass",
    ),
    (
        "combined stack size",
        "the BPF stack has 512 bytes: build large keys in a CPU_STATE()",
    ),
    (
        "stack limit",
        "the BPF stack has 512 bytes: build large keys in a CPU_STATE()",
    ),
    (
        "from stack",
        "a key or value on the stack is not set in full: zero it first (`= {}`), as its padding counts too",
    ),
    (
        "invalid mem access",
        "a number is used as a pointer: are the program's arguments those of its event? Follow pointers by BPF_CORE_READ()",
    ),
    (
        "unknown func",
        "this kernel, or this type of program, has no such helper",
    ),
    (
        "cannot use helper",
        "programs of this type may not call this helper",
    ),
    ("!read_ok", "a variable is read before it is set"),
];

fn lesson(reason: &str) -> Option<&'static str> {
    let found = LESSONS.iter().find(|(words, _)| reason.contains(words));
    found.map(|(_, lesson)| *lesson)
}

/// The arguments that a tracepoint passes, where the program may have others.
fn arguments_of(tally: &Tally, program: &str, reason: &str) -> Option<String> {
    let words = [
        "invalid bpf_context access",
        "invalid mem access 'scalar'",
        "invalid mem access 'inv'",
    ];
    if !words.iter().any(|it| reason.contains(it)) {
        return None;
    }
    let (_, section) = tally.programs.iter().find(|(name, _)| name == program)?;
    let (kind, name) = section::parse(section);
    if !matches!(kind, "tp_btf" | "raw_tp" | "raw_tracepoint") {
        return None;
    }
    let kernel = KernelBtf::load().ok()?;
    let prototype = kernel.tracepoint(name)?;
    let arguments = prototype.arguments.iter();
    let arguments = arguments.map(|it| {
        let ty = kernel.c_name(it.ty);
        let space = if ty.ends_with('*') { "" } else { " " };
        format!(", {ty}{space}{}", it.name)
    });
    Some(format!(
        "{NEXT_LINE}this kernel's arguments: BPF_PROG({program}{})",
        arguments.collect::<String>()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words of verifiers from 5.10 to 7.3.
    #[test]
    fn well_known_rejections_have_a_lesson() {
        for (reason, words) in [
            ("R0 invalid mem access 'map_value_or_null'", "may be NULL"),
            (
                "R7 invalid mem access 'scalar'",
                "a number is used as a pointer",
            ),
            (
                "R1 invalid mem access 'inv'",
                "a number is used as a pointer",
            ),
            ("back-edge from insn 12 to 3", "no loops"),
            (
                "BPF program is too large. Processed 1000001 insn",
                "gave up",
            ),
            ("invalid bpf_context access off=32 size=8", "does not pass"),
            (
                "invalid indirect read from stack R2 off -16+4 size 16",
                "zero it first",
            ),
            (
                "combined stack size of 2 calls is 576. Too large",
                "512 bytes",
            ),
            ("R2 !read_ok", "before it is set"),
            (
                "cannot call GPL-restricted function from non-GPL compatible program",
                "licence",
            ),
            (
                "invalid access to map value, value_size=8 off=64 size=8",
                "compare it",
            ),
        ] {
            let found = lesson(reason).unwrap_or_default();
            assert!(found.contains(words), "{reason}: {found}");
        }
        assert_eq!(lesson("something new"), None);
    }
}
