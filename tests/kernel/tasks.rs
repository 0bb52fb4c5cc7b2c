//! The tallies about tasks: how they run, sleep, begin, end and signal.

use std::ffi::{CString, c_int};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Instant;

use crate::exact::Cgroup;
use crate::support::{Child, Counted, nap, on_two_cpus, rename, run};

// ---- what children do -------------------------------------------------------

/// Sleeps, so many times. Each is long enough that even a slow machine has left
/// its CPU before it is over.
fn sleep(times: u64, nanoseconds: u64) {
    let time = libc::timespec {
        tv_sec: 0,
        tv_nsec: nanoseconds as i64,
    };
    for _ in 0..times {
        // SAFETY: the kernel reads `time`, and writes nothing.
        unsafe { libc::syscall(libc::SYS_nanosleep, &raw const time, 0) };
    }
}

/// Computes until this thread has spent so much time on a CPU.
fn spin(nanoseconds: i64) {
    let spent = || {
        let mut now = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the kernel writes `now`.
        unsafe {
            libc::syscall(
                libc::SYS_clock_gettime,
                libc::CLOCK_THREAD_CPUTIME_ID,
                &raw mut now,
            )
        };
        now.tv_sec * 1_000_000_000 + now.tv_nsec
    };
    let start = spent();
    while spent() - start < nanoseconds {}
}

/// Forks, so many times, a process that lives this life and then exits with 0.
fn fork(times: u64, flags: c_int, life: impl Fn()) {
    for _ in 0..times {
        // SAFETY: without CLONE_VM this is fork, and the child ends below.
        unsafe {
            let flags = flags | libc::SIGCHLD;
            match libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) {
                0 => {
                    life();
                    libc::_exit(0);
                }
                -1 => libc::_exit(5),
                _ => {}
            }
        }
    }
}

/// Reaps as many.
fn reap(times: u64) {
    for _ in 0..times {
        // SAFETY: asks for no status.
        unsafe { libc::syscall(libc::SYS_wait4, -1, 0, 0, 0) };
    }
}

fn exit(code: c_int) {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) };
}

fn signal_self(signal: c_int) {
    // SAFETY: integers.
    unsafe { libc::syscall(libc::SYS_kill, libc::getpid(), signal) };
}

// ---- cputime ----------------------------------------------------------------

const SPIN: u64 = 20_000_000;

fn run_and_wait() {
    nap(23);
    spin(SPIN as i64);
}

/// Counts a child that [`run_and_wait`]s, beside another that must stay out:
/// the labels of its row.
fn assert_cpu_time(child: &Child, other: &Child, options: &[(&str, &str)]) -> Vec<String> {
    let before = child.switch_counts();
    let start = Instant::now();
    let counted = run("cputime", options, || {
        child.work();
        other.work();
    });
    let elapsed = start.elapsed();
    let after = child.switch_counts();

    counted.assert_whole();
    assert_eq!(counted.rows().len(), 1);
    let row = &counted.rows()[0];
    let ours = ["voluntary", "involuntary"].map(|column| row.number(column));
    assert_eq!(ours, [after[0] - before[0], after[1] - before[1]]);
    let time = row.number("time");
    // The thread's own clock starts earlier in a switch than ours.
    let bounds = u128::from(SPIN - SPIN / 10)..=elapsed.as_nanos();
    assert!(bounds.contains(&time.into()), "{time} is not in {bounds:?}");
    row.labels.clone()
}

/// A name has the time since it was given.
#[test]
fn time_on_a_cpu_of_a_task_that_is_renamed() {
    const BEFORE: u64 = 2_000_000;
    let child = Child::new("kt-renames", || {
        for _ in 0..23 {
            rename(c"kt-renames");
            nap(1);
            spin(BEFORE as i64);
            rename(c"kt-renamed");
            nap(1);
        }
        rename(c"kt-renames");
    });
    let time = |comm| {
        let counted = run("cputime", &[("comm", comm)], || child.work());
        counted.assert_whole();
        counted.sum("time")
    };
    let (before, after) = (time("kt-renames"), time("kt-renamed"));
    assert!(before > 23 * BEFORE * 9 / 10, "{before} ns");
    assert!(after < 23 * BEFORE / 2, "{after} ns");
}

#[test]
fn time_on_a_cpu_by_name_process_and_cgroup() {
    let cgroup = Cgroup::of_root("kt-cputime");
    let child = Child::new("kt-cputime", run_and_wait);
    let twin = Child::new("kt-cputime", run_and_wait);
    cgroup.take(&child);
    let pid = child.pid();
    for (split, labels) in [
        (vec![], ["kt-cputime", "0", "0"]),
        (vec![("by_pid", "true")], ["kt-cputime", &pid, "0"]),
        (vec![("by_cgroup", "true")], ["kt-cputime", "0", "?"]),
    ] {
        let options = [&[("pid", &*pid)], &*split].concat();
        let row = assert_cpu_time(&child, &twin, &options);
        match labels[2] {
            "?" => assert!(cgroup.is(&row[2]), "{row:?}"),
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
    const NAP: u64 = 2_000_000;
    /// The kernel makes no room for a task on a CPU where it was interrupted at
    /// the storage of another tally, which ends: that is told as dropped.
    const ATTEMPTS: usize = 5;
    let child = Child::new("kt-offcpu", || {
        // SAFETY: so that nobody has to reap the forked.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        sleep(23, NAP);
        // Whoever vforks sleeps until the other is gone.
        fork(17, libc::CLONE_VFORK, || sleep(1, NAP));
    });
    let twin = Child::new("kt-offcpu", || nap(23));
    for _ in 0..ATTEMPTS {
        let before = child.switch_counts();
        let counted = run("offcpu", &[("pid", &child.pid())], || {
            child.work();
            twin.work();
        });
        let voluntary = child.switch_counts()[0] - before[0];
        if counted.dropped() > 0 {
            continue;
        }
        counted.assert_whole();
        assert_eq!(counted.sum("blocked"), voluntary);
        // A kernel may switch to a task without its tracepoint: no end then.
        let rows = counted.rows();
        if rows
            .iter()
            .map(|row| row.histogram("latency").0)
            .sum::<u64>()
            < 23 + 17
        {
            continue;
        }
        // The last one is the `read` that it is still in.
        for (state, blocked, ended) in [("interruptible", 24, 23), ("killable", 17, 17)] {
            let row = counted.row(&["kt-offcpu", state]);
            let (observed, time) = row.histogram("latency");
            assert_eq!(time, row.number("time"), "{state}");
            assert!(time >= observed * NAP, "{state}: {time}");
            assert_eq!(
                (row.number("blocked"), observed),
                (blocked, ended),
                "{state}"
            );
        }
        return;
    }
    panic!("sleeps without a place for their start, or without an end, {ATTEMPTS} times");
}

// ---- execs and exits --------------------------------------------------------

#[test]
fn programs_by_parent_and_file() {
    let cgroup = Cgroup::of_root("kt-execs");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kt-true");
    let program = ["/bin/true", "/bin/busybox"].map(Path::new);
    let program = program.into_iter().find(|path| path.exists()).unwrap();
    symlink(program, &path).unwrap();
    let file = CString::new(path.as_os_str().as_bytes()).unwrap();
    let child = Child::new("kt-execs", || {
        fork(23, 0, || {
            let argv = [c"true".as_ptr(), std::ptr::null()];
            let env = &argv[1..];
            // SAFETY: texts and lists that end as they should.
            unsafe {
                // No such program: this does not count.
                let missing = c"/no/such/program".as_ptr();
                libc::syscall(libc::SYS_execve, missing, argv.as_ptr(), env.as_ptr());
                libc::syscall(libc::SYS_execve, file.as_ptr(), argv.as_ptr(), env.as_ptr());
            }
            exit(6);
        });
        reap(23);
    });
    cgroup.take(&child);
    let filter = ("cgroup", cgroup.0.to_str().unwrap());
    for (split, shown) in [
        (vec![], ""),
        (vec![("by_filename", "true")], file.to_str().unwrap()),
    ] {
        let counted = run("execs", &[&[filter], &*split].concat(), || child.work());
        counted.assert_whole();
        assert_eq!(counted.rows().len(), 1);
        let row = counted.row(&["kt-true", "kt-execs", shown]);
        assert_eq!(row.number("execs"), 23);
    }
}

/// Of a file's path, 255 bytes are kept; what is longer ends in an ellipsis.
#[test]
fn paths_of_programs_that_are_long() {
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("d".repeat(150));
    std::fs::create_dir(&long).unwrap();
    let program = ["/bin/true", "/bin/busybox"].map(Path::new);
    let program = program.into_iter().find(|path| path.exists()).unwrap();
    for bytes in [200, 255, 256, 300] {
        let name = bytes - long.as_os_str().len() - 1;
        let path = long.join(format!("{:k<name$}", "kt-long-"));
        symlink(program, &path).unwrap();
        let file = CString::new(path.as_os_str().as_bytes()).unwrap();
        let child = Child::new("kt-long", || {
            fork(7, 0, || {
                let argv = [c"true".as_ptr(), std::ptr::null()];
                // SAFETY: texts and lists that end as they should.
                unsafe { libc::syscall(libc::SYS_execve, file.as_ptr(), argv.as_ptr(), &argv[1]) };
                exit(6);
            });
            reap(7);
        });
        let options = [("by_filename", "true"), ("comm", "kt-long-kkkkkkk")];
        let counted = run("execs", &options, || child.work());
        counted.assert_whole();
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
        fork(23, 0, || exit(7));
        fork(5, 0, || signal_self(libc::SIGKILL));
        fork(3, 0, || signal_self(libc::SIGUSR1));
        // Of two threads: the other's end is not the process's.
        fork(2, 0, || {
            on_two_cpus(1, |_, _| {});
            exit(8);
        });
        // And of two, of which one still runs.
        fork(2, 0, || {
            on_two_cpus(1, |thread, _| match thread {
                0 => exit(9),
                _ => nap(1_000_000),
            });
        });
        reap(35);
    });
    cgroup.take(&child);
    let filter = [("cgroup", cgroup.0.to_str().unwrap())];
    let counted = run("exits", &filter, || child.work());
    counted.assert_whole();
    assert_eq!(counted.rows().len(), 5);
    for (code, signal, exits) in [
        ("7", "0", 23),
        ("0", "SIGKILL", 5),
        ("0", "SIGUSR1", 3),
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
    let moment = libc::timeval {
        tv_sec: 0,
        tv_usec: 100,
    };
    let never = libc::timeval {
        tv_sec: 0,
        tv_usec: 0,
    };
    let timer = libc::itimerval {
        it_interval: never,
        it_value: moment,
    };
    // SAFETY: the kernel reads sets of 8 bytes and a timer.
    unsafe {
        let block = libc::SIG_BLOCK;
        libc::syscall(libc::SYS_rt_sigprocmask, block, &raw const blocked, 0, 8);
        libc::syscall(libc::SYS_setitimer, libc::ITIMER_REAL, &raw const timer, 0);
        libc::syscall(libc::SYS_rt_sigtimedwait, &raw const alarm, 0, 0, 8);
    }
}

fn kill(pid: c_int, signal: c_int) {
    // SAFETY: integers.
    unsafe { libc::syscall(libc::SYS_kill, pid, signal) };
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
    let counted = run("signals", &[("pid", &target.pid())], || {
        [&sender, &target, &twin].into_iter().for_each(Child::work);
    });
    counted.assert_whole();
    assert_eq!(counted.rows().len(), 3);
    for (signal, sender, signals, lost) in [
        ("SIGRTMIN+1", "kt-sender", 23, 0),
        // Only one of a kind waits.
        ("SIGUSR1", "kt-sender", 23, 22),
        ("SIGALRM", "[kernel]", 1, 0),
    ] {
        let row = counted.row(&[signal, "kt-target", sender]);
        assert_eq!(row.number("signals"), signals, "{signal}");
        assert_eq!(row.number("lost"), lost, "{signal}");
    }
}

/// Two senders, each on a CPU of its own.
#[test]
fn signals_of_one_cpu() {
    let target = Child::new("kt-cpu-target", wait_for_alarm);
    let pid = target.pid();
    let number = pid.parse().unwrap();
    let count = |options: &[(&str, &str)], times: u64| -> Counted {
        let sender = Child::new("kt-cpu", || on_two_cpus(times, |_, _| kill(number, QUEUED)));
        run("signals", &[&[("pid", &*pid)], options].concat(), || {
            sender.work();
        })
    };
    target.work();
    for (options, signals) in [
        (vec![], 46),
        (vec![("cpu", "0")], 23),
        (vec![("cpu", "1")], 23),
    ] {
        let counted = count(&options, 23);
        counted.assert_whole();
        let row = counted.row(&["SIGRTMIN+1", "kt-cpu-target", "kt-cpu"]);
        assert_eq!(row.number("signals"), signals, "{options:?}");
    }
}
