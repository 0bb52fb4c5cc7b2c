//! What is counted is what happened, to the last event.

use std::fs;

use ktally::tally::Tally;

use crate::support::{Cgroup, Child, Counted, ask_for_parent, count, fail_to_open, run, work};

#[test]
fn failures_are_counted_by_name_and_error() {
    let child = Child::new("kt-failures", || fail_to_open(23));
    let counted = count("failures", &child, &[]);
    let row = counted.only_row(&["kt-failures", "openat", "ENOENT"]);
    assert_eq!(row.number("calls"), 23);
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
    let counted = count("failures", &child, &[]);
    let suspended = counted.only_row(&["kt-sigreturn", "rt_sigsuspend", "ERESTARTNOHAND"]);
    assert_eq!(suspended.number("calls"), 23);

    let counted = count("syscalls", &child, &[]);
    for (call, errors) in [("rt_sigreturn", 0), ("rt_sigsuspend", 23)] {
        let row = counted.row(&["kt-sigreturn", call]);
        assert_eq!(row.numbers(["calls", "errors"]), [23, errors], "{call}");
        assert_eq!(row.histogram("latency").0, 23, "{call}");
    }
}

/// What `some_calls` leaves, with the `read` and `write` around it.
fn assert_some_calls(counted: &Counted, comm: &str) {
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
        assert_eq!(row.numbers(["calls", "errors"]), [calls, errors], "{call}");
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
        work(&[&child, &twin]);
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
    let both = || work(&[&child, &other]);
    assert_some_calls(&run("syscalls", &[("uid", "54321")], both), "kt-user");
}

/// 0 is a user like any other, not "no filter".
#[test]
fn system_calls_of_root() {
    let (comm, root) = (("comm", "kt-root"), ("uid", "0"));
    let child = Child::new("kt-root", some_calls);
    let other = Child::with_uid("kt-root", 54_323, some_calls);
    let both = || work(&[&child, &other]);
    assert_some_calls(&run("syscalls", &[comm, root], both), "kt-root");
}

#[test]
fn filters_must_all_pass() {
    let child = Child::new("kt-both", some_calls);
    let counted = count("syscalls", &child, &[("comm", "kt-neither")]);
    assert!(counted.rows().is_empty());
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
        let counted = run("syscalls", &[("cgroup", path)], || work(&[&child, &other]));
        assert_some_calls(&counted, "kt-cgroup");
    }
    // A process in the outer one is not in the inner one.
    outer.take(&child);
    let path = inner.0.to_str().unwrap();
    let counted = run("syscalls", &[("cgroup", path)], || child.work());
    assert!(counted.rows().is_empty());
}

/// Every built-in tally has a test here or in a file beside this one: a new
/// tally comes with its test.
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
