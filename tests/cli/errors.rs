//! Exit codes, and words on stderr that say what was wrong.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use crate::common::{Args, rows};
use crate::{TALLIES, ktally};

/// Refused before anything was loaded; stderr has these words.
#[track_caller]
fn refused(args: impl Args, words: &[&str]) {
    ktally(args).refused(2, words);
}

#[track_caller]
fn all_refused(table: &str) {
    rows(table).for_each(|(line, words)| refused(line, &words));
}

#[test]
fn what_does_not_exist_is_named() {
    all_refused(
        "
frobnicate => frobnicate | --help
run => <TALLY> | --help
run syscall => `syscall` | did you mean `syscalls`?
list syscallz => `syscallz` | did you mean `syscalls`?
run zzz => `zzz` | known:
list zzz => `zzz` | known:
run syscalls --by uid => `uid` | known: `comm`, `call`, `pid`, `tid`, `cgroup`, `error`
run runqlat --by uid => `uid` | known: `comm`, `pid`, `tid`, `cgroup`
run runqlat --where uid=0 => `uid` | `cgroup`, `latency`
run syscalls,zzz => `zzz` | known:
run syscalls,blkio, => no tally named `` | known:
run blkio:devise=sda => no option of tally `blkio` named `devise` | did you mean `device`?
run failures,blkio --devise sda => `--devise` | did you mean `--device`? | `ktally run failures,blkio --help`
run syscalls --nope => --nope | `ktally run syscalls --help`
run syscalls --cpuu 1 => `--cpuu` | did you mean `--cpu`?
map dump 1 --cpu 1 => --cpu | `ktally map dump --help`
read x --pid 1 => `--pid` | `ktally read --help`
top syscalls => `top` needs a terminal | run NAME --every 1s
top => `top` needs a terminal
top --map 1 => `top` needs a terminal
top failures --pid 1 runqlat => name all tallies before their options
top failures:comm=x,blkio:devise=1 => no option of tally `blkio` named `devise` | did you mean `device`?
top --pid 1 => come after its name | `ktally top NAME --pid ...`
top --light failures => cannot be used with
top syscalls --replay x => cannot be used with
top syscalls --bpf => cannot be used with
rotate x --keep 3 => `--keep` | --output-file FILE
rotate x --keep 0 --output-file x => 1 or more
status --costs => did you mean `--cost`? | `ktally status --help`
run syscalls -t 42 => did you mean `--top` or `--total` | `ktally run syscalls --help`
run softirqs -p 42 => `-p` | `ktally run softirqs --help`
run -o json syscalls -z => `-z` | `ktally run syscalls --help`
map watch 1 -p 1 => `-p` | `ktally map watch --help`
run --pid 1 syscalls => come after its name | `ktally run NAME --pid ...`
attach --pid=1 syscalls => come after its name | `ktally attach NAME --pid ...`
run -p 1 => come after its name | `ktally run NAME -p ...`
help frobnicate => `frobnicate` | known: `guide`
-o json run @x --pid 1 => no option `--pid` | `ktally run @x --help`
run softirqs --pid 3 => `--pid` | `ktally run softirqs --help`
attach syscalls more => more | Usage
run nowhere.bpf.c => nowhere.bpf.c | No such file
run /nowhere/x.bpf.c => /nowhere/x.bpf.c | No such file
run nowhere.bpf.o => nowhere.bpf.o | No such file
run /etc/passwd => /etc/passwd | not a tally
list -o svg => 'svg' | table, json, jsonl, csv
-o svg check => `check` writes table, json, jsonl, csv
list -o xml => xml | --output
list --color maybe => maybe | --color",
    );
    // No command at all is a mistake too; clap prints the help then.
    refused("", &["Usage", "list", "run", "check"]);
}

/// In the words of other tools.
#[test]
fn what_is_called_otherwise_here_is_told() {
    all_refused(
        "
syscalls => `syscalls` is a tally | `ktally run syscalls`
-o json syscalls --for 1s => `ktally run syscalls`
./x.bpf.c => `ktally run ./x.bpf.c`
biolatency => `biolatency` is another tool; write `ktally run blkio`
run biolatency => `biolatency` is another tool; write `ktally run blkio`
syscount -P => `ktally run failures` or `ktally run syscalls`
run syscalls ls -l => `ktally run syscalls -- ls`
run syscalls 5 => `ktally run syscalls --for 5` | `--every 5`
run --duration 5 syscalls => did you mean `--for`?
run syscalls --duration=5 => did you mean `--for`?
run syscalls --timeout 5 => did you mean `--for`?
read x --interval 1 => did you mean `--every`?
run syscalls --limit 5 => did you mean `--top`?
run syscalls --count 5 => did you mean `--top`?
run syscalls --filter comm=dd => did you mean `--where`?
run syscalls --group-by comm => did you mean `--by`?
run syscalls --json => did you mean `-o json`?
list --csv => did you mean `-o csv`?
map dump 1 --format json => did you mean `-o`?
map clear 1 => `map clear 1` deletes every entry | --yes",
    );
    // They mean nothing where there is nothing like that.
    let ended = ktally("status --interval 1");
    ended.refused(
        2,
        &["no option `--interval` here; see `ktally status --help`"],
    );
}

#[test]
fn conditions_name_the_word_that_is_wrong() {
    all_refused(
        "
run syscalls --where comm==dd => no operator named `==`; did you mean `=`?
run syscalls --where comm=~dd => no operator named `=~`
run syscalls --where comm => write it as FIELD=VALUE | != ~ !~ < <= > >= &
run syscalls --where cals>5 => no field named `cals`; did you mean `calls`
run syscalls --where calls>fast => `--where calls>fast` | not a whole number
run syscalls --where time>5x => `--where time>5x` | write one like `10ms`
run syscalls --where comm<5 => `<` compares numbers
run syscalls --where calls~1* => `~` compares text
run syscalls --where call!=reed => no syscall named `reed` | did you mean `read`
run syscalls --where latency>1ms => is a histogram | latency.p99
run syscalls --where comm=dd,call=read => --where comm=dd --where call=read
run tcprtt --where remote=10.0.0.0/33 => write a network like 10.0.0.0/8
run syscalls --sort -cals => no column named `cals`; did you mean `calls`
run syscalls --sort=-cals => no column named `cals`
run syscalls --total --rate => --total | --rate",
    );
}

#[test]
fn what_stays_is_asked_for_as_it_should() {
    all_refused(
        "
attach => <TALLY> | --help
attach syscall => `syscall` | did you mean `syscalls`?
attach @x => `@x` | attached already
attach failures --as a.b => `a.b` | not an instance name
attach failures --pid x => `x` | --pid
read => <INSTANCE> | --help
read ../x => `../x` | not an instance name
read x --max-rows 3 => --max-rows | already
read x --per-cpu-rows => --per-cpu-rows | already
detach => INSTANCE | --help
detach x --all => --all | cannot be used
detach --all -o json => --all | jsonl
-o folded status => `status` writes table, json, jsonl, csv",
    );
    // Without privileges nothing is made, not even a folder.
    for line in ["attach failures", "detach x", "detach --all"] {
        ktally(line).failed(1, &["run it as root"]);
    }
}

#[test]
fn flags_of_run_refuse_what_they_cannot_mean() {
    const HUGE: &str = "99999999999999999999999999";
    for (flag, values) in [
        ("--for", ["x", "", "-1s", HUGE, "5 parsecs"]),
        ("--every", ["x", "", "-1s", HUGE, "0"]),
        ("--every", ["1ns", "999us", "0ms", "0.0005", "1x"]),
        ("--top", ["x", "", "-1", HUGE, "1.5"]),
        ("--max-rows", ["x", "", "-1", HUGE, "0"]),
        ("--max-rows", ["4294967296", "1k", "1_000", "0x10", " 1"]),
        ("--where", ["x", "", "comm", HUGE, "-1"]),
    ] {
        for value in values {
            let joined = format!("{flag}={value}");
            refused(["run", "syscalls", &joined], &[flag, value]);
            // Set apart, a value with a dash could look like a flag.
            let named: &[&str] = if flag == "--where" { &[] } else { &[flag] };
            refused(["run", "syscalls", flag, value], named);
        }
    }
}

#[test]
fn numbers_are_named_with_what_is_wanted() {
    all_refused(
        "
run syscalls --top -1 => --top | -1 | write a whole number, 0 or more
run syscalls --top 1e3 --pid 1 => --top | 1e3 | write a whole number, 0 or more
run syscalls --max-rows 1e6 => --max-rows | 1e6 | from 1 to 4294967295
attach syscalls --max-rows 0 => --max-rows | 0 | from 1 to 4294967295
run tcp --port http => --port | http | a port is a number from 0 to 65535
run tcp --port 65536 => --port | 65536 | a port is a number from 0 to 65535
map dump 1 --top -1 => --top | -1 | write a whole number, 0 or more
map dump 1 --limit 1e6 => --limit | 1e6 | write a whole number, 0 or more
map add 1 1 1 --repeat -1 => --repeat | -1 | write a whole number, 1 or more
map update 1 1 1 --cpu x => --cpu | x | from 0 to 4294967295
map create /x --type hash --max-entries 1e6 => --max-entries | 1e6 | from 0 to 4294967295
map create /x --type hash --key -4 => --key | -4 | from 0 to 4294967295",
    );
}

#[test]
fn columns_that_no_table_has_are_refused_with_those_it_has() {
    let huge = "x".repeat(10_000);
    for flag in ["--by", "--sort", "--where"] {
        for value in ["x", "", "-1", "comm,x", ",", "comm.p99", &huge] {
            let value = match flag {
                "--where" => format!("{flag}={value}=1"),
                _ => format!("{flag}={value}"),
            };
            refused(["run", "syscalls", &value], &["no ", "named `", "`comm`"]);
        }
    }
    for sort in ["p101", "p", "pNaN", "latency.", "latency.p-1", "calls.p50"] {
        refused(["run", "syscalls", "--sort", sort], &["column", sort]);
    }
    let by = "run syscalls --by comm --sort call";
    refused(by, &["grouped without `call`"]);
}

#[test]
fn a_tally_s_own_options_are_checked_against_their_types() {
    all_refused(
        "
run syscalls --pid=x => --pid | `x` | whole number
run syscalls --pid= => --pid | `` | whole number
run syscalls --pid=1.5 => --pid | `1.5` | whole number
run syscalls --pid=2147483648 => --pid | `2147483648` | out of range
run syscalls --pid=-5 => --pid | `-5` | not negative
run syscalls --pid=2147483647 => --pid | `2147483647` | there is no process 2147483647
run syscalls --comm=0123456789abcdef => --comm | `0123456789abcdef` | at most 15
run syscalls --uid=-1 => --uid | `-1` | no such user
run syscalls --uid=4294967296 => --uid | `4294967296` | 32-bit
run syscalls --uid= => --uid | `` | no such user
run syscalls --cgroup=-1 => --cgroup | `-1` | cgroup's directory
run syscalls --cgroup=/nowhere => --cgroup | `/nowhere` | cgroup's directory
run syscalls --cgroup=/etc/passwd => --cgroup | `/etc/passwd` | not a cgroup of version 2; write
run syscalls --cgroup=no-such.service => --cgroup | no cgroup named `no-such.service` | container's name
run syscalls --cgroup=/proc => --cgroup | `/proc` | not a cgroup of version 2; write
run syscalls --cpu=1000000 => --cpu | `1000000` | this host has CPUs 0
run netdev --netns=/etc/passwd => --netns | `/etc/passwd` | write a path such as
run netdev --netns=/proc/self/ns/mnt => --netns | `/proc/self/ns/mnt` | not a network namespace
run runqlat --by-comm=maybe => --by-comm | `maybe` | `true` or `false`
run runqlat --by-comm= => --by-comm | `` | `true` or `false`
run syscalls --pid => --pid
run syscalls --pid=1 --pid=2 => --pid",
    );
}

#[test]
fn what_cannot_be_attached_to_is_refused_before_loading() {
    all_refused(
        "
run profile --hz 0 --raw => tally `profile`: | 0 samples a second; write 1 to
run profile --hz 4294967295 --raw => tally `profile`: | kernel.perf_event_max_sample_rate
run ufunc --path=/no/such/file --function main => tally `ufunc`: | failed to open `/no/such/file`; write the path of a program
run ufunc --path=/etc/passwd --function main => tally `ufunc`: | `/etc/passwd` is not a program or library
run ufunc --path=libc.so.6 --function mallocc => tally `ufunc`: | no function named `mallocc`; did you mean
run ufunc --path=libc.so.6 --function mall* => tally `ufunc`: | `mall*` is a pattern
run ufunc --path=nolib.so.6 --function malloc => tally `ufunc`: | no library `nolib.so.6`",
    );
}

/// Nothing after `--` is not no `--`, which counts the whole host.
#[test]
fn a_command_has_a_name() {
    let no_command = ["no command after `--`", "-- COMMAND"];
    refused("run syscalls --", &no_command);
    refused("run syscalls --for 0 --", &no_command);
    refused("run --for 0 syscalls --", &no_command);
    refused(["run", "syscalls", "--", ""], &["the command after `--`"]);
}

#[test]
fn text_that_is_not_utf_8_is_refused() {
    let bad = |start: &str| OsString::from_vec([start.as_bytes(), b"\xff"].concat());
    let flags =
        "--for --every --top --max-rows --where=comm --by --sort --pid --comm --uid --cgroup";
    for flag in flags.split(' ').map(|flag| format!("{flag}=")) {
        refused(
            ["run".into(), "syscalls".into(), bad(&flag)],
            &[&flag, "UTF-8"],
        );
    }
    // A file may have such a name; a tally has not.
    refused(["run".into(), bad("x")], &["`x\u{fffd}`"]);
    refused([bad("x")], &["x\u{fffd}"]);
}

#[test]
fn several_tallies_are_told_apart() {
    all_refused(
        "
run syscalls,failures,syscalls => tally `syscalls` is named twice
run syscalls,profile -o svg => a flame graph is of one tally
run syscalls,profile -o folded => a flame graph is of one tally
run syscalls,softirqs -- true => tally `softirqs` does not count by process
run syscalls,failures --by device => no field named `device`
run syscalls:pid=x,failures => `x` for `--pid`
run syscalls:pid,failures => `` for `--pid`
attach syscalls,failures => takes one tally",
    );
}

#[test]
fn conditions_that_no_row_can_meet_are_refused() {
    all_refused(
        "
run syscalls --until p99 => --until | write it as FIELD=VALUE
run syscalls --until p99>10 --until p99>20 => cannot be used multiple times
run syscalls --until cals>1 => `--until cals>1`: no field named `cals` | did you mean `calls`
run syscalls --alert p99>10x => `--alert p99>10x`: | `10x` is not a time
run syscalls --alert comm>a => `--alert comm>a`: | compares numbers
run syscalls,blkio --alert pages>1 => no field named `pages`
run syscalls --until p99>1ms -o json => `--every` and `--until` give many readings | -o jsonl
rotate x --until p99>1ms => --until
detach x --alert p99>1ms => --alert",
    );
}

#[test]
fn one_json_object_cannot_hold_many_readings() {
    refused("run syscalls --every 1s -o json", &["--every", "-o jsonl"]);
}

#[test]
fn without_privileges_it_says_which_are_missing() {
    for tally in TALLIES.iter() {
        // What some of them have to be given.
        let own = match tally.as_str() {
            "kfunc" => "--function f",
            "ufunc" => "--function malloc --path libc.so.6",
            _ => "",
        };
        let words = [tally, "CAP_BPF", "CAP_PERFMON", "root"];
        let ended = ktally(&format!("run {tally} --for 0 {own}")).refused(1, &words);
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    }
}

/// Also where the flag stands before the verb.
#[test]
fn verbs_of_map_refuse_what_they_would_ignore() {
    all_refused(
        "
-o svg map list => writes table, json, jsonl, csv
map list -o svg => 'svg'
-o json map watch 1 => writes table, jsonl, csv
map add 1 1 1 -o csv => 'csv'
map next-key 1 -o csv => 'csv'
map save 1 - -o csv => no output
-o json map pin 1 /x => no output
map save 1 - --output-file x => no output
--output-file x map pin 1 /x => no output
top syscalls -o json => no output
-o json top => no output
top --output-file x => no output
map --raw list => no use for `--raw`
map restore 1 - --raw => no use for `--raw`",
    );
}

/// No word of an error moves the cursor, begins a line or turns the text around.
#[test]
fn control_characters_in_errors_are_escaped() {
    let evil = "\x1b[31mx\r\u{202e}\nktally: all is well";
    let shown = r"\u{1b}[31mx\r\u{202e}\nktally: all is well";
    for args in [
        &[evil][..],
        &["run", evil],
        &["run", &format!("{evil}/x.bpf.c")],
        &["run", &format!("{evil}/x.bpf.o")],
        &["run", "syscalls", evil],
        &["run", "syscalls", &format!("--{evil}")],
        &["run", "syscalls", "--by", evil],
        &["run", "syscalls", "--for", evil],
        &["run", "syscalls", "--uid", evil],
        &["run", "syscalls", "--cgroup", &format!("/{evil}")],
        &["run", "syscalls", "-o", evil],
        &["run", "syscalls", "-v", "--comm", &evil.repeat(2)],
        &["run", "ufunc", "--function=f", &format!("--path=/{evil}")],
        &["list", &format!("--output-file=/{evil}/x")],
        &["read", evil],
        &["detach", evil],
        &["map", evil],
        &["map", "show", evil],
        &["map", "show", &format!("/{evil}")],
        &["map", "create", "/x", "--type", evil, "--max-entries", "1"],
        &["map", "restore", "1", &format!("/{evil}")],
    ] {
        let ended = ktally(args);
        assert!(ended.code > 0, "{args:?}: {ended:?}");
        let is_plain = |c: char| c == '\n' || !c.is_control() && c != '\u{202e}';
        assert!(ended.stderr.chars().all(is_plain), "{args:?}: {ended:?}");
        assert!(!ended.stderr.contains("\nktally: "), "{args:?}: {ended:?}");
        // Labels are cut, maps cannot be looked up without privileges.
        let start = &shown[..6];
        let is_about_it = ended.stderr.contains(start) || args[0] == "map" || args[0] == "detach";
        assert!(is_about_it, "{args:?}: {ended:?}");
    }
}
