//! A user's own C file: what is refused before anything is loaded, and what a
//! user is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use serde_json::Value;

use crate::{Ended, end, program};

/// A folder that anybody can read, with C files in it; gone when dropped.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let open = fs::Permissions::from_mode(0o755);
        Self(
            tempfile::Builder::new()
                .permissions(open)
                .tempdir()
                .unwrap(),
        )
    }

    /// `NAME.bpf.c`: these declarations, and a program.
    fn file(&self, name: &str, declarations: &str) -> PathBuf {
        let program = "SEC(\"tp_btf/sys_enter\") int BPF_PROG(enter) { return 0; }";
        self.write(name, &format!("{declarations}\n{program}\n"))
    }

    /// A folder that anybody can write to.
    fn everyones(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        path
    }

    /// An executable script.
    fn script(&self, text: &str) -> PathBuf {
        let path = self.0.path().join("script");
        fs::write(&path, format!("#!/bin/bash\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(format!("{name}.bpf.c"));
        let text = format!("#include \"ktally.bpf.h\"\nTALLY(\"a test's own\");\n{text}");
        fs::write(&path, text).unwrap();
        path
    }
}

const TABLE: &str = "struct v { __u64 n COUNTER(\"n\"); }; TABLE(t, __u32, struct v, 1, \"t\");";

fn command(action: &str, path: &PathBuf, more: &[&str]) -> Command {
    let mut command = program();
    command.arg(action).arg(path).args(more);
    command
}

fn refused(ended: &Ended, words: &[&str]) {
    assert_eq!(ended.code, 2, "{ended:?}");
    assert_eq!(ended.stdout, "", "{ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "{word}: {ended:?}");
    }
}

/// What cannot be shown or typed is refused when the tally is opened.
#[test]
fn declarations_that_cannot_be_kept_are_refused() {
    let folder = Folder::new();
    let table = |key: &str, value: &str| {
        format!(
            "struct k {{ {key} }}; struct v {{ {value} }}; TABLE(t, struct k, struct v, 1, \"\");"
        )
    };
    let option = |option: &str| format!("{TABLE} struct s {{ int a, b; }}; {option}");
    let label = "__u32 calls;";
    let counter = "__u64 n COUNTER(\"\");";
    for (i, (text, words)) in [
        (
            table(label, "__u64 calls COUNTER(\"\");"),
            ["table `t`: two columns are named `calls`", "rename"],
        ),
        (
            table(label, "double f GAUGE(\"f\");"),
            ["`f` is marked as a column", "`double` is no integer"],
        ),
        (
            table(label, "struct { float f COUNTER(\"\"); } in;"),
            ["`in.f` is marked", "`float`"],
        ),
        (
            table(label, "__u64 f HISTOGRAM(\"f\");"),
            ["`f` is HISTOGRAM", "struct tally_histogram"],
        ),
        (
            option("OPTION(float, share, 0, \"\");"),
            ["option `share`", "`float`"],
        ),
        (
            option("const volatile struct s pair __ktally_tag(\"option\", \"\") = {};"),
            ["option `pair`", "`struct s`"],
        ),
    ]
    .iter()
    .enumerate()
    {
        let path = folder.file(&format!("bad{i}"), text);
        for action in ["run", "list"] {
            refused(&end(&mut command(action, &path, &[])), words);
        }
    }
    // What is not marked is passed over.
    let mixed = table(label, &format!("{counter} double f; char text[8];"));
    let path = folder.file("mixed", &mixed);
    assert_eq!(end(&mut command("list", &path, &[])).code, 0);
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
    let folder = Folder::new();
    let path = folder.file("units", &format!("{TABLE}\n{OPTIONS}"));
    for (flag, value, words) in [
        ("--us", "1999ns", "no whole number of us"),
        ("--us", "1ns", "no whole number of us"),
        ("--us", "0.5us", "no whole number of us"),
        ("--lt", "99999999y", "more than 64 bits"),
        ("--lt", "-1ns", "-1 is out of range"),
        ("--lt", "--us", "no whole number"),
        ("--lt", "soon", "no time"),
        ("--ms", "99999999999ms", "out of range"),
        ("--small", "1KiB", "1024 is out of range: 0 to 255"),
        ("--hz", "49 hz", "no whole number of hz"),
    ] {
        let ended = end(&mut command("run", &path, &[flag, value]));
        refused(&ended, &[flag, &format!("`{value}`")]);
        if value != "--us" {
            assert!(ended.stderr.contains(words), "{words}: {ended:?}");
        }
    }
    // These get as far as loading, which needs privileges.
    for more in [
        ["--us", "1.5ms"],
        ["--ms", "-5ms"],
        ["--small", "255B"],
        ["--loud=true", "--hz=7"],
    ] {
        let ended = end(&mut command("run", &path, &more));
        assert_eq!(ended.code, 1, "{more:?}: {ended:?}");
        assert!(ended.stderr.contains("CAP_BPF"), "{more:?}: {ended:?}");
    }
    let ended = end(&mut command("run", &path, &["--loud", "true"]));
    refused(&ended, &["`--loud true` is written `--loud=true`"]);
}

#[test]
fn defaults_are_shown_as_they_could_be_typed() {
    let folder = Folder::new();
    let path = folder.file("units", &format!("{TABLE}\n{OPTIONS}"));
    let list = end(&mut command("list", &path, &[])).stdout;
    let help = end(&mut command("run", &path, &["--help"])).stdout;
    for words in [
        "microseconds [default: 1500us]",
        "may be negative [default: -5ms]",
        "a small size [default: 64B]",
        "a rate [default: 49]",
        "a letter [default: 120 (`x`)]",
        "a text [default: hi]",
    ] {
        assert!(list.contains(words), "{words}: {list}");
        assert!(help.contains(words), "{words}: {help}");
    }
    for text in [list.as_str(), help.as_str()] {
        assert!(text.contains("--loud[=<true|false>]"), "{text}");
        // 0 is how it does nothing.
        assert!(text.contains("less than\n"), "{text}");
    }
    assert!(list.contains("table t: t (at most 1 row)"), "{list}");
}

#[test]
fn unknown_decoders_get_a_warning() {
    let folder = Folder::new();
    let text = "struct k { __u32 error AS(erno); __u32 state AS(enum:bpf_prog_type); };\n\
        struct v { __u64 n COUNTER(\"\"); };\n\
        TABLE(t, struct k, struct v, 1, \"\"); TABLE(u, struct k, struct v, 1, \"\");";
    let path = folder.file("typo", text);
    for action in ["run", "list"] {
        let ended = end(&mut command(action, &path, &[]));
        let warnings = ended
            .stderr
            .lines()
            .filter(|line| line.contains("AS(erno)"));
        assert_eq!(warnings.count(), 1, "{ended:?}");
        assert!(!ended.stderr.contains("prog_type"), "{ended:?}");
    }
    let list = end(&mut command("list", &path, &[])).stdout;
    assert!(list.contains("enum:bpf_prog_type"), "{list}");
}

#[test]
fn list_tells_of_options_that_run_would_refuse() {
    let folder = Folder::new();
    let text = format!("{TABLE} OPTION(__u32, by, 0, \"\");");
    let path = folder.file("clash", &text);
    refused(&end(&mut command("run", &path, &[])), &["`by`", "rename"]);
    let ended = end(&mut command("list", &path, &["-o", "json"]));
    let list: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(list[0]["runs_here"], false);
    let obstacles = list[0]["obstacles"].as_array().unwrap();
    let told = |obstacle: &Value| obstacle.as_str().unwrap().contains("`by`");
    assert!(obstacles.iter().any(told), "{obstacles:?}");
}

#[test]
fn files_that_are_no_tallies_are_refused() {
    let folder = Folder::new();
    let nameless = folder.file("", TABLE);
    refused(
        &end(&mut command("run", &nameless, &[])),
        &["names no tally"],
    );
    let pipe = folder.0.path().join("pipe.c");
    nix::unistd::mkfifo(&pipe, Mode::from_bits_truncate(0o644)).unwrap();
    refused(&end(&mut command("run", &pipe, &[])), &["is no file"]);
    let folder_c = folder.0.path().join("folder.c");
    fs::create_dir(&folder_c).unwrap();
    refused(&end(&mut command("run", &folder_c, &[])), &["is no file"]);
    let idle = folder.write("idle", TABLE);
    refused(
        &end(&mut command("run", &idle, &[])),
        &["`idle`", "no program"],
    );
}

#[test]
fn what_compiling_lacks_is_named_with_its_fix() {
    let folder = Folder::new();
    let path = folder.file("mine", TABLE);
    for (name, value, words) in [
        (
            "CLANG",
            "/no/clang",
            ["install the package `clang`", "mine.bpf.c"],
        ),
        ("TMPDIR", "/no/folder", ["point TMPDIR at", "mine.bpf.c"]),
    ] {
        let ended = end(command("run", &path, &[]).env(name, value));
        assert_eq!(ended.code, 1, "{ended:?}");
        for word in words {
            assert!(ended.stderr.contains(word), "{word}: {ended:?}");
        }
    }
}

/// An atomic addition of a width that BPF lacks makes clang 14 fail in its back
/// end; newer ones may reject it earlier.
#[test]
fn a_failure_of_clangs_back_end_is_one_line() {
    let folder = Folder::new();
    let temporary = folder.everyones("temporary");
    let path = folder.write(
        "narrow",
        &format!("{TABLE} __u16 sum; SEC(\"tp_btf/sys_enter\") int BPF_PROG(enter) {{ __sync_fetch_and_add(&sum, 1); return 0; }}"),
    );
    let ended = end(command("list", &path, &[]).env("TMPDIR", &temporary));
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("narrow.bpf.c:3:"), "{ended:?}");
    assert!(ended.stderr.lines().count() < 10, "{ended:?}");
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
}

/// In place of clang: what it sees of its folder.
#[test]
fn nobody_else_can_change_what_is_compiled() {
    let folder = Folder::new();
    let path = folder.file("mine", TABLE);
    let clang = folder.script("stat -c 'mode %a' \"$(dirname \"${!#}\")\" >&2; exit 1");
    let mut command = command("list", &path, &[]);
    // SAFETY: sets the umask of the child, which cannot fail.
    unsafe {
        command.pre_exec(|| {
            nix::sys::stat::umask(Mode::empty());
            Ok(())
        });
    }
    let ended = end(command.env("CLANG", clang));
    assert!(ended.stderr.contains("mode 700\n"), "{ended:?}");
}

#[test]
fn a_signal_ends_the_compiler_and_removes_its_folder() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let folder = Folder::new();
        let path = folder.file("mine", TABLE);
        let temporary = folder.everyones("temporary");
        let clang = folder.script("echo $$ >\"$TMPDIR/pid\"; exec sleep 600");
        let mut compiling = command("list", &path, &[])
            .env("CLANG", clang)
            .env("TMPDIR", &temporary)
            .spawn()
            .unwrap();
        let pid = loop {
            let pid = fs::read_to_string(temporary.join("pid")).unwrap_or_default();
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
