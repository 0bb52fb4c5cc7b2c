//! `ktally count`: any event, by anything that it carries.

mod bpftrace;
mod interval;
mod kinds;
mod least;
mod module;
mod random;
pub mod typed;

use std::net::{TcpListener, TcpStream};
use std::os::fd::{FromRawFd, OwnedFd};

use crate::common::ktally;
use crate::instances::Host;
use crate::support::{
    Child, ask_for_parent, count, exec, fail_to_open, kernel_series, link_true, nap, needs, run,
    run_with, work,
};

#[test]
fn calls_are_counted_by_process_and_number() {
    let child = Child::new("kt-count", || {
        ask_for_parent(23);
        fail_to_open(37);
    });
    let pid = child.pid();
    let counted = count("count sys_enter --by comm,call,pid,tid", &child, &[]);
    for (call, events) in [("getppid", 23), ("openat", 37)] {
        let row = counted.row(&["kt-count", call, &pid, &pid]);
        assert_eq!(row.number("events"), events);
    }
    // What each event has in common.
    let counted = count(
        "count sys_exit --by comm,ppid,uid,call --where ret=-2",
        &child,
        &[],
    );
    let parent = std::process::id().to_string();
    let row = counted.only_row(&["kt-count", &parent, "root", "openat"]);
    assert_eq!(row.number("events"), 37);
    // Without parts of a key there is one row.
    let counted = count("count sys_enter --where call=getppid", &child, &[]);
    assert_eq!(counted.only_row(&[]).number("events"), 23);
}

/// Opens a path that this process has just written: BPF reads only memory that is there.
fn open_written_path(times: u64) {
    let path = "/no/such/file".to_owned() + "\0";
    for _ in 0..times {
        let (call, flags) = (libc::SYS_openat, libc::O_RDONLY);
        // SAFETY: a path that lives; there is no such file to leak.
        unsafe { libc::syscall(call, libc::AT_FDCWD, path.as_ptr(), flags) };
    }
}

#[test]
fn texts_of_the_kernel_and_of_processes_are_read() {
    let child = Child::new("kt-text", || open_written_path(23));
    let query = "count sys_enter --by current.comm,current.group_leader.comm,arg1 --as arg1=text --where call=openat";
    let row = ["kt-text", "kt-text", "/no/such/file"];
    let counted = count(query, &child, &[]);
    assert_eq!(counted.only_row(&row).number("events"), 23);
    // Behind a pointer that is NULL there is nothing; and that is a row as well.
    let query = "count sys_enter --by current.io_context.refcount,current.io_context.ioprio --where call=openat";
    let counted = count(query, &child, &[]);
    assert_eq!(counted.only_row(&["0", "0"]).number("events"), 23);
    // It points to no memory at all.
    let query = "count sys_enter --by arg2 --as arg2=text --where call=openat";
    let counted = count(query, &child, &[]);
    assert_eq!(counted.only_row(&[""]).number("events"), 23);
}

#[test]
fn programs_are_known_by_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = link_true(&folder.path().join("kt-true"));
    let child = Child::new("kt-exec", || {
        crate::support::fork(23, || crate::support::clone(libc::SIGCHLD), || exec(&file));
        crate::support::reap(23);
    });
    let query = "count sched_process_exec --by p.comm,bprm.filename,p.real_parent.comm";
    let path = file.to_str().unwrap();
    let filter = format!("{query} --where bprm.filename={path}");
    let counted = run(&filter, &[], || child.work());
    assert_eq!(
        counted
            .only_row(&["kt-true", path, "kt-exec"])
            .number("events"),
        23
    );
}

/// Writes of 1, 2, ... 23 bytes.
fn writes() {
    let mut ends = [0; 2];
    // SAFETY: the kernel writes two numbers, of descriptors that nothing else has.
    let [_reader, writer] = unsafe {
        assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
        ends.map(|end| OwnedFd::from_raw_fd(end))
    };
    for size in 1..=23 {
        let bytes = [0u8; 23];
        use std::os::fd::AsRawFd;
        // SAFETY: memory of at least that size.
        unsafe { libc::syscall(libc::SYS_write, writer.as_raw_fd(), bytes.as_ptr(), size) };
    }
}

#[test]
fn numbers_are_added_up_and_spread_over_buckets() {
    let child = Child::new("kt-sum", writes);
    let calls = "count sys_enter --by comm --where call=write --where arg2=1..23";
    let query = format!("{calls} --sum arg2 --max arg2 --as arg2=bytes");
    // One byte more tells that the child is done, and is a write as well.
    let counted = count(&query, &child, &[]);
    let row = counted.only_row(&["kt-sum"]);
    let sum = 23 * 24 / 2;
    let done = row.number("events") - 23;
    assert!(done <= 1);
    assert_eq!(row.number("arg2.sum"), sum + done);
    if kernel_series() >= (5, 12) {
        assert_eq!(row.number("arg2.max"), 23);
    }
    let counted = count(format!("{calls} --histogram arg2"), &child, &[]);
    let row = counted.only_row(&["kt-sum"]);
    assert_eq!(row.histogram("arg2"), (23 + done, sum + done));
    assert_eq!(row.buckets("arg2")[..6], [1 + done, 1, 2, 4, 8, 7]);
    let counted = count(format!("{calls} --histogram arg2:10"), &child, &[]);
    let row = counted.only_row(&["kt-sum"]);
    assert_eq!(row.buckets("arg2")[..4], [0, 10 + done, 10, 3]);
}

#[test]
fn conditions_keep_other_events_out() {
    let child = Child::new("kt-this", writes);
    let other = Child::new("kt-that", || {
        writes();
        ask_for_parent(23);
    });
    let calls = "count sys_enter --by comm --where call=write";
    for (filter, events) in [
        ("arg2=23", 1),
        ("arg2=20..22", 3),
        ("arg2!=2..40", 1),
        ("arg2>20", 3),
        ("arg2>=20", 4),
        ("arg2<3 --where arg2>1", 1),
        ("arg2<=3 --where arg2>1", 2),
        ("arg2&16", 8),
        ("arg2&16 --where arg2&1", 4),
    ] {
        let query = format!("{calls} --where comm=kt-this --where {filter}");
        let counted = run(&query, &[], || work(&[&child, &other]));
        // The byte that tells that the child is done.
        let done = u64::from(filter == "arg2!=2..40");
        let row = counted.only_row(&["kt-this"]);
        assert!(
            (events..=events + done).contains(&row.number("events")),
            "{filter}"
        );
    }
    let query =
        "count sys_enter --by comm --where call=getppid --where comm!=kt-this --where comm!=x";
    let counted = run(query, &[("pid", &other.pid())], || work(&[&child, &other]));
    assert_eq!(counted.only_row(&["kt-that"]).number("events"), 23);
}

#[test]
fn sockets_have_their_ports() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let child = Child::new("kt-port", || {
        for _ in 0..23 {
            drop(TcpStream::connect(("127.0.0.1", port)).unwrap());
        }
    });
    let common = "sk.__sk_common";
    let query = format!(
        "count inet_sock_set_state --by {common}.skc_dport,{common}.skc_daddr,{common}.skc_family,newstate \
         --where newstate=2 --where {common}.skc_dport={port}"
    );
    let counted = count(&query, &child, &[]);
    let row = counted.only_row(&[&port.to_string(), "127.0.0.1", "2", "2"]);
    assert_eq!(row.number("events"), 23);
}

#[test]
fn stacks_end_in_the_function_that_calls() {
    needs(
        (5, 18),
        "the state of a task as an argument of sched_switch",
    );
    let child = Child::new("kt-stack", || nap(23));
    let query = "count sched_switch --by prev.comm,kstack,ustack --where prev.comm=kt-stack --where prev_state&1 --where preempt=0";
    let counted = run(query, &[("comm", "kt-stack")], || child.work());
    let naps = counted
        .rows()
        .into_iter()
        .filter(|row| row.labels[1].contains("nanosleep"));
    let naps: Vec<_> = naps.collect();
    // The innermost frames are not those of BPF.
    assert!(
        naps.iter().all(|row| !row.labels[1].contains("bpf")),
        "{naps:?}"
    );
    let naps: u64 = naps.iter().map(|row| row.number("events")).sum();
    assert_eq!(naps, 23);
}

#[test]
fn a_full_table_keeps_its_events() {
    let child = Child::new("kt-full", || {
        ask_for_parent(23);
        fail_to_open(37);
    });
    let counted = run_with(
        "count sys_enter --by call --sum id",
        &[("pid", &child.pid())],
        Some(1),
        || child.work(),
    );
    let reading = &counted.reading.tables[0];
    let other = reading.other.clone().unwrap();
    assert_eq!(counted.rows().len(), 1);
    let rows: u64 = counted.sum("events");
    // With what the child does around its work.
    assert!(
        (23 + 37..23 + 37 + 8).contains(&(rows + other[0])),
        "{rows} {other:?}"
    );
}

#[test]
fn an_instance_describes_itself() {
    let host = Host::new();
    needs((5, 12), "BPF_CMPXCHG, for --max");
    let query = "count sched_switch --by prev.comm,prev.pid --max prev.prio";
    host.ktally(["attach", query, "--as", "switches"]).done();
    let dump = host
        .ktally([
            "map",
            "dump",
            "/sys/fs/bpf/ktally/switches/maps/events",
            "-o",
            "json",
        ])
        .done();
    assert!(
        dump.contains("\"prev_comm\"") || dump.contains("\"prev.comm\""),
        "{dump}"
    );
    let read = host
        .ktally(["read", "switches", "-o", "json", "--top", "1"])
        .json();
    let row = &read["tables"][0]["rows"][0];
    for column in ["prev.comm", "prev.pid", "events", "prev.prio.max"] {
        assert!(!row[column].is_null(), "{row}");
    }
    host.ktally(["detach", "switches"]).done();
}

#[test]
fn events_refuses_what_count_refuses() {
    for (event, words) in [
        ("sched_switch --return", "has no return"),
        ("sched_swich --return", "no event named `sched_swich`"),
        ("cpu-clock@99 --return", "has no return"),
        ("cpu-clock@x", "x samples a second; write 1 to"),
        ("cpu-clock@0", "0 samples a second; write 1 to"),
        ("uprobe:/no/such:f", "failed to open `/no/such`"),
        ("uprobe:libc.so.6:atoy", "has no function named `atoy`"),
        ("tracepoint:sched:sched_swich", "tracepoint"),
        ("tracepoint:sched", "write it as tracepoint:GROUP:NAME"),
        ("no_such_function --return", "no event named"),
    ] {
        let counted = ktally(&format!("count {event}")).refused(2, &[words]);
        let listed = ktally(&format!("events {event}")).refused(2, &[]);
        assert_eq!(listed.stderr, counted.stderr, "{event}");
    }
    for (intervals, words) in [
        ("--from cpu-clock@x --to sys_exit", "event `cpu-clock@x`: x"),
        (
            "--from sys_enter --to uprobe:/no/such:f",
            "--to: event `uprobe:/no/such:f`: failed to open",
        ),
    ] {
        ktally(&format!("count {intervals}")).refused(2, &[words]);
    }
}

#[test]
fn what_does_not_exist_is_named() {
    for (line, words) in [
        (
            "count sched_swich",
            "no event named `sched_swich`; did you mean `sched_switch`",
        ),
        (
            "count sched_switch --by prev.com",
            "--by: `prev.com`: no member of `struct task_struct` named `com`; did you mean `comm`",
        ),
        (
            "count sched_switch --where prev.comm<a",
            "--where `prev.comm<a`: `<` compares numbers",
        ),
        (
            "count sched_switch --sum prev.comm",
            "`prev.comm` is a `char[16]`, not a number",
        ),
    ] {
        ktally(line).refused(2, &[words]);
    }
    needs((5, 17), "the reason of kfree_skb");
    ktally("count kfree_skb --where reason=NOT_SPECIFID").refused(
        2,
        &["no skb_drop_reason named `NOT_SPECIFID`; did you mean `NOT_SPECIFIED`"],
    );
}
