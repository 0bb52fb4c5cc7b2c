//! What `drain` takes is written or kept, whatever becomes of its output; and
//! what it leaves alone.

use std::fs;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use libbpf_rs::{MapHandle, MapType};
use serde_json::{Value as Json, json};

use super::{Ended, Maps, end, json_lines, map, map_json, program};
use crate::common::{full, limit};
use crate::support::maps::{create, fill, id};
use crate::support::needs;

const ENTRIES: u32 = 20_000;

/// Keys from 0 on, each with one more than itself.
fn filled() -> MapHandle {
    let map = create(MapType::Hash, 4, 8, ENTRIES);
    fill(&map, ENTRIES.into(), |key| key + 1);
    map
}

/// Every number once, as JSON lines.
#[track_caller]
fn assert_whole(lines: &str) {
    let lines = json_lines(lines);
    let mut seen: Vec<u64> = lines
        .iter()
        .map(|line| {
            let [key, value] = ["key", "value"].map(|name| line[name].as_u64().unwrap());
            assert_eq!(key + 1, value);
            key
        })
        .collect();
    seen.sort_unstable();
    assert!(seen.iter().copied().eq(0..u64::from(ENTRIES)));
}

/// The only file that was kept in a folder.
#[track_caller]
fn kept(folder: &Path, ended: &Ended) -> String {
    let files: Vec<_> = fs::read_dir(folder).unwrap().collect();
    let [Ok(file)] = &files[..] else {
        panic!("{files:?}");
    };
    let name = file.file_name().into_string().unwrap();
    assert!(ended.stderr.contains(&name), "{ended:?}");
    fs::read_to_string(file.path()).unwrap()
}

/// A pipe that is no longer read.
fn closed_pipe() -> Stdio {
    let (_, write) = io::pipe().unwrap();
    write.into()
}

/// `ktally map drain`, which keeps in that folder what it cannot write.
fn drain(map: &MapHandle, format: &str, folder: &Path) -> Command {
    let mut drain = program();
    drain
        .args(["map", "drain", &id(map).to_string(), "-o", format])
        .env("TMPDIR", folder);
    drain
}

#[test]
fn what_cannot_be_written_is_kept_in_a_file() {
    for (output, why) in [
        (full as fn() -> Stdio, "No space left"),
        (closed_pipe, "Broken pipe"),
    ] {
        for format in ["table", "json", "jsonl", "csv"] {
            let (map, folder) = (filled(), tempfile::tempdir().unwrap());
            let ended = end(drain(&map, format, folder.path()).stdout(output()));
            let ended = ended.failed(1, &["failed to write what was taken", why]);
            assert_whole(&kept(folder.path(), &ended));
            assert_eq!(map_json!("drain", id(&map)), json!([]));
        }
    }
}

/// In the current folder where TMPDIR is none; on stderr where that is none
/// either. Not even root can make a file in /proc.
#[test]
fn what_cannot_be_kept_in_one_place_is_kept_in_another() {
    let drain = |map: &MapHandle, folder: &Path| {
        let mut drain = drain(map, "table", Path::new("/proc"));
        end(drain.current_dir(folder).stdout(full()))
    };
    let folder = tempfile::tempdir().unwrap();
    let ended = drain(&filled(), folder.path()).failed(1, &["failed to write"]);
    assert_whole(&kept(folder.path(), &ended));
    let ended = drain(&filled(), Path::new("/proc")).failed(1, &["all of it is above"]);
    let lines = ended.stderr.lines().filter(|line| line.starts_with('{'));
    assert_whole(&lines.collect::<Vec<_>>().join("\n"));
}

/// Memory that it cannot have is missing before the first value is taken. What
/// is too little for the program to start does not belong here.
#[test]
fn what_cannot_be_kept_in_memory_is_not_taken() {
    needs((5, 14), "a program that a system call runs");
    let map = filled();
    let (mut kept, mut taken) = (0, 0);
    for mib in (8..200).step_by(4) {
        let mut drain = drain(&map, "jsonl", &std::env::temp_dir());
        let Ok(output) = limit(&mut drain, libc::RLIMIT_AS, mib << 20).output() else {
            continue;
        };
        if output.status.success() {
            assert_whole(&String::from_utf8(output.stdout).unwrap());
            taken += 1;
            break;
        }
        assert_eq!(output.stdout, b"", "{mib} MiB: {output:?}");
        let there = map!("dump", id(&map), "-o", "jsonl").done();
        assert_whole(&there);
        kept += 1;
    }
    assert!(kept > 0 && taken == 1, "{kept}, {taken}");
}

/// What is not read yet is written when a signal comes, or kept.
#[test]
fn a_signal_loses_nothing() {
    needs((5, 14), "a program that a system call runs");
    for signal in [
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGALRM,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGVTALRM,
        libc::SIGRTMIN(),
    ] {
        let (map, folder) = (filled(), tempfile::tempdir().unwrap());
        let (read, write) = io::pipe().unwrap();
        let mut drain = drain(&map, "jsonl", folder.path());
        drain.stdout(write).stderr(Stdio::piped());
        heed(&mut drain, signal);
        let process = drain.spawn().unwrap();
        // Its copy of the pipe.
        drop(drain);
        wait_until_full(&read);
        // SAFETY: our own child, which is not reaped yet.
        unsafe { libc::kill(process.id() as i32, signal) };
        let output = process.wait_with_output().unwrap();
        let ended = Ended::new(["map drain"].iter(), output);
        let ended = ended.failed(1, &["no process reads the output"]);
        assert_whole(&kept(folder.path(), &ended));
    }
}

/// A reader that is only slow gets all of it.
#[test]
fn a_signal_waits_for_a_slow_reader() {
    needs((5, 14), "a program that a system call runs");
    let map = filled();
    let (mut read, write) = io::pipe().unwrap();
    let mut drain = drain(&map, "jsonl", &std::env::temp_dir());
    drain.stdout(write).stderr(Stdio::null());
    heed(&mut drain, libc::SIGINT);
    let mut process = drain.spawn().unwrap();
    drop(drain);
    wait_until_full(&read);
    // SAFETY: our own child, which is not reaped yet.
    unsafe { libc::kill(process.id() as i32, libc::SIGINT) };
    let mut taken = String::new();
    read.read_to_string(&mut taken).unwrap();
    assert_whole(&taken);
    assert_eq!(process.wait().unwrap().code(), Some(0));
}

/// Also where the tests inherit that it is ignored, as under `nohup`.
fn heed(command: &mut Command, signal: i32) {
    // SAFETY: a system call alone, in the child.
    unsafe {
        command.pre_exec(move || {
            libc::signal(signal, libc::SIG_DFL);
            Ok(())
        });
    }
}

/// No page of it is free, and the writer waits.
fn wait_until_full(pipe: &impl AsRawFd) {
    // SAFETY: takes no address.
    let size = unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_GETPIPE_SZ) };
    let end = Instant::now() + Duration::from_secs(60);
    let mut held = 0;
    while held <= size - 2 * libc::PIPE_BUF as i32 {
        assert!(Instant::now() < end, "{held} of {size}");
        thread::sleep(Duration::from_millis(1));
        // SAFETY: the kernel writes one integer.
        unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut held) };
    }
}

// ---- what counts ------------------------------------------------------------

const MIXED: &str = r#"
struct bpf_spin_lock { __u32 val; };
struct bpf_timer { __u64 __opaque[2]; } __attribute__((aligned(8)));
struct pair { __u32 a; __u32 b; };
struct mixed {
	__u64 calls;
	__u16 odd;
	__u8 flag;
	char name[5];
	union { __u64 words[2]; __u8 bytes[4]; };
	union { __u64 word; __u32 half; } either;
	__u8 small[2];
	struct pair pairs[2];
	unsigned __int128 wide;
};
struct locked { struct bpf_spin_lock lock; __u32 number; };
struct timed { __u64 number; struct bpf_timer timer; };
struct text { char name[8]; bool on; };
MAP(HASH, 4, struct pair, struct mixed, mixed_values_with_a_long_name);
MAP(HASH, 4, struct pair, struct locked, locked);
MAP(HASH, 4, struct pair, struct timed, timed);
MAP(HASH, 4, struct pair, struct text, text);
"#;

const WHOLE: &str = r#"{"calls":7,"odd":1,"flag":2,"name":"abc","words":[8,9],
    "either":{"word":3},"small":[4,5],"pairs":[{"a":1,"b":2},{"a":3,"b":4}],"wide":6}"#;

/// The key of the only entry.
const KEY: &str = "a=1,b=2";

/// What BPF cannot take atomically stays, and is named; the rest is taken once.
#[test]
fn what_is_no_count_is_left_alone_and_told() {
    let maps = Maps::load(MIXED);
    let map = maps.id("mixed_values_with_a_long_name");
    map!("update", map, KEY, WHOLE).done();
    let before = map_json!("lookup", map, KEY);
    let ended = map!("drain", map, "-o", "json");
    let told = "left alone: `odd`, `flag`, `small.0`, `small.1`, `words`, `bytes`, `wide` (";
    assert!(ended.stderr.contains(told), "{ended:?}");
    let taken = ended.json()[0]["value"].clone();
    let after = map_json!("lookup", map, KEY);
    let pairs = json!([{"a": 1, "b": 2}, {"a": 3, "b": 4}]);
    assert_eq!((&taken["calls"], &taken["pairs"]), (&json!(7), &pairs));
    let zeroes = json!([{"a": 0, "b": 0}, {"a": 0, "b": 0}]);
    assert_eq!((&after["calls"], &after["pairs"]), (&json!(0), &zeroes));
    for name in [
        "odd", "flag", "name", "words", "bytes", "either", "small", "wide",
    ] {
        assert_eq!(after[name], before[name], "{name}");
    }
    map!("drain", maps.id("text")).failed(1, &["nothing in its values that counts"]);
    map!("add", maps.id("text"), KEY, 1, "--create")
        .failed(2, &["no number in its values that can be added to"]);
}

/// Who holds a lock adds without atomics: that would be lost. What is the
/// kernel's own need not be given, and is not shown.
#[test]
fn values_with_a_lock_or_a_timer() {
    let maps = Maps::load(MIXED);
    let (locked, timed) = (maps.id("locked"), maps.id("timed"));
    map!("update", locked, KEY, "number=5").done();
    map!("update", locked, KEY, "number=6", "--lock").done();
    for ended in [
        map!("add", locked, KEY, "number=1"),
        map!("add", locked, KEY, 1),
        map!("drain", locked),
    ] {
        let ended = ended.failed(1, &["`locked`", "bpf_spin_lock"]);
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    }
    let seen = map_json!("lookup", locked, KEY);
    assert_eq!(seen, json!({"number": 6}));
    // Kernels before 6.4 freeze it all the same.
    let frozen = map!("freeze", locked);
    match frozen.code {
        0 => map!("update", locked, KEY, "number=7").failed(1, &["`locked`", "frozen"]),
        _ => frozen.failed(1, &["bpf_spin_lock"]),
    };
    map!("update", timed, KEY, "number=5").done();
    map!("add", timed, KEY, 2).prints("value: 5 -> 7\n");
    map!("drain", timed, "-o", "csv").prints("\"a\",\"b\",\"number\"\n1,2,7\n# 1 entry taken\n");
}

/// Members of an anonymous union are a value's own: read, changed and shown by
/// their names in every format.
#[test]
fn anonymous_unions_have_names_in_every_format() {
    let maps = Maps::load(MIXED);
    let map = maps.id("mixed_values_with_a_long_name");
    map!("update", map, KEY, WHOLE).done();
    map!("add", map, KEY, "words[1]=3").done();
    let value = map_json!("lookup", map, KEY);
    assert_eq!(value["words"], json!([8, 12]));
    assert_eq!(value["bytes"], json!([8, 0, 0, 0]));
    for more in [&[][..], &["--top", "1"], &["--where", "a=1"]] {
        let dump = |format: &str| {
            let args = ["dump", &map.to_string(), "-o", format].map(str::to_owned);
            let more = more.iter().map(|arg| (*arg).to_owned());
            super::run(args.into_iter().chain(more))
        };
        let entry = json!({"key": {"a": 1, "b": 2}, "value": value});
        assert_eq!(dump("json").json(), json!([entry]));
        assert_eq!(json_lines(&dump("jsonl").done()), [entry]);
        for format in ["csv", "table"] {
            let text = dump(format).done();
            for shown in ["words", "bytes", "[8,12]", "[8,0,0,0]"] {
                let found = text.to_lowercase().contains(shown);
                assert!(found, "{format}: no {shown}: {text}");
            }
        }
    }
}

/// Text and lists are in no group, and the numbers add up.
#[test]
fn grouping_leaves_out_what_has_no_sum() {
    let maps = Maps::load(MIXED);
    let map = maps.id("mixed_values_with_a_long_name");
    for key in ["a=1,b=2", "a=1,b=3", "a=2,b=3"] {
        map!("update", map, key, WHOLE).done();
    }
    let dump = |format: &str| map!("dump", map, "--by", "a", "--sort", "small[1]", "-o", format);
    let group = |a: u32, times: u32| {
        json!({"key": {"a": a}, "value": {
            "calls": 7 * times, "odd": times, "flag": 2 * times,
            "small.0": 4 * times, "small.1": 5 * times,
        }})
    };
    let groups = json!([group(1, 2), group(2, 1)]);
    assert_eq!(dump("json").json(), groups);
    assert_eq!(Json::from(json_lines(&dump("jsonl").done())), groups);
    assert_eq!(
        dump("csv").done(),
        "\"a\",\"calls\",\"odd\",\"flag\",\"small.0\",\"small.1\"\n1,14,2,4,8,10\n2,7,1,2,4,5\n# 2 groups of 3 entries\n"
    );
    let table = dump("table").done();
    let words: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(words[1], ["1", "14", "2", "4", "8", "10"], "{table}");
    assert_eq!(words[2], ["2", "7", "1", "2", "4", "5"], "{table}");
}
