//! What programs cost when they run, by the kernel's own statistics, which cost
//! about 20 ns themselves: each tally under a mixed load, and beside the peers
//! that answer the same question.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::Command;
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context, Result};
use ktally::sys;
use ktally::tally::{Session, Tally, resolve};
use libbpf_rs::query::ProgInfoIter;
use nix::unistd::{getppid, pipe};

use super::measure::{ROUNDS, Rounds, Table, allowed_cpus, alternate, joined, ratio, stay_on};
use super::subject::{BPFTRACE_COUNT, KTALLY, Peer, printed};

/// What some have to be told: the call that the load makes most.
const TOLD: [(&str, &str, &str); 3] = [
    ("kfunc", "function", "*sys_getppid"),
    ("ufunc", "function", "getppid"),
    ("ufunc", "path", "libc.so.6"),
];

/// Each is given the same load; a program that this load does not reach has no
/// number.
pub fn tallies() -> Result<Vec<Table>> {
    let mut table = Table::new(
        "The tallies: ns a run of each program, under a mixed load",
        &["program", "tally", "runs", "ns"],
    );
    let mut not_here = Vec::new();
    for tally in Tally::builtins()? {
        let told = TOLD.iter().filter(|(name, ..)| *name == tally.name);
        let told = told.map(|(_, option, text)| ((*option).into(), (*text).into()));
        let options = resolve(&tally.schema.options, &told.collect::<Vec<_>>())?;
        let session = match Session::start(&tally, &options, None) {
            Ok(session) => session,
            Err(error) => {
                let reason = format!("{error:#}");
                not_here.extend(reason.lines().next().map(str::to_owned));
                continue;
            }
        };
        let stats = sys::program::enable_stats().context("no statistics of programs")?;
        mixed_load()?;
        let own: Vec<u32> = session.program_ids()?;
        for program in ProgInfoIter::default().filter(|program| own.contains(&program.id)) {
            let each = program.run_time_ns.checked_div(program.run_cnt);
            table.row([
                program.name.to_string_lossy().into_owned(),
                tally.name.clone(),
                program.run_cnt.to_string(),
                each.map_or("-".into(), |ns| ns.to_string()),
            ]);
        }
        drop((stats, session));
    }
    Ok(vec![match not_here.is_empty() {
        true => table,
        false => table.note(format!("Not here: {}.", not_here.join("; "))),
    }])
}

/// System calls, faults, processes, files, memory and packets, for a moment.
fn mixed_load() -> Result<()> {
    for _ in 0..200_000 {
        getppid();
    }
    let folder = tempfile::tempdir()?;
    let server = TcpListener::bind("127.0.0.1:0")?;
    for i in 0..50u8 {
        Command::new("true").status()?;
        let mut file = File::create(folder.path().join(i.to_string()))?;
        file.write_all(&vec![i; 64 << 10])?;
        file.sync_all()?;
        let mut client = TcpStream::connect(server.local_addr()?)?;
        let (mut accepted, _) = server.accept()?;
        client.write_all(&[i; 4096])?;
        accepted.read_exact(&mut [0; 4096])?;
        sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// One question, and the commands that answer it: a load with its events, and each
/// one's command.
struct Question {
    name: &'static str,
    load: fn() -> Result<u32>,
    commands: &'static [(&'static str, &'static str, &'static [&'static str])],
}

const CALLS: [&str; 4] = ["count", "sys_enter", "--by", "comm"];
const SWITCHES: [&str; 4] = ["count", "sched_switch", "--by", "prev.comm,next.comm"];

/// Where the C files are that `--print` writes for these.
const CALLS_BY_HAND: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/calls.bpf.c");
const SWITCHES_BY_HAND: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/switches.bpf.c");

const QUESTIONS: [Question; 4] = [
    Question {
        name: "a system call: of which program?",
        load: calls,
        commands: &[
            ("ktally count sys_enter --by comm", KTALLY, &CALLS),
            (
                "the C file that its --print writes",
                KTALLY,
                &["run", CALLS_BY_HAND],
            ),
            ("bpftrace", "bpftrace", &["-e", BPFTRACE_COUNT]),
        ],
    },
    Question {
        name: "a switch of tasks: from which name to which?",
        load: switches,
        commands: &[
            (
                "ktally count sched_switch --by prev.comm,next.comm",
                KTALLY,
                &SWITCHES,
            ),
            (
                "the C file that its --print writes",
                KTALLY,
                &["run", SWITCHES_BY_HAND],
            ),
            (
                "bpftrace",
                "bpftrace",
                &[
                    "-e",
                    "tracepoint:sched:sched_switch { @[args->prev_comm, args->next_comm] = count(); }",
                ],
            ),
        ],
    },
    Question {
        name: "a switch of tasks: how long did it wait for a CPU?",
        load: switches,
        commands: &[
            ("ktally run runqlat", KTALLY, &["run", "runqlat"]),
            ("libbpf-tools runqlat", "runqlat", &["600"]),
            (
                "bpftrace, as its runqlat.bt",
                "bpftrace",
                &[
                    "-e",
                    "tracepoint:sched:sched_wakeup, tracepoint:sched:sched_wakeup_new { @q[args->pid] = nsecs; } \
                     tracepoint:sched:sched_switch { if (args->prev_state == 0) { @q[args->prev_pid] = nsecs; } \
                     $ns = @q[args->next_pid]; if ($ns) { @usecs = hist((nsecs - $ns) / 1000); } delete(@q[args->next_pid]); }",
                ],
            ),
        ],
    },
    Question {
        name: "a request to a disk: how long did it take?",
        load: requests,
        commands: &[
            ("ktally run blkio", KTALLY, &["run", "blkio"]),
            ("libbpf-tools biolatency", "biolatency", &["600"]),
            (
                "bpftrace, by device and sector",
                "bpftrace",
                &[
                    "-e",
                    "tracepoint:block:block_rq_issue { @start[args->dev, args->sector] = nsecs; } \
                     tracepoint:block:block_rq_complete /@start[args->dev, args->sector]/ { \
                     @usecs = hist((nsecs - @start[args->dev, args->sector]) / 1000); delete(@start[args->dev, args->sector]); }",
                ],
            ),
        ],
    },
];

pub fn section() -> Result<Vec<Table>> {
    fs::write(CALLS_BY_HAND, printed(&CALLS)?)?;
    fs::write(SWITCHES_BY_HAND, printed(&SWITCHES)?)?;
    QUESTIONS.iter().map(answer).collect()
}

fn answer(question: &Question) -> Result<Table> {
    let rounds = alternate(question.commands, |(_, program, args)| {
        let before = programs();
        let Some(peer) = Peer::start(program, args)? else {
            return Ok(None);
        };
        let stats = sys::program::enable_stats().context("no statistics of programs")?;
        let events = (question.load)()?;
        let spent: u64 = ProgInfoIter::default()
            .filter(|program| !before.contains(&program.id))
            .map(|program| program.run_time_ns)
            .sum();
        drop((stats, peer));
        Ok(Some(vec![spent as f64 / f64::from(events)]))
    })?;
    let own = rounds[0].first().and_then(Rounds::median);
    let mut table = Table::new(
        &format!("Beside the peers: {}", question.name),
        &["command", "ns of all its programs", "ktally's share"],
    );
    for ((name, ..), rounds) in question.commands.iter().zip(&rounds) {
        match rounds.first() {
            Some(rounds) => table.row([
                (*name).to_owned(),
                rounds.show(0),
                ratio(own, rounds.median(), 2),
            ]),
            None => table.row([*name, "not here"]),
        }
    }
    Ok(table.note(format!(
        "The kernel's statistics of every program that the command loaded, {ROUNDS} rounds."
    )))
}

fn programs() -> HashSet<u32> {
    ProgInfoIter::default().map(|program| program.id).collect()
}

fn calls() -> Result<u32> {
    const TIMES: u32 = 400_000;
    for _ in 0..TIMES {
        getppid();
    }
    Ok(TIMES)
}

/// Two threads on one CPU that wait for each other.
fn switches() -> Result<u32> {
    const TURNS: u32 = 50_000;
    let cpu = allowed_cpus()?[0];
    let ((a, b), (c, d)) = (pipe()?, pipe()?);
    let take_turns = |from: OwnedFd, to: OwnedFd, is_first: bool| -> Result<()> {
        stay_on(cpu)?;
        let (mut from, mut to) = (File::from(from), File::from(to));
        for _ in 0..TURNS {
            if is_first {
                to.write_all(&[1])?;
            }
            from.read_exact(&mut [0])?;
            if !is_first {
                to.write_all(&[1])?;
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let one = scope.spawn(move || take_turns(a, d, true));
        let other = scope.spawn(move || take_turns(c, b, false));
        joined(one)?;
        joined(other)
    })?;
    Ok(2 * TURNS)
}

/// Reads that go past the cache, one after the other.
fn requests() -> Result<u32> {
    const READS: u32 = 2_000;
    const SIZE: usize = 4096;
    const BLOCKS: u32 = 256;
    let folder = env!("CARGO_TARGET_TMPDIR");
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&vec![1; SIZE * BLOCKS as usize])?;
    file.as_file().sync_all()?;
    let direct = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_DIRECT)
        .open(file.path())?;
    // Such a read wants its bytes aligned as the disk's are.
    let mut buffer = vec![0; 2 * SIZE];
    let start = buffer.as_ptr().align_offset(SIZE);
    for i in 0..READS {
        let at = u64::from(i % BLOCKS) * SIZE as u64;
        direct
            .read_exact_at(&mut buffer[start..start + SIZE], at)
            .with_context(|| format!("{folder} has no direct reads"))?;
    }
    Ok(READS)
}
