//! Each kind of event: 23 of them, and 23 counted.

use std::ffi::{c_char, c_int};
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use ktally::host::has_kprobes;
use ktally::tally::fentry_fact;

use crate::common::ktally;
use crate::support::{
    Child, clone, count, exit, fail_to_open, fork, mount_new, own_mounts, reap, run, spin,
};

unsafe extern "C" {
    fn atoi(text: *const c_char) -> c_int;
}

/// Calls a function of libc 23 times, with a text that this process has just written.
pub fn calls_libc() {
    for _ in 0..23 {
        let text = format!("{}\0", black_box(42));
        // SAFETY: a text that ends.
        black_box(unsafe { atoi(text.as_ptr().cast()) });
    }
}

#[test]
fn functions_of_libraries() {
    let child = Child::new("kt-user", calls_libc);
    let query = "count uprobe:libc.so.6:atoi --by comm,arg0 --as arg0=text";
    let counted = count(query, &child, &[]);
    assert_eq!(counted.only_row(&["kt-user", "42"]).number("events"), 23);
    let query = "count uprobe:libc.so.6:atoi --return --by comm --sum retval";
    let counted = count(query, &child, &[]);
    let row = counted.only_row(&["kt-user"]);
    assert_eq!(row.numbers(["events", "retval.sum"]), [23, 23 * 42]);
}

/// In mounts that only this process has.
pub fn mount_tracefs() {
    own_mounts().unwrap();
    if !Path::new("/sys/kernel/tracing/events").exists() {
        mount_new("tracefs", Path::new("/sys/kernel/tracing"), None).unwrap();
    }
}

#[test]
fn records_of_tracepoints() {
    mount_tracefs();
    let child = Child::new("kt-record", || {
        fork(23, || clone(libc::SIGCHLD), || exit(0));
        reap(23);
    });
    let query = "count tracepoint:sched:sched_process_fork --by parent_comm,child_comm,parent_pid";
    let counted = count(query, &child, &[]);
    // Text or the place of it: kernels differ.
    let pid = child.pid();
    let row = counted.only_row(&["kt-record", "kt-record", &pid]);
    assert_eq!(row.number("events"), 23);
    let unknown = ktally("count tracepoint:sched:sched_swich");
    unknown.refused(2, &["no tracepoint `sched/sched_swich`"]);
}

/// The kernel decides how often; what is counted is what ran.
#[test]
fn a_clock_ticks_where_something_runs() {
    let child = Child::new("kt-clock", || spin(Duration::from_millis(300)));
    let counted = run(
        "count cpu-clock@500 --by comm,pid --where comm=kt-clock",
        &[],
        || {
            child.work();
        },
    );
    let row = counted.only_row(&["kt-clock", &child.pid()]);
    assert!((15..=200).contains(&row.number("events")), "{row:?}");
}

#[test]
fn functions_of_the_kernel() {
    if fentry_fact().fix.is_some() && !has_kprobes() {
        let words = [
            "function `vfs_open` cannot be counted here",
            "fentry",
            "no kprobes",
        ];
        ktally("count vfs_open --by comm").refused(2, &words);
        return;
    }
    let child = Child::new("kt-open", || {
        fail_to_open(37);
        for _ in 0..23 {
            drop(std::fs::File::open("/etc/passwd").unwrap());
        }
    });
    let query = "count vfs_open --by comm,path.dentry.d_name.name";
    let counted = count(query, &child, &[]);
    assert_eq!(counted.row(&["kt-open", "passwd"]).number("events"), 23);
    let counted = count("count vfs_open --return --by comm,retval", &child, &[]);
    assert_eq!(counted.row(&["kt-open", "0"]).number("events"), 23);
}
