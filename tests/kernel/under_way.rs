//! A reading is of now: it has the time of what began and did not end.

use std::time::{Duration, Instant};

use ktally::snapshot::Reading;
use ktally::tally::{Session, Tally};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use crate::instances::Host;
use crate::run::Run;
use crate::support::{
    Child, amount, beside, clone, fork, is_slow, nap, needs, options_of, pin, spin,
};

/// A tally that counts in this process.
struct Counting {
    tally: Tally,
    session: Session,
}

/// The time and the number of events under way, over all rows.
#[derive(Debug)]
struct Now {
    time: u64,
    under_way: u64,
    /// Rows that may lack what ended while they were read.
    uncertain: u64,
}

impl Counting {
    fn new(name: &str, options: &[(&str, &str)]) -> Self {
        // CPUs need none.
        if name != "cputime" {
            needs((5, 13), "task storage");
        }
        let tally = Tally::find(name.as_ref()).unwrap();
        let options = options_of(&tally, options).unwrap();
        let session = Session::start(&tally, &options, None).unwrap();
        Self { tally, session }
    }

    fn now(&self) -> Now {
        self.of(&self.session.read().unwrap())
    }

    fn of(&self, reading: &Reading) -> Now {
        let tables = &self.tally.schema.tables;
        let table = &tables[0];
        let all = reading.in_all(tables);
        let sum = |name: &str| {
            let metric = table.metrics.iter().find(|it| it.name == name).unwrap();
            let rows = all.tables[0].rows.iter();
            rows.map(|(_, cells)| cells[metric.cell]).sum()
        };
        Now {
            time: sum("time"),
            under_way: sum("under_way"),
            uncertain: reading.tables[0].uncertain,
        }
    }
}

/// What the scheduler says that a process had of the CPUs by now, in nanoseconds.
/// /proc/PID/schedstat has it as of the last tick.
pub fn run_time(pid: &str) -> u64 {
    let clock = clock_getcpuclockid(Pid::from_raw(pid.parse().unwrap())).unwrap();
    let time = Duration::from(clock_gettime(clock).unwrap());
    time.as_nanos().try_into().unwrap()
}

/// It never leaves its CPU by itself. Its time in each interval is what the
/// scheduler says, but for what the two clocks differ by: interrupts, and what a
/// hypervisor takes.
#[test]
fn a_busy_task_has_its_time_in_each_interval() {
    let apart = if is_slow() { 50_000_000 } else { 2_000_000 };
    let busy = Busy::new();
    let counting = Counting::new("cputime", &[("pid", &busy.pid())]);
    let read = || {
        let before = run_time(&busy.pid());
        let reading = counting.session.read().unwrap();
        let now = counting.of(&reading);
        (before, now, run_time(&busy.pid()), reading.gaps)
    };
    let (mut last, mut off) = (read(), Vec::new());
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(250));
        let next = read();
        let counted = next.1.time - last.1.time;
        let (least, most) = (next.0 - last.2, next.2 - last.0);
        assert!(next.1.under_way <= 1, "{next:?}");
        // The kernel of a virtual machine may not report a switch.
        let is_reported = next.3 == last.3;
        if is_reported && (counted + apart < least || counted > most + apart) {
            off.push((least, counted, most));
        }
        last = next;
    }
    // A hypervisor may take the CPU away meanwhile.
    assert!(off.len() <= 2, "{off:?}");
}

/// A child that computes until it is dropped.
struct Busy(Child);

impl Busy {
    fn new() -> Self {
        let child = Child::new("kt-busy", || {
            pin(1);
            loop {
                spin(Duration::from_secs(1));
            }
        });
        child.start();
        Self(child)
    }

    fn pid(&self) -> String {
        self.0.pid()
    }
}

/// It is asleep before counting begins and after it ends.
#[test]
fn a_sleep_that_does_not_end_has_its_time() {
    let child = Child::new("kt-asleep", || {});
    let before = Instant::now();
    let counting = Counting::new("offcpu", &[("pid", &child.pid())]);
    let started = Instant::now();
    std::thread::sleep(Duration::from_millis(200));
    let least = started.elapsed();
    let now = counting.now();
    let most = before.elapsed();
    assert_eq!(now.under_way, 1);
    let time = Duration::from_nanos(now.time);
    assert!(least <= time && time <= most, "{least:?} {time:?} {most:?}");
    let later = counting.now();
    assert!(later.time > now.time, "{now:?} {later:?}");
}

/// Only what began while tallies counted has a start.
#[test]
fn a_call_that_does_not_return_is_there() {
    let child = Child::new("kt-in-a-call", || {});
    let mut counting = Counting::new("syscalls", &[("pid", &child.pid())]);
    child.work();
    let started = Instant::now();
    std::thread::sleep(Duration::from_millis(100));
    let now = counting.now();
    assert_eq!(now.under_way, 1, "{now:?}");
    let time = Duration::from_nanos(now.time);
    assert!(time >= Duration::from_millis(100), "{time:?}");
    // The last reading is of the instant when counting ended.
    counting.session.detach();
    let most = started.elapsed() + Duration::from_secs(1);
    std::thread::sleep(Duration::from_millis(100));
    let (last, again) = (counting.now(), counting.now());
    assert_eq!((last.time, last.under_way), (again.time, 1), "{again:?}");
    assert!(Duration::from_nanos(last.time) <= most, "{last:?}");
}

/// Tasks leave both CPUs as often as they can while readings are taken: time never
/// goes back, and is never more than the CPUs had.
#[test]
fn time_never_goes_back_and_is_never_too_much() {
    let children = [0, 1].map(|cpu| {
        Child::new("kt-switches", move || {
            pin(cpu);
            nap(1000);
        })
    });
    let counting = Counting::new("cputime", &[("comm", "kt-switches")]);
    let (started, mut last) = (Instant::now(), 0);
    let rounds = beside(
        || {
            children.iter().for_each(Child::start);
            children.iter().for_each(Child::wait);
        },
        || {
            for _ in 0..amount(10_000) {
                let now = counting.now();
                let most = 2 * started.elapsed().as_nanos() as u64;
                // One that may be short says so.
                let is_back = now.time < last && now.uncertain == 0;
                assert!(!is_back && now.time <= most, "{last} {now:?} {most}");
                last = last.max(now.time);
            }
        },
    );
    assert!(rounds > 0 && last > 0, "{rounds} {last}");
}

/// Readers without privileges get it by a pinned iterator, and replacing keeps it.
#[test]
fn instances_and_their_readers_have_it() {
    const NOGROUP: u32 = 65_534;
    let host = Host::new();
    let child = Child::new("kt-asleep", || {});
    let pid = child.pid();
    host.good(&format!(
        "attach offcpu --as x --pid {pid} --readable-by {NOGROUP}"
    ));
    let time = |reading: &serde_json::Value| {
        let row = &reading["tables"][0]["rows"][0];
        assert_eq!(row["under_way"], 1, "{reading}");
        row["time"].as_u64().unwrap()
    };
    let first = time(&host.json("read x -o json"));
    let read = host.without_privileges(&[NOGROUP], "read x -o json");
    let second = time(&read.json());
    assert!(second > first, "{first} {second}");
    host.good(&format!("attach offcpu --as x --pid {pid} --replace"));
    let third = time(&host.json("read x -o json"));
    assert!(third > second, "{second} {third}");
    assert!(time(&host.json("detach x -o json")) > third);
}

/// Each interval has the part of a sleep that is its own.
#[test]
fn intervals_divide_what_is_under_way() {
    needs((5, 13), "task storage");
    let child = Child::new("kt-asleep", || {});
    let args = format!(
        "offcpu --pid {} --every 100ms --for 500ms -o jsonl",
        child.pid()
    );
    let ended = Run::start(&args).end();
    let readings: Vec<serde_json::Value> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // A busy machine may leave one out.
    assert!((3..=5).contains(&readings.len()), "{ended:?}");
    for reading in readings {
        let time = reading["tables"][0]["rows"][0]["time"].as_u64().unwrap();
        let seconds = reading["seconds"].as_f64().unwrap();
        let ratio = time as f64 / (seconds * 1e9);
        assert!((0.5..1.5).contains(&ratio), "{reading}");
    }
}

/// Its task is killed after the instance has stopped: that changes nothing.
#[test]
fn what_was_under_way_at_the_end_stays() {
    let host = Host::new();
    let child = Child::new("kt-asleep", || {});
    host.good(&format!("attach offcpu --as x --pid {}", child.pid()));
    let last = host.json("detach x --keep -o json");
    assert_eq!(last["tables"][0]["rows"][0]["under_way"], 1, "{last}");
    drop(child);
    for line in ["read x -o json", "detach x -o json"] {
        let again = host.json(line);
        assert_eq!(again["tables"], last["tables"], "{line}");
        assert_eq!(again["seconds"], last["seconds"], "{line}");
    }
}

/// A child that exits and is not waited for keeps its storage.
#[test]
fn the_dead_are_under_way_in_nothing() {
    let child = Child::new("kt-zombie", || fork(1, || clone(0), || {}));
    let counting = Counting::new("syscalls", &[("comm", "kt-zombie")]);
    child.work();
    std::thread::sleep(Duration::from_millis(20));
    // The child itself waits for its next work.
    assert_eq!(counting.now().under_way, 1);
}

/// The run ends first, and its reading is as of then.
#[test]
fn a_command_that_goes_on_is_under_way_at_the_end() {
    needs((5, 13), "task storage");
    let ended = Run::start("syscalls --for 300ms -o json -- sleep 5").end();
    let reading = ended.json();
    let rows = reading["tables"][0]["rows"].as_array().unwrap();
    let asleep = rows
        .iter()
        .find(|row| row["under_way"] == 1)
        .expect("no call");
    let time = asleep["time"].as_u64().unwrap();
    assert!(time > 100_000_000, "{asleep}");
    let seconds = reading["seconds"].as_f64().unwrap();
    assert!(seconds * 1e9 > time as f64, "{reading}");
}
