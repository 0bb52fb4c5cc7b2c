//! A user's own C file: what is refused before anything is loaded, and what
//! errors and warnings say.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use serde_json::Value;

use crate::common::{Ended, assert_has, items, source::Source};
use crate::{end, program};

/// A C file: these declarations, and a program.
fn file(name: &str, declarations: &str) -> Source {
    let program = "SEC(\"tp_btf/sys_enter\") int BPF_PROG(enter) { return 0; }";
    written(name, &format!("{declarations}\n{program}\n"))
}

fn written(name: &str, text: &str) -> Source {
    let text = format!("#include \"ktally.bpf.h\"\nTALLY(\"a test's own\");\n{text}");
    Source::file(&format!("{name}.bpf.c"), text)
}

/// A folder that every user can write to, gone when dropped.
fn everyones() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    folder
}

/// An executable script.
fn script(text: &str) -> Source {
    let script = Source::file("script", format!("#!/bin/bash\n{text}\n"));
    fs::set_permissions(script.path(), Permissions::from_mode(0o755)).unwrap();
    script
}

const TABLE: &str = "struct v { __u64 n COUNTER(\"n\"); }; TABLE(t, __u32, struct v, 1, \"t\");";

fn command(action: &str, path: impl AsRef<Path>, more: &[&str]) -> Command {
    let mut command = program();
    command.arg(action).arg(path.as_ref()).args(more);
    command
}

fn ktally(action: &str, source: &Source, more: &[&str]) -> Ended {
    end(&mut command(action, source.path(), more))
}

/// What cannot be shown or typed is refused when the tally is opened.
#[test]
fn declarations_that_cannot_be_kept_are_refused() {
    let table = |key: &str, value: &str| {
        format!(
            "struct k {{ {key} }}; struct v {{ {value} }}; TABLE(t, struct k, struct v, 1, \"\");"
        )
    };
    let option = |option: &str| format!("{TABLE} struct s {{ int a, b; }}; {option}");
    let label = "__u32 calls;";
    let counter = "__u64 n COUNTER(\"\");";
    let cases = [
        table(label, "__u64 calls COUNTER(\"\");"),
        table(label, "double f GAUGE(\"f\");"),
        table(label, "struct { float f COUNTER(\"\"); } in;"),
        table(label, "__u64 f HISTOGRAM(\"f\");"),
        option("OPTION(float, share, 0, \"\");"),
        option("const volatile struct s pair __ktally_tag(\"option\", \"\") = {};"),
    ];
    let reasons = [
        ["table `t`: two columns are named `calls`", "rename"],
        ["`f` is marked as a column", "`double` is not an integer"],
        ["`in.f` is marked", "`float`"],
        ["`f` is tagged HISTOGRAM", "struct tally_histogram"],
        ["option `share`", "`float`"],
        ["option `pair`", "`struct s`"],
    ];
    for (text, words) in cases.into_iter().zip(reasons) {
        let bad = file("bad", &text);
        for action in ["run", "list"] {
            ktally(action, &bad, &[]).refused(2, &words);
        }
    }
    // What is not marked is passed over.
    let mixed = table(label, &format!("{counter} double f; char text[8];"));
    ktally("list", &file("mixed", &mixed), &[]).good();
}

const OPTIONS: &str = r#"
typedef char short_text[8];
OPTION(__u64 UNIT(us), us, 1500, "microseconds");
OPTION(__u64 UNIT(ns), lt, 0, "less than");
OPTION(int UNIT(ms), ms, -5, "may be negative");
OPTION(__u8 UNIT(bytes), small, 64, "a small size");
OPTION(__u32 UNIT(hz), hz, 49, "a rate");
OPTION(char, letter, 'x', "a letter");
OPTION(bool, loud, false, "a switch");
OPTION(short_text, text, "hi", "a text");
"#;

#[test]
fn options_with_units_are_exact_or_refused() {
    let units = file("units", &format!("{TABLE}\n{OPTIONS}"));
    for (flag, value, words) in [
        ("--us", "1999ns", "not a whole number of us"),
        ("--us", "1ns", "not a whole number of us"),
        ("--us", "0.5us", "not a whole number of us"),
        ("--lt", "99999999y", "more than 64 bits"),
        ("--lt", "-1ns", "-1 is out of range"),
        ("--lt", "--us", "not a whole number"),
        ("--lt", "soon", "not a time"),
        ("--ms", "99999999999ms", "out of range"),
        ("--small", "1KiB", "1024 is out of range: 0 to 255"),
        ("--hz", "49 hz", "not a whole number of hz"),
    ] {
        let ended = ktally("run", &units, &[flag, value]);
        let ended = ended.refused(2, &[flag, &format!("`{value}`")]);
        if value != "--us" {
            ended.told(&[words]);
        }
    }
    // These get as far as loading, which needs privileges.
    for more in [
        ["--us", "1.5ms"],
        ["--ms", "-5ms"],
        ["--small", "255B"],
        ["--loud=true", "--hz=7"],
    ] {
        ktally("run", &units, &more).failed(1, &["CAP_BPF"]);
    }
    let ended = ktally("run", &units, &["--loud", "true"]);
    ended.refused(2, &["`--loud true` is written `--loud=true`"]);
}

#[test]
fn defaults_are_shown_as_they_could_be_typed() {
    let units = file("units", &format!("{TABLE}\n{OPTIONS}"));
    let list = ktally("list", &units, &[]).stdout;
    let help = ktally("run", &units, &["--help"]).stdout;
    for text in [&list, &help] {
        let words = [
            "microseconds [default: 1500us]",
            "may be negative [default: -5ms]",
            "a small size [default: 64B]",
            "a rate [default: 49]",
            "a letter [default: 120 (`x`)]",
            "a text [default: hi]",
            "--loud[=<true|false>]",
            // 0 is how it does nothing.
            "less than\n",
        ];
        assert_has(text, &words);
    }
    assert_has(&list, &["table t: t (at most 1 row)"]);
}

#[test]
fn unknown_decoders_get_a_warning() {
    let text = "struct k { __u32 error AS(erno); __u32 state AS(enum:bpf_prog_type); };\n\
        struct v { __u64 n COUNTER(\"\"); };\n\
        TABLE(t, struct k, struct v, 1, \"\"); TABLE(u, struct k, struct v, 1, \"\");";
    let typo = file("typo", text);
    for action in ["run", "list"] {
        let ended = ktally(action, &typo, &[]);
        assert_eq!(ended.stderr.matches("AS(erno)").count(), 1, "{ended:?}");
        assert!(!ended.stderr.contains("prog_type"), "{ended:?}");
    }
    let list = ktally("list", &typo, &[]).stdout;
    assert_has(&list, &["enum:bpf_prog_type"]);
}

#[test]
fn list_tells_of_options_that_run_would_refuse() {
    let text = format!("{TABLE} OPTION(__u32, by, 0, \"\");");
    let clash = file("clash", &text);
    ktally("run", &clash, &[]).refused(2, &["`by`", "rename"]);
    let letter = format!("{TABLE} OPTION(__u32 SHORT(n), mine, 0, \"\");");
    let letter = file("letter", &letter);
    ktally("run", &letter, &[]).refused(2, &["`mine`", "letter is taken"]);
    let list = ktally("list", &clash, &["-o", "json"]).json();
    assert_eq!(list[0]["runs_here"], false);
    let obstacles = items(&list[0]["obstacles"]);
    let told = |obstacle: &Value| obstacle.as_str().unwrap().contains("`by`");
    assert!(obstacles.iter().any(told), "{obstacles:?}");
}

#[test]
fn files_that_are_no_tallies_are_refused() {
    let refused = |path: &Path, words| end(&mut command("run", path, &[])).refused(2, words);
    refused(&file("", TABLE).path(), &["names no tally"]);
    let folder = everyones();
    let pipe = folder.path().join("pipe.c");
    nix::unistd::mkfifo(&pipe, Mode::from_bits_truncate(0o644)).unwrap();
    refused(&pipe, &["is not a file"]);
    let folder_c = folder.path().join("folder.c");
    fs::create_dir(&folder_c).unwrap();
    refused(&folder_c, &["is not a file"]);
    refused(&written("idle", TABLE).path(), &["`idle`", "no program"]);
}

#[test]
fn what_compiling_lacks_is_named_with_its_fix() {
    let mine = file("mine", TABLE);
    for (name, value, words) in [
        (
            "CLANG",
            "/no/clang",
            ["install the package `clang`", "mine.bpf.c"],
        ),
        ("TMPDIR", "/no/folder", ["point TMPDIR at", "mine.bpf.c"]),
    ] {
        end(command("run", mine.path(), &[]).env(name, value)).failed(1, &words);
    }
}

/// An atomic addition of a width that BPF lacks makes clang 14 fail in its back
/// end; newer ones may reject it earlier.
#[test]
fn a_failure_of_clangs_back_end_is_one_line() {
    let temporary = everyones();
    let narrow = written(
        "narrow",
        &format!(
            "{TABLE} __u16 sum; SEC(\"tp_btf/sys_enter\") int BPF_PROG(enter) {{ __sync_fetch_and_add(&sum, 1); return 0; }}"
        ),
    );
    let ended = end(command("list", narrow.path(), &[]).env("TMPDIR", temporary.path()));
    let ended = ended.failed(1, &["narrow.bpf.c:3:"]);
    assert!(ended.stderr.lines().count() < 10, "{ended:?}");
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
}

/// In place of clang: what it sees of its folder.
#[test]
fn nobody_else_can_change_what_is_compiled() {
    let mine = file("mine", TABLE);
    let clang = script("stat -c 'mode %a' \"$(dirname \"${!#}\")\" >&2; exit 1");
    let mut command = command("list", mine.path(), &[]);
    // SAFETY: sets the umask of the child, which cannot fail.
    unsafe {
        command.pre_exec(|| {
            nix::sys::stat::umask(Mode::empty());
            Ok(())
        });
    }
    end(command.env("CLANG", clang.path())).told(&["mode 700\n"]);
}

#[test]
fn a_signal_ends_the_compiler_and_removes_its_folder() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let (mine, temporary) = (file("mine", TABLE), everyones());
        let clang = script("echo $$ >\"$TMPDIR/pid\"; exec sleep 600");
        let mut compiling = command("list", mine.path(), &[])
            .env("CLANG", clang.path())
            .env("TMPDIR", temporary.path())
            .spawn()
            .unwrap();
        let pid = loop {
            let pid = fs::read_to_string(temporary.path().join("pid")).unwrap_or_default();
            if let Ok(pid) = pid.trim().parse() {
                break Pid::from_raw(pid);
            }
            sleep(Duration::from_millis(5));
        };
        kill(Pid::from_raw(compiling.id() as i32), signal).unwrap();
        let status = compiling.wait().unwrap();
        assert_eq!(status.signal(), Some(signal as i32), "{status:?}");
        assert!(
            kill(pid, None).is_err(),
            "the compiler goes on after {signal}"
        );
        let left = fs::read_dir(&temporary).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["pid"]);
    }
}

/// As other authors' build systems call clang.
#[test]
fn flags_of_clang_are_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.path().join("theirs.h"), "#include <vmlinux.h>\n").unwrap();
    let source = Source::file(
        "flags.bpf.c",
        "#include <theirs.h>
#include <bpf/bpf_helpers.h>
u64 hits[SIZE], more[MORE];
SEC(\"raw_tp/sys_enter\") int p(void *ctx) { int unused; return 0; }
char LICENSE[] SEC(\"license\") = \"GPL\";
",
    );
    let include = format!("-I{}", folder.path().display());
    let flags = [&*include, "-D", "SIZE=2", "--cflags=-DMORE=1 -O2"];
    let listed = ktally("list", &source, &flags).good().stdout;
    assert_has(&listed, &["hits.1", "more.0"]);
    ktally("list", &source, &[&*include]).failed(1, &["'SIZE'"]);
    ktally("list", &source, &flags[1..]).failed(1, &["'theirs.h' file not found"]);
    // clang makes the tally's options known, so its flags come first.
    let tagged = file("late", &format!("OPTION(int, depth, 0, \"d\"); {TABLE}"));
    ktally("run", &tagged, &["--depth", "1", "-D", "X"]).failed(2, &["before the options"]);
}

/// Another user could replace the compiler there.
#[test]
fn a_compiler_is_in_no_folder_of_everyone() {
    let folder = everyones();
    let clang = folder.path().join("clang");
    fs::copy("/bin/true", &clang).unwrap();
    let source = file("compiler", TABLE);
    let mut list = command("list", source.path(), &[]);
    end(list.env("CLANG", &clang)).failed(1, &["in a folder that other users can write to"]);
}
