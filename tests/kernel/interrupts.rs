//! The tallies about the kernel itself: interrupts, put-off work and locks.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::time::Duration;

use crate::support::{Child, Source, missed, on_two_cpus, run, run_with, terminal};

/// A handler that has started is in the kernel's numbers, and in ours at its end.
fn let_handlers_end() {
    std::thread::sleep(Duration::from_millis(2));
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

/// By name, over all CPUs and lines: since boot.
fn proc_interrupts() -> HashMap<String, u64> {
    let mut counts = HashMap::new();
    for line in fs::read_to_string("/proc/interrupts").unwrap().lines() {
        let Some((number, rest)) = line.split_once(':') else {
            continue;
        };
        // Names follow the last gap; others are no devices' interrupts.
        let (true, Some((_, names))) = (
            number.trim().parse::<u32>().is_ok(),
            rest.trim().rsplit_once("  "),
        ) else {
            continue;
        };
        let numbers = rest.split_whitespace();
        let numbers = numbers.map_while(|number| number.parse::<u64>().ok());
        let sum: u64 = numbers.sum();
        for name in names.trim().split(", ") {
            *counts.entry(name.to_owned()).or_default() += sum;
        }
    }
    counts
}

/// As with softirqs, the kernel counts along, when a handler begins. On a busy
/// virtual machine it may end after our last reading: there, not every moment
/// is exact, but one is. A machine whose devices are all quiet has nothing to
/// compare, but then nothing must be counted either.
#[test]
fn hardirqs_are_those_of_the_kernel() {
    let mut quiet = true;
    for _ in 0..20 {
        let (mut b, mut c) = (HashMap::new(), HashMap::new());
        let a = proc_interrupts();
        let counted = run("hardirqs", &[], || {
            b = proc_interrupts();
            for _ in 0..5 {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(b"to the disk").unwrap();
                file.sync_all().unwrap();
            }
            c = proc_interrupts();
            let_handlers_end();
        });
        let d = proc_interrupts();

        let mut ours: HashMap<&str, u64> = HashMap::new();
        let rows = counted.rows();
        for row in &rows {
            let (count, time) = (row.number("count"), row.number("time"));
            let timed = row.histogram("latency");
            // A handler that was running when counting began has no start.
            assert!(timed.0 == count || timed.0 + 1 == count);
            assert!(timed.1 == time && time > 0);
            ours.insert(&row.labels[0], count);
        }
        quiet &= a == d;
        assert!(a != d || rows.is_empty(), "{rows:?}");
        // Those that were idle but for what they did within.
        let idle = |name: &&String| a[*name] == b[*name] && c[*name] == d[*name];
        let mut compared = b.keys().filter(idle).filter(|name| c[*name] > b[*name]);
        let equal = |name: &&String| ours.get(&***name) == Some(&(c[*name] - b[*name]));
        if compared.any(|name| equal(&name)) {
            return;
        }
    }
    assert!(quiet, "no interrupt was counted exactly in 20 attempts");
}

/// What is written to one end of a terminal reaches the other by put-off work,
/// once each time, as each is waited for. Other terminals may be in use, so
/// there may be more; in a quiet moment there are as many.
#[test]
fn work_by_function() {
    let [mut master, mut slave] = terminal();
    for _ in 0..20 {
        let counted = run("workqueue", &[], || {
            for _ in 0..23 {
                slave.write_all(b"x").unwrap();
                master.read_exact(&mut [0]).unwrap();
            }
            let_handlers_end();
        });
        let row = counted.row(&["flush_to_ldisc"]);
        let (runs, time) = (row.number("runs"), row.number("time"));
        assert!(runs >= 23, "{runs}");
        if runs == 23 {
            assert!(time > 0);
            assert_eq!(row.histogram("latency"), (runs, time));
            return;
        }
    }
    panic!("terminals were never quiet: no exact count in 20 attempts");
}

/// Maps memory and unmaps it, which asks for the address space's lock.
fn map_and_unmap() {
    const SIZE: usize = 16 << 12;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    // SAFETY: a new mapping that no other code uses.
    unsafe {
        let memory = libc::mmap(std::ptr::null_mut(), SIZE, access, flags, -1, 0);
        libc::munmap(memory, SIZE);
    }
}

/// Another program beside it counts the ends of all waits, and those for the
/// address space's lock, which begin once.
#[test]
fn waits_for_locks_by_kind_and_caller() {
    let source = Source::new(
        r#"
TALLY("the kernel's events");
struct events {
	__u64 ends COUNTER("");
	__u64 rwsem_writes COUNTER("");
};
TABLE(events, __u32, struct events, 1, "");
static __always_inline struct events *own(void)
{
	__u32 key = 0;

	return wanted_task() ? tally_entry(events, &key) : NULL;
}
SEC("tp_btf/contention_begin")
int BPF_PROG(begin, void *lock, unsigned int flags)
{
	struct events *row = own();

	if (row && flags == 4)
		__sync_fetch_and_add(&row->rwsem_writes, 1);
	return 0;
}
SEC("tp_btf/contention_end")
int BPF_PROG(end, void *lock)
{
	struct events *row = own();

	if (row)
		__sync_fetch_and_add(&row->ends, 1);
	return 0;
}
"#,
    );
    // The programs use locks as well, and a wait within them is missed.
    let (counted, events) = (0..20)
        .map(|_| {
            let child = Child::new("kt-locks", || on_two_cpus(2_000, |_, _| map_and_unmap()));
            let pid = child.pid();
            let filter = [("pid", &*pid)];
            let mut events = None;
            let counted = run_with("locks", &filter, None, || {
                events = Some(run_with(source.path(), &filter, None, || child.work()));
            });
            (counted, events.unwrap())
        })
        .find(|(counted, events)| {
            let missed_none = [counted, events]
                .iter()
                .all(|it| it.reading.missed == missed(0));
            missed_none && events.sum("rwsem_writes") > 0
        })
        .expect("one of 20 attempts in which threads meet and nothing is missed");

    events.assert_whole();
    counted.assert_whole();
    assert_eq!(counted.sum("contentions"), events.sum("ends"));
    let rows = counted.rows();
    for row in &rows {
        let (contentions, time) = (row.number("contentions"), row.number("time"));
        assert!(contentions > 0 && time > 0, "{row:?}");
        assert_eq!(row.histogram("latency"), (contentions, time));
    }
    let rwsems = || rows.iter().filter(|row| row.labels[1] == "rwsem_write");
    let waits: u64 = rwsems().map(|row| row.number("contentions")).sum();
    assert_eq!(waits, events.sum("rwsem_writes"), "{rows:?}");
    // Not the lock's own functions, but who called them.
    let callers = ["vm_mmap_pgoff+", "__vm_munmap+"];
    let called = |text: &str| callers.iter().any(|name| text.starts_with(name));
    assert!(rwsems().any(|row| called(&row.labels[0])), "{rows:?}");
}

/// From the lock's own functions outwards.
#[test]
fn waits_for_locks_by_stack() {
    let counted = (0..20).map(|_| {
        let child = Child::new("kt-lock-stack", || {
            on_two_cpus(2_000, |_, _| map_and_unmap());
        });
        let pid = child.pid();
        let options = [("pid", &*pid), ("stacks", "true"), ("by_comm", "true")];
        run_with("locks", &options, None, || child.work())
    });
    let calls = ["vm_mmap_pgoff;", "__vm_munmap;"];
    for counted in counted {
        for row in counted.rows() {
            let [comm, kind, kernel] = &row.labels[..] else {
                panic!("{row:?}");
            };
            let [contentions, time] = row.numbers(["contentions", "time"]);
            assert!(contentions > 0 && time > 0, "{row:?}");
            assert_eq!(comm, "kt-lock-stack");
            assert!(!kernel.contains("bpf_"), "{row:?}");
            if kind == "rwsem_write" && calls.iter().any(|call| kernel.contains(call)) {
                return;
            }
        }
    }
    panic!("threads never met in 20 attempts");
}
