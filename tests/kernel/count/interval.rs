//! The time from one event to another.

use std::ffi::{c_char, c_int, c_long};
use std::hint::black_box;
use std::time::Duration;

use crate::common::ktally;
use crate::support::{
    Child, ask_for_parent, clone, count, exec_with, exit, fail_to_open, fork, needs, reap, run,
    run_with, sleep,
};

/// 2^20 ns and more: no interval of these naps is in a bucket before the 21st.
const NAP: Duration = Duration::from_nanos(1 << 20 | 1);

/// 23 naps, and no more.
#[track_caller]
fn assert_naps(row: &crate::support::Row<'_>) {
    assert_eq!(row.number("events"), 23);
    let (count, sum) = row.histogram("time");
    assert_eq!(count, 23);
    assert!(sum > 23 << 20, "{sum}");
    assert_eq!(row.buckets("time")[..21].iter().sum::<u64>(), 0);
}

#[test]
fn ends_belong_to_the_current_task() {
    let child = Child::new("kt-from", || {
        sleep(23, NAP);
        ask_for_parent(37);
    });
    let calls = "count --from sys_enter --to sys_exit --by comm,call,pid";
    let (pid, calls) = (child.pid(), calls.to_owned());
    let counted = count(&calls, &child, &[]);
    assert_naps(&counted.row(&["kt-from", "nanosleep", &pid]));
    let row = counted.row(&["kt-from", "getppid", &pid]);
    assert_eq!(row.number("events"), 37);
    assert_eq!(row.histogram("time").0, 37);
    // A condition is tested at the start.
    let counted = count(calls + " --where call=nanosleep", &child, &[]);
    assert_naps(&counted.only_row(&["kt-from", "nanosleep", &pid]));
}

#[test]
fn numbers_are_those_of_the_end() {
    let child = Child::new("kt-to", || ask_for_parent(23));
    let parent = u64::from(std::process::id());
    let query = "count --from sys_enter --to sys_exit --where call=getppid --sum to.ret --histogram time:1000000000";
    let counted = count(query, &child, &[]);
    let rows = counted.rows();
    let [row] = &rows[..] else {
        panic!("{rows:?}");
    };
    assert_eq!(row.numbers(["events", "to.ret.sum"]), [23, 23 * parent]);
    let (count, sum) = row.histogram("time");
    assert_eq!(count, 23);
    assert!(sum > 0);
    assert_eq!(row.buckets("time")[1], 23);
}

#[test]
fn rows_and_conditions_take_what_the_end_has() {
    let child = Child::new("kt-ends", || {
        ask_for_parent(23);
        fail_to_open(37);
    });
    let parent = std::process::id().to_string();
    let query = "count --from sys_enter --to sys_exit --by call,to.ret,to.comm";
    let failed = format!("{query} --where to.ret=-2 --where to.comm=kt-ends");
    let asked = format!("{query} --where call=getppid --where to.ret!=-2");
    for (query, row, events) in [
        (&failed, ["openat", "-2", "kt-ends"], 37),
        (&asked, ["getppid", &parent, "kt-ends"], 23),
    ] {
        let counted = count(query, &child, &[]);
        let row = counted.only_row(&row);
        assert_eq!(row.number("events"), events);
        assert_eq!(row.histogram("time").0, events);
    }
    // What does not meet it has ended as well.
    let query = "count --from sys_enter --to sys_exit --where to.ret=-1000";
    assert!(count(query, &child, &[]).rows().is_empty());
}

/// It ends what the one before began.
#[test]
fn one_event_may_be_at_both_ends() {
    let child = Child::new("kt-both", || {
        for _ in 0..23 {
            ask_for_parent(1);
            sleep(1, NAP);
        }
    });
    let query = "count --from sys_enter --to sys_enter --by call,to.call";
    let counted = count(query, &child, &[]);
    let row = counted.row(&["getppid", "nanosleep"]);
    assert_eq!(row.number("events"), 23);
    let row = counted.row(&["nanosleep", "getppid"]);
    assert_eq!(row.number("events"), 22);
    assert_eq!(row.buckets("time")[..21].iter().sum::<u64>(), 0);
}

#[test]
fn one_function_may_be_at_both_ends() {
    let child = Child::new("kt-both", || {
        for time in 0..23 {
            // SAFETY: takes a number.
            unsafe { usleep(1049 + time % 2) };
        }
    });
    let function = "uprobe:libc.so.6:usleep";
    let query = format!("count --from {function} --to {function} --by arg0,to.arg0");
    let counted = count(query, &child, &[]);
    for row in [["1049", "1050"], ["1050", "1049"]] {
        assert_eq!(counted.row(&row).number("events"), 11);
    }
    assert_eq!(counted.sum("events"), 22);
}

#[test]
fn each_end_may_have_its_own_value() {
    needs(
        (5, 18),
        "the state of a task as an argument of sched_switch",
    );
    let child = Child::new("kt-off", || sleep(23, NAP));
    let query = "count --from sched_switch --to sched_switch --per prev,to.next \
                 --by prev.comm,to.next.comm --where prev_state&1 --where preempt=0";
    // A task that is preempted on its way to sleep has that state as well.
    let counted = count(query, &child, &[]);
    assert_naps(&counted.only_row(&["kt-off", "kt-off"]));
}

/// The C file that says the same counts the same.
#[test]
fn printed_files_count_the_same() {
    let child = Child::new("kt-print", || {
        for _ in 0..23 {
            ask_for_parent(1);
            sleep(1, NAP);
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("printed.bpf.c");
    let numbers = "--sum time --min to.id --max to.id";
    for (query, rows) in [
        (
            "--from sys_enter --to sys_exit --by call,to.comm --where to.ret=0 \
             --where to.comm=kt-print --where call!=read"
                .to_owned(),
            vec![(["nanosleep", "kt-print"], 23)],
        ),
        (
            format!(
                "--from sys_enter --to sys_enter --by call,to.call {numbers} --where to.call!=write --where call!=write"
            ),
            vec![
                (["getppid", "nanosleep"], 23),
                (["nanosleep", "getppid"], 22),
            ],
        ),
    ] {
        let printed = ktally(&format!("count {query} --print")).done();
        std::fs::write(&file, printed).unwrap();
        let query = format!("count {query}");
        for name in [query.as_ref(), file.as_os_str()] {
            let counted = count(name, &child, &[]);
            assert_eq!(counted.rows().len(), rows.len(), "{:?}", counted.rows());
            for (row, events) in &rows {
                assert_eq!(counted.row(row).number("events"), *events);
            }
        }
    }
}

unsafe extern "C" {
    fn usleep(time: u32) -> c_int;
    fn atoi(text: *const c_char) -> c_int;
    fn atol(text: *const c_char) -> c_long;
}

#[test]
fn functions_take_their_time() {
    let child = Child::new("kt-takes", || {
        for _ in 0..23 {
            // SAFETY: takes a number.
            unsafe { usleep(1049) };
        }
    });
    let function = "uprobe:libc.so.6:usleep";
    let query =
        format!("count --from {function} --to {function} --return --by comm,arg0 --per task");
    let counted = count(query, &child, &[]);
    assert_naps(&counted.only_row(&["kt-takes", "1049"]));
}

#[test]
fn ends_belong_to_a_value() {
    let child = Child::new("kt-lives", || {
        let life = || exec_with(c"/bin/sleep", [c"kt-sleep", c"0.002"]);
        fork(23, || clone(libc::SIGCHLD), life);
        reap(23);
    });
    for per in ["p", "p.pid"] {
        let query = format!(
            "count --from sched_process_exec --to sched_process_exit --per {per} \
             --by p.comm,p.real_parent.comm --where p.real_parent.comm=kt-lives"
        );
        let counted = run(query, &[], || child.work());
        assert_naps(&counted.only_row(&["sleep", "kt-lives"]));
    }
}

/// Two values at once, in one task.
#[test]
fn values_are_told_apart() {
    extern "C" fn ignore(_: c_int) {}
    let signals = [libc::SIGRTMIN() + 5, libc::SIGRTMIN() + 6];
    let child = Child::new("kt-pairs", move || {
        // SAFETY: a set of signals on the stack, and a handler that does nothing.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in signals {
                libc::sigaddset(&raw mut set, signal);
                libc::signal(signal, ignore as *const () as libc::sighandler_t);
            }
            for _ in 0..23 {
                libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
                assert_eq!(signals.map(|signal| libc::raise(signal)), [0, 0]);
                sleep(1, NAP);
                libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
            }
        }
    });
    let query = "count --from signal_generate --to signal_deliver --by sig --where comm=kt-pairs";
    let counted = count(format!("{query} --per sig"), &child, &[]);
    for signal in signals {
        assert_naps(&counted.row(&[&signal.to_string()]));
    }
    // By the task the later start takes the place of the earlier one.
    let counted = count(query, &child, &[]);
    assert_naps(&counted.only_row(&[&signals[1].to_string()]));
}

#[test]
fn what_does_not_end_is_not_counted() {
    let child = Child::new("kt-end", || {
        let life = || {
            ask_for_parent(1);
            exit(0);
        };
        fork(23, || clone(libc::SIGCHLD), life);
        reap(23);
    });
    let query = "count --from sys_enter --to sys_exit --by comm,call --where comm=kt-end";
    let counted = run(query, &[], || child.work());
    assert_eq!(counted.row(&["kt-end", "getppid"]).number("events"), 23);
    let mut rows = counted.rows().into_iter();
    assert!(rows.all(|row| !row.labels[1].starts_with("exit")));
}

#[test]
fn a_lost_start_is_counted() {
    const ROOM: usize = 16384;
    let child = Child::new("kt-lost", || {
        let text = vec![0u8; ROOM + 23];
        for byte in &text {
            // SAFETY: an empty text.
            black_box(unsafe { atoi(black_box(byte as *const u8).cast()) });
        }
        // Of the first start, which found room, and of the last one, which did not.
        for byte in [text.first(), text.last()].into_iter().flatten() {
            // SAFETY: an empty text.
            black_box(unsafe { atol(black_box(byte as *const u8).cast()) });
        }
    });
    let functions = "--from uprobe:libc.so.6:atoi --to uprobe:libc.so.6:atol --per arg0";
    let query = format!("count {functions} --by comm");
    let counted = run_with(query, &[("pid", &child.pid())], None, || child.work());
    assert_eq!(counted.dropped(), 23);
    assert_eq!(counted.only_row(&["kt-lost"]).number("events"), 1);
}

#[test]
fn what_does_not_fit_is_named() {
    for (line, words) in [
        (
            "count --from cpu-clock@9 --to cpu-clock@10",
            "--to: `cpu-clock@10` is a timer as the event of --from is",
        ),
        (
            "count --from sys_enter --to sys_exit --per id,ret",
            "--per `id,ret`: write what the event of --to has as `to.EXPR`",
        ),
        (
            "count --from sys_enter --to sys_exit --per id,to.rett",
            "--per, at --to: event `sys_exit`, at position 1: no value named `rett`",
        ),
        ("count sys_exit --by to.ret", "no value named `to`"),
        (
            "count --from sys_enter --to sys_exti",
            "--to: no event named `sys_exti`",
        ),
        (
            "count --from sys_enter --to sys_exit --per ret",
            "--per, at --from: event `sys_enter`, at position 1: no value named `ret`",
        ),
        (
            "count --from sys_enter --to sys_exit --per comm",
            "`comm` is a `char[16]`, and a number or a pointer tells intervals apart",
        ),
        (
            "count --from sys_enter --to sys_exit --by to.rett",
            "--by: event `sys_exit`, at position 1: no value named `rett`",
        ),
        (
            "count --from sys_enter --to sys_exit --sum id",
            "`id`: numbers of an interval are added up when it ends; write `time`, or `to.EXPR`",
        ),
        ("count --from sys_enter", "--to"),
        ("count sys_enter --from sys_enter --to sys_exit", "--from"),
    ] {
        ktally(line).refused(2, &[words]);
    }
}
