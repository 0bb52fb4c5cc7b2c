//! What is measured: C files made for one question, and the peers' commands.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use ktally::tally::Tally;

pub const KTALLY: &str = env!("CARGO_BIN_EXE_ktally");
pub const BPFTRACE_COUNT: &str = "tracepoint:raw_syscalls:sys_enter { @[comm] = count(); }";
pub const BPFTRACE_HIST: &str = "tracepoint:raw_syscalls:sys_enter { @[comm] = hist(args->id); }";

/// A C file for one question: what does this much counting add to a system call?
pub fn tally(name: &str, declarations: &str, body: &str) -> Result<Tally> {
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

/// The C file that `--print` writes for a query.
pub fn printed(query: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new(KTALLY).args(query).arg("--print").output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(output.stdout)
}

/// A table of as many rows as wanted, for readers: a name and a number to a number.
pub fn table_of_rows(table: &str, rows: u32) -> Result<Tally> {
    tally(
        "rows",
        &format!(
            "struct key {{ char comm[TASK_COMM_LEN] AS(comm); __u32 call; }};\n\
             TABLE({table}, struct key, struct n, {rows}, \"\");"
        ),
        &format!("struct key key = {{}}; if (id < 0) tally_entry({table}, &key);"),
    )
}

/// A peer that is counting, until it is dropped.
pub struct Peer(Child);

impl Peer {
    /// `None` where it is not installed, or does not run here.
    pub fn start(program: &str, args: &[&str]) -> Result<Option<Self>> {
        let spawned = quiet(program, args).spawn();
        let Ok(child) = spawned else {
            return Ok(None);
        };
        let mut peer = Self(child);
        // None of them says when it has attached.
        sleep(Duration::from_secs(3));
        Ok(match peer.0.try_wait()? {
            Some(_) => None,
            None => Some(peer),
        })
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
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

/// Seconds from start to exit, and the most that was resident, in MiB, as far as
/// a look each millisecond tells (what the kernel sums up at the end includes
/// this process, from which the child was forked). `None` where the program is
/// not installed.
pub fn run(program: &str, args: &[&str]) -> Result<Option<[f64; 2]>> {
    let start = Instant::now();
    let Ok(mut child) = quiet(program, args).spawn() else {
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
    Ok(Some([start.elapsed().as_secs_f64(), most]))
}

fn quiet(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// The most that was ever resident, in MiB.
pub fn resident(pid: u32) -> Result<f64> {
    let status = BufReader::new(File::open(format!("/proc/{pid}/status"))?);
    for line in status.lines() {
        if let Some(kib) = line?.strip_prefix("VmHWM:") {
            return Ok(kib.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0);
        }
    }
    bail!("/proc/{pid}/status tells no VmHWM")
}
