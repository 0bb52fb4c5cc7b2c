//! `ktally rotate`: each event is in exactly one reading, whatever ends a rotation.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::common::{Args, end, full, items, json};
use crate::fate::{self, Fate};
use crate::instances::Host;
use crate::interface::RUNS_INTO_ITSELF;
use crate::run::{GETPPID, rows_of, sum};
use crate::support::{
    Child, Source, amount, ask_for_parent, cases, event, kernel_series, needs, on_two_cpus,
};

const EVENT: (&str, &str) = ("call", "getpriority");

/// More than a program has system calls.
const MANY: usize = 400;

/// Tables of each type that an event adds its number to, of which `hash` is soon
/// full.
const TABLES: &str = r#"
TALLY("tables that are rotated");
OPTION(tally_comm AS(comm), comm, "", "count only this name");
struct seen {
	__u64 calls COUNTER("");
	__u64 sum COUNTER("");
	struct tally_histogram sizes HISTOGRAM("");
};
TABLE(hash, __u64, struct seen, 10, "");
PERCPU_TABLE(per_cpu, __u64, struct seen, 1000, "");
ARRAY_TABLE(array, struct seen, 64, "");
static __always_inline void add(struct seen *seen, __u64 n)
{
	__sync_fetch_and_add(&seen->calls, 1);
	__sync_fetch_and_add(&seen->sum, n);
	tally_observe(&seen->sizes, n);
}
EVENT(enter, number)
{
	__u32 index = number & 63;
	__u64 key = number & 511;

	add(tally_entry(hash, &number), number);
	add(tally_entry(per_cpu, &key), number);
	add(tally_entry(array, &index), number);
}
"#;

/// The sum of a number of all rows of a table, `other` included.
fn total(reading: &Value, table: usize, of: impl Fn(&Value) -> &Value) -> u64 {
    let table = &reading["tables"][table];
    let rows = table["rows"].as_array().unwrap().iter();
    let number = |row| of(row).as_u64().unwrap_or(0);
    rows.map(number).sum::<u64>() + number(&table["other"])
}

fn calls(reading: &Value) -> u64 {
    sum(reading, GETPPID, "calls")
}

/// Two CPUs add to three tables while they are rotated as often as possible.
#[test]
fn each_event_is_in_one_reading() {
    let source = Source::new(TABLES);
    let host = Host::new();
    // In emulated machines too: a rotation takes much longer there.
    let events = 400_000;
    let write = || on_two_cpus(events, |cpu, n| event(2 * n + cpu));
    let children = [(); 2].map(|()| Child::new("kt-turns", write));
    let path = source.arg();
    host.good([
        "attach",
        &path,
        "--as",
        "x",
        "--rotatable",
        "--comm",
        "kt-turns",
    ]);
    children.iter().for_each(Child::start);
    let mut readings = Vec::new();
    for _ in 0..amount(60).max(5) {
        readings.push(host.json("rotate x -o json"));
        // What others read meanwhile is no part of it.
        host.good("read x");
    }
    let under_load = readings
        .iter()
        .filter(|it| total(it, 1, |row| &row["calls"]) > 0);
    assert!(under_load.count() > 1, "{readings:?}");
    children.iter().for_each(Child::wait);
    readings.push(host.json("rotate x -o json"));
    readings.push(host.json("detach x -o json"));
    // Two children with two CPUs each. A kernel that preempts programs of system
    // calls skips others meanwhile, of any task, and says how many.
    let issued = 4 * events;
    let missed: u64 = readings.iter().filter_map(|it| it["missed"].as_u64()).sum();
    assert!(missed == 0 || kernel_series() >= (6, 13), "{missed} missed");
    let numbers: u64 = (0..2 * events).sum::<u64>() * 2;
    for table in 0..3 {
        let all = |of: fn(&Value) -> &Value| -> u64 {
            readings.iter().map(|it| total(it, table, of)).sum()
        };
        let calls = all(|row| &row["calls"]);
        assert!(
            (issued.saturating_sub(missed)..=issued).contains(&calls),
            "{calls} calls"
        );
        assert_eq!(all(|row| &row["sizes"]["count"]), calls, "table {table}");
        assert_eq!(all(|row| &row["sizes"]["sum"]), all(|row| &row["sum"]));
        if missed == 0 {
            assert_eq!(all(|row| &row["sum"]), numbers, "table {table}");
        }
    }
    // The last rotation left nothing behind, so its successor has nothing.
    assert_eq!(total(readings.last().unwrap(), 0, |row| &row["calls"]), 0);
    assert_eq!(host.pins(), [""; 0]);
}

/// Two programs that share state of tasks and of a hash.
const STATE: &str = r#"
TALLY("calls with two ends");
struct seen {
	__u64 begun COUNTER("");
	__u64 time COUNTER("") UNIT(ns);
	struct tally_histogram latency HISTOGRAM("") UNIT(ns);
};
TABLE(ends, __u64, struct seen, 64, "");
struct start { __u64 since; __u64 key; };
HASH_STATE(starts, __u64, struct start, 64) UNDER_WAY(ends, time);
EVENT(enter, number)
{
	__u64 task = bpf_get_current_pid_tgid(), key = number & 7;
	struct start none = {}, *start;

	__sync_fetch_and_add(&tally_entry(ends, &key)->begun, 1);
	bpf_map_update_elem(&starts, &task, &none, BPF_ANY);
	start = bpf_map_lookup_elem(&starts, &task);
	if (start)
		tally_begin(start, &key);
}
SEC("tp_btf/sys_exit")
int BPF_PROG(leave, struct pt_regs *regs, long ret)
{
	__u64 task = bpf_get_current_pid_tgid(), time;
	struct start *start = bpf_map_lookup_elem(&starts, &task);
	struct seen *seen;

	if (!tally_elapsed(start, &time))
		return 0;
	seen = tally_entry(ends, &start->key);
	__sync_fetch_and_add(&seen->time, time);
	tally_observe(&seen->latency, time);
	tally_end(start);
	return 0;
}
"#;

/// The sum over all rows of all readings.
pub fn all(readings: &[Value], of: impl Fn(&Value) -> &Value) -> u64 {
    readings.iter().map(|it| total(it, 0, &of)).sum()
}

/// Rotates an instance until its child has worked; then detaches it. The readings.
pub fn rotate_while(host: &Host, instance: &str, child: &Child) -> Vec<Value> {
    let rotate = format!("rotate {instance} -o json");
    child.start();
    let mut readings: Vec<Value> = (0..amount(15).max(3)).map(|_| host.json(&rotate)).collect();
    child.wait();
    readings.push(host.json(&rotate));
    readings.push(host.json(&format!("detach {instance} -o json")));
    readings
}

/// A start in one set, and its end in the other: no time is lost.
#[test]
fn what_begins_in_one_set_ends_in_the_other() {
    needs((5, 13), "task storage");
    let source = Source::new(STATE);
    let host = Host::new();
    let events = amount(400_000);
    let child = Child::new("kt-ends", || on_two_cpus(events, |_, n| event(n)));
    let of_pid = ["--rotatable", "--pid", &child.pid()];
    host.good([&["attach", &source.arg(), "--as", "x"], &of_pid[..]].concat());
    let readings = rotate_while(&host, "x", &child);
    assert_eq!(all(&readings, |row| &row["begun"]), 2 * events);
    assert_eq!(all(&readings, |row| &row["latency"]["count"]), 2 * events);

    host.good([&["attach", "syscalls"], &of_pid[..]].concat());
    let readings = rotate_while(&host, "syscalls", &child);
    let number = |column: &str| {
        readings
            .iter()
            .map(|it| sum(it, EVENT, column))
            .sum::<u64>()
    };
    assert_eq!(number("calls"), 2 * events);
    let of_events = |it| rows_of(it).iter().filter(|row| row[EVENT.0] == EVENT.1);
    let observed = |column: &str| -> u64 {
        let rows = readings.iter().flat_map(of_events);
        rows.map(|row| row["latency"][column].as_u64().unwrap())
            .sum()
    };
    assert_eq!(observed("count"), 2 * events);
    assert_eq!(observed("sum"), number("time"));
}

/// The dispatchers miss runs, whichever set counts.
#[test]
fn missed_runs_are_in_one_reading() {
    needs((5, 12), "a program that runs into itself");
    let source = Source::new(RUNS_INTO_ITSELF);
    let host = Host::new();
    let child = Child::new("kt-missed", || (0..23).for_each(event));
    let path = source.arg();
    let attach = [
        "attach",
        &path,
        "--as",
        "x",
        "--rotatable",
        "--pid",
        &child.pid(),
    ];
    host.good(attach);
    child.work();
    let first = host.json("rotate x -o json");
    let once = total(&first, 0, |row| &row["count"]);
    assert!(once >= 23);
    for line in ["rotate", "read", "rotate", "detach"].map(|verb| format!("{verb} x -o json")) {
        child.work();
        let reading = host.json(&line);
        assert_eq!(total(&reading, 0, |row| &row["count"]), once, "{line}");
        for key in ["missed", "missed_by"] {
            assert_eq!(reading[key], first[key], "{line}");
        }
        if line.starts_with("read") {
            host.good("rotate x");
        }
    }
    // How often it runs into itself differs between kernels.
    assert!(first["missed"].as_u64() >= Some(once), "{first}");
}

/// As kernels with `nohz_full` CPUs do.
fn refuse_membarrier(command: &mut Command) {
    let refuse = || {
        let step = |code: u32, k: u32, jf: u8| libc::sock_filter {
            code: code as u16,
            jt: 0,
            jf,
            k,
        };
        let errno = libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32;
        let mut filter = [
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
            step(
                libc::BPF_JMP | libc::BPF_JEQ,
                libc::SYS_membarrier as u32,
                1,
            ),
            step(libc::BPF_RET, errno, 0),
            step(libc::BPF_RET, libc::SECCOMP_RET_ALLOW, 0),
        ];
        let program = libc::sock_fprog {
            len: filter.len() as u16,
            filter: filter.as_mut_ptr(),
        };
        // SAFETY: the kernel copies the filter.
        match unsafe { libc::prctl(libc::PR_SET_SECCOMP, 2, &raw const program, 0, 0) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: a system call alone.
    unsafe { command.pre_exec(refuse) };
}

#[test]
fn the_wait_for_programs_needs_no_membarrier() {
    let source = Source::new(TABLES);
    let host = Host::new();
    let events = amount(200_000);
    let child = Child::new("kt-nohz", || {
        on_two_cpus(events, |cpu, n| event(2 * n + cpu));
    });
    host.good([
        "attach",
        &source.arg(),
        "--as",
        "x",
        "--rotatable",
        "--pid",
        &child.pid(),
    ]);
    child.start();
    let without = |line: &str| {
        let mut ktally = line.pass_to(host.program());
        refuse_membarrier(&mut ktally);
        end(&mut ktally).json()
    };
    let lines = std::iter::repeat_n("rotate x -o json", amount(20).max(3) as usize);
    let mut readings: Vec<Value> = lines.map(without).collect();
    child.wait();
    readings.push(without("detach x -o json"));
    assert_eq!(all(&readings, |row| &row["calls"]), 2 * events);
}

/// At every call that changes something.
#[test]
fn nothing_is_lost_or_twice_whatever_ends_a_rotation() {
    needs((5, 13), "task storage");
    let host = Host::new();
    let child = Child::new("kt-cut", || ask_for_parent(23));
    let (mut cut, mut printed) = (0, 0);
    for fate in [Fate::Kill, Fate::Fail(libc::ENOMEM)] {
        host.good(&format!(
            "attach syscalls --rotatable --pid {}",
            child.pid()
        ));
        for nth in cases(0..MANY, 8) {
            child.work();
            let mut rotate = host.program();
            rotate.args(["rotate", "syscalls", "-o", "json"]);
            let (ended, is_fate_met) = fate::run(&mut rotate, nth, fate);
            let what = format!("{fate:?} at {nth}: {ended:?}");
            // It counts on, and every reading has what was not printed.
            child.work();
            let status = host.good("status -o json");
            assert!(!status.stderr.contains("in order"), "{what}: {status:?}");
            let unprinted = host.json("read syscalls -o json");
            let is_printed = calls(&unprinted) == 23;
            if is_printed {
                let reading: Value = serde_json::from_str(&ended.stdout).expect(&what);
                assert_eq!(calls(&reading), 23, "{what}");
                printed += 1;
            } else {
                assert_eq!(calls(&unprinted), 46, "{what}: {unprinted}");
                assert_ne!(ended.code, 0, "{what}");
                cut += 1;
            }
            // The rest is in the readings from here on.
            let next = calls(&host.json("rotate syscalls -o json"));
            let last = calls(&host.json("rotate syscalls -o json"));
            let left = if is_printed { 23 } else { 46 };
            assert_eq!(next + last, left, "{what}: {next} and {last}");
            assert_eq!(host.calls("read syscalls -o json", GETPPID), 0, "{what}");
            if !is_fate_met {
                assert_eq!(ended.code, 0, "{what}");
                break;
            }
        }
        host.good("detach syscalls");
        assert_eq!(host.pins(), [""; 0]);
    }
    eprintln!("{cut} cut, {printed} printed");
    assert!(cut >= 4 && printed >= 4, "{cut} cut, {printed} printed");
}

/// Whatever reads rows adds up their copies.
#[test]
fn rows_may_have_a_copy_for_each_cpu() {
    needs((5, 13), "task storage");
    let host = Host::new();
    let child = Child::new("kt-copies", || {
        on_two_cpus(23, |_, _| ask_for_parent(1));
    });
    let line = format!("syscalls --per-cpu-rows --rotatable --pid {}", child.pid());
    host.good(&format!("attach {line}"));
    let maps = host.json("map list -o json");
    let tables = items(&maps).iter();
    let tables = tables.filter(|it| it["name"] == "syscalls" && it["type"] == "percpu_hash");
    assert_eq!(tables.count(), 2);
    child.work();
    assert_eq!(host.calls("read syscalls -o json", GETPPID), 46);
    host.good(&format!("attach {line} --replace"));
    // Rows that stay are of the type that they had.
    let plain = line.replace(" --per-cpu-rows", "");
    let refused = host.ktally(&format!("attach {plain} --replace"));
    refused.failed(1, &["is a PercpuHash", "would be a Hash"]);
    child.work();
    assert_eq!(host.calls("rotate syscalls -o json", GETPPID), 92);
    child.work();
    assert_eq!(host.calls("detach syscalls -o json", GETPPID), 46);
    assert_eq!(host.pins(), [""; 0]);
}

/// The same, where each reading has a file: of them all, and not of a part of one.
#[test]
fn nothing_is_lost_or_twice_in_the_files_that_are_kept() {
    needs((5, 13), "task storage");
    let host = Host::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("syscalls.json");
    let keep = format!(
        "rotate syscalls -o json --keep 9 --output-file {}",
        file.display()
    );
    let child = Child::new("kt-kept", || ask_for_parent(23));
    host.good(&format!(
        "attach syscalls --rotatable --pid {}",
        child.pid()
    ));
    // In the order of their ages, the newest one first.
    let readings = || {
        let names = fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<_> = names.map(|it| it.unwrap().path()).collect();
        names.sort();
        let read = |path| fs::read_to_string(path).unwrap();
        let readings: Vec<Value> = names.iter().map(|path| json(&read(path))).collect();
        (names, readings)
    };
    let mut cuts = BTreeMap::new();
    for nth in cases(0..MANY, 8) {
        child.work();
        host.good(&keep);
        child.work();
        let mut rotate = keep.as_str().pass_to(host.program());
        let (ended, is_fate_met) = fate::run(&mut rotate, nth, Fate::Kill);
        child.work();
        let (names, before) = readings();
        let what = format!("{nth}: {ended:?}, {names:?}");
        *cuts.entry((names.len(), file.exists())).or_insert(0) += 1;
        host.good(&keep);
        host.good(&keep);
        let (names, all) = readings();
        assert_eq!(all.iter().map(calls).sum::<u64>(), 69, "{what}: {all:?}");
        assert!(all.ends_with(&before), "{what}: {names:?}");
        assert!(all.is_sorted_by(|a, b| a["time"].as_str() > b["time"].as_str()));
        assert_eq!(host.calls("read syscalls -o json", GETPPID), 0, "{what}");
        names.iter().for_each(|name| fs::remove_file(name).unwrap());
        if !is_fate_met {
            assert_eq!(ended.code, 0, "{what}");
            break;
        }
    }
    // Before, between and after the two steps in the folder.
    eprintln!("{cuts:?}");
    assert!(cuts.contains_key(&(1, true)) && cuts.contains_key(&(2, true)));
    host.good("detach syscalls");
}

#[test]
fn what_is_not_printed_is_kept() {
    needs((5, 13), "task storage");
    let host = Host::new();
    let child = Child::new("kt-unread", || ask_for_parent(23));
    host.good(&format!(
        "attach syscalls --rotatable --pid {}",
        child.pid()
    ));
    child.work();
    let mut rotate = host.program();
    rotate.args(["rotate", "syscalls"]).stdout(full());
    end(&mut rotate).failed(1, &["not written", "stays", "No space"]);
    child.work();
    assert_eq!(host.calls("read syscalls -o json", GETPPID), 46);
    let rotated = host.good("rotate syscalls -o json");
    assert!(rotated.stderr.contains("cut short"), "{rotated:?}");
    assert_eq!(calls(&json(&rotated.stdout)), 23);
    child.work();
    // The last reading has all that no rotation printed.
    let mut rotate = host.program();
    rotate.args(["rotate", "syscalls"]).stdout(full());
    end(&mut rotate).failed(1, &["not written"]);
    child.work();
    assert_eq!(host.calls("detach syscalls -o json", GETPPID), 69);
    assert_eq!(host.pins(), [""; 0]);
}

/// A replacement has both sets, and gives a second one to what had none.
#[test]
fn what_is_replaced_can_be_rotated() {
    needs((5, 13), "task storage");
    let host = Host::new();
    let child = Child::new("kt-new", || ask_for_parent(23));
    let attach = format!("attach syscalls --pid {}", child.pid());
    host.good(&attach);
    child.work();
    host.ktally("rotate syscalls")
        .failed(1, &["--replace --rotatable"]);
    host.good(&format!("{attach} --replace --rotatable"));
    child.work();
    assert_eq!(host.calls("rotate syscalls -o json", GETPPID), 46);
    // In either set.
    for _ in 0..2 {
        child.work();
        host.good(&format!("{attach} --replace"));
        child.work();
        assert_eq!(host.calls("read syscalls -o json", GETPPID), 46);
        assert_eq!(host.calls("rotate syscalls -o json", GETPPID), 46);
        assert_eq!(host.calls("read syscalls -o json", GETPPID), 0);
    }
    let reading = host.json("read syscalls -o json");
    assert!(reading["seconds"].as_f64().unwrap() < 10.0, "{reading}");
    host.good("detach syscalls --keep");
    host.ktally("rotate syscalls").failed(1, &["has stopped"]);
    host.good("detach syscalls");
    assert_eq!(host.pins(), [""; 0]);
}

/// At every call that changes something, whichever set counts.
#[test]
fn nothing_is_lost_whatever_ends_a_replacement() {
    needs((5, 13), "task storage");
    let host = Host::new();
    let child = Child::new("kt-cut", || ask_for_parent(23));
    let attach = format!("attach syscalls --rotatable --pid {}", child.pid());
    host.good(&attach);
    for nth in cases(0..MANY, 8) {
        child.work();
        let mut replace = format!("{attach} --replace").pass_to(host.program());
        let (ended, is_fate_met) = fate::run(&mut replace, nth, Fate::Kill);
        child.work();
        let what = format!("{nth}: {ended:?}");
        assert_eq!(host.calls("rotate syscalls -o json", GETPPID), 46, "{what}");
        child.work();
        assert_eq!(host.calls("read syscalls -o json", GETPPID), 23, "{what}");
        if nth % 2 == 0 {
            assert_eq!(host.calls("rotate syscalls -o json", GETPPID), 23, "{what}");
        } else {
            child.work();
            assert_eq!(host.calls("rotate syscalls -o json", GETPPID), 46, "{what}");
        }
        if !is_fate_met {
            assert_eq!(ended.code, 0, "{what}");
            break;
        }
    }
    host.good("detach syscalls");
    assert_eq!(host.pins(), [""; 0]);
}

/// Readers follow, and an instance that sleeps for long is rotated like any other.
#[test]
fn readers_see_the_set_that_counts() {
    needs((5, 13), "task storage");
    const GROUP: u32 = 54_321;
    let host = Host::new();
    let child = Child::new("kt-seen", || ask_for_parent(23));
    host.good(&format!(
        "attach syscalls --rotatable --readable-by {GROUP} --pid {}",
        child.pid()
    ));
    let read = || {
        host.without_privileges(&[GROUP], "read syscalls -o json")
            .json()
    };
    for _ in 0..3 {
        child.work();
        assert_eq!(calls(&read()), 23);
        assert_eq!(host.calls("rotate syscalls -o json", GETPPID), 23);
        assert_eq!(calls(&read()), 0);
        std::thread::sleep(Duration::from_millis(10));
    }
    host.good("detach syscalls");
    assert_eq!(host.pins(), [""; 0]);
}
