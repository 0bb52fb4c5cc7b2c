//! Completion in a shell, and the manual pages.

use std::fs;

use super::common::{OPEN_PROGRAM, command};
use super::{TALLIES, end, printed, program};

/// How the last word of a line can go on, as bash is told.
fn completed(line: &str) -> Vec<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let mut program = program();
    program.env("COMPLETE", "bash").env("_CLAP_IFS", "\n");
    program.env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
    let ended = end(program.arg("--").args(words)).good();
    assert_eq!(ended.stderr, "", "{line}");
    ended.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn words_of_a_line_are_completed() {
    for (line, words) in [
        ("ktally ru", "run"),
        ("ktally run sysc", "syscalls"),
        ("ktally list sysc", "syscalls"),
        ("ktally attach sysc", "syscalls"),
        ("ktally top syscalls,blki", "syscalls,blkio"),
        ("ktally run syscalls --by-e", "--by-error"),
        ("ktally run syscalls --by ca", "call"),
        ("ktally run syscalls --by pid,ca", "pid,call"),
        ("ktally run syscalls -s call", "call calls"),
        ("ktally run syscalls --where err", "error= errors="),
        ("ktally run syscalls --until ca", "call= calls="),
        (
            "ktally run syscalls --by-pid=",
            "--by-pid=true --by-pid=false",
        ),
        ("ktally run syscalls -o js", "json jsonl"),
        (
            "ktally run syscalls --where call=openat",
            "call=openat call=openat2",
        ),
        (
            "ktally run syscalls --where call=read,fsy",
            "call=read,fsync",
        ),
        ("ktally run failures --where error!=EACC", "error!=EACCES"),
        ("ktally run blkio --where operation=di", "operation=discard"),
        ("ktally run syscalls --uid roo", "root"),
        ("ktally count sched_switc", "sched_switch"),
        ("ktally count sched_switch --by next.comm", "next.comm"),
        ("ktally events sched_switc", "sched_switch"),
        ("ktally map du", "dump"),
        ("ktally help gu", "guide"),
        ("ktally help ru", "run"),
        ("ktally help map du", "dump"),
        ("ktally map dump ./no_such_", ""),
    ] {
        let expected: Vec<&str> = words.split_whitespace().collect();
        assert_eq!(completed(line), expected, "{line}");
    }
    let tallies = completed("ktally run ");
    let tallies = TALLIES.iter().filter(|name| tallies.contains(name));
    assert_eq!(tallies.count(), TALLIES.len());
}

/// Bash has made several words of what ktally takes for one.
#[test]
fn bash_asks_for_whole_words() {
    let asked = |line: &str, words: &str| {
        let mut bash = command("bash");
        let folder = OPEN_PROGRAM.parent().unwrap().to_str().unwrap();
        bash.env("PATH", format!("{folder}:{}", env!("PATH")));
        bash.args(["-c", "source <(COMPLETE=bash ktally); COMP_LINE=$1 COMP_POINT=${#1}; shift; \
            COMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1)); _ktally ktally; printf '%s\n' \"${COMPREPLY[@]}\""]);
        let ended = end(bash.args(["bash", line]).args(words.split('|'))).good();
        ended.stdout.replace('\n', " ").trim_end().to_owned()
    };
    for (line, words, replies) in [
        ("ktally run sysc", "ktally|run|sysc", "syscalls"),
        (
            "ktally run syscalls --by-pid=",
            "ktally|run|syscalls|--by-pid|=",
            "true false",
        ),
        (
            "ktally run syscalls --by-pid=t",
            "ktally|run|syscalls|--by-pid|=|t",
            "true",
        ),
        (
            "ktally run syscalls --where  call=openat",
            "ktally|run|syscalls|--where|call|=|openat",
            "openat openat2",
        ),
        (
            "ktally run syscalls:pid=1 --by er",
            "ktally|run|syscalls|:|pid|=|1|--by|er",
            "error",
        ),
    ] {
        assert_eq!(asked(line, words), replies, "{line}");
    }
}

/// The code that asks for them names the program as the shell finds it.
#[test]
fn shells_are_told_how_to_ask() {
    for shell in ["bash", "zsh", "fish"] {
        let ended = end(program().env("COMPLETE", shell)).good();
        assert!(ended.stdout.contains("ktally"), "{shell}");
        assert!(!ended.stdout.contains("/ktally"), "{shell}");
    }
    let ended = end(program().env("COMPLETE", "dos"));
    ended.failed(2, &["unknown shell `dos`"]);
}

#[test]
fn each_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(folder.path(), permissions).unwrap();
    printed(&format!("man {}", folder.path().display()));
    let page = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let main = page("ktally.1");
    for name in ["run", "map", "check"] {
        assert!(main.contains(&format!("ktally\\-{name}(1)")), "{main}");
    }
    let run = page("ktally-run.1");
    for text in ["\\-\\-strict", "Exit with 4", "\\-\\-where", "Operators"] {
        assert!(run.contains(text), "{text}");
    }
    assert!(page("ktally-map-dump.1").contains("Show all entries"));
    assert!(!folder.path().join("ktally-man.1").exists());
}
