//! The tallies about tasks: how they run, sleep, begin, end and signal.

use std::collections::BTreeSet;
use std::ffi::{CString, c_int};
use std::time::{Duration, Instant};

use crate::support::{
    Cgroup, Child, Row, clone, count, exec, exec_with, exit, fork, kill, link_true, nap,
    on_two_cpus, pin, raise, reap, rename, run, run_with, set_timer, sleep, spin, work,
};

// ---- runqlen ----------------------------------------------------------------

/// Five that compute on the first CPU: one runs, so four wait, if no other does.
#[test]
fn the_queue_of_a_cpu_has_who_waits() {
    const SPINNING: u64 = 5;
    let child = Child::new("kt-queue", || {
        let life = || {
            pin(0);
            spin(Duration::from_millis(100));
        };
        fork(SPINNING, || clone(0), life);
        reap(SPINNING);
    });
    let counted = run("runqlen", &[("hz", "499"), ("cpu", "0")], || child.work());
    let row = counted.only_row(&["0"]);
    let (samples, sum) = row.histogram("waiting");
    let max = row.number("max");
    assert!(max >= SPINNING - 1, "{row:?}");
    // While all of them compute.
    assert!(samples > 0 && sum >= samples, "{row:?}");
}

// ---- runqlat ----------------------------------------------------------------

/// It is asleep before and after: it gets as many CPUs as it leaves, and waits
/// for each of them.
#[test]
fn waits_for_a_cpu_are_as_many_as_switches() {
    /// A kernel of a virtual machine was seen to switch some tasks without its
    /// tracepoint, which ftrace did not see either.
    const ATTEMPTS: usize = 5;
    let by_comm = [("by_comm", "true")];
    for (options, labels) in [(&[][..], &[][..]), (&by_comm, &["kt-runqlat"])] {
        let child = Child::new("kt-runqlat", || nap(23));
        let is_exact = |_| {
            let before = child.switches();
            let counted = count("runqlat", &child, options);
            let switches = child.switches() - before;
            // In an emulated machine a nap may be over before it sleeps.
            assert!(switches > 11, "naps do not sleep: {switches}");
            let (waits, time) = counted.only_row(labels).histogram("latency");
            assert!(waits <= switches, "{waits} of {switches}");
            assert!(time > 0);
            waits == switches
        };
        assert!((0..ATTEMPTS).any(is_exact), "never, {ATTEMPTS} times");
    }
}

// ---- cputime ----------------------------------------------------------------

const SPIN: Duration = Duration::from_millis(20);

fn run_and_wait() {
    nap(23);
    spin(SPIN);
}

/// Counts a child that [`run_and_wait`]s, beside another that must stay out:
/// the labels of its row.
fn assert_cpu_time(child: &Child, other: &Child, options: &[(&str, &str)]) -> Vec<String> {
    let before = child.switch_counts();
    let start = Instant::now();
    let counted = run("cputime", options, || work(&[child, other]));
    let elapsed = start.elapsed();
    let after = child.switch_counts();

    assert_eq!(counted.rows().len(), 1);
    let row = &counted.rows()[0];
    let ours = row.numbers(["voluntary", "involuntary"]);
    assert_eq!(ours, [after[0] - before[0], after[1] - before[1]]);
    let time = row.number("time");
    // The thread's own clock starts earlier in a switch than ours.
    let bounds = (SPIN - SPIN / 10).as_nanos()..=elapsed.as_nanos();
    assert!(bounds.contains(&time.into()), "{time} is not in {bounds:?}");
    row.labels.clone()
}

/// A name has the time since it was given.
#[test]
fn time_on_a_cpu_of_a_task_that_is_renamed() {
    const BEFORE: Duration = Duration::from_millis(8);
    let child = Child::new("kt-renames", || {
        for _ in 0..23 {
            rename(c"kt-renames");
            nap(1);
            spin(BEFORE);
            rename(c"kt-renamed");
            nap(1);
        }
        rename(c"kt-renames");
    });
    let time = |comm| {
        let counted = run("cputime", &[("comm", comm)], || child.work());
        Duration::from_nanos(counted.sum("time"))
    };
    let (before, after) = (time("kt-renames"), time("kt-renamed"));
    assert!(before > 23 * BEFORE * 9 / 10, "{before:?}");
    assert!(after < 23 * BEFORE / 2, "{after:?}");
}

#[test]
fn time_on_a_cpu_by_name_process_and_cgroup() {
    let cgroup = Cgroup::of_root("kt-cputime");
    let child = Child::new("kt-cputime", run_and_wait);
    let twin = Child::new("kt-cputime", run_and_wait);
    cgroup.take(&child);
    let pid = child.pid();
    for (split, labels) in [
        (vec![], vec!["kt-cputime"]),
        (vec![("by_pid", "true")], vec!["kt-cputime", &pid]),
        (vec![("by_cgroup", "true")], vec!["kt-cputime", "?"]),
    ] {
        let options = [&[("pid", &*pid)], &*split].concat();
        let row = assert_cpu_time(&child, &twin, &options);
        match labels[..] {
            [_, "?"] => assert!(cgroup.is(&row[1]), "{row:?}"),
            _ => assert_eq!(row, labels),
        }
    }
}

/// The event is about the task that leaves the CPU; so are the filters.
#[test]
fn filters_of_a_task_that_leaves_its_cpu() {
    let (outer, beside) = (
        Cgroup::of_root("kt-left"),
        Cgroup::of_root("kt-left-beside"),
    );
    let inner = Cgroup::new(outer.0.clone(), "inner");
    let comm = format!("kt-l{}", std::process::id());
    let child = Child::with_uid(&comm, 54_324, run_and_wait);
    let other = Child::with_uid("kt-left", 54_325, run_and_wait);
    beside.take(&other);
    for (name, text) in [("comm", &*comm), ("uid", "54324")] {
        assert_cpu_time(&child, &other, &[(name, text)]);
    }
    let path = outer.0.to_str().unwrap();
    for cgroup in [&outer, &inner] {
        cgroup.take(&child);
        assert_cpu_time(&child, &other, &[("cgroup", path)]);
    }
    // Dropped before their cgroups.
    drop((child, other));
}

// ---- offcpu -----------------------------------------------------------------

#[test]
fn sleeps_by_state() {
    const NAP: Duration = Duration::from_millis(2);
    /// The kernel gives a task no storage on a CPU where it was interrupted at
    /// the storage of another tally, which ends: that counts as dropped.
    const ATTEMPTS: usize = 5;
    let child = Child::new("kt-offcpu", || {
        // SAFETY: so that the forked need not be reaped.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        sleep(23, NAP);
        // A task that calls vfork sleeps until the other is gone.
        fork(17, || clone(libc::CLONE_VFORK), || sleep(1, NAP));
    });
    let twin = Child::new("kt-offcpu", || nap(23));
    for _ in 0..ATTEMPTS {
        let before = child.switch_counts();
        let counted = run_with("offcpu", &[("pid", &child.pid())], None, || {
            work(&[&child, &twin]);
        });
        let voluntary = child.switch_counts()[0] - before[0];
        if counted.dropped() > 0 {
            continue;
        }
        counted.assert_whole();
        assert_eq!(counted.sum("blocked"), voluntary);
        // A kernel may switch to a task without its tracepoint: no end then.
        let ends = counted
            .rows()
            .into_iter()
            .map(|row| row.histogram("latency").0);
        if ends.sum::<u64>() < 23 + 17 {
            continue;
        }
        // The last one is the `read` that it is still in.
        for (state, blocked, ended) in [("interruptible", 24, 23), ("killable", 17, 17)] {
            let row = counted.row(&["kt-offcpu", state]);
            let (observed, time) = row.histogram("latency");
            // The time of the first one is of the `read` before counting began.
            let partial = row.number("time") - time;
            assert!(
                partial == 0 || state == "interruptible",
                "{state}: {partial}"
            );
            let least = u128::from(observed) * NAP.as_nanos();
            assert!(u128::from(time) >= least, "{state}: {time}");
            let sleeps = [row.number("blocked"), observed];
            assert_eq!(sleeps, [blocked, ended], "{state}");
        }
        return;
    }
    panic!("sleeps without a place for their start, or without an end, {ATTEMPTS} times");
}

// ---- execs and exits --------------------------------------------------------

/// Makes this number of children that run another program, and reaps them.
fn in_children(times: u64, exec: impl Fn()) {
    fork(
        times,
        || clone(0),
        || {
            exec();
            exit(6);
        },
    );
    reap(times);
}

#[test]
fn programs_by_parent_and_file() {
    let cgroup = Cgroup::of_root("kt-execs");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kt-true");
    let file = link_true(&path);
    let child = Child::new("kt-execs", || {
        in_children(23, || {
            // A program that does not exist: this does not count.
            exec(c"/no/such/program");
            exec(&file);
        });
    });
    cgroup.take(&child);
    let filter = ("cgroup", cgroup.0.to_str().unwrap());
    for (split, shown) in [
        (vec![], None),
        (vec![("by_filename", "true")], Some(file.to_str().unwrap())),
    ] {
        let counted = run("execs", &[&[filter], &*split].concat(), || child.work());
        let labels = ["kt-true", "kt-execs"].into_iter().chain(shown);
        let row = counted.only_row(&labels.collect::<Vec<_>>());
        assert_eq!(row.number("execs"), 23);
    }
}

/// Of the arguments, 191 bytes are kept, with a space between them.
#[test]
fn programs_by_their_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let file = link_true(&folder.path().join("kt-args"));
    for bytes in [5, 191, 192, 300] {
        let long = CString::new("k".repeat(bytes - 4)).unwrap();
        let child = Child::new("kt-arg", || {
            in_children(7, || exec_with(&file, [c"kt", c"", &long]));
        });
        let options = [("by_args", "true"), ("comm", "kt-args")];
        let counted = run("execs", &options, || child.work());
        let args = format!("kt  {}", long.to_str().unwrap());
        assert_eq!(args.len(), bytes);
        let shown = match args.get(..188).filter(|_| bytes > 191) {
            Some(start) => format!("{start}…"),
            None => args,
        };
        let row = counted.only_row(&["kt-args", "kt-arg", &shown]);
        assert_eq!(row.number("execs"), 7);
    }
}

/// Each with its parent.
#[test]
fn programs_by_process() {
    let folder = tempfile::tempdir().unwrap();
    let file = link_true(&folder.path().join("kt-by-pid"));
    let start = || in_children(7, || exec(&file));
    let parents = [
        Child::new("kt-parent", start),
        Child::new("kt-parent", start),
    ];
    let options = [("by_pid", "true"), ("comm", "kt-by-pid")];
    let counted = run("execs", &options, || parents.iter().for_each(Child::work));
    let rows = counted.rows();
    let pids: BTreeSet<&String> = rows.iter().map(|row| &row.labels[1]).collect();
    assert_eq!((pids.len(), counted.sum("execs")), (14, 14));
    for parent in parents {
        let is_of = |row: &&Row<'_>| row.labels[2..] == ["kt-parent", &parent.pid()];
        assert_eq!(rows.iter().filter(is_of).count(), 7);
    }
}

/// Of a file's path, 255 bytes are kept; what is longer ends in an ellipsis.
#[test]
fn paths_of_programs_that_are_long() {
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("d".repeat(150));
    std::fs::create_dir(&long).unwrap();
    for bytes in [200, 255, 256, 300] {
        let name = bytes - long.as_os_str().len() - 1;
        let path = long.join(format!("{:k<name$}", "kt-long-"));
        let file = link_true(&path);
        let child = Child::new("kt-long", || {
            in_children(7, || exec(&file));
        });
        let options = [("by_filename", "true"), ("comm", "kt-long-kkkkkkk")];
        let counted = run("execs", &options, || child.work());
        let path = path.to_str().unwrap();
        assert_eq!(path.len(), bytes);
        let shown = match path.get(..252).filter(|_| bytes > 255) {
            Some(start) => format!("{start}…"),
            None => path.to_owned(),
        };
        let row = counted.row(&["kt-long-kkkkkkk", "kt-long", &shown]);
        assert_eq!(row.number("execs"), 7);
    }
}

#[test]
fn processes_by_how_they_end() {
    let cgroup = Cgroup::of_root("kt-exits");
    let child = Child::new("kt-exits", || {
        fork(23, || clone(0), || exit(7));
        fork(5, || clone(0), || raise(libc::SIGKILL));
        fork(3, || clone(0), || raise(libc::SIGUSR1));
        // Of two threads: the other's end is not the process's.
        fork(
            2,
            || clone(0),
            || {
                on_two_cpus(1, |_, _| {});
                exit(8);
            },
        );
        // And of two, of which one still runs.
        fork(
            2,
            || clone(0),
            || {
                on_two_cpus(1, |thread, _| match thread {
                    0 => exit(9),
                    _ => nap(1_000_000),
                });
            },
        );
        reap(35);
    });
    cgroup.take(&child);
    let filter = [("cgroup", cgroup.0.to_str().unwrap())];
    let counted = run("exits", &filter, || child.work());
    assert_eq!(counted.rows().len(), 5);
    for (code, signal, exits) in [
        ("7", "0", 23),
        ("137", "SIGKILL", 5),
        ("138", "SIGUSR1", 3),
        ("8", "0", 2),
        ("9", "0", 2),
    ] {
        let row = counted.row(&["kt-exits", code, signal]);
        assert_eq!(row.number("exits"), exits, "{code} {signal}");
    }
}

// ---- signals ----------------------------------------------------------------

/// A real-time signal: as many as are sent wait for the target.
const QUEUED: c_int = 35;

/// Sleeps until a timer of its own sends it a signal, other signals waiting.
fn wait_for_alarm() {
    let set = |signals: &[c_int]| signals.iter().fold(0u64, |set, it| set | 1 << (it - 1));
    let blocked = set(&[libc::SIGUSR1, libc::SIGALRM, QUEUED]);
    let alarm = set(&[libc::SIGALRM]);
    // SAFETY: the kernel reads sets of 8 bytes.
    unsafe {
        let block = libc::SIG_BLOCK;
        libc::syscall(libc::SYS_rt_sigprocmask, block, &raw const blocked, 0, 8);
        set_timer(100, 0);
        libc::syscall(libc::SYS_rt_sigtimedwait, &raw const alarm, 0, 0, 8);
    }
}

#[test]
fn signals_by_sender_and_target() {
    let target = Child::new("kt-target", wait_for_alarm);
    let twin = Child::new("kt-target", wait_for_alarm);
    let pids = [&target, &twin].map(|child| child.pid().parse().unwrap());
    let sender = Child::new("kt-sender", || {
        for pid in pids {
            for _ in 0..23 {
                kill(pid, QUEUED);
                kill(pid, libc::SIGUSR1);
            }
        }
    });
    // From here on they hold signals back.
    [&target, &twin].into_iter().for_each(Child::work);
    let (pid, from) = (target.pid(), sender.pid());
    let counted = run("signals", &[("pid", &pid), ("by_pid", "true")], || {
        [&sender, &target, &twin].into_iter().for_each(Child::work);
    });
    assert_eq!(counted.rows().len(), 3);
    for (signal, sender, signals, lost) in [
        ("SIGRTMIN+1", "kt-sender", 23, 0),
        // Only one of a kind waits.
        ("SIGUSR1", "kt-sender", 23, 22),
        ("SIGALRM", "[kernel]", 1, 0),
    ] {
        let from = if sender == "kt-sender" { &from } else { "0" };
        let row = counted.row(&["kt-target", &pid, sender, from, signal]);
        let numbers = row.numbers(["signals", "lost"]);
        assert_eq!(numbers, [signals, lost], "{signal}");
    }
}

/// Two senders, each on a CPU of its own.
#[test]
fn signals_of_one_cpu() {
    let target = Child::new("kt-cpu-target", wait_for_alarm);
    let pid = target.pid();
    let number = pid.parse().unwrap();
    target.work();
    let cpu = |cpu| vec![("pid", &*pid), ("cpu", cpu)];
    for (options, signals) in [(vec![("pid", &*pid)], 46), (cpu("0"), 23), (cpu("1"), 23)] {
        let sender = Child::new("kt-cpu", || on_two_cpus(23, |_, _| kill(number, QUEUED)));
        let counted = run("signals", &options, || sender.work());
        let row = counted.row(&["kt-cpu-target", "kt-cpu", "SIGRTMIN+1"]);
        assert_eq!(row.number("signals"), signals, "{options:?}");
    }
}
