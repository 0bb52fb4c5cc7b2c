//! What counting adds to an event: the same system call, on one CPU and on all
//! of them at once, without and with programs at its entry. And what the atomic
//! addition in it costs by itself.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::Result;
use ktally::tally::{Session, Tally};
use nix::unistd::getppid;

use super::measure::{Table, allowed_cpus, alternate, joined, ratio, stay_on};
use super::subject::{BPFTRACE_COUNT, BPFTRACE_HIST, Peer, printed, tally};

const CALLS: u32 = 400_000;

enum Kind {
    Nothing,
    Tally(Box<Tally>),
    Peer(&'static str, &'static [&'static str]),
}

struct Subject {
    name: &'static str,
    kind: Kind,
    /// What it is compared with: the row of that name.
    peer: &'static str,
}

pub fn section() -> Result<Vec<Table>> {
    let subjects = subjects()?;
    let rounds = alternate(&subjects, |subject| match &subject.kind {
        Kind::Nothing => both().map(Some),
        Kind::Tally(tally) => {
            let session = Session::start(tally, &[], None)?;
            let costs = both();
            drop(session);
            costs.map(Some)
        }
        Kind::Peer(program, args) => {
            let peer = Peer::start(program, args)?;
            peer.map(|_counting| both()).transpose()
        }
    })?;
    let of = |name: &str, i: usize| {
        let at = subjects.iter().position(|it| it.name == name)?;
        rounds[at].get(i)?.median()
    };
    let over = |name: &str, base: &str, i| Some(of(name, i)? - of(base, i)?);
    let mut table = Table::new(
        "An event: ns a call of getppid(2)",
        &[
            "counted at its entry",
            "one CPU",
            "over empty",
            "of the peer",
            "all CPUs at once",
            "over empty",
        ],
    );
    for (subject, rounds) in subjects.iter().zip(&rounds) {
        let [one, all] = &rounds[..] else {
            table.row([subject.name, "not here"]);
            continue;
        };
        let added = |i| over(subject.name, "an empty program", i);
        let show = |added: Option<f64>| added.map_or("-".into(), |added| format!("{added:.0}"));
        let beside = match subject.peer {
            "" => "-".into(),
            peer => ratio(
                over(subject.name, "no tracing", 0),
                over(peer, "no tracing", 0),
                2,
            ),
        };
        table.row([
            subject.name.to_owned(),
            one.show(0),
            show(added(0)),
            beside,
            all.show(0),
            show(added(1)),
        ]);
    }
    let note = "\"Of the peer\": what it adds to a call without tracing, as a share of what bpftrace \
                adds for the same: `@[comm] = count()`, or `hist()` where there is a histogram. All \
                CPUs count into the same rows.";
    Ok(vec![table.note(note), additions()?])
}

/// The instruction by itself, which user space has as well.
fn additions() -> Result<Table> {
    const TIMES: u32 = 5_000_000;
    /// No two of them in one line of a cache, nor in two neighbours.
    #[repr(align(256))]
    struct Line(AtomicU64);
    let cpus = allowed_cpus()?;
    let lines: Vec<Line> = cpus.iter().map(|_| Line(AtomicU64::new(0))).collect();
    let subjects = [
        ("one CPU", &cpus[..1], true),
        ("all CPUs, each to a number of its own", &cpus[..], false),
        ("all CPUs, to the same number", &cpus[..], true),
    ];
    let rounds = alternate(&subjects, |(_, cpus, same)| {
        let each = on_all(cpus, |i| {
            let line = &lines[if *same { 0 } else { i }];
            let start = Instant::now();
            for _ in 0..TIMES {
                line.0.fetch_add(1, Ordering::SeqCst);
            }
            start.elapsed().as_nanos() as f64 / f64::from(TIMES)
        })?;
        Ok(Some(vec![each]))
    })?;
    let mut table = Table::new("The atomic addition by itself: ns", &["who adds", "ns"]);
    for ((name, ..), rounds) in subjects.iter().zip(&rounds) {
        table.row([(*name).to_owned(), rounds[0].show(1)]);
    }
    Ok(table)
}

fn subjects() -> Result<Vec<Subject>> {
    const COUNT: &str = "bpftrace @[comm] = count()";
    const HIST: &str = "bpftrace @[comm] = hist()";
    const COMM: &str = "struct key { char comm[TASK_COMM_LEN]; };";
    const GET_COMM: &str = "struct key key = {}; bpf_get_current_comm(key.comm, 16);";
    const NEW_KEY: &str = "__u64 key = bpf_ktime_get_ns() << 4 | bpf_get_smp_processor_id();";
    const ADD: &str = "struct n *n = tally_entry(rows, &key); __sync_fetch_and_add(&n->n, 1);";
    let own = |name, peer, declarations: &str, body: &str| -> Result<Subject> {
        Ok(Subject {
            name,
            kind: Kind::Tally(Box::new(tally("events", declarations, body)?)),
            peer,
        })
    };
    let peer = |name, program, args| Subject {
        name,
        kind: Kind::Peer(program, args),
        peer: "",
    };
    Ok(vec![
        Subject {
            name: "no tracing",
            kind: Kind::Nothing,
            peer: "",
        },
        own(
            "an empty program",
            "",
            "TABLE(rows, __u32, struct n, 8, \"\");",
            "",
        )?,
        own(
            "array",
            COUNT,
            "ARRAY_TABLE(rows, struct n, 8, \"\");",
            &format!("__u32 key = 1; {ADD}"),
        )?,
        own(
            "array, a row of each CPU beside the others",
            COUNT,
            "ARRAY_TABLE(rows, struct n, 8, \"\");",
            &format!("__u32 key = bpf_get_smp_processor_id(); {ADD}"),
        )?,
        own(
            "array, a row of each CPU far from the others",
            COUNT,
            "ARRAY_TABLE(rows, struct n, 4096, \"\");",
            &format!("__u32 key = bpf_get_smp_processor_id() * 32; {ADD}"),
        )?,
        own(
            "4-byte key",
            COUNT,
            "TABLE(rows, __u32, struct n, 8192, \"\");",
            &format!("__u32 key = id; {ADD}"),
        )?,
        own(
            "4-byte key, a row for each CPU",
            COUNT,
            "PERCPU_TABLE(rows, __u32, struct n, 8192, \"\");",
            &format!("__u32 key = id; {ADD}"),
        )?,
        own(
            "comm key",
            COUNT,
            &format!("{COMM} TABLE(rows, struct key, struct n, 8192, \"\");"),
            &format!("{GET_COMM} {ADD}"),
        )?,
        Subject {
            name: "ktally count sys_enter --by comm",
            kind: Kind::Tally(Box::new(ktally::cli::find(
                "count sys_enter --by comm".as_ref(),
                &[],
            )?)),
            peer: COUNT,
        },
        Subject {
            name: "the C file that its --print writes",
            kind: Kind::Tally(Box::new(by_hand()?)),
            peer: COUNT,
        },
        own(
            "comm key, count and histogram",
            HIST,
            &format!(
                "{COMM} struct row {{ __u64 n COUNTER(\"n\"); struct tally_histogram ids HISTOGRAM(\"ids\"); }};\n\
                 TABLE(rows, struct key, struct row, 8192, \"\");"
            ),
            &format!(
                "{GET_COMM} struct row *row = tally_entry(rows, &key);\n\
                 __sync_fetch_and_add(&row->n, 1); tally_observe(&row->ids, id);"
            ),
        )?,
        own(
            "a new row for each call",
            "",
            "TABLE(rows, __u64, struct n, 2000000, \"\");",
            &format!("{NEW_KEY} {ADD}"),
        )?,
        own(
            "no room for its key: into `other`",
            "",
            "TABLE(rows, __u64, struct n, 1, \"\");",
            &format!("{NEW_KEY} {ADD}"),
        )?,
        Subject {
            name: "the tally syscalls, whole",
            kind: Kind::Tally(Box::new(Tally::find("syscalls".as_ref())?)),
            peer: HIST,
        },
        peer(COUNT, "bpftrace", &["-e", BPFTRACE_COUNT]),
        peer(HIST, "bpftrace", &["-e", BPFTRACE_HIST]),
        peer("libbpf-tools syscount", "syscount", &["-d", "600"]),
    ])
}

/// The same as `ktally count`, as a C file.
fn by_hand() -> Result<Tally> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("by_hand.bpf.c");
    fs::write(&path, printed(&["count", "sys_enter", "--by", "comm"])?)?;
    Tally::find(path.as_os_str())
}

/// ns a call: on one CPU, and on all of them at once.
fn both() -> Result<Vec<f64>> {
    let cpus = allowed_cpus()?;
    Ok(vec![cost_on(&cpus[..1])?, cost_on(&cpus)?])
}

fn cost_on(cpus: &[usize]) -> Result<f64> {
    on_all(cpus, |_| {
        let start = Instant::now();
        for _ in 0..CALLS {
            // The cheapest system call that is really made.
            getppid();
        }
        start.elapsed().as_nanos() as f64 / f64::from(CALLS)
    })
}

/// The mean of what a thread on each of these CPUs measures, all at once.
fn on_all(cpus: &[usize], measure: impl Fn(usize) -> f64 + Sync) -> Result<f64> {
    let measure = &measure;
    let costs: Result<Vec<f64>> = thread::scope(|scope| {
        let threads: Vec<_> = cpus
            .iter()
            .enumerate()
            .map(|(i, &cpu)| {
                scope.spawn(move || {
                    stay_on(cpu)?;
                    Ok(measure(i))
                })
            })
            .collect();
        threads.into_iter().map(joined).collect()
    });
    let costs = costs?;
    Ok(costs.iter().sum::<f64>() / costs.len() as f64)
}
