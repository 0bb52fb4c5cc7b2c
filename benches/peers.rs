//! `make bench`: what counting, reading and starting cost, beside the peers
//! that are installed and beside the limit, as ratios measured in this run.
//! Rounds alternate, and each number is the median of its rounds.

#![allow(clippy::print_stdout)] // a benchmark's output is its table

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, FromRawFd};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ktally::map::{Map, Reader};
use ktally::render::{Format, Renderer, Style};
use ktally::schema::Labels;
use ktally::snapshot::{Query, Snapshot, TableSnapshot};
use ktally::tally::{Session, Storage, Tally};
use libbpf_rs::query::{MapInfoIter, ProgInfoIter};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

const ROUNDS: usize = 5;
const CALLS: u32 = 500_000;
const ROWS: u32 = 1_000_000;
const KTALLY: &str = env!("CARGO_BIN_EXE_ktally");
const BPFTRACE_COUNT: &str = "tracepoint:raw_syscalls:sys_enter { @[comm] = count(); }";

fn main() -> Result<()> {
    // The peers want tracefs; this process alone gets to see it.
    unshare(CloneFlags::CLONE_NEWNS).context("the benchmarks need root")?;
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )?;
    for (fs, path) in [
        ("debugfs", "/sys/kernel/debug"),
        ("tracefs", "/sys/kernel/tracing"),
    ] {
        // Where it is there already, it is there.
        let _ = mount(Some(fs), path, Some(fs), MsFlags::empty(), None::<&str>);
    }
    type Section = (&'static str, fn() -> Result<()>);
    let sections: [Section; 6] = [
        ("events", event_cost),
        ("tallies", tallies),
        ("reading", reading),
        ("maps", maps),
        ("start", start),
        ("memory", memory),
    ];
    // `make bench ARGS=reading` runs one of them.
    let wanted: Vec<String> = env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    for (name, section) in sections {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            section()?;
            println!();
        }
    }
    Ok(())
}

/// A C file for one question: what does this much counting add?
fn tally(name: &str, declarations: &str, body: &str) -> Result<Tally> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join(format!("{name}.bpf.c"));
    let source = format!(
        "#include \"ktally.bpf.h\"\nTALLY(\"bench\");\nstruct n {{ __u64 n COUNTER(\"n\"); }};\n\
         {declarations}\n\
         SEC(\"tp_btf/sys_enter\")\nint BPF_PROG(enter, struct pt_regs *regs, long id)\n\
         {{\n{body}\nreturn 0;\n}}\n"
    );
    fs::write(&path, source)?;
    Tally::find(path.as_os_str())
}

/// ns a call of getppid(2), the cheapest system call that is really made.
fn call_cost() -> f64 {
    let start = Instant::now();
    for _ in 0..CALLS {
        // SAFETY: getppid takes nothing and touches no memory.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
    start.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// What makes the events of one row of the table.
enum Subject {
    Nothing,
    Tally(Box<Tally>),
    Peer(&'static str, Vec<&'static str>),
}

impl Subject {
    /// `None` where the peer is not installed.
    fn measure(&self) -> Result<Option<f64>> {
        match self {
            Self::Nothing => Ok(Some(call_cost())),
            Self::Tally(tally) => {
                let mut storage = Storage::uninit();
                let session = Session::start(tally, &mut storage, &[], None)?;
                let cost = call_cost();
                drop(session);
                Ok(Some(cost))
            }
            Self::Peer(program, args) => {
                let Some(peer) = Peer::start(program, args)? else {
                    return Ok(None);
                };
                let cost = call_cost();
                drop(peer);
                Ok(Some(cost))
            }
        }
    }
}

/// A peer that is counting, until it is dropped.
struct Peer(Child);

impl Peer {
    fn start(program: &str, args: &[&str]) -> Result<Option<Self>> {
        let spawned = Command::new(program)
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = spawned else {
            return Ok(None);
        };
        // None of them says when it has attached.
        sleep(Duration::from_secs(3));
        let mut peer = Self(child);
        if let Some(status) = peer.0.try_wait()? {
            bail!("{program} ended by itself: {status}");
        }
        Ok(Some(peer))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        // Its programs go after a grace period.
        sleep(Duration::from_millis(300));
    }
}

fn event_cost() -> Result<()> {
    let counted = "struct n *n = tally_entry(rows, &key); if (n) __sync_fetch_and_add(&n->n, 1);";
    let subjects = [
        ("no tracing", Subject::Nothing),
        (
            "an empty program",
            Subject::Tally(Box::new(tally(
                "empty",
                "TABLE(rows, __u32, struct n, 8, \"\");",
                "",
            )?)),
        ),
        (
            "array",
            Subject::Tally(Box::new(tally(
                "array",
                "ARRAY_TABLE(rows, struct n, 8, \"\");",
                &format!("__u32 key = 1; {counted}"),
            )?)),
        ),
        (
            "4-byte key",
            Subject::Tally(Box::new(tally(
                "key4",
                "TABLE(rows, __u32, struct n, 8192, \"\");",
                &format!("__u32 key = id; {counted}"),
            )?)),
        ),
        (
            "comm key",
            Subject::Tally(Box::new(tally(
                "comm_key",
                "struct key { char comm[TASK_COMM_LEN]; }; TABLE(rows, struct key, struct n, 8192, \"\");",
                &format!("struct key key = {{}}; bpf_get_current_comm(key.comm, 16); {counted}"),
            )?)),
        ),
        (
            "tally syscalls, whole",
            Subject::Tally(Box::new(Tally::find("syscalls".as_ref())?)),
        ),
        (
            "bpftrace @[comm] = count()",
            Subject::Peer("bpftrace", vec!["-e", BPFTRACE_COUNT]),
        ),
        (
            "libbpf-tools syscount",
            Subject::Peer("syscount", vec!["-d", "60"]),
        ),
    ];
    let mut rounds: Vec<Vec<f64>> = vec![Vec::new(); subjects.len()];
    let mut missing = vec![false; subjects.len()];
    for _ in 0..ROUNDS {
        for (i, (_, subject)) in subjects.iter().enumerate() {
            match subject.measure()? {
                Some(cost) => rounds[i].push(cost),
                None => missing[i] = true,
            }
        }
    }
    println!("counting an event (getppid, one CPU)        ns   over empty   of bpftrace");
    let medians: Vec<Option<f64>> = rounds
        .into_iter()
        .map(|round| (!round.is_empty()).then(|| median(round)))
        .collect();
    let (none, empty) = (medians[0].unwrap_or(0.0), medians[1].unwrap_or(0.0));
    for (i, (name, _)) in subjects.iter().enumerate() {
        let Some(cost) = medians[i] else {
            println!("{name:<40} not installed");
            continue;
        };
        let share = medians[6].map_or_else(
            || "-".into(),
            |peer| format!("{:.2}", (cost - none) / (peer - none)),
        );
        println!("{name:<40} {cost:>6.0} {:>12.0} {share:>13}", cost - empty);
    }
    Ok(())
}

/// What each program of each tally costs when it runs, by the kernel's own
/// statistics, which cost about 20 ns themselves. Each is given the same mixed
/// load; a program that this load does not reach has no number.
fn tallies() -> Result<()> {
    println!(
        "{:<12} {:<24} {:>9} {:>9}",
        "tally", "program", "events", "ns each"
    );
    for tally in Tally::builtins()? {
        let mut storage = Storage::uninit();
        let session = match Session::start(&tally, &mut storage, &[], None) {
            Ok(session) => session,
            Err(error) => {
                println!("{:<12} {error:#}", tally.name);
                continue;
            }
        };
        // SAFETY: takes an integer.
        let stats = unsafe {
            libbpf_rs::libbpf_sys::bpf_enable_stats(libbpf_rs::libbpf_sys::BPF_STATS_RUN_TIME)
        };
        if stats < 0 {
            bail!(
                "the kernel keeps no statistics of programs: {}",
                std::io::Error::last_os_error()
            );
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        let stats = unsafe { std::os::fd::OwnedFd::from_raw_fd(stats) };
        let done = mixed_load();
        let own: Vec<u32> = session.program_ids()?;
        for program in ProgInfoIter::default().filter(|program| own.contains(&program.id)) {
            let name = program.name.to_string_lossy().into_owned();
            match program.run_cnt {
                0 => println!("{:<12} {name:<24} {:>9} {:>9}", tally.name, 0, "-"),
                events => println!(
                    "{:<12} {name:<24} {events:>9} {:>9}",
                    tally.name,
                    program.run_time_ns / events
                ),
            }
        }
        done?;
        drop((stats, session));
    }
    Ok(())
}

/// System calls, faults, processes, files, memory and packets, for a moment.
fn mixed_load() -> Result<()> {
    call_cost();
    let folder = tempfile::tempdir()?;
    let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    for i in 0..50u8 {
        Command::new("true").status()?;
        fs::write(folder.path().join(i.to_string()), vec![i; 64 << 10])?;
        let mut client = std::net::TcpStream::connect(server.local_addr()?)?;
        let (mut accepted, _) = server.accept()?;
        client.write_all(&[i; 4096])?;
        accepted.read_exact(&mut [0; 4096])?;
        sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn reading() -> Result<()> {
    let tally = tally(
        "million",
        "struct key { char comm[TASK_COMM_LEN] AS(comm); __u32 call; };\n\
         TABLE(rows, struct key, struct n, 1000000, \"\");",
        "struct key key = {}; if (id < 0) tally_entry(rows, &key);",
    )?;
    let mut storage = Storage::uninit();
    let session = Session::start(&tally, &mut storage, &[], None)?;
    let id = MapInfoIter::default()
        .find(|map| map.name == "rows" && map.max_entries == ROWS)
        .context("the table has no map")?
        .id;
    let map = MapHandle::from_map_id(id)?;
    fill(&map)?;

    let (mut bare, mut json, mut peer) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(seconds(|| read_all(&map))?);
        json.push(seconds(|| read_as_json(&session, &tally))?);
        if let Ok(mut bpftool) = Command::new("bpftool")
            .args(["-j", "map", "dump", "id", &id.to_string()])
            .stdout(Stdio::null())
            .spawn()
        {
            let start = Instant::now();
            bpftool.wait()?;
            peer.push(start.elapsed().as_secs_f64());
        }
    }
    let (bare, json) = (median(bare), median(json));
    println!("reading {ROWS} rows (20-byte key, u64)       s   over batches   bpftool's share");
    println!("{:<40} {bare:>6.2}", "bare batches, the limit");
    let share = |mine: f64, peer: &[f64]| match peer {
        [] => "-".to_owned(),
        _ => format!("{:.1} times faster", median(peer.to_vec()) / mine),
    };
    println!(
        "{:<40} {json:>6.2} {:>12.1} {:>20}",
        "read, sort, write as JSON",
        json / bare,
        share(json, &peer)
    );
    match peer.is_empty() {
        true => println!("{:<40} not installed", "bpftool -j map dump"),
        false => println!("{:<40} {:>6.2}", "bpftool -j map dump", median(peer)),
    }
    Ok(())
}

/// A million entries: a name and a number to a number.
fn fill(map: &MapHandle) -> Result<()> {
    let mut keys = Vec::new();
    for i in 0..ROWS {
        keys.extend(format!("{:<15}\0", i % 1000).into_bytes());
        keys.extend(i.to_ne_bytes());
    }
    let values: Vec<u8> = (0..u64::from(ROWS))
        .flat_map(|i| (i + 1).to_ne_bytes())
        .collect();
    map.update_batch(&keys, &values, ROWS, MapFlags::ANY, MapFlags::ANY)?;
    Ok(())
}

/// `ktally map` beside bpftool: whole commands, from start to exit.
fn maps() -> Result<()> {
    let tally = tally(
        "maps",
        "struct key { char comm[TASK_COMM_LEN] AS(comm); __u32 call; };\n\
         TABLE(kt_bench_rows, struct key, struct n, 1000000, \"\");",
        "struct key key = {}; if (id < 0) tally_entry(kt_bench_rows, &key);",
    )?;
    let mut storage = Storage::uninit();
    let session = Session::start(&tally, &mut storage, &[], None)?;
    let map = MapInfoIter::default()
        .find(|map| map.name == "kt_bench_rows")
        .context("the table has no map")?;
    let map = MapHandle::from_map_id(map.id)?;
    fill(&map)?;
    let id = map.info()?.info.id.to_string();
    let hex = "0x37 0x20 0x20 0x20 0x20 0x20 0x20 0x20 0x20 0x20 0x20 0x20 0x20 0x20 0x20 0x00 0x07 0x00 0x00 0x00";
    let hex: Vec<&str> = hex.split(' ').collect();
    let padded = format!("comm={:<15},call=7", 7);
    let many: Vec<MapHandle> = (0..500)
        .map(|_| {
            let opts = libbpf_rs::libbpf_sys::bpf_map_create_opts {
                sz: size_of::<libbpf_rs::libbpf_sys::bpf_map_create_opts>() as _,
                ..Default::default()
            };
            MapHandle::create(libbpf_rs::MapType::Hash, Some("kt_bench"), 4, 8, 16, &opts)
        })
        .collect::<libbpf_rs::Result<_>>()?;
    let bpftool = |verb: &[&str], more: &[&str]| -> Vec<String> {
        [&["-j", "map"], verb, more]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect()
    };
    let id = id.as_str();
    let with_key: Vec<&str> = [&["id", id, "key"], &hex[..]].concat();
    let to_value: Vec<&str> = [
        &with_key[..],
        &["value", "1", "0", "0", "0", "0", "0", "0", "0"],
    ]
    .concat();
    println!(
        "{:<34} {:>9} {:>9} {:>7} {:>9} {:>7}",
        "ms from start to exit", "ktally", "bpftool", "times", "MiB", "MiB"
    );
    type Row<'a> = (&'a str, Vec<&'a str>, Vec<String>);
    let rows: [Row<'_>; 7] = [
        (
            "dump of a million, JSON",
            vec!["dump", id, "-o", "json"],
            bpftool(&["dump"], &["id", id]),
        ),
        (
            "dump of a million, table",
            vec!["dump", id],
            bpftool(&["dump"], &["id", id]),
        ),
        (
            "dump of a million, top 10",
            vec!["dump", id, "--top", "10"],
            Vec::new(),
        ),
        (
            "lookup",
            vec!["lookup", id, &padded],
            bpftool(&["lookup"], &with_key),
        ),
        (
            "update",
            vec!["update", id, &padded, "1"],
            bpftool(&["update"], &to_value),
        ),
        ("add", vec!["add", id, &padded, "1"], Vec::new()),
        (
            "list, 500 maps and more",
            vec!["list"],
            bpftool(&["list"], &[]),
        ),
    ];
    for (name, own, peer) in rows {
        let own: Vec<&str> = [&["map"], &own[..]].concat();
        let peer: Vec<&str> = peer.iter().map(String::as_str).collect();
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        let (mut my_memory, mut their_memory) = (0.0, 0.0);
        for _ in 0..ROUNDS {
            if let Some((time, memory)) = run_measured(KTALLY, &own)? {
                mine.push(time);
                my_memory = f64::max(my_memory, memory);
            }
            if !peer.is_empty()
                && let Some((time, memory)) = run_measured("bpftool", &peer)?
            {
                theirs.push(time);
                their_memory = f64::max(their_memory, memory);
            }
        }
        let mine = median(mine);
        let (theirs, times) = match theirs.is_empty() {
            true => ("-".to_owned(), "-".to_owned()),
            false => {
                let theirs = median(theirs);
                (
                    format!("{:.1}", theirs * 1e3),
                    format!("{:.1}", theirs / mine),
                )
            }
        };
        println!(
            "{name:<34} {:>9.1} {theirs:>9} {times:>7} {my_memory:>9.1} {their_memory:>7.1}",
            mine * 1e3
        );
    }
    let bare = median(
        (0..ROUNDS)
            .map(|_| seconds(|| read_all(&map)))
            .collect::<Result<_>>()?,
    );
    println!(
        "{:<34} {:>9.1}",
        "bare batches of it, the limit",
        bare * 1e3
    );
    const ADDITIONS: u32 = 100_000;
    let repeat = ADDITIONS.to_string();
    let once = run_measured(KTALLY, &["map", "add", id, &padded, "1"])?;
    let often = run_measured(
        KTALLY,
        &["map", "add", id, &padded, "1", "--repeat", &repeat],
    )?;
    if let (Some((once, _)), Some((often, _))) = (once, often) {
        let each = (often - once) * 1e6 / f64::from(ADDITIONS);
        println!("{:<34} {each:>9.2} µs", "one addition of `add --repeat`");
    }
    drop(many);
    drop(session);
    Ok(())
}

fn read_all(map: &MapHandle) -> Result<()> {
    Reader::new(&Map::new(map.as_fd())?).read(|_, _| ControlFlow::Continue(()))?;
    Ok(())
}

/// Seconds from start to exit, and the most that was resident, in MiB, as far as
/// a look each millisecond tells (what the kernel sums up at the end includes
/// this process, from which the child was forked). `None` where the program is
/// not installed.
fn run_measured(program: &str, args: &[&str]) -> Result<Option<(f64, f64)>> {
    let start = Instant::now();
    let Ok(mut child) = Command::new(program)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
    else {
        return Ok(None);
    };
    let mut most = 0.0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        most = f64::max(most, resident(child.id()).unwrap_or(0.0));
        sleep(Duration::from_millis(1));
    };
    if !status.success() {
        bail!("`{program} {}` failed", args.join(" "));
    }
    Ok(Some((start.elapsed().as_secs_f64(), most)))
}

fn read_as_json(session: &Session<'_>, tally: &Tally) -> Result<()> {
    let labels = Labels::new();
    let reading = session.read()?;
    let table = &tally.schema.tables[0];
    let (table, rows) = Query::default().apply(table, &reading.tables[0].rows, None, &labels);
    let snapshot = Snapshot {
        tally: tally.name.clone(),
        summary: String::new(),
        time: reading.time,
        seconds: reading.seconds,
        missed: reading.missed,
        incomplete: reading.incomplete,
        tables: vec![TableSnapshot {
            table,
            rows_read: rows.len(),
            rows,
            dropped: 0,
        }],
    };
    let mut sink = File::create("/dev/null")?;
    Renderer::new(Format::Json, Style::default()).render(&mut sink, &snapshot, &labels)?;
    Ok(())
}

fn seconds(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

fn start() -> Result<()> {
    let script = format!("{BPFTRACE_COUNT} BEGIN {{ exit(); }}");
    let (mut own, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        own.extend(run_once(
            KTALLY,
            &["run", "failures", "--for", "0", "-o", "json"],
        )?);
        peer.extend(run_once("bpftrace", &["-e", &script])?);
    }
    let own = median(own);
    println!("start, count, read, end                     ms");
    println!("{:<40} {:>6.0}", "ktally run failures --for 0", own * 1e3);
    match peer.is_empty() {
        true => println!("{:<40} not installed", "bpftrace, one probe"),
        false => {
            let peer = median(peer);
            println!(
                "{:<40} {:>6.0} {:>19.1} times slower",
                "bpftrace, one probe",
                peer * 1e3,
                peer / own
            );
        }
    }
    Ok(())
}

/// `None` where the program is not installed.
fn run_once(program: &str, args: &[&str]) -> Result<Option<f64>> {
    let start = Instant::now();
    let Ok(mut child) = Command::new(program)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
    else {
        return Ok(None);
    };
    child.wait()?;
    Ok(Some(start.elapsed().as_secs_f64()))
}

fn memory() -> Result<()> {
    println!("resident while counting                    MiB");
    let subjects: [(&str, &str, &[&str]); 3] = [
        (
            "ktally run syscalls",
            KTALLY,
            &["run", "syscalls", "--every", "1s", "-o", "jsonl"],
        ),
        ("bpftrace", "bpftrace", &["-e", BPFTRACE_COUNT]),
        ("libbpf-tools syscount", "syscount", &["-d", "60"]),
    ];
    for (name, program, args) in subjects {
        match Peer::start(program, args)? {
            Some(peer) => println!("{name:<40} {:>6.1}", resident(peer.0.id())?),
            None => println!("{name:<40} not installed"),
        }
    }
    Ok(())
}

/// The most that was ever resident, in MiB.
fn resident(pid: u32) -> Result<f64> {
    let status = BufReader::new(File::open(format!("/proc/{pid}/status"))?);
    for line in status.lines() {
        if let Some(kib) = line?.strip_prefix("VmHWM:") {
            return Ok(kib.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0);
        }
    }
    bail!("/proc/{pid}/status tells no VmHWM")
}
