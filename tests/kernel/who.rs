//! Who did it: every tally of tasks tells processes and threads apart.

use std::collections::BTreeMap;
use std::ffi::c_long;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::ptr;
use std::time::Duration;

use ktally::host;
use ktally::names::HostNames;
use ktally::schema::{Decoder, Names, Place, Type};
use serde_json::Value;

use crate::common::{assert_has, items, ktally};
use crate::instances::Host;
use crate::run::Run;
use crate::stacks::kt_sleeps;
use crate::support::{
    Cgroup, Child, ask_for_parent, count, fail_to_open, nap, on_two_cpus, rename, run_with, sleep,
};

/// What each of the three threads does, and how often.
const TIMES: [u64; 3] = [23, 37, 37];

/// Two processes of one name: the first one has two threads, the second of which has
/// another name.
struct Crowd {
    // Dropped before their cgroup.
    first: Child,
    second: Child,
    cgroup: Cgroup,
    /// Shared with the first process, whose second thread writes its number.
    thread: *mut c_long,
}

impl Crowd {
    /// In a cgroup of this name.
    fn new(cgroup: &str, work: impl Fn()) -> Self {
        let (shared, access) = (
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            libc::PROT_READ | libc::PROT_WRITE,
        );
        // SAFETY: new memory, which is never given back.
        let thread = unsafe { libc::mmap(ptr::null_mut(), 4096, access, shared, -1, 0) };
        assert_ne!(thread, libc::MAP_FAILED);
        let thread: *mut c_long = thread.cast();
        let first = Child::new("kt-who", || {
            on_two_cpus(TIMES[1], |of, round| {
                if of == 1 && round == 0 {
                    rename(c"kt-who-thread");
                    // SAFETY: memory of ours, which one thread writes.
                    unsafe { *thread = libc::syscall(libc::SYS_gettid) };
                }
                if round < TIMES[of as usize] {
                    work();
                }
            });
        });
        let second = Child::new("kt-who", || (0..TIMES[2]).for_each(|_| work()));
        let cgroup = Cgroup::of_root(cgroup);
        cgroup.take(&first);
        cgroup.take(&second);
        // Code comes in with the first time.
        [&first, &second].into_iter().for_each(Child::work);
        Self {
            first,
            second,
            cgroup,
            thread,
        }
    }

    fn work(&self) {
        self.first.work();
        self.second.work();
    }

    fn path(&self) -> &str {
        self.cgroup.0.to_str().unwrap()
    }

    /// Of its cgroup, as it is shown.
    fn label(&self) -> String {
        let id = fs::metadata(&self.cgroup.0).unwrap().ino();
        let label = Decoder::from_tag("cgroup");
        let place = Place::whole(Type::unsigned(8));
        let name = HostNames::new();
        let bytes = id.to_ne_bytes();
        name.name(&label, &place, &bytes).unwrap().to_string()
    }

    /// The number of process and thread of each.
    fn numbers(&self) -> [[String; 2]; 3] {
        let (first, second) = (self.first.pid(), self.second.pid());
        // SAFETY: it was written before `work` returned.
        let thread = unsafe { *self.thread }.to_string();
        [
            [first.clone(), first.clone()],
            [first, thread],
            [second.clone(), second],
        ]
    }

    /// Counts what they do: the labels that tell who, and the count of each.
    fn count(&self, case: &Case, options: &[(&str, &str)]) -> Who {
        let options = [&[("cgroup", self.path())], case.options, options].concat();
        let counted = run_with(case.tally, &options, None, || self.work());
        let rows = counted.rows();
        let counts = rows.iter().filter_map(|row| {
            let (who, of) = row.labels.split_at(row.labels.len() - case.of.len());
            (of == case.of).then(|| (who.to_vec(), row.number(case.metric)))
        });
        counts.collect()
    }

    /// What they do is counted so. A kernel may switch to or from a task without its
    /// tracepoint.
    fn check(&self, case: &Case, options: &[(&str, &str)], due: impl Fn() -> Who) {
        const ATTEMPTS: usize = 5;
        let counted = (0..ATTEMPTS).map(|_| (self.count(case, options), due()));
        let unequal: Vec<_> = counted
            .take_while(|(counted, due)| counted != due)
            .collect();
        let may_lack = if case.tally == "offcpu" { ATTEMPTS } else { 1 };
        assert!(unequal.len() < may_lack, "{}: {unequal:?}", case.tally);
    }
}

/// Labels that tell who, and what was counted of them.
type Who = BTreeMap<Vec<String>, u64>;

fn who<const N: usize>(counts: [(&[&str], u64); N]) -> Who {
    let owned = |labels: &[&str]| labels.iter().map(|&label| label.to_owned()).collect();
    counts.map(|(labels, count)| (owned(labels), count)).into()
}

/// An event of a tally that tells who it is of.
struct Case {
    tally: &'static str,
    options: &'static [(&'static str, &'static str)],
    work: fn(),
    /// The last labels of its row.
    of: &'static [&'static str],
    metric: &'static str,
    /// What the main thread of a process does besides.
    besides: u64,
}

const CASES: [Case; 6] = [
    Case {
        tally: "syscalls",
        options: &[],
        work: || fail_to_open(1),
        of: &["openat"],
        metric: "calls",
        besides: 0,
    },
    Case {
        tally: "failures",
        options: &[],
        work: || fail_to_open(1),
        of: &["openat", "ENOENT"],
        metric: "calls",
        besides: 0,
    },
    Case {
        tally: "offcpu",
        options: &[],
        // In an emulated machine a nap may be over before it sleeps.
        work: || sleep(1, Duration::from_millis(5)),
        of: &["interruptible"],
        metric: "blocked",
        // The `read` that it waits in.
        besides: 1,
    },
    Case {
        tally: "faults",
        options: &[],
        work: fault,
        of: &["kernel", "read"],
        metric: "faults",
        besides: 0,
    },
    Case {
        tally: "ufunc",
        options: &[("path", "/proc/self/exe"), ("function", "kt_sleeps")],
        work: || {
            kt_sleeps();
        },
        of: &[],
        metric: "calls",
        besides: 0,
    },
    Case {
        tally: "kfunc",
        options: &[("function", "hrtimer_nanosleep"), ("by_comm", "true")],
        work: || nap(1),
        of: &["hrtimer_nanosleep"],
        metric: "calls",
        besides: 0,
    },
];

/// The kernel reads a set of signals from a page that is not there yet.
fn fault() {
    let shared = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: memory of its own, which is given back.
    unsafe {
        let page = libc::mmap(ptr::null_mut(), 4096, libc::PROT_READ, shared, -1, 0);
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, page, 0, 8);
        libc::munmap(page, 4096);
    }
}

fn can_count(case: &Case) -> bool {
    case.tally != "kfunc" || host::has_kprobes()
}

#[test]
fn processes_and_threads_are_told_apart() {
    for case in CASES.iter().filter(|case| can_count(case)) {
        let crowd = Crowd::new(&format!("kt-who-{}", case.tally), case.work);
        let due = [TIMES[0] + case.besides, TIMES[1], TIMES[2] + case.besides];
        crowd.check(case, &[("by_pid", "true"), ("by_tid", "true")], || {
            let [main, thread, other] = crowd.numbers();
            who([
                (&["kt-who", &main[0], &main[1]], due[0]),
                (&["kt-who-thread", &thread[0], &thread[1]], due[1]),
                (&["kt-who", &other[0], &other[1]], due[2]),
            ])
        });
        // By process, whose name they have.
        let named = [("by_pid", "true"), ("process_name", "true")];
        let [first, second] = [&crowd.first, &crowd.second].map(Child::pid);
        crowd.check(case, &named, || {
            who([
                (&["kt-who", &first], due[0] + due[1]),
                (&["kt-who", &second], due[2]),
            ])
        });
        // The filter is about that name, too.
        let filtered = [&named[..], &[("comm", "kt-who-thread")]].concat();
        crowd.check(case, &filtered, Who::new);
        let path = crowd.label();
        crowd.check(
            case,
            &[("by_cgroup", "true"), ("process_name", "true")],
            || who([(&["kt-who", &path], due.iter().sum())]),
        );
    }
}

#[test]
fn calls_by_what_they_return() {
    let child = Child::new("kt-returns", || {
        fail_to_open(23);
        nap(37);
    });
    let pid = child.pid();
    let options = [("pid", &*pid), ("by_error", "true")];
    let counted = run_with("syscalls", &options, None, || child.work());
    for (labels, numbers) in [
        (["kt-returns", "openat", "ENOENT"], [23, 23]),
        (["kt-returns", "nanosleep", "0"], [37, 0]),
    ] {
        let row = counted.row(&labels);
        assert_eq!(row.numbers(["calls", "errors"]), numbers);
        assert_eq!(row.histogram("latency"), (numbers[0], row.number("time")));
    }
    let slept = counted
        .row(&["kt-returns", "nanosleep", "0"])
        .number("time");
    assert!(slept >= 37_000_000, "{slept}");
}

#[test]
fn calls_without_their_times() {
    let child = Child::new("kt-untimed", || {
        fail_to_open(23);
        // A new task "returns" from the call that made it, which it did not make.
        let new = Child::new("kt-untimed-new", || {});
        new.work();
    });
    for options in [
        &[("times", "false")][..],
        &[("times", "false"), ("by_error", "true")],
    ] {
        let counted = count("syscalls", &child, options);
        let metrics = counted.table().metrics.iter();
        let metrics: Vec<_> = metrics.map(|metric| metric.name.as_str()).collect();
        assert_eq!(metrics, ["calls", "errors"]);
        let error: &[&str] = if options.len() > 1 { &["ENOENT"] } else { &[] };
        let row = counted.row(&[&["kt-untimed", "openat"], error].concat());
        // To make a child opens files, too.
        assert_eq!(row.number("errors"), 23);
        let rows = counted.rows();
        let forks = rows.iter().filter(|row| row.labels[1].contains("clone"));
        assert_eq!(forks.map(|row| row.number("calls")).sum::<u64>(), 1);
    }
}

/// A name is read as two words, whose remains behind the NUL are those of the name
/// before.
#[test]
fn names_of_every_length() {
    let names = [
        c"x",
        c"kt-name",
        c"kt-name8",
        c"kt-name-9",
        c"kt-name-of-15-b",
    ];
    let child = Child::new("kt-name-of-15-a", || {
        for name in names.into_iter().rev().chain(names) {
            rename(name);
            ask_for_parent(23);
        }
        rename(c"kt-name-of-15-a");
    });
    let counted = count("syscalls", &child, &[]);
    for name in names {
        let row = counted.row(&[name.to_str().unwrap(), "getppid"]);
        assert_eq!(row.number("calls"), 46, "{name:?}");
    }
}

/// The calls of each process.
fn calls_by_pid(reading: &Value) -> Vec<(u64, u64)> {
    let rows = items(&reading["tables"][0]["rows"]).iter();
    let mut calls: Vec<_> = rows
        .map(|row| {
            assert!(row.get("call").is_none(), "{row}");
            (row["pid"].as_u64().unwrap(), row["calls"].as_u64().unwrap())
        })
        .collect();
    calls.sort_unstable();
    calls
}

#[test]
fn a_field_switches_on_its_option() {
    let crowd = Crowd::new("kt-who-field", || fail_to_open(1));
    let pids = [&crowd.first, &crowd.second].map(|child| child.pid().parse::<u64>().unwrap());
    let mut due = [(pids[0], TIMES[0] + TIMES[1]), (pids[1], TIMES[2])];
    due.sort_unstable();
    let args = format!(
        "failures -o json --where error=ENOENT --cgroup {}",
        crowd.path()
    );
    for by in [
        "--by pid",
        "--by-pid --by pid",
        "--by pid --where call=openat",
    ] {
        let mut run = Run::counting(&format!("{args} {by}"));
        crowd.work();
        assert_eq!(calls_by_pid(&run.stop().json()), due, "{by}");
    }
    let mut run = Run::counting(&format!("{args} --by comm --where pid={}", pids[1]));
    crowd.work();
    let reading = run.stop().json();
    let rows = items(&reading["tables"][0]["rows"]);
    let [row] = rows else {
        panic!("{rows:?}");
    };
    assert_eq!(
        [&row["comm"], &row["calls"]],
        [&Value::from("kt-who"), &Value::from(37)]
    );
    ktally("run failures --for 0s --by-pid=false --by pid").refused(2, &["no field named `pid`"]);
}

#[test]
fn an_instance_counts_by_what_it_is_attached_with() {
    let host = Host::new();
    let crowd = Crowd::new("kt-who-attach", || fail_to_open(1));
    let attach = format!("attach failures --as who --cgroup {}", crowd.path());
    host.good(&attach);
    for (fields, option) in [
        ("--by pid", "by-pid"),
        ("--where tid=1", "by-tid"),
        ("--by comm,cgroup", "by-cgroup"),
    ] {
        for verb in ["read", "detach"] {
            let advice = format!("`ktally attach failures --as who --replace --{option}`");
            host.ktally(&format!("{verb} who {fields}"))
                .refused(2, &[&format!("attached without `--{option}`"), &advice]);
        }
    }
    host.ktally("attach failures --as other --by pid,nobody")
        .refused(2, &["no field named `nobody`"]);
    host.good(&format!("{attach} --replace --by comm,pid"));
    assert_has(&host.good("status").stdout, &["--by-pid"]);
    crowd.work();
    let reading = host.json("read who -o json --by pid --where error=ENOENT");
    let calls: Vec<u64> = calls_by_pid(&reading)
        .iter()
        .map(|(_, calls)| *calls)
        .collect();
    assert_eq!(calls.iter().sum::<u64>(), TIMES.iter().sum::<u64>());
    assert_eq!(calls.len(), 2);
    host.good("detach who");
}
