//! `ktally rotate` of tallies that measure from one event to another: what begins in
//! one set and ends in the other has its time, once.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use ktally::schema::MetricKind;
use ktally::tally::{Support, Tally};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;

use crate::instances::Host;
use crate::rotate::{all, rotate_while};
use crate::run::rows_of;
use crate::stacks::{kt_sleeps, this_program};
use crate::support::{
    Cgroup, Child, clone, fail_to_open, fork, nap, needs, on_two_cpus, reap, spin, wait_until,
};
use crate::under_way::run_time;

/// Whether it says what is under way.
fn is_timed(tally: &Tally) -> bool {
    let tables = tally.schema.tables.iter();
    let mut metrics = tables.flat_map(|table| &table.metrics);
    metrics.any(|metric| metric.kind == MetricKind::UnderWay)
}

/// What it needs to be attached: a function of this program, or of the kernel.
fn options_of(tally: &Tally, function: &str) -> String {
    let has = |name: &str| tally.schema.options.iter().any(|it| it.name == name);
    match (has("function"), has("path")) {
        (true, true) => format!("--path {} --function {function}", this_program()),
        (true, false) => "--function do_filp_open".to_owned(),
        _ => String::new(),
    }
}

/// The gaps in what the kernel has reported.
fn gaps(readings: &[Value]) -> u64 {
    let gaps = readings.iter().filter_map(|it| it["gaps"].as_u64());
    gaps.sum()
}

/// A bit of everything: sleeps, calls, processes, files, both CPUs.
fn busy() {
    kt_sleeps();
    fork(5, || clone(0), || nap(1));
    reap(5);
    on_two_cpus(2000, |_, _| fail_to_open(1));
}

/// Whatever the whole host does: each event that ended has added its time to the
/// counter and to the histogram of one set.
#[test]
fn every_tally_with_a_time_can_be_rotated() {
    /// They also have the time of what began before counting, which is in no histogram.
    const SEEDED: [&str; 3] = ["cgroups", "cputime", "offcpu"];
    let (host, support) = (Host::new(), Support::probe());
    let child = Child::new("kt-busy", busy);
    let mut events = BTreeMap::new();
    let tallies = Tally::builtins().unwrap().into_iter().filter(is_timed);
    for tally in tallies.filter(|it| support.obstacles(it).is_empty()) {
        let (name, options) = (&tally.name, options_of(&tally, "kt_sleeps"));
        host.good(&format!("attach {name} --rotatable {options}"));
        let mut readings = rotate_while(&host, name, &child);
        // The last one has what is under way.
        readings.pop();
        let rows = |reading: &Value| {
            let other = reading["tables"][0].get("other").cloned();
            let rows = rows_of(reading).iter().cloned();
            rows.chain(other).collect::<Vec<Value>>()
        };
        for row in readings.iter().flat_map(rows) {
            let ended = row["latency"]["sum"].as_u64();
            if let Some((time, ended)) = row["time"].as_u64().zip(ended) {
                let is_seeded = SEEDED.contains(&&**name);
                assert!(time == ended || is_seeded && time > ended, "{name}: {row}");
            }
        }
        events.insert(name.clone(), all(&readings, |row| &row["latency"]["count"]));
    }
    assert_eq!(host.pins(), [""; 0]);
    eprintln!("{events:?}");
    let counting = events.values().filter(|events| **events > 0);
    assert!(counting.count() >= 3, "{events:?}");
}

/// Opens a pipe: that waits for one who writes.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn kt_waits(path: *const c_char) -> i64 {
    // SAFETY: a text that lives.
    unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, libc::O_RDONLY) }
}

/// It begins in one set, lasts for some rotations, and ends in another set.
#[test]
fn what_waits_has_its_time_where_it_ends() {
    needs((5, 13), "task storage");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    let pipe = CString::new(path.as_os_str().as_bytes()).unwrap();
    let child = Child::new("kt-waits", move || _ = kt_waits(pipe.as_ptr()));
    let (host, support) = (Host::new(), Support::probe());
    let rows = [
        ("syscalls", ("call", "openat")),
        ("offcpu", ("state", "interruptible")),
        ("ufunc", ("comm", "kt-waits")),
        ("kfunc", ("function", "do_filp_open")),
    ];
    for (name, label) in rows {
        let tally = Tally::find(name.as_ref()).unwrap();
        if !support.obstacles(&tally).is_empty() {
            continue;
        }
        let (pid, options) = (child.pid(), options_of(&tally, "kt_waits"));
        host.good(&format!("attach {name} --rotatable --pid {pid} {options}"));
        let rotate = || host.json(&format!("rotate {name} -o json"));
        let begun = Instant::now();
        child.start();
        let opens = format!("{} ", libc::SYS_openat);
        wait_until("the child waits", || {
            let call = fs::read_to_string(format!("/proc/{pid}/syscall"));
            call.is_ok_and(|call| call.starts_with(&opens))
        });
        let waits = Instant::now();
        let before: Vec<Value> = (0..3).map(|_| rotate()).collect();
        let least = waits.elapsed();
        drop(File::options().write(true).open(&path).unwrap());
        child.wait();
        let (most, after) = (begun.elapsed(), rotate());
        host.good(&format!("detach {name}"));

        let sum = |reading: &Value, column: &str| {
            let rows = rows_of(reading).iter();
            let rows = rows.filter(|row| row[label.0] == label.1);
            let rows = rows.map(|row| row.pointer(column).unwrap().as_u64().unwrap());
            rows.sum::<u64>()
        };
        let what = format!("{name}: {before:?}, {after}");
        if gaps(&before) + gaps(std::slice::from_ref(&after)) > 0 {
            eprintln!("not all of it was reported: {what}");
            continue;
        }
        // In the first one, offcpu has the end of the sleep before.
        assert!(before[1..].iter().all(|it| sum(it, "/time") == 0), "{what}");
        assert_eq!(sum(&after, "/latency/count"), 1, "{what}");
        let time = Duration::from_nanos(sum(&after, "/time"));
        assert!(least <= time && time <= most, "{least:?} {most:?} {what}");
    }
    assert_eq!(host.pins(), [""; 0]);
}

/// All that it computed is in one reading or another.
#[test]
fn what_computes_has_its_time_in_all_readings() {
    let child = Child::new("kt-computes", || {
        for _ in 0..50 {
            spin(Duration::from_millis(4));
            nap(1);
        }
    });
    let (host, group) = (Host::new(), Cgroup::of_root("kt-computes"));
    group.take(&child);
    for (name, column) in [("cputime", "time"), ("cgroups", "cpu_time")] {
        let filter = match name {
            "cgroups" => format!("--cgroup {}", group.0.display()),
            _ => format!("--pid {}", child.pid()),
        };
        host.good(&format!("attach {name} --rotatable {filter}"));
        let (begun, before) = (Instant::now(), run_time(&child.pid()));
        let readings = rotate_while(&host, name, &child);
        let used = run_time(&child.pid()) - before;
        let most = begun.elapsed().as_nanos() as u64;
        let time = all(&readings, |row| &row[column]);
        // The clock of the task starts earlier in a switch than ours.
        let least = used - used / 10;
        assert!(
            (least..=most).contains(&time) || gaps(&readings) > 0,
            "{name}: {time} of {used} to {most}"
        );
    }
    assert_eq!(host.pins(), [""; 0]);
    drop(child);
    // Only what has left it can be removed.
    wait_until("the cgroup is empty", || {
        fs::read(group.0.join("cgroup.procs")).is_ok_and(|pids| pids.is_empty())
    });
}

/// It is asleep before and after: the kernel's own numbers are what there must be.
#[test]
fn each_call_and_each_sleep_has_its_time() {
    needs((5, 13), "task storage");
    const CALLS: u64 = 50;
    let host = Host::new();
    let child = Child::new("kt-calls", || (0..CALLS).for_each(|_| _ = kt_sleeps()));
    let path = this_program();
    let of_pid = format!("--rotatable --pid {}", child.pid());
    host.good(&format!(
        "attach ufunc {of_pid} --path {path} --function kt_sleeps"
    ));
    let readings = rotate_while(&host, "ufunc", &child);
    assert_eq!(all(&readings, |row| &row["calls"]), CALLS);
    assert_eq!(all(&readings, |row| &row["latency"]["count"]), CALLS);

    // How many naps sleep depends on the machine: in a slow one some are over before.
    let slept = |name: &str| {
        host.good(&format!("attach {name} {of_pid}"));
        let [waited, preempted] = child.switch_counts();
        let readings = rotate_while(&host, name, &child);
        let now = child.switch_counts();
        (readings, now[0] - waited, now[1] - preempted)
    };
    let (readings, waited, _) = slept("offcpu");
    // A gap is of one switch, or of a few.
    let unseen = 4 * gaps(&readings);
    let blocked = all(&readings, |row| &row["blocked"]);
    assert!(
        blocked <= waited && waited <= blocked + unseen,
        "{blocked} of {waited}, {unseen} unseen"
    );
    // It is still in the last one.
    let ended = all(&readings, |row| &row["latency"]["count"]);
    assert!(
        (ended + 1).abs_diff(blocked) <= unseen,
        "{ended} of {blocked}, {unseen} unseen"
    );
    let (readings, waited, preempted) = slept("runqlat");
    let (unseen, left) = (4 * gaps(&readings), waited + preempted);
    let waits = all(&readings, |row| &row["latency"]["count"]);
    assert!(
        waits <= left && left <= waits + unseen,
        "{waits} of {left}, {unseen} unseen"
    );
}
