//! Bad luck: what runs short, breaks or changes while ktally counts. Each time
//! the counts are right, or an error says what is wrong; nothing stays.
//!
//! What changes the whole host is ignored here: `tests/vm/` runs it, in machines
//! of its own.

use std::fs;
use std::thread;
use std::time::{Duration, SystemTime};

use crate::common::{Args, PROGRAM, command, end, ktally, limit as restrict, program};
use crate::instances::Host;
use crate::objects::Objects;
use crate::run::{ENOENT, GETPPID, Run, sum, total};
use crate::support::{Child, Limited, Source, ask_for_parent, fail_to_open, needs, terminal};

const BPFFS: &str = "/sys/fs/bpf";

/// A run of `syscalls`, each 100 ms, that counts this process.
fn counting(pid: String) -> Run {
    Run::counting(&format!("syscalls -o jsonl --every 100ms --pid {pid}"))
}

/// A child's 23 failures to open are counted.
fn assert_failures(child: &Child) {
    let mut run = Run::counting(&format!("failures -o json --pid {}", child.pid()));
    child.work();
    assert_eq!(sum(&run.stop().json(), ENOENT, "calls"), 23);
}

// ---- what runs short --------------------------------------------------------

/// A table of a million rows does not fit; no process is killed for it.
#[test]
fn a_memory_cgroup_that_is_too_small() {
    needs((5, 13), "task storage");
    let limited = Limited::new("kt-short", 64 << 20);
    let script = "for it in $1; do echo $$ >$it/cgroup.procs; done; shift; exec \"$@\"";
    let folders = limited.folders();
    let run = |rows: &str| {
        let args = ["-c", script, "sh", &folders, PROGRAM, "run", "syscalls"];
        end(command("sh")
            .args(args)
            .args(["--for", "0", "--max-rows", rows]))
    };
    let words = ["`syscalls`", "out of memory", "--max-rows", "cgroup"];
    run("1000000").refused(1, &words);
    run("100").good();
}

/// Whichever descriptor it is that it does not get, it says so.
#[test]
fn too_few_descriptors() {
    let mut worked = 0;
    for limit in 4.. {
        let mut ktally = "run failures --for 0 -o json".pass_to(program());
        let ended = end(restrict(&mut ktally, libc::RLIMIT_NOFILE, limit));
        if ended.code == 0 {
            worked += 1;
            if worked == 5 {
                break;
            }
            continue;
        }
        assert!(limit < 40, "it never works");
        ended.refused(1, &["open files"]);
        assert_eq!(worked, 0, "{limit}");
    }
}

#[test]
fn a_hundred_runs_at_once() {
    let child = Child::new("kt-hundred", || fail_to_open(23));
    let args = format!("failures -v -o json --pid {}", child.pid());
    let mut runs: Vec<Run> = (0..100).map(|_| Run::start(&args)).collect();
    runs.iter().for_each(Run::wait_until_counting);
    child.work();
    let objects: Vec<_> = runs.iter().map(Run::objects).collect();
    runs.iter().for_each(|run| run.signal(libc::SIGINT));
    for run in &mut runs {
        assert_eq!(sum(&run.end().json(), ENOENT, "calls"), 23);
    }
    objects.iter().for_each(Objects::wait_until_gone);
}

// ---- what breaks ------------------------------------------------------------

/// Stopped, it does not read; the programs count on.
#[test]
fn stopped_and_continued() {
    let child = Child::new("kt-stopped", || ask_for_parent(23));
    let mut run = counting(child.pid());
    let stopped = Duration::from_secs(2);
    run.signal(libc::SIGSTOP);
    child.work();
    thread::sleep(stopped);
    child.work();
    run.signal(libc::SIGCONT);
    child.work();
    let readings = run.stop().json_lines();
    assert_eq!(total(&readings, GETPPID), 3 * 23);
    // An interval is as long as it was.
    let longest = readings.iter().map(|it| it["seconds"].as_f64().unwrap());
    let longest = longest.fold(0.0, f64::max);
    assert!(longest >= stopped.as_secs_f64() * 0.9, "{longest}");
    assert!(readings.iter().all(|it| it["incomplete"] == false));
}

/// What it writes to is closed from the other side, as when a window is.
#[test]
fn a_terminal_that_vanishes() {
    let child = Child::new("kt-terminal", || ask_for_parent(23));
    let [master, slave] = terminal();
    let line = format!("run syscalls -v --every 50ms --pid {}", child.pid());
    let mut run = Run::with_output(&mut line.pass_to(program()), slave);
    run.wait_until_counting();
    let objects = run.objects();
    drop(master);
    child.work();
    let ended = run.end();
    assert!((0..=1).contains(&ended.code), "{ended:?}");
    objects.wait_until_gone();
}

/// What is pinned can be read, and changed when it can be written again. (bpffs
/// has no size and no number of inodes, so it is never full.)
#[test]
fn a_bpffs_that_is_read_only() {
    let host = Host::new();
    let child = Child::new("kt-readonly", || fail_to_open(23));
    let mounted = |how: &str| {
        let status = host.inside("mount").args(["-o", how, BPFFS]).status();
        assert!(status.unwrap().success(), "{how}");
    };
    host.good(&format!("attach failures --pid {}", child.pid()));
    let (pins, objects) = (host.pins(), host.objects("failures"));
    mounted("remount,ro");
    for line in [
        "attach failures --as two",
        "attach failures --replace",
        "detach failures",
        "detach --all",
    ] {
        let ended = host.ktally(line);
        ended.failed(1, &["mounted read-only", "mount -o remount,rw"]);
        assert_eq!(host.pins(), pins, "{line}");
    }
    child.work();
    assert_eq!(host.calls("read failures -o json", ENOENT), 23);
    mounted("remount,rw");
    child.work();
    assert_eq!(host.calls("detach failures -o json", ENOENT), 46);
    assert_eq!(host.pins(), [""; 0]);
    objects.wait_until_gone();
}

/// Tallies of tracepoints that need it say so; all others do without.
#[test]
fn without_tracefs() {
    let host = Host::new();
    let source = Source::new(
        r#"TALLY("a tracepoint");
struct seen {
	__u64 calls COUNTER("calls");
};
ARRAY_TABLE(seen, struct seen, 1, "calls");
SEC("tracepoint/raw_syscalls/sys_enter")
int enter(void *ctx)
{
	return 0;
}
"#,
    );
    let without = "umount -l /sys/kernel/tracing; umount -l /sys/kernel/debug; exec \"$@\"";
    let run = |tally: &str| {
        let args = ["-c", without, "sh", PROGRAM, "run", tally, "--for", "0"];
        end(host.inside("sh").args(args))
    };
    let words = ["tracefs is not mounted", "mount -t tracefs tracefs"];
    run(&source.arg()).refused(1, &words);
    run("failures").good();
}

// ---- what changes the host: in machines of its own ---------------------------

/// Its rows stay, and a CPU that is gone counts nothing.
#[test]
#[ignore = "changes the host"]
fn a_cpu_that_goes_and_comes() {
    const ONLINE: &str = "/sys/devices/system/cpu/cpu1/online";
    let child = Child::new("kt-offline", || ask_for_parent(23));
    let filter = format!("--pid {}", child.pid());
    for (tally, filter) in [
        ("syscalls", &*filter),
        ("profile", &filter),
        ("softirqs", ""),
    ] {
        let mut run = Run::counting(&format!("{tally} -o jsonl --every 100ms {filter}"));
        for online in ["0", "1"] {
            child.work();
            fs::write(ONLINE, online).unwrap();
            child.work();
        }
        let readings = run.stop().json_lines();
        assert!(readings.iter().all(|it| it["incomplete"] == false));
        if tally == "syscalls" {
            assert_eq!(total(&readings, GETPPID), 4 * 23);
        }
    }
}

/// Intervals are of the clock that cannot be set.
#[test]
#[ignore = "changes the host"]
fn a_clock_that_is_set_back() {
    let child = Child::new("kt-clock", || ask_for_parent(23));
    let mut run = counting(child.pid());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let hour_ago = libc::timespec {
        tv_sec: now.unwrap().as_secs() as i64 - 3600,
        tv_nsec: 0,
    };
    child.work();
    // SAFETY: the kernel reads the time.
    let ret = unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const hour_ago) };
    assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
    child.work();
    let readings = run.stop().json_lines();
    assert_eq!(total(&readings, GETPPID), 2 * 23);
    for reading in &readings {
        let seconds = reading["seconds"].as_f64().unwrap();
        assert!((0.0..60.0).contains(&seconds), "{reading}");
    }
}

/// Counting is of no use to who may not read the kernel, but root still may.
#[test]
#[ignore = "changes the host"]
fn without_bpf_for_the_unprivileged() {
    fs::write("/proc/sys/kernel/unprivileged_bpf_disabled", "1").unwrap();
    let child = Child::new("kt-sysctl", || fail_to_open(23));
    assert_failures(&child);
}

/// For good: nothing else runs after it, so its name is the last. Tallies may
/// not follow the kernel's pointers any more, and all others count on.
#[test]
#[ignore = "changes the host"]
fn zz_lockdown() {
    fs::write("/sys/kernel/security/lockdown", "confidentiality").unwrap();
    let child = Child::new("kt-lockdown", || fail_to_open(23));
    assert_failures(&child);
    ktally("run failures --cgroup /sys/fs/cgroup --for 0").refused(1, &["lockdown"]);
}
