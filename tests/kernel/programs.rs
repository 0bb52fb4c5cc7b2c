//! Objects with programs of several kinds: which of them count, and what
//! `list` says of those that cannot.

use serde_json::Value;

use crate::common::{assert_has, json, rows};
use crate::instances::Host;
use crate::run::sum_of;
use crate::support::{Child, Source, event};

/// Programs of these sections, each of which counts the same events. Arguments
/// of `tp_btf` are those of `raw_tp`; a tracepoint has others, and needs tracefs.
fn counting(sections: &[&str]) -> Source {
    counting_calls(libc::SYS_getpriority, sections)
}

/// The same of this system call.
fn counting_calls(call: i64, sections: &[&str]) -> Source {
    let mut text = String::from(
        r#"
TALLY("events of a test");
TABLE(events, __u32, struct hits, 64, "events");
static __attribute__((unused)) int count(void *regs, long id)
{
	__u32 key = 7;

	if (id == NR_getpriority && wanted_task())
		hit(events, &key);
	return 0;
}
"#,
    )
    .replace("NR_getpriority", &call.to_string());
    for (i, section) in sections.iter().enumerate() {
        let (kind, _) = section.split_once('/').unwrap_or((section, ""));
        text += &match kind {
            "raw_tp" | "tp_btf" => format!(
                "SEC(\"{section}\") int BPF_PROG(p{i}, struct pt_regs *regs, long id) {{ return count(regs, id); }}\n"
            ),
            // BPF_PROG reads its arguments from the context as they are.
            "tp" => format!(
                "SEC(\"{section}\") int p{i}(struct {{ __u64 common; long id; }} *it) {{ return count(0, it->id); }}\n"
            ),
            // Undefined: reads a register that no program has set.
            "unsafe" => format!(
                "SEC(\"tp_btf/sys_enter\") int p{i}(__u64 *ctx) {{ return *(int *)(ctx[1] + 1); }}\n"
            ),
            _ => format!("SEC(\"{section}\") int p{i}(void *ctx) {{ return 0; }}\n"),
        };
    }
    Source::new(&text)
}

/// What an attached object counts of 23 events, and what attaching says.
fn counted(host: &Host, source: &Source, more: &str) -> (u64, String) {
    let child = Child::new("kt-kinds", || (0..23).for_each(event));
    let path = source.arg();
    let line = format!("attach {path} --pid {} --as kinds {more}", child.pid());
    let said = host.good(&line).stderr;
    child.work();
    let reading = host.json("detach kinds -o json");
    assert_eq!(reading["missed"], 0, "{reading}");
    (sum_of(&reading, "count"), said)
}

#[test]
fn one_kind_of_programs_counts_an_event() {
    let host = Host::new();
    let two = counting(&["raw_tp/sys_enter", "tp_btf/sys_enter"]);
    let (once, said) = counted(&host, &two, "");
    assert_eq!(once, 23, "{said}");
    let words = "program `p0` (raw_tp/sys_enter) is left out, as `p1` (tp_btf/sys_enter) counts the same event";
    assert_has(&said, &[words]);
    let (twice, said) = counted(&host, &two, "--all-programs");
    assert_eq!(twice, 2 * 23, "{said}");
    assert!(!said.contains("left out"), "{said}");
}

/// Two programs of one kind are two.
#[test]
fn programs_of_one_kind_all_count() {
    let host = Host::new();
    let four = counting(&[
        "tp_btf/sys_enter",
        "raw_tp/sys_enter",
        "tp/raw_syscalls/sys_enter",
        "tp_btf/sys_enter",
    ]);
    assert_eq!(counted(&host, &four, "").0, 2 * 23);
}

/// "Works" is what the verifier says.
#[test]
fn a_kind_that_does_not_load_gives_way_to_the_next() {
    let host = Host::new();
    let source = counting(&["unsafe", "raw_tp/sys_enter"]);
    let (once, said) = counted(&host, &source, "");
    assert_eq!(once, 23, "{said}");
    assert_has(&said, &["`p1` (raw_tp/sys_enter) counts"]);
    let path = source.arg();
    let run = format!("run {path} --for 0 --all-programs");
    host.ktally(&run).failed(1, &["`p0`"]);
}

#[test]
fn a_run_counts_by_one_kind_too() {
    let host = Host::new();
    let two = counting_calls(libc::SYS_chdir, &["tp_btf/sys_enter", "raw_tp/sys_enter"]);
    let path = two.arg();
    let calls = ["sh", "-c", &"cd /;".repeat(23)];
    let run = |more: &[&str]| -> (u64, String) {
        let args = [&["run", &path, "-o", "json"], more, &["--"], &calls].concat();
        let ended = host.good(args);
        (sum_of(&json(&ended.stdout), "count"), ended.stderr)
    };
    let (once, said) = run(&[]);
    assert_eq!(once, 23, "{said}");
    assert_has(&said, &["`p1` (raw_tp/sys_enter) is left out"]);
    assert_eq!(run(&["--all-programs"]).0, 2 * 23);
}

/// Whatever `run` refuses, `list` says that it does, with the same reason.
#[test]
fn list_says_what_run_refuses() {
    let host = Host::new();
    for (sections, words) in rows(
        "
xdp => program `p0` does not say what it attaches to: run with --attach p0=xdp:INTERFACE
tp_btf/sys_enter tc => run with --attach p1=tcx:INTERFACE:ingress
iter/task => no program that counts by itself
syscall => no program that counts by itself
perf_event => program `p0` does not say what it attaches to
kprobe => program `p0` does not say what it attaches to
unsafe => the verifier refused program `p0`
uprobe//no/such:main => failed to open `/no/such`
uprobe/libc.so.6:no_such => no function named `no_such`
freplace/x => does not attach programs of `freplace/x`
 => no program that counts by itself",
    ) {
        let sections: Vec<&str> = sections.split_whitespace().collect();
        let source = counting(&sections);
        let path = source.arg();
        let ran = host.ktally(["run", &path, "--for", "0"]).told(&words);
        assert!(matches!(ran.code, 1 | 2), "{ran:?}");
        let listed = listed(&host, &path);
        assert_eq!(listed["runs_here"], false, "{sections:?}: {listed}");
        assert_has(&listed["obstacles"].to_string(), &words);
    }
    let good = counting(&["raw_tp/sys_enter", "tp_btf/sys_enter", "iter/task"]);
    let path = good.arg();
    assert_eq!(listed(&host, &path)["runs_here"], true);
}

fn listed(host: &Host, path: &str) -> Value {
    host.json(["list", path, "-o", "json"])[0].clone()
}

/// The kernel runs them only when they are read.
#[test]
fn iterators_count_nothing_and_are_left_out() {
    let host = Host::new();
    let source = counting(&["iter/task", "tp_btf/sys_enter"]);
    let (counted, said) = counted(&host, &source, "");
    assert_eq!(counted, 23);
    let words = "program `p0` (iter/task) is left out, as it runs only on request";
    assert_has(&said, &[words]);
    host.good(["list", &source.arg()]).told(&[words]);
}
