//! What is counted is what happened, to the last event.

use std::collections::HashMap;
use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use ktally::schema::MetricKind;
use ktally::tally::{Support, Tally, resolve};

use crate::support::{
    Child, Counted, Source, ask_for_parent, event, fail_to_open, kernel_series, missed, nap, needs,
    on_two_cpus, run, run_with,
};

// ---- the built-in tallies ---------------------------------------------------

#[test]
fn failures_are_counted_by_name_and_error() {
    let child = Child::new("kt-failures", || fail_to_open(23));
    let counted = run("failures", &[("pid", &child.pid())], || child.work());
    counted.assert_whole();
    assert_eq!(counted.rows().len(), 1);
    assert_eq!(counted.row(&["kt-failures", "ENOENT"]).number("calls"), 23);
}

fn some_calls() {
    ask_for_parent(23);
    fail_to_open(23);
}

/// A signal's handler goes back by a call that "returns" whatever the code that
/// was interrupted had last: here, an error.
#[test]
fn going_back_from_a_signal_is_no_failure() {
    extern "C" fn ignore(_: libc::c_int) {}
    let child = Child::new("kt-sigreturn", || {
        let handler: extern "C" fn(libc::c_int) = ignore;
        // SAFETY: a handler that does nothing; sets of signals that live.
        unsafe {
            libc::signal(libc::SIGUSR1, handler as libc::sighandler_t);
            let (mut set, mut none) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigemptyset(&raw mut none);
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGUSR1);
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            for _ in 0..23 {
                libc::kill(libc::getpid(), libc::SIGUSR1);
                libc::sigsuspend(&raw const none);
            }
        }
    });
    let pid = child.pid();
    let counted = run("failures", &[("pid", &pid)], || child.work());
    counted.assert_whole();
    assert_eq!(counted.rows().len(), 1, "{:?}", counted.rows());
    let suspended = counted.row(&["kt-sigreturn", "ERESTARTNOHAND"]);
    assert_eq!(suspended.number("calls"), 23);

    let counted = run("syscalls", &[("pid", &pid)], || child.work());
    counted.assert_whole();
    for (call, errors) in [("rt_sigreturn", 0), ("rt_sigsuspend", 23)] {
        let row = counted.row(&["kt-sigreturn", call]);
        assert_eq!(row.number("calls"), 23, "{call}");
        assert_eq!(row.number("errors"), errors, "{call}");
        assert_eq!(row.histogram("latency").0, 23, "{call}");
    }
}

/// What `some_calls` leaves, with the `read` and `write` around it.
fn assert_some_calls(counted: &Counted, comm: &str) {
    counted.assert_whole();
    let seen = counted.rows();
    assert_eq!(seen.len(), 4, "{seen:?}");
    for (call, calls, errors, timed) in [
        ("getppid", 23, 0, 23),
        ("openat", 23, 23, 23),
        ("write", 1, 0, 1),
        // Under way when counting began, so it has no start.
        ("read", 1, 0, 0),
    ] {
        let row = counted.row(&[comm, call]);
        assert_eq!(row.number("calls"), calls, "{call}");
        assert_eq!(row.number("errors"), errors, "{call}");
        let time = row.number("time");
        assert_eq!(row.histogram("latency"), (timed, time), "{call}");
        assert_eq!(time > 0, timed > 0, "{call}");
    }
}

#[test]
fn system_calls_of_one_process() {
    let child = Child::new("kt-calls", some_calls);
    let twin = Child::new("kt-calls", some_calls);
    let counted = run("syscalls", &[("pid", &child.pid())], || {
        child.work();
        twin.work();
    });
    assert_some_calls(&counted, "kt-calls");
}

#[test]
fn system_calls_of_one_name() {
    let child = Child::new("kt-name", some_calls);
    // A longer name that starts the same, and a shorter one.
    let others = ["kt-names", "kt-nam"].map(|comm| Child::new(comm, some_calls));
    let counted = run("syscalls", &[("comm", "kt-name")], || {
        child.work();
        others.iter().for_each(Child::work);
    });
    assert_some_calls(&counted, "kt-name");
}

/// A name may fill its field to the last byte before the NUL.
#[test]
fn system_calls_of_the_longest_name() {
    let child = Child::new("kt-fifteen-byte", some_calls);
    let counted = run("syscalls", &[("comm", "kt-fifteen-byte")], || child.work());
    assert_some_calls(&counted, "kt-fifteen-byte");
}

#[test]
fn system_calls_of_one_user() {
    let child = Child::with_uid("kt-user", 54_321, some_calls);
    let other = Child::with_uid("kt-user", 54_322, some_calls);
    let work = || {
        child.work();
        other.work();
    };
    assert_some_calls(&run("syscalls", &[("uid", "54321")], work), "kt-user");
}

/// 0 is a user like any other, not "no filter".
#[test]
fn system_calls_of_root() {
    let (comm, root) = (("comm", "kt-root"), ("uid", "0"));
    let child = Child::new("kt-root", some_calls);
    let other = Child::with_uid("kt-root", 54_323, some_calls);
    let work = || {
        child.work();
        other.work();
    };
    assert_some_calls(&run("syscalls", &[comm, root], work), "kt-root");
}

#[test]
fn filters_must_all_pass() {
    let child = Child::new("kt-both", some_calls);
    let options = [("pid", &*child.pid()), ("comm", "kt-neither")];
    let counted = run("syscalls", &options, || child.work());
    counted.assert_whole();
    assert!(counted.rows().is_empty());
}

/// A cgroup of a test's own, empty again when dropped.
pub struct Cgroup(pub PathBuf);

impl Cgroup {
    pub fn new(parent: PathBuf, name: &str) -> Self {
        let path = parent.join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn of_root(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let mut mounts = mounts.lines().map(|line| line.split(' ').collect());
        let mount = mounts.find_map(|mount: Vec<_>| (mount[2] == "cgroup2").then(|| mount[1]));
        let root = mount.expect("mount cgroup2 somewhere to run this test");
        Self::new(root.into(), &format!("{name}-{}", std::process::id()))
    }

    /// Whether a label means this cgroup: by its id, or by a path.
    pub fn is(&self, label: &str) -> bool {
        let id = fs::metadata(&self.0).unwrap().ino().to_string();
        let name = self.0.file_name().unwrap().to_str().unwrap();
        label == id || label.ends_with(&format!("/{name}"))
    }

    pub fn take(&self, child: &Child) {
        fs::write(self.0.join("cgroup.procs"), child.pid()).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let removed = fs::remove_dir(&self.0);
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}

#[test]
fn system_calls_of_one_cgroup_and_below() {
    let outer = Cgroup::of_root("kt-cgroup");
    let inner = Cgroup::new(outer.0.clone(), "inner");
    let beside = Cgroup::of_root("kt-cgroup-beside");
    // Children are dropped first: a cgroup must be empty to go.
    let child = Child::new("kt-cgroup", some_calls);
    let other = Child::new("kt-cgroup", some_calls);
    beside.take(&other);
    for cgroup in [&outer, &inner] {
        cgroup.take(&child);
        let path = outer.0.to_str().unwrap();
        let counted = run("syscalls", &[("cgroup", path)], || {
            child.work();
            other.work();
        });
        assert_some_calls(&counted, "kt-cgroup");
    }
    // A process in the outer one is not in the inner one.
    outer.take(&child);
    let path = inner.0.to_str().unwrap();
    let counted = run("syscalls", &[("cgroup", path)], || child.work());
    counted.assert_whole();
    assert!(counted.rows().is_empty());
}

/// It is asleep before and after: it gets as many CPUs as it leaves, and waits
/// for each of them.
#[test]
fn waits_for_a_cpu_are_as_many_as_switches() {
    /// A kernel of a virtual machine was seen to switch some tasks without its
    /// tracepoint, which ftrace did not see either.
    const ATTEMPTS: usize = 5;
    for (options, label) in [(vec![], ""), (vec![("by_comm", "true")], "kt-runqlat")] {
        let child = Child::new("kt-runqlat", || nap(23));
        let pid = child.pid();
        let is_exact = |_| {
            let before = child.switches();
            let counted = run("runqlat", &[&[("pid", &*pid)], &*options].concat(), || {
                child.work();
            });
            let switches = child.switches() - before;
            assert!(switches > 23, "naps do not sleep: {switches}");
            counted.assert_whole();
            assert_eq!(counted.rows().len(), 1);
            let (waits, time) = counted.row(&[label]).histogram("latency");
            assert!(waits <= switches, "{waits} of {switches}");
            assert!(time > 0);
            waits == switches
        };
        assert!((0..ATTEMPTS).any(is_exact), "never, {ATTEMPTS} times");
    }
}

/// By vector, over all CPUs: since boot.
fn proc_softirqs() -> HashMap<String, u64> {
    let text = fs::read_to_string("/proc/softirqs").unwrap();
    let vector = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers = numbers.split_whitespace();
        let sum = numbers.map(|number| number.parse::<u64>().unwrap()).sum();
        Some((name.trim().to_owned(), sum))
    };
    text.lines().filter_map(vector).collect()
}

/// The kernel counts them as well, all the time: its numbers just inside and
/// just outside of ours bound ours, and where they agree ours is theirs.
#[test]
fn softirqs_are_those_of_the_kernel() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(receiver.local_addr().unwrap()).unwrap();
    // A handler that has started is in their numbers, and in ours at its end.
    let let_handlers_end = || std::thread::sleep(Duration::from_millis(2));

    for _ in 0..20 {
        let (mut b, mut c) = (HashMap::new(), HashMap::new());
        let a = proc_softirqs();
        let counted = run("softirqs", &[], || {
            b = proc_softirqs();
            for _ in 0..46 {
                sender.send(b"x").unwrap();
                receiver.recv(&mut [0]).unwrap();
            }
            c = proc_softirqs();
            let_handlers_end();
        });
        let d = proc_softirqs();

        counted.assert_whole();
        let mut ours: HashMap<String, u64> = HashMap::new();
        for row in counted.rows() {
            assert_eq!(row.histogram("latency").1, row.number("time"));
            ours.insert(row.labels[0].clone(), row.number("count"));
        }
        let known = |vector: &String| a.contains_key(vector);
        assert!(ours.keys().all(known), "{ours:?}");
        for vector in a.keys() {
            let count = ours.get(vector).copied().unwrap_or(0);
            let (least, most) = (c[vector] - b[vector], d[vector] - a[vector]);
            assert!(
                (least..=most).contains(&count),
                "{vector}: {count}, not {least} to {most}"
            );
        }
        let vector = "NET_RX";
        if a[vector] == b[vector] && c[vector] == d[vector] {
            assert!(c[vector] > b[vector], "no packet was received");
            assert_eq!(ours[vector], c[vector] - b[vector]);
            return;
        }
    }
    panic!("the network was never quiet: no exact comparison in 20 attempts");
}

// ---- the C interface --------------------------------------------------------

/// Two CPUs miss the same new key at the same moment: a count is lost where the
/// one that is late replaces the row of the other.
#[test]
fn no_count_is_lost_where_two_cpus_make_a_row() {
    const ROUNDS: u64 = 256_000;
    let source = Source::new(
        r#"
TALLY("the insert race");
struct hits { __u64 count COUNTER(""); };
TABLE(hits, __u64, struct hits, 262144, "");
SEC("tp_btf/sys_enter")
int BPF_PROG(enter, struct pt_regs *regs, long id)
{
	__u64 key = number(regs);
	struct hits *row;

	if (!is_event(regs, id))
		return 0;
	row = tally_entry(hits, &key);
	if (row)
		__sync_fetch_and_add(&row->count, 1);
	return 0;
}
"#,
    );
    let child = Child::new("kt-race", || on_two_cpus(ROUNDS, |_, round| event(round)));
    let counted = run(source.path(), &[("pid", &child.pid())], || child.work());
    counted.assert_whole();
    assert_eq!(counted.reading.tables[0].rows.len() as u64, ROUNDS);
    assert_eq!(counted.sum("count"), 2 * ROUNDS);
    let rows = counted.rows();
    assert!(rows.iter().all(|row| row.number("count") == 2));
}

const SMALL: &str = r#"
TALLY("a table of any size");
struct hits { __u64 count COUNTER(""); };
TABLE(hits, __u64, struct hits, 4096, "");
SEC("tp_btf/sys_enter")
int BPF_PROG(enter, struct pt_regs *regs, long id)
{
	__u64 key = number(regs);
	struct hits *row;

	if (!is_event(regs, id))
		return 0;
	row = tally_entry(hits, &key);
	if (row)
		__sync_fetch_and_add(&row->count, 1);
	return 0;
}
"#;

#[test]
fn what_a_tally_says_it_dropped_is_dropped() {
    let source = Source::new(
        r#"
TALLY("events that find no memory");
struct hits { __u64 count COUNTER(""); };
TABLE(hits, __u64, struct hits, 16, "");
TABLE(others, __u64, struct hits, 16, "");
SEC("tp_btf/sys_enter")
int BPF_PROG(enter, struct pt_regs *regs, long id)
{
	__u64 key = number(regs);
	struct hits *row;

	if (!is_event(regs, id))
		return 0;
	if (key >= 16) {
		tally_dropped(hits);
		return 0;
	}
	row = tally_entry(hits, &key);
	if (row)
		__sync_fetch_and_add(&row->count, 1);
	return 0;
}
"#,
    );
    let child = Child::new("kt-dropped", || (0..23).for_each(event));
    let counted = run(source.path(), &[("pid", &child.pid())], || child.work());
    let tables = &counted.reading.tables;
    assert_eq!((tables[0].rows.len(), tables[0].dropped), (16, Some(7)));
    assert_eq!((tables[1].rows.len(), tables[1].dropped), (0, Some(0)));
    assert_eq!(counted.reading.missed, missed(0));
}

/// A gauge at 0 is a reading; a counter at 0 counted nothing.
#[test]
fn gauges_are_rows_at_zero_too() {
    let source = Source::new(
        r#"
TALLY("rows of zeroes");
struct level { __s64 level GAUGE(""); };
struct hits { __u64 count COUNTER(""); };
TABLE(levels, __u64, struct level, 16, "");
TABLE(counts, __u64, struct hits, 16, "");
ARRAY_TABLE(level_array, struct level, 4, "");
ARRAY_TABLE(count_array, struct hits, 4, "");
SEC("tp_btf/sys_enter")
int BPF_PROG(enter, struct pt_regs *regs, long id)
{
	__u64 key = number(regs);

	if (is_event(regs, id)) {
		tally_entry(levels, &key);
		tally_entry(counts, &key);
	}
	return 0;
}
"#,
    );
    let child = Child::new("kt-zero", || (0..3).for_each(event));
    let counted = run(source.path(), &[("pid", &child.pid())], || child.work());
    let tables = &counted.reading.tables;
    let rows: Vec<usize> = tables.iter().map(|table| table.rows.len()).collect();
    assert_eq!(rows, [3, 0, 4, 0]);
}

#[test]
fn a_full_table_tells_what_it_turned_away() {
    const ROUNDS: u64 = 3;
    let source = Source::new(SMALL);
    let child = Child::new("kt-full", || {
        (0..ROUNDS * 1000).for_each(|number| event(number % 1000));
    });
    let pid = child.pid();
    let counted = run_with(source.path(), &[("pid", &pid)], Some(10), || child.work());
    assert_eq!(counted.rows().len(), 10);
    // The first ten keys have rows, and every event of theirs is in them.
    assert_eq!(counted.sum("count"), ROUNDS * 10);
    assert_eq!(counted.dropped(), ROUNDS * 990);
    assert_eq!(counted.reading.missed, missed(0));

    // The same events fit where there is room.
    let counted = run_with(source.path(), &[("pid", &pid)], Some(1000), || child.work());
    counted.assert_whole();
    assert_eq!(counted.rows().len(), 1000);
    assert_eq!(counted.sum("count"), ROUNDS * 1000);
}

/// Of 12 bytes, so that the copies of the CPUs have padding between them.
#[test]
fn the_copies_of_all_cpus_add_up() {
    const ROUNDS: u64 = 100_000;
    let source = Source::new(
        r#"
TALLY("a row a CPU");
struct parts {
	__u32 all COUNTER("");
	__u32 odd COUNTER("");
	__u32 sum COUNTER("");
};
PERCPU_TABLE(parts, __u64, struct parts, 1024, "");
SEC("tp_btf/sys_enter")
int BPF_PROG(enter, struct pt_regs *regs, long id)
{
	__u64 key = number(regs) / 1000, n = number(regs);
	struct parts *row;

	if (!is_event(regs, id))
		return 0;
	row = tally_entry(parts, &key);
	if (!row)
		return 0;
	__sync_fetch_and_add(&row->all, 1);
	if (n % 2)
		__sync_fetch_and_add(&row->odd, 1);
	__sync_fetch_and_add(&row->sum, n % 1000);
	return 0;
}
"#,
    );
    let child = Child::new("kt-percpu", || on_two_cpus(ROUNDS, |_, round| event(round)));
    let counted = run(source.path(), &[("pid", &child.pid())], || child.work());
    counted.assert_whole();
    assert_eq!(counted.table().value_size, 12);
    let rows = counted.rows();
    assert_eq!(rows.len() as u64, ROUNDS / 1000);
    for row in rows {
        // 0 to 999, from each CPU.
        assert_eq!(row.number("all"), 2 * 1000);
        assert_eq!(row.number("odd"), 2 * 500);
        assert_eq!(row.number("sum"), 2 * 499_500);
    }
}

#[test]
fn every_kind_of_column_comes_out_as_declared() {
    let source = Source::new(
        r#"
TALLY("columns of all kinds");
struct place { __u16 half; __s16 below; };
struct who {
	char comm[TASK_COMM_LEN] AS(comm);
	struct place place;
	__u32 parent AS(hex);
	__u32 unused HIDDEN;
};
struct columns {
	__u64 up COUNTER("only up");
	__s32 level GAUGE("up and down");
	__u32 unused HIDDEN;
	struct {
		__u64 even COUNTER("even numbers");
		__u64 odd COUNTER("odd numbers");
	} parity;
	__u32 digit[3] COUNTER("by remainder");
	__u8 scratch[4] HIDDEN;
	struct tally_histogram size HISTOGRAM("of the numbers") UNIT(bytes);
};
TABLE(columns, struct who, struct columns, 16, "one of each");
SEC("tp_btf/sys_enter")
int BPF_PROG(enter, struct pt_regs *regs, long id)
{
	struct who key = {};
	struct columns *row;
	__u64 n = number(regs);

	if (!is_event(regs, id))
		return 0;
	bpf_get_current_comm(key.comm, sizeof(key.comm));
	key.place.half = 0xffff;
	key.place.below = -2;
	key.parent = 0xbeef;
	row = tally_entry(columns, &key);
	if (!row)
		return 0;
	__sync_fetch_and_add(&row->up, n);
	__sync_fetch_and_add(&row->level, n % 4 == 0 ? 1 : -1);
	__sync_fetch_and_add(&row->unused, 7);
	row->scratch[0] = 7;
	if (n % 2)
		__sync_fetch_and_add(&row->parity.odd, 1);
	else
		__sync_fetch_and_add(&row->parity.even, 1);
	if (n % 3 == 0)
		__sync_fetch_and_add(&row->digit[0], 1);
	else if (n % 3 == 1)
		__sync_fetch_and_add(&row->digit[1], 1);
	else
		__sync_fetch_and_add(&row->digit[2], 1);
	tally_observe(&row->size, n);
	return 0;
}
"#,
    );
    let child = Child::new("kt-columns", || (0..23).for_each(event));
    let counted = run(source.path(), &[("pid", &child.pid())], || child.work());
    counted.assert_whole();

    let table = counted.table();
    let labels: Vec<&str> = table.labels.iter().map(|it| &*it.name).collect();
    assert_eq!(labels, ["comm", "place.half", "place.below", "parent"]);
    let kinds: Vec<_> = table
        .metrics
        .iter()
        .map(|it| (&*it.name, it.kind))
        .collect();
    use MetricKind::{Counter, Gauge, Histogram};
    assert_eq!(
        kinds,
        [
            ("up", Counter),
            ("level", Gauge),
            ("parity.even", Counter),
            ("parity.odd", Counter),
            ("digit.0", Counter),
            ("digit.1", Counter),
            ("digit.2", Counter),
            ("size", Histogram),
        ]
    );

    assert_eq!(counted.rows().len(), 1);
    let row = counted.row(&["kt-columns", "65535", "-2", "0xbeef"]);
    assert_eq!(row.number("up"), 253);
    // 0, 4, ..., 20 are six; the other 17 go down.
    assert_eq!(row.number("level") as i64, 6 - 17);
    assert_eq!(row.number("parity.even"), 12);
    assert_eq!(row.number("parity.odd"), 11);
    assert_eq!(row.number("digit.0"), 8);
    assert_eq!(row.number("digit.1"), 8);
    assert_eq!(row.number("digit.2"), 7);
    assert_eq!(row.histogram("size"), (23, 253));
    // 0 and 1; 2; 3 and 4; 5 to 8; 9 to 16; 17 to 22.
    assert_eq!(row.buckets("size")[..7], [2, 1, 2, 4, 8, 6, 0]);
}

/// Options reach the programs as typed: through `.rodata`, by type and unit.
#[test]
fn options_reach_the_programs() {
    let source = Source::new(
        r#"
TALLY("what the options are");
OPTION(__u64 UNIT(ns), longer_than, 5, "");
OPTION(__s16, least, -3, "");
OPTION(bool, on, false, "");
const volatile bool least_given;
struct values {
	__u64 longer_than GAUGE("");
	__s64 least GAUGE("");
	__u8 on GAUGE("");
	__u8 given GAUGE("");
	__u64 count COUNTER("");
};
TABLE(values, __u64, struct values, 16, "");
SEC("tp_btf/sys_enter")
int BPF_PROG(enter, struct pt_regs *regs, long id)
{
	__u64 key = 0;
	struct values *row;

	if (!is_event(regs, id))
		return 0;
	row = tally_entry(values, &key);
	if (!row)
		return 0;
	row->longer_than = longer_than;
	row->least = least;
	row->on = on;
	row->given = least_given;
	__sync_fetch_and_add(&row->count, 1);
	return 0;
}
"#,
    );
    let child = Child::new("kt-options", || event(0));
    let pid = child.pid();
    let seen = |options: &[(&str, &str)]| {
        let options = [&[("pid", &*pid)], options].concat();
        let counted = run(source.path(), &options, || child.work());
        counted.assert_whole();
        let row = counted.row(&["0"]);
        ["longer_than", "least", "on", "given", "count"].map(|name| row.number(name) as i64)
    };
    assert_eq!(seen(&[]), [5, -3, 0, 0, 1]);
    let given = [("longer_than", "2us"), ("least", "-300"), ("on", "true")];
    assert_eq!(seen(&given), [2000, -300, 1, 1, 1]);
}

/// What only an option fills is not there without it.
#[test]
fn columns_of_an_option_need_it() {
    let source = Source::new(
        r#"
TALLY("columns of options");
OPTION(bool, by_cpu, false, "");
OPTION(__u32, depth, 2, "");
struct who {
	__u32 id;
	__u32 cpu WITH(by_cpu);
	__u32 level WITH(depth);
	__u32 other WITH(no_such_option);
};
struct hits { __u64 count COUNTER(""); };
TABLE(hits, struct who, struct hits, 1, "");
SEC("tp_btf/sys_enter")
int BPF_PROG(enter)
{
	return by_cpu && depth;
}
"#,
    );
    let tally = Tally::find(source.path().as_os_str()).unwrap();
    let labels = |given: &[(&str, &str)]| -> Vec<String> {
        let given: Vec<_> = given
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect();
        let options = resolve(&tally.schema.options, &given).unwrap();
        let tables = tally.tables(&options).unwrap();
        let labels = tables[0].labels.iter();
        labels.map(|label| label.name.clone()).collect()
    };
    assert_eq!(labels(&[]), ["id", "level", "other"]);
    assert_eq!(labels(&[("depth", "0")]), ["id", "other"]);
    let all = labels(&[("by_cpu", "true")]);
    assert_eq!(all, ["id", "cpu", "level", "other"]);
}

/// Of alternatives one is used, and nobody needs to hear of the others.
#[test]
fn of_alternatives_the_first_that_the_kernel_has_counts() {
    let program = |name: &str, event: &str, add: u32| {
        format!(
            r#"
SEC("tp_btf/{event}")
ALTERNATIVE(calls)
int BPF_PROG({name}, struct pt_regs *regs, long id)
{{
	return add(regs, id, {add});
}}
"#
        )
    };
    let (absent, enter) = ("no_such_event", "sys_enter");
    let child = Child::new("kt-alternative", || (0..23).for_each(event));
    for (events, each) in [
        ([absent, absent, enter], 100),
        ([absent, enter, enter], 10),
        ([enter, enter, absent], 1),
    ] {
        let source = Source::new(&format!(
            r#"
TALLY("programs of which one is used");
struct hits {{ __u64 count COUNTER(""); }};
TABLE(hits, __u32, struct hits, 1, "");
static __always_inline int add(struct pt_regs *regs, long id, __u64 n)
{{
	__u32 key = 0;
	struct hits *row;

	if (!is_event(regs, id))
		return 0;
	row = tally_entry(hits, &key);
	if (row)
		__sync_fetch_and_add(&row->count, n);
	return 0;
}}
{}{}{}
"#,
            program("one", events[0], 1),
            program("two", events[1], 10),
            program("three", events[2], 100),
        ));
        let tally = Tally::find(source.path().as_os_str()).unwrap();
        assert_eq!(Support::probe().obstacles(&tally), Vec::<String>::new());
        let counted = run(source.path(), &[("pid", &child.pid())], || child.work());
        counted.assert_whole();
        assert_eq!(counted.row(&["0"]).number("count"), 23 * each, "{events:?}");
    }
    // Where there is none, one reason is enough.
    let none = format!(
        "TALLY(\"none\");\nTABLE(hits, __u32, __u64, 1, \"\");\n#define add(regs, id, n) 0\n{}{}",
        program("one", absent, 1),
        program("two", "nor_this_one", 2)
    );
    let source = Source::new(&none);
    let tally = Tally::find(source.path().as_os_str()).unwrap();
    let obstacles = Support::probe().obstacles(&tally);
    assert_eq!(obstacles, ["this kernel has no tracepoint `nor_this_one`"]);
}

/// A program that is already running on its CPU is not run again: the kernel
/// counts that, and so the reading tells. Here each event makes the program
/// fault, which would run it once more.
#[test]
fn skipped_runs_are_told() {
    // Kernels before that run them, without end.
    needs((5, 12), "a program that runs into itself");
    let source = Source::new(
        r#"
TALLY("a program that runs into itself");
struct hits { __u64 count COUNTER(""); };
TABLE(hits, __u64, struct hits, 16, "");
#define NOWHERE 8 /* below all memory that can be mapped */
static __always_inline void fault(void)
{
	char byte;

	bpf_probe_read_user(&byte, 1, (void *)NOWHERE);
}
SEC("tp_btf/sys_enter")
int BPF_PROG(enter, struct pt_regs *regs, long id)
{
	if (is_event(regs, id))
		fault();
	return 0;
}
SEC("tp_btf/page_fault_kernel")
int BPF_PROG(faulted, unsigned long address)
{
	__u64 key = address;
	struct hits *row;

	if (address != NOWHERE || !wanted_task())
		return 0;
	fault();
	row = tally_entry(hits, &key);
	if (row)
		__sync_fetch_and_add(&row->count, 1);
	return 0;
}
"#,
    );
    let child = Child::new("kt-missed", || (0..23).for_each(event));
    let counted = run(source.path(), &[("pid", &child.pid())], || child.work());
    // Before Linux 6.4 a read that faults tries once more, byte by byte.
    let each = match kernel_series() {
        version if version < (6, 4) => 2,
        _ => 1,
    };
    let count = counted.row(&["8"]).number("count");
    assert_eq!(count, 23 * each);
    assert_eq!(counted.reading.missed, missed(count * each));
    assert_eq!(counted.dropped(), 0);
}

/// Every built-in tally has a test here or in a file beside this one: whoever
/// adds one writes its test.
#[test]
fn every_tally_has_an_exact_test() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernel");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let sources = files.filter_map(|path| fs::read_to_string(path).ok());
    let tests: String = sources.collect();
    for tally in Tally::builtins().unwrap() {
        // As it is run: `run("NAME", ...)`, or after `run` on a command line.
        let name = format!("\"{}\"", tally.name);
        assert!(tests.contains(&name), "no test runs {name}");
    }
}
