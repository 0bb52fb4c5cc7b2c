//! What authors get: the guide, the examples and the C files of `ktally new` run as they
//! are.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{assert_has, items, ktally};
use crate::instances::Host;
use crate::support::{Child, Source, ask_for_parent, fork, reap};

/// Tests in other machines have what was compiled in.
const GUIDE: &str = include_str!("../../docs/writing-a-tally.md");
const EXAMPLES: [(&str, &str); 6] = [
    ("forks", include_str!("../../examples/forks.bpf.c")),
    ("mallocs", include_str!("../../examples/mallocs.bpf.c")),
    (
        "migrations",
        include_str!("../../examples/migrations.bpf.c"),
    ),
    ("naps", include_str!("../../examples/naps.bpf.c")),
    ("reads", include_str!("../../examples/reads.bpf.c")),
    ("wakeups", include_str!("../../examples/wakeups.bpf.c")),
];
const TEMPLATES: [&str; 5] = ["counter", "histogram", "interval", "stack", "uprobe"];

fn runs(host: &Host, path: &str) -> Value {
    host.json(["run", path, "--for", "0", "-o", "json"])
}

/// Each block of the guide is a whole file.
#[test]
fn the_guide_runs() {
    let host = Host::new();
    let blocks = GUIDE.split("```c\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap());
    let mut steps = 0;
    for (block, step) in blocks.zip(1..) {
        let source = Source::file(&format!("step{step}.bpf.c"), block);
        runs(&host, &source.arg());
        ktally(["lint", &source.arg()]).good();
        steps = step;
    }
    assert_eq!(steps, 10);
}

#[test]
fn examples_run() {
    let host = Host::new();
    for (name, text) in EXAMPLES {
        let source = Source::file(&format!("{name}.bpf.c"), text);
        runs(&host, &source.arg());
        ktally(["lint", &source.arg()]).good();
    }
}

/// 23 forks are 23 processes.
#[test]
fn an_example_counts_exactly() {
    let host = Host::new();
    let (name, text) = EXAMPLES[0];
    let source = Source::file(&format!("{name}.bpf.c"), text);
    let child = Child::new("kt-forks", || {
        fork(23, || crate::support::clone(libc::SIGCHLD), || ());
        reap(23);
    });
    let line = format!("attach {} --pid {}", source.arg(), child.pid());
    host.good(&*line);
    child.work();
    let reading = host.json("detach forks -o json");
    let row = &reading["tables"][0]["rows"][0];
    assert_eq!(
        (&row["processes"], &row["threads"]),
        (&23.into(), &0.into()),
        "{reading}"
    );
}

/// A file of `ktally new` in a folder of its own.
fn made(template: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().join("mine");
    let name = name.to_str().unwrap();
    ktally(["new", name, "--template", template]).good();
    let path = PathBuf::from(format!("{name}.bpf.c"));
    (folder, path)
}

#[test]
fn new_files_run_at_once() {
    let host = Host::new();
    for template in TEMPLATES {
        let (_folder, path) = made(template);
        let path = path.to_str().unwrap();
        runs(&host, path);
        ktally(["lint", path]).good();
    }
    let (_folder, path) = made("histogram");
    let child = Child::new("kt-new", || ask_for_parent(23));
    let path = path.to_str().unwrap();
    host.good(["attach", path, "--pid", &child.pid()]);
    child.work();
    let reading = host.json("detach mine -o json --where call=getppid");
    let row = &items(&reading["tables"][0]["rows"])[0];
    assert_eq!(row["result"]["count"], 23, "{reading}");
}

#[test]
fn new_replaces_no_file() {
    let (_folder, path) = made("counter");
    let name = path.to_str().unwrap().strip_suffix(".bpf.c").unwrap();
    ktally(["new", name]).failed(1, &["failed to make", "exists"]);
    ktally(["new", "a b"]).failed(2, &["is not a name for a tally"]);
    ktally(["new", "x", "--template", "y"]).failed(2, &["possible values: counter"]);
}

/// The object runs where no clang is.
#[test]
fn an_object_needs_no_clang() {
    let host = Host::new();
    let (folder, path) = made("counter");
    let object = folder.path().join("mine.bpf.o");
    let (path, object) = (path.to_str().unwrap(), object.to_str().unwrap());
    ktally(["build", path]).failed(2, &["-o NAME.bpf.o"]);
    ktally(["build", path, "-o", object]).good();
    let mut run = host.program();
    run.args(["run", object, "--for", "0"])
        .env("CLANG", "/none");
    crate::common::end(&mut run).good();
}

/// clang finds all headers by the flags in `.clangd`.
#[test]
fn editors_find_the_headers() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    ktally(["headers", folder.path().to_str().unwrap()]).good();
    let settings = fs::read_to_string(at(".clangd")).unwrap();
    let flags = settings
        .lines()
        .filter_map(|line| line.strip_prefix("    - \""));
    let flags: Vec<&str> = flags.map(|flag| flag.trim_end_matches('"')).collect();
    assert!(
        flags.contains(&"-target") && flags.contains(&"bpf"),
        "{settings}"
    );
    for name in ["ktally.bpf.h", "vmlinux.h", "bpf/bpf_helpers.h"] {
        assert!(
            Path::new(&at("ktally-headers")).join(name).is_file(),
            "{name}"
        );
    }
}

/// What is easily forgotten, by the line of C.
#[test]
fn lint_finds_what_is_forgotten() {
    let source = Source::file(
        "forgotten.bpf.c",
        r#"#include "ktally.bpf.h"
OPTION(int, depth, 0, "");
struct who { __u32 pid; __u64 where; };
struct counts { __u64 calls; __u64 time COUNTER("x"); };
TABLE(rows_, struct who, struct counts, 64, "");
PERCPU_TABLE(cpus, __u32, struct counts, 64, "per CPU");
SEC("tp_btf/sys_enter")
int BPF_PROG(enter, struct pt_regs *regs, long id)
{
	struct who who = {};
	__u32 key = 1;
	struct counts zero = {.calls = 1}, *row = bpf_map_lookup_elem(&rows_, &who);
	if (row)
		row->calls++;
	else
		bpf_map_update_elem(&rows_, &who, &zero, BPF_ANY);
	row = tally_entry(cpus, &key);
	row->calls += id;
	__sync_fetch_and_add(&row->time, 1);
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
"#,
    );
    let found = ktally(["lint", &source.arg()]);
    assert_eq!(found.code, 1, "{found:?}");
    assert_has(
        &found.stdout,
        &[
            "no summary",
            "`depth` has no help",
            "table `rows_` has no help",
            "column `calls` of table `rows_` has no help",
            "column `time` of table `cpus` has no unit: if it counts ns, write UNIT(ns)",
            "4 bytes of padding behind `pid`",
            "line 14: a plain `+=` in `rows_` loses counts",
            "line 16: an update of `rows_` replaces the whole element",
            "line 18: a plain `+=` in `cpus` loses counts",
        ],
    );
    assert_eq!(
        found.stdout.matches("a plain").count(),
        2,
        "{}",
        found.stdout
    );
}
