//! `ktally attach`, `status`, `read` and `detach`: counts go on without a
//! process, exactly, and what is removed is gone.

#![allow(clippy::unwrap_used)] // In tests, panics are what tells.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use libbpf_rs::{MapCore, MapHandle, MapType};
use serde_json::Value;

use crate::common::{PROGRAM, assert_has, command, end, json, rows};
use crate::instances::{Host, links_of};
use crate::lifetime::{Run, sum, total};
use crate::objects::programs_called;
use crate::support::maps::{create, get, set};
use crate::support::{
    CALLS, Child, Source, amount, ask_for_parent, event, fail_to_open, kernel_series, missed, pin,
    wait_until,
};

pub const GETPPID: (&str, &str) = ("call", "getppid");

fn assert_whole(reading: &Value) {
    // Kernels since 7.0 preempt the probes of system calls, and then miss those of
    // other processes.
    if kernel_series() < (7, 0) {
        assert_eq!(reading["missed"], serde_json::json!(missed(0)));
    }
    assert_eq!(reading["incomplete"], false);
    assert_eq!(reading["tables"][0]["dropped"], 0);
}

#[test]
fn what_is_attached_counts_until_it_is_detached() {
    let host = Host::new();
    let child = Child::new("kt-attach", || ask_for_parent(23));
    host.good(&format!("attach syscalls --pid {}", child.pid()))
        .told(&["attached `syscalls`: 2 programs"]);
    let objects = host.objects("syscalls");
    objects.assert_alive();

    child.work();
    let reading = host.json("read syscalls -o json");
    assert_eq!(sum(&reading, GETPPID, "calls"), 23);
    assert_eq!(reading["tally"], "syscalls");
    assert!(reading["seconds"].as_f64().unwrap() > 0.0);
    assert_whole(&reading);
    // It goes on, and `run` reads it as well.
    child.work();
    let reading = host.json("run @syscalls -o json --where call=getppid");
    assert_eq!(sum(&reading, GETPPID, "calls"), 46);
    assert_eq!(reading["tables"][0]["rows"].as_array().unwrap().len(), 1);
    child.work();
    let last = host.json("detach syscalls -o json");
    assert_eq!(sum(&last, GETPPID, "calls"), 69);
    let latency: Vec<&Value> = last["tables"][0]["rows"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["call"] == "getppid")
        .map(|row| &row["latency"]["count"])
        .collect();
    assert_eq!(latency, [69]);
    assert_whole(&last);

    assert_eq!(host.pins(), [""; 0]);
    objects.wait_until_gone();
}

#[test]
fn with_nothing_attached_status_says_how_to() {
    for host in [Host::new(), Host::with_bpffs(false)] {
        host.ktally("status").refused(0, &["ktally attach NAME"]);
        assert_eq!(host.json("status -o json"), serde_json::json!([]));
        assert_eq!(host.good("status -o jsonl").stdout, "");
        assert_eq!(host.good("detach --all").stdout, "");
        host.ktally("read x").refused(3, &["no instance named `x`"]);
        host.ktally("detach x")
            .refused(3, &["no instance named `x`"]);
        assert_eq!(host.pins(), [""; 0]);
    }
}

#[test]
fn bpffs_is_mounted_where_it_is_not() {
    let host = Host::with_bpffs(false);
    let child = Child::new("kt-mount", || fail_to_open(23));
    host.good(&format!("attach failures --pid {}", child.pid()));
    let mode = fs::metadata(host.bpffs("")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    child.work();
    let last = host.json("detach failures -o json");
    assert_eq!(sum(&last, ("error", "ENOENT"), "calls"), 23);
}

/// Every column of it.
#[test]
fn status_tells_what_is_in_force() {
    let host = Host::new();
    let child = Child::new("kt-status", || ask_for_parent(23));
    let pid = child.pid();
    host.good(&format!(
        "attach syscalls --as a --pid {pid} --uid 0 --max-rows 5"
    ));
    host.good(&format!("attach runqlat --as b --by-comm --pid {pid}"));
    child.work();
    let status = host.json("status -o json");
    let [a, b] = &status.as_array().unwrap()[..] else {
        panic!("{status}");
    };
    assert_eq!(
        (&a["label"], &a["tally"]),
        (&"a".into(), &"syscalls".into())
    );
    assert_eq!((&b["label"], &b["tally"]), (&"b".into(), &"runqlat".into()));
    assert_eq!(a["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(a["state"], "counting");
    assert_eq!(a["options"]["pid"].as_u64().unwrap().to_string(), pid);
    assert_eq!(a["options"]["uid"], "root");
    assert_eq!(b["options"]["by_comm"], true);
    // write, read, getppid.
    assert_eq!(a["tables"][0]["rows"], 3);
    assert_eq!(a["tables"][0]["max_rows"], 5);
    assert_eq!((&a["dropped"], &a["missed"]), (&0.into(), &0.into()));
    assert!(a["memory"].as_u64().unwrap() > 1000);
    assert_eq!(a["programs"].as_array().unwrap().len(), 2);
    assert_eq!(a["programs"][0]["section"], "tp_btf/sys_enter");
    assert!(a["seconds"].as_f64().unwrap() > 0.0);
    assert!(a.get("events_per_second").is_none());

    let lines = host.good("status -o jsonl").stdout;
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!((lines.len(), &lines[1]["label"]), (2, &b["label"]));
    let csv = host.good("status -o csv").stdout;
    assert!(csv.starts_with("\"label\",\"tally\",\"state\""), "{csv}");
    assert!(csv.contains("\"\"max_rows\"\":5"), "{csv}");

    let table = host.good("status").stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("INSTANCE  TALLY"), "{table}");
    assert_has(
        lines[1],
        &["3/5", &format!("--pid {pid} --uid root"), "counting"],
    );
    assert_has(lines[2], &["--by-comm"]);
    host.good("detach --all");
    assert_eq!(host.pins(), [""; 0]);
}

#[test]
fn cost_is_measured_when_it_is_asked_for() {
    let host = Host::new();
    host.good("attach syscalls");
    // This host makes system calls: `status` itself does.
    let status = host.json("status --cost -o json");
    assert!(status[0]["events_per_second"].as_f64().unwrap() > 1.0);
    let nanos = status[0]["nanoseconds_per_event"].as_f64().unwrap();
    assert!(nanos > 1.0 && nanos < 1e6, "{nanos}");
    host.good("detach --all");
}

/// Exactness of an attachment with replacements in the middle of it, and with
/// readers all along: what was issued is what is counted in the end.
#[test]
fn not_a_count_is_lost_over_replace_with_writers_at_full_speed() {
    const REPLACEMENTS: usize = 12;
    static SHARED: AtomicU64 = AtomicU64::new(0);
    let shared = shared_counters();
    SHARED.store(shared as usize as u64, Ordering::SeqCst);
    let host = Host::new();
    // No other process is called so.
    let comm = format!("kt{}", std::process::id());
    let writers: Vec<Child> = (1..=4)
        .map(|i| {
            Child::new(&comm, move || {
                let shared = SHARED.load(Ordering::SeqCst) as usize as *const AtomicU64;
                // SAFETY: a page that both processes keep.
                let (stop, own) = unsafe { (&*shared, &*shared.add(8 * i)) };
                while stop.load(Ordering::SeqCst) == 0 {
                    ask_for_parent(1000);
                    own.fetch_add(1000, Ordering::SeqCst);
                }
            })
        })
        .collect();
    host.good(&format!("attach syscalls --as exact --comm {comm}"));
    let entries = host.objects("exact");
    let read = "read exact --every 50ms -o jsonl --total";
    let readers = [(); 3].map(|()| host.start(read));
    let issued = || -> u64 {
        (1..=4)
            // SAFETY: the page stays.
            .map(|i| unsafe { &*shared.add(8 * i) }.load(Ordering::SeqCst))
            .sum()
    };
    std::thread::scope(|scope| {
        for writer in &writers {
            scope.spawn(|| writer.work());
        }
        wait_until("they write", || issued() > 0);
        let start = Instant::now();
        for i in 0..REPLACEMENTS {
            // An emulated machine takes seconds for each.
            if i >= 3 && start.elapsed().as_secs() > 20 {
                break;
            }
            let before = issued();
            let line = format!("attach syscalls --as exact --comm {comm} --replace");
            let ended = host.ktally(&line);
            if ended.code != 0 {
                // SAFETY: as above; lets them end.
                unsafe { &*shared }.store(1, Ordering::SeqCst);
                panic!("{ended:?}");
            }
            wait_until("they write meanwhile", || issued() > before);
        }
        // SAFETY: as above.
        unsafe { &*shared }.store(1, Ordering::SeqCst);
    });
    let last = host.json("detach exact -o json");
    let calls = sum(&last, GETPPID, "calls");
    // Where system calls' tracepoints are preempted, the kernel skips runs of a
    // program that another task is in the middle of, and says how many.
    let missed = last["missed"].as_u64().unwrap();
    let dropped = last["tables"][0]["dropped"].as_u64().unwrap();
    assert!(calls <= issued(), "{calls} of {}", issued());
    assert!(calls + dropped + missed >= issued(), "{last}");
    assert!(calls > 10_000, "{calls}");
    assert_eq!(dropped, 0);
    // Each reader saw it grow, to the very end, and ended by itself.
    for mut reader in readers {
        let ended = reader.end().told(&["has stopped"]);
        let readings = ended.json_lines();
        assert!(readings.len() > 3, "{}", readings.len());
        let seen: Vec<u64> = readings
            .iter()
            .map(|reading| sum(reading, GETPPID, "calls"))
            .collect();
        assert!(seen.is_sorted(), "{seen:?}");
        assert_eq!(seen.last(), Some(&calls));
    }
    entries.wait_until_gone();
    assert_eq!(host.pins(), [""; 0]);
}

/// Whatever is killed, wherever: what is there afterwards is the old state or
/// the new one, and counts as such.
#[test]
fn a_kill_at_any_point_leaves_the_old_state_or_the_new() {
    let host = Host::new();
    let child = Child::new("kt-kill9", || ask_for_parent(23));
    let attach = format!("attach syscalls --as k --pid {}", child.pid());
    let replace = format!("{attach} --replace");
    let lines = [attach.as_str(), replace.as_str(), "detach k"];
    let lengths = lines.map(|line| {
        let start = Instant::now();
        host.good(line);
        start.elapsed().as_micros() as u64
    });
    let mut chance = Chance::new();
    let mut counted = None;
    let (mut killed, mut told) = ([0u32; 3], 0);
    // At least some of each kind.
    let rounds = (amount(100) as u32).max(12);
    for round in 0..rounds as usize {
        let kind = round % 3;
        match (kind, counted) {
            (0, Some(_)) => {
                host.good("detach k");
                counted = None;
            }
            (1 | 2, None) => {
                host.good(&attach);
                counted = Some(0);
            }
            _ => {}
        }
        let delay = chance.up_to(lengths[kind]);
        killed[kind] += u32::from(kill_after(&host, lines[kind], delay));
        let what = format!("round {round}: `{}` killed after {delay} us", lines[kind]);

        let status = host.good("status -o json");
        told += u32::from(status.stderr.contains("killed") || status.stderr.contains("half"));
        let status = json(&status.stdout);
        let there = status.as_array().unwrap();
        let pins = host.pins();
        if let [instance] = &there[..]
            && instance["state"] == "stopped"
        {
            // Its last reading may not be printed.
            assert_eq!(kind, 2, "{what}");
            child.work();
            let last = host.json("detach k -o json");
            assert_eq!(sum(&last, GETPPID, "calls"), counted.unwrap(), "{what}");
            assert_whole(&last);
            assert_eq!(host.pins(), [""; 0], "{what}");
            counted = None;
        } else if let [instance] = &there[..] {
            assert_eq!(instance["state"], "counting", "{what}");
            child.work();
            let total = counted.unwrap_or(0) + 23;
            let reading = host.json("read k -o json");
            assert_eq!(sum(&reading, GETPPID, "calls"), total, "{what}");
            assert_whole(&reading);
            assert!(
                pins.iter().all(|pin| !pin.contains('+')),
                "{what}: {pins:?}"
            );
            counted = Some(total);
        } else {
            assert_ne!(kind, 1, "{what}: it is gone");
            // Links are held by pins alone, so nothing counts in secret.
            assert_eq!(pins, [""; 0], "{what}");
            counted = None;
        }
    }
    host.good("detach --all");
    assert_eq!(host.pins(), [""; 0]);
    eprintln!(
        "{rounds} rounds; killed in time: {killed:?} of attach, replace, detach; {told} left something"
    );
    assert!(
        killed.iter().all(|killed| *killed >= rounds / 18),
        "{killed:?}"
    );
    assert!(killed.iter().sum::<u32>() > rounds / 6, "{killed:?}");
}

/// What a kill at the two moments leaves that are too short to be met by
/// chance: made but not in place; and, on kernels whose bpffs cannot exchange
/// two folders, the old one set aside.
#[test]
fn leftovers_are_put_in_order() {
    let host = Host::new();
    let child = Child::new("kt-leftover", || ask_for_parent(23));
    host.good(&format!("attach syscalls --pid {}", child.pid()));
    host.good("attach failures --as other");
    let rename = |from: &str, to: &str| {
        let path = |name: &str| host.bpffs(&format!("ktally/{name}"));
        fs::rename(path(from), path(to)).unwrap();
    };
    rename("syscalls", "+syscalls+old");
    rename("other", "+syscalls");
    let killed = "was being replaced by a ktally that was killed";
    host.good("status -o json").told(&[killed]);
    child.work();
    let reading = host.json("read syscalls -o json");
    assert_eq!(sum(&reading, GETPPID, "calls"), 23);
    assert!(
        host.pins()
            .iter()
            .all(|pin| !pin.contains('+') && !pin.contains("other"))
    );

    let objects = host.objects("syscalls");
    rename("syscalls", "+syscalls");
    let killed = "was being made by a ktally that was killed";
    host.good("status").told(&[killed]);
    assert_eq!(host.pins(), [""; 0]);
    objects.wait_until_gone();
}

/// Whether it was killed before it came to its end.
fn kill_after(host: &Host, line: &str, micros: u64) -> bool {
    let mut command = host.program();
    command.args(line.split(' '));
    let (stdout, stderr) = (std::process::Stdio::null(), std::process::Stdio::null());
    let mut process = command.stdout(stdout).stderr(stderr).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_micros(micros));
    let _ = process.kill();
    process.wait().unwrap().code().is_none()
}

/// Random enough: xorshift.
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        let now = std::time::SystemTime::now();
        let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
        Self(since.as_nanos() as u64 | 1)
    }

    fn up_to(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// A page of numbers that children share with us.
fn shared_counters() -> *const AtomicU64 {
    // SAFETY: fresh memory, all zeroes, never freed.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(page, libc::MAP_FAILED);
    page.cast_const().cast()
}

/// A tally of a test's own that the catalogue does not have. Another `step`
/// makes another program, `ty` another table.
fn own_tally(ty: &str, step: u32, extra: &str) -> Source {
    let program = format!(
        r#"#include "ktally.bpf.h"
{CALLS}
TALLY("events of a test");
OPTION(pid_t, pid, 0, "count only this process");
struct key {{ __u32 number AS(nothing_that_is_known); }};
struct seen {{ {ty} events COUNTER("events"); }};
TABLE(events, struct key, struct seen, 64, "events");
{extra}
SEC("tp_btf/sys_enter")
int BPF_PROG(sys_enter, struct pt_regs *regs, long id)
{{
	struct key key = {{ 7 }};
	struct seen *seen;

	if (id != NR_getpriority || !wanted_task())
		return 0;
	seen = tally_entry(events, &key);
	if (seen)
		__sync_fetch_and_add(&seen->events, {step});
	return 0;
}}
"#
    );
    Source::file("own.bpf.c", program)
}

fn events(reading: &Value) -> u64 {
    let rows = reading["tables"][0]["rows"].as_array().unwrap();
    rows.iter().map(|row| row["events"].as_u64().unwrap()).sum()
}

#[test]
fn replace_goes_on_with_the_same_rows_and_other_programs() {
    let host = Host::new();
    let child = Child::new("kt-replace", || (0..23).for_each(event));
    let (one, hundred) = (own_tally("__u64", 1, ""), own_tally("__u64", 100, ""));
    host.good(&format!("attach {} --pid {}", one.arg(), child.pid()));
    child.work();
    let before = host.json("status -o json");
    // An instance that is there is not attached over.
    let again = host.ktally(["attach", &hundred.arg()]);
    again.refused(1, &["`own` is attached already", "--replace"]);
    let line = format!("attach {} --pid {} --replace", hundred.arg(), child.pid());
    assert!(host.good(&line).stderr.contains("replaced `own`"));
    child.work();
    let after = host.json("status -o json");
    assert_eq!(before[0]["since"], after[0]["since"]);
    assert_eq!(before[0]["tables"], after[0]["tables"]);
    let last = host.json("detach own -o json");
    assert_eq!(events(&last), 23 + 2300);
    assert_eq!(last["tables"][0]["rows"][0]["number"], 7);
    assert_whole(&last);
    assert_eq!(host.pins(), [""; 0]);
}

#[test]
fn what_cannot_go_on_is_not_replaced_and_the_difference_is_shown() {
    let host = Host::new();
    let child = Child::new("kt-differs", || (0..23).for_each(event));
    let first = own_tally("__u64", 1, "");
    let pid = child.pid();
    host.good(&format!("attach {} --pid {pid}", first.arg()));
    let pins = host.pins();
    let objects = host.objects("own");
    let more = "SEC(\"tp_btf/sys_exit\") int BPF_PROG(more) { return 0; }";
    let cases = [
        (
            own_tally("__u32", 1, ""),
            "",
            ["- __u64 events", "+ __u32 events"],
        ),
        (
            own_tally("__u64", 1, more),
            "",
            ["+ program `more` (tp_btf/sys_exit)", "detach it"],
        ),
        (
            own_tally("__u64", 1, ""),
            " --max-rows 8",
            ["room for 64 rows", "--max-rows says 8"],
        ),
    ];
    for (other, flags, words) in &cases {
        let line = format!("attach {} --pid {pid} --replace{flags}", other.arg());
        let ended = host.ktally(&line);
        let ended = ended.refused(1, &["failed to replace instance `own`"]);
        ended.told(words);
        // The old one goes on, as it was.
        assert_eq!(host.pins(), pins);
        assert_eq!(host.objects("own"), objects);
    }
    child.work();
    assert_eq!(events(&host.json("detach own -o json")), 23);
}

/// Names and help may be another version's; the types are the same.
#[test]
fn words_are_no_difference() {
    let host = Host::new();
    let first = own_tally("__u64", 1, "");
    host.good(&format!("attach {}", first.arg()));
    let text = fs::read_to_string(first.path()).unwrap();
    let text = text.replace("COUNTER(\"events\")", "COUNTER(\"what happened\")");
    fs::write(first.path(), text).unwrap();
    host.good(&format!("attach {} --replace", first.arg()));
    host.good("detach own");
}

#[test]
fn a_failure_leaves_nothing() {
    let host = Host::new();
    let none = "SEC(\"raw_tp/no_such_event\") int none(void *ctx) { return 0; }";
    let broken = own_tally("__u64", 1, none);
    let ended = host.ktally(["attach", &broken.arg()]);
    ended.refused(1, &["failed to attach program `none`"]);
    assert_eq!(host.pins(), [""; 0]);
    host.ktally("attach no_such_tally")
        .refused(2, &["no_such_tally"]);
    assert_eq!(host.pins(), [""; 0]);
}

/// A map that an object pins by its name is a run's own: nothing stays, and
/// nothing is gone on with.
#[test]
fn maps_that_an_object_pins_are_not_left_behind() {
    let host = Host::new();
    let source = Source::new(
        r#"
TALLY("events, in a map that wants to be pinned");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} kt_pinned SEC(".maps") __ktally_tag("table", "events");

SEC("tp_btf/sys_enter")
int BPF_PROG(sys_enter, struct pt_regs *regs, long id)
{
	__u32 key = 0;
	__u64 *events = bpf_map_lookup_elem(&kt_pinned, &key);

	if (events && is_event(regs, id))
		__sync_fetch_and_add(events, 1);
	return 0;
}
"#,
    );
    let child = Child::new("kt-pinned", || (0..23).for_each(event));
    let (path, pid) = (source.arg(), child.pid());
    let value = |reading: &Value| reading["tables"][0]["rows"][0]["value"].clone();
    let attach = format!("attach {path} --pid {pid} --as pinned");
    for _ in 0..2 {
        host.good(&attach).told(&["map `kt_pinned` is not pinned"]);
        child.work();
        let run = format!("run {path} --pid {pid} --for 0");
        host.good(&run).told(&["map `kt_pinned` is not pinned"]);
        assert_eq!(value(&host.json("detach pinned -o json")), 23);
        assert_eq!(host.pins(), [""; 0]);
    }
}

#[test]
fn instance_names_are_plain() {
    let host = Host::new();
    let long = "x".repeat(300);
    for label in ["../x", "", "a b", "a.b", ".", "+x", "/x", &long] {
        for args in [
            &["attach", "failures", "--as", label][..],
            &["read", label],
            &["detach", label],
        ] {
            host.ktally(args).refused(2, &["is not an instance name"]);
        }
    }
    assert_eq!(host.pins(), [""; 0]);
    let long = "x".repeat(64);
    host.good(&format!("attach failures --as {long}"));
    host.good(&format!("detach {long}"));
}

/// A map of somebody else.
fn pin_foreign_map(path: &std::path::Path) {
    create(MapType::Array, 4, 4, 1).pin(path).unwrap();
}

#[test]
fn what_is_foreign_is_left_alone_and_told() {
    let host = Host::new();
    host.good("attach failures --as mine");
    fs::create_dir(host.bpffs("ktally/theirs")).unwrap();
    let foreign = [
        "ktally/theirs/map",
        "ktally/single",
        "ktally/mine/maps/extra",
    ];
    for pin in foreign {
        pin_foreign_map(&host.bpffs(pin));
    }
    let told = host.good("status").told(&[
        "`/sys/fs/bpf/ktally/theirs`",
        "`/sys/fs/bpf/ktally/single`",
        "`/sys/fs/bpf/ktally/mine/maps/extra`",
    ]);
    assert_eq!(told.stdout.lines().count(), 2, "{told:?}");
    // A label that is somebody else's.
    for verb in [
        &["attach", "failures", "--as", "theirs"][..],
        &["attach", "failures", "--as", "theirs", "--replace"],
    ] {
        host.ktally(verb)
            .refused(1, &["theirs` is not an instance"]);
    }
    for verb in ["read", "detach"] {
        host.ktally([verb, "theirs"])
            .refused(3, &["theirs` is not an instance"]);
    }
    // What would have to be moved along is not.
    let replace = host.ktally("attach failures --as mine --replace");
    replace.refused(1, &["ktally did not pin", "mine/maps/extra"]);
    let left = "left `/sys/fs/bpf/ktally/mine/maps/extra` alone";
    host.good("detach --all").told(&[left]);
    for pin in foreign {
        let map = MapHandle::from_pinned_path(host.bpffs(pin)).unwrap();
        assert_eq!(map.name(), "kt_map");
    }
    let left = " /mine /mine/maps /mine/maps/extra /single /theirs /theirs/map";
    let left: Vec<_> = left.split(' ').map(|it| format!("ktally{it}")).collect();
    assert_eq!(host.pins(), left);
}

/// bpffs may be open to all: then somebody else may have been first.
#[test]
fn a_folder_of_others_is_not_used() {
    let host = Host::new();
    fs::create_dir(host.bpffs("ktally")).unwrap();
    for (owner, mode) in [(65534, 0o700), (0, 0o777)] {
        std::os::unix::fs::chown(host.bpffs("ktally"), Some(owner), None).unwrap();
        fs::set_permissions(host.bpffs("ktally"), fs::Permissions::from_mode(mode)).unwrap();
        host.ktally("attach failures")
            .refused(1, &["belongs to others"]);
        host.ktally("status").refused(1, &["belongs to others"]);
    }
    assert_eq!(host.pins(), ["ktally"]);
}

#[test]
fn what_is_kept_can_be_read_and_counts_no_more() {
    let host = Host::new();
    let child = Child::new("kt-keep", || ask_for_parent(23));
    host.good(&format!("attach syscalls --pid {}", child.pid()));
    let objects = host.objects("syscalls");
    child.work();
    let last = host.json("detach syscalls --keep -o json");
    assert_eq!(sum(&last, GETPPID, "calls"), 23);
    child.work();
    let kept = host.json("read syscalls -o json");
    assert_eq!(kept["tables"], last["tables"]);
    assert_eq!(kept["seconds"], last["seconds"]);
    assert_whole(&kept);
    wait_until("the programs are gone", || links_of(&objects.programs) == 0);
    let pins = host.pins();
    assert!(
        pins.iter()
            .all(|pin| !pin.contains("links/") && !pin.contains("programs/")),
        "{pins:?}"
    );
    assert_eq!(host.json("status -o json")[0]["state"], "stopped");
    let replace = host.ktally("attach syscalls --replace");
    replace.refused(1, &["has stopped"]);
    let readings = host.good("read syscalls --every 10ms -o jsonl");
    assert_eq!(readings.json_lines().len(), 1);
    let last = host.json("detach syscalls -o json");
    assert_eq!(sum(&last, GETPPID, "calls"), 23);
    assert_eq!(host.pins(), [""; 0]);
    objects.wait_until_gone();
}

/// Of each event, what came before it and what comes next, to this CPU.
const CHAIN: &str = r#"
TALLY("events, of which each says where it comes from and where it goes");
CPU_FILTER;
struct row {
	__u64 events COUNTER("events");
};
ARRAY_TABLE(chain, struct row, 1, "events");
CPU_STATE(last, __u32);

SEC("tp_btf/sys_enter")
int BPF_PROG(sys_enter, struct pt_regs *regs, long id)
{
	__u32 zero = 0;
	struct row *row;

	if (!is_event(regs, id))
		return 0;
	tally_switched(tally_cpu_state(last), (void *)(number(regs) / 10),
		       (void *)(number(regs) % 10));
	row = tally_entry(chain, &zero);
	if (row)
		__sync_fetch_and_add(&row->events, 1);
	return 0;
}
"#;

/// Events that the kernel did not report are in no counter of it: a chain that
/// breaks tells of them, in every output.
#[test]
fn gaps_in_the_events_are_told() {
    let host = Host::new();
    let source = Source::new(CHAIN);
    // Two of five do not go on where the last one went.
    let child = Child::new("kt-gaps", || {
        pin(0);
        [11, 12, 93, 31, 91].into_iter().for_each(event);
    });
    let (path, pid) = (source.arg(), child.pid());
    let attach = format!("attach {path} --pid {pid} --as kt");
    host.good(&attach);
    host.good(&format!("{attach}-other --cpu 1"));
    child.work();

    let reading = host.json("read kt -o json");
    assert_eq!(reading["tables"][0]["rows"][0]["events"], 5);
    assert_eq!(
        (&reading["gaps"], &reading["missed"]),
        (&2.into(), &missed(0).into())
    );
    for line in ["read kt", "read kt -o csv"] {
        let ended = host.good(line).told(&["which have 2 gaps"]);
        assert_has(&ended.stdout, &[" missed, 2 gaps\n"]);
    }
    host.ktally("read kt --strict").failed(4, &[]);
    // Those of another CPU are not asked for.
    let other = host.good("read kt-other --strict");
    assert!(!other.stdout.contains("gap"), "{other:?}");
    assert_eq!(host.json("read kt-other -o json")["gaps"], 0);

    let status = host.json("status -o json");
    assert_eq!(
        (&status[0]["gaps"], &status[1]["gaps"]),
        (&2.into(), &0.into())
    );
    let status = host.good("status").stdout;
    assert!(status.contains(" MISSED  GAPS "), "{status}");
    // A reading of an interval has those of the interval.
    let mut reader = host.start("read kt --every 100ms -o jsonl");
    let mut next = || reader.next();
    assert_eq!(next()["gaps"], 0);
    child.work();
    let gaps: u64 = (0..10).map(|_| next()["gaps"].as_u64().unwrap()).sum();
    assert_eq!(gaps, 2);
    host.good("detach kt-other");
    assert_eq!(host.json("detach kt -o json")["gaps"], 4);
    drop(reader);

    // A tally that does not look for them does not know.
    host.good("attach failures");
    assert_eq!(host.json("read failures -o json").get("gaps"), None);
    let status = host.json("status -o json");
    assert_eq!(status[0].get("gaps"), None);
    assert!(!host.good("status").stdout.contains("GAPS"));
    host.good("detach failures");
}

/// The group, and nobody else, without privileges.
#[test]
fn members_of_a_group_read_without_privileges() {
    const GROUP: u32 = 54321;
    let host = Host::new();
    let child = Child::new("kt-group", || ask_for_parent(23));
    host.good(&format!(
        "attach syscalls --pid {} --readable-by {GROUP}",
        child.pid()
    ));
    host.good("attach failures");
    child.work();
    let reads =
        |label: &str, groups| host.without_privileges(groups, ["read", label, "-o", "json"]);
    let reading = reads("syscalls", &[GROUP]).json();
    assert_eq!(sum(&reading, GETPPID, "calls"), 23);
    assert_eq!(reading["tables"][0]["dropped"], 0);
    // Only who may have a program's descriptor knows what it missed.
    assert_eq!(reading["missed"], Value::Null);
    // Again after a replacement, which keeps to the group.
    host.good(&format!("attach syscalls --pid {} --replace", child.pid()));
    child.work();
    let reading = reads("syscalls", &[GROUP]).json();
    assert_eq!(sum(&reading, GETPPID, "calls"), 46);
    for (label, groups) in [
        ("syscalls", &[][..]),
        ("syscalls", &[4, 5]),
        ("failures", &[GROUP]),
    ] {
        reads(label, groups).refused(1, &["mode does not let you"]);
    }
    // Who has a descriptor of a program can run it, of a link can cut it.
    for pin in host.pins().iter().filter(|pin| pin.starts_with("ktally/")) {
        let metadata = fs::metadata(host.bpffs(pin)).unwrap();
        let below = pin.strip_prefix("ktally/syscalls").unwrap_or("/closed");
        let is_open = metadata.gid() == GROUP && metadata.mode() & 0o070 != 0;
        let should = matches!(below, "" | "/meta" | "/btf") || below.starts_with("/maps");
        assert_eq!(is_open, should, "{pin}: {:o}", metadata.mode());
        assert_eq!(metadata.mode() & 0o027, 0, "{pin}: {:o}", metadata.mode());
    }
    host.good("detach --all");
    // By its name as well; one that there is not is refused.
    host.good("attach failures --readable-by root");
    host.good("detach failures");
    let none = host.ktally("attach failures --readable-by no-such-group");
    none.refused(2, &["no group `no-such-group`"]);
}

/// Perf events are held by their links alone, one a CPU.
#[test]
fn a_clock_goes_on_without_its_process() {
    let host = Host::new();
    let spinner = Child::new("kt-clock", || {
        // Of its own time, however busy the machine is.
        let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
        let spent = || {
            clock
                .now()
                .map_or(0, |now| now.tv_sec() * 1000 + now.tv_nsec() / 1_000_000)
        };
        let start = spent();
        while spent() < start + 300 {}
    });
    host.good(&format!("attach profile --pid {} --hz 200", spinner.pid()));
    spinner.work();
    let status = host.json("status -o json");
    assert_eq!(status[0]["options"]["hz"], 200);
    let last = host.json("detach profile -o json");
    let rows = last["tables"][0]["rows"].as_array().unwrap();
    let samples: u64 = rows
        .iter()
        .map(|row| row["samples"].as_u64().unwrap())
        .sum();
    // 60, but for ticks that a virtual machine's host delays.
    assert!((20..=90).contains(&samples), "{samples}");
    assert_eq!(host.pins(), [""; 0]);
}

/// Of two that want one label, one gets it, and the other learns why not.
#[test]
fn two_cannot_make_the_same_instance() {
    let host = Host::new();
    let mut runs = [(); 4].map(|()| host.start("attach failures"));
    let ended = runs.each_mut().map(Run::end);
    let good = ended.iter().filter(|ended| ended.code == 0).count();
    assert_eq!(good, 1, "{ended:?}");
    for ended in ended.into_iter().filter(|ended| ended.code != 0) {
        ended.refused(1, &["is attached already"]);
    }
    assert_eq!(host.json("status -o json").as_array().unwrap().len(), 1);
    host.good("detach failures");
}

#[test]
fn readings_of_an_instance_are_differences() {
    let host = Host::new();
    let child = Child::new("kt-every", || ask_for_parent(23));
    host.good(&format!("attach syscalls --pid {}", child.pid()));
    child.work();
    let read = "read syscalls --every 300ms --for 3s -o jsonl --where call=getppid";
    let mut reader = host.start(read);
    // What was counted before is not in it.
    let first = reader.next();
    assert_eq!(sum(&first, GETPPID, "calls"), 0);
    child.work();
    let readings = reader.end().json_lines();
    assert_eq!(total(&readings, GETPPID), 23);
    // On a busy machine intervals are longer and shorter, but leave no gap.
    let all = readings.iter().chain([&first]);
    let seconds: f64 = all.map(|it| it["seconds"].as_f64().unwrap()).sum();
    assert!((2.99..60.0).contains(&seconds), "{seconds}");
    for (line, words) in rows(
        "
read syscalls --max-rows 3 => --max-rows
read syscalls --by nope => nope
read syscalls --every 1s -o json => jsonl
attach @syscalls => attached already",
    ) {
        host.ktally(line).refused(2, &words);
    }
    host.good("detach syscalls");
}

/// An instance as another release leaves it: its C file is gone, this binary
/// knows neither its tally nor one of its decoders, and its words about itself
/// have fewer fields, and others.
#[test]
fn an_instance_of_another_release_is_read_and_detached() {
    let host = Host::new();
    let child = Child::new("kt-release", || (0..23).for_each(event));
    let theirs = own_tally("__u64", 1, "");
    host.good(&format!("attach {} --pid {}", theirs.arg(), child.pid()));
    drop(theirs);
    let meta = host.bpffs("ktally/own/meta");
    let said = MapHandle::from_pinned_path(&meta).unwrap();
    let said = get(&said, &[0; 4]).unwrap();
    let mut said: Value = serde_json::from_slice(&said).unwrap();
    said["version"] = "0.0.9".into();
    said["mood"] = "good".into();
    said["programs"][0]
        .as_object_mut()
        .unwrap()
        .remove("target");
    rewrite(&meta, &said);
    child.work();
    let status = host.json("status -o json");
    assert_eq!(status[0]["version"], "0.0.9");
    let reading = host.json("read own -o json");
    assert_eq!(events(&reading), 23);
    assert_eq!(reading["tables"][0]["rows"][0]["number"], 7);

    // A later one is not guessed at.
    said["ktally"] = 2.into();
    said["version"] = "99.0.0".into();
    rewrite(&meta, &said);
    for verb in ["read", "detach"] {
        host.ktally([verb, "own"])
            .refused(1, &["ktally 99.0.0 attached it"]);
    }
    host.ktally("status").failed(4, &["99.0.0"]);

    said["ktally"] = 1.into();
    rewrite(&meta, &said);
    assert_eq!(events(&host.json("detach own -o json")), 23);
    assert_eq!(host.pins(), [""; 0]);
}

/// Pins other words in the place of those.
pub fn rewrite(meta: &std::path::Path, said: &Value) {
    let said = said.to_string();
    let mut map = create(MapType::Array, 4, said.len() as u32, 1);
    set(&map, &[0; 4], said.as_bytes());
    fs::remove_file(meta).unwrap();
    map.pin(meta).unwrap();
}

/// A per-CPU value is longer than its map's value size says: what reads it by
/// that size alone writes past the end of its buffer.
#[test]
fn pins_of_other_types_and_sizes_are_refused() {
    let mut other = create(MapType::PercpuArray, 4, 16384, 1);
    for pin in ["meta", "state", "btf", "maps/@rodata", "maps/@bss@ktally"] {
        let host = Host::new();
        host.good("attach failures");
        let pin = host.bpffs(&format!("ktally/failures/{pin}"));
        fs::remove_file(&pin).unwrap();
        other.pin(&pin).unwrap();
        for line in ["status", "read failures"] {
            let ended = host.ktally(line);
            // Reading wants no state.
            let is_read = ended.code == 0 && pin.ends_with("state");
            assert!(is_read || matches!(ended.code, 1 | 4), "{pin:?}: {ended:?}");
            ended.told(&["is not an array"]);
        }
        for line in ["attach failures --replace", "detach failures"] {
            let ended = host.ktally(line);
            assert!(ended.code >= 0, "{pin:?}: {ended:?}");
        }
        let _ = fs::remove_file(&pin);
    }
}

#[test]
fn the_unit_for_systemd_is_a_good_one() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/dist/ktally@.service");
    let text = fs::read_to_string(unit).unwrap();
    // No table goes to the journal.
    for line in ["Type=oneshot", "RemainAfterExit=yes", "StandardOutput=null"] {
        assert!(text.lines().any(|it| it == line), "{line}");
    }
    // Its documentation is ktally's.
    assert!(!text.contains("docs.kernel.org"));
    let analyze = || command("systemd-analyze");
    if analyze().arg("--version").output().is_err() {
        eprintln!("skipped: there is no systemd-analyze");
        return;
    }
    // It looks for the program that it starts.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ktally@.service");
    fs::write(&path, text.replace("/usr/local/bin/ktally", PROGRAM)).unwrap();
    let verified = end(analyze().arg("verify").arg(&path)).good();
    let is_about_it = verified.stderr.contains("ktally@.service:");
    assert!(!is_about_it, "{verified:?}");
    // Of 100: well under 40.
    let security = ["security", "--offline=true", "--threshold=25"];
    end(analyze().args(security).arg(&path)).good();
}

/// Those that the unit leaves to it. Each program has an entry then, too.
#[test]
fn two_capabilities_are_enough() {
    const CAP_PERFMON: u64 = 38;
    const CAP_BPF: u64 = 39;
    let host = Host::new();
    let ktally = |line: &str| {
        let mut command = host.program();
        command.args(line.split_whitespace());
        // SAFETY: system calls alone; after the namespace is entered.
        unsafe {
            command.pre_exec(|| {
                for capability in (0..64).filter(|it| ![CAP_PERFMON, CAP_BPF].contains(it)) {
                    libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
                }
                Ok(())
            });
        }
        end(&mut command)
    };
    // At level 3 Debian's kernels want CAP_SYS_ADMIN for perf events.
    let level = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap();
    let is_paranoid = level.trim().parse::<i32>().unwrap() > 2;
    for tally in ["syscalls", "runqlat", "profile", "netdev"] {
        let attached = ktally(&format!("attach {tally}"));
        if is_paranoid && attached.stderr.contains("CAP_SYS_ADMIN") {
            attached.failed(1, &["`sysctl kernel.perf_event_paranoid=2`"]);
            continue;
        }
        attached.good();
        ktally(&format!("attach {tally} --replace")).good();
        ktally(&format!("read {tally}")).good();
        ktally(&format!("detach {tally}")).good();
    }
    assert_eq!(host.pins(), [""; 0]);
}

#[test]
fn nothing_is_called_as_entries_are_when_all_is_detached() {
    let host = Host::new();
    let name = "sys_enter_of_own";
    let own = own_tally("__u64", 1, "");
    let text = fs::read_to_string(own.path()).unwrap();
    let own_name = name.chars().take(15).collect::<String>();
    let named = format!("BPF_PROG({own_name},");
    fs::write(own.path(), text.replace("BPF_PROG(sys_enter,", &named)).unwrap();
    host.good(["attach", &own.arg()]);
    // The program and its entry.
    assert_eq!(programs_called(&own_name).len(), 2);
    host.good("detach own");
    wait_until("both are gone", || programs_called(&own_name).is_empty());
}
