//! The program as a process in the background, and what its readings say.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{self, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};

use serde_json::Value;

use crate::common::{Args, Ended, json, program};
use crate::objects::Objects;
use crate::support::{Impossible, PATIENCE, require_root, wait_until};

/// A program in the background, killed when dropped.
pub struct Run {
    args: Vec<OsString>,
    pub process: process::Child,
    pub stdout: Option<BufReader<ChildStdout>>,
    // Drained all along: libbpf's log fills a pipe.
    stderr: Option<JoinHandle<String>>,
    counting: Receiver<Result<(), Impossible>>,
}

impl Run {
    /// `ktally run`.
    pub fn start(args: impl Args) -> Self {
        require_root();
        let mut ktally = program();
        ktally.arg("run");
        Self::of(&mut args.pass_to(ktally))
    }

    pub fn of(command: &mut Command) -> Self {
        Self::with_output(command, Stdio::piped())
    }

    pub fn with_output(command: &mut Command, output: impl Into<Stdio>) -> Self {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = process.stdout.take().map(BufReader::new);
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let (tell, counting) = channel();
        let stderr = thread::spawn(move || {
            let mut said = String::new();
            for line in stderr.lines() {
                let line = line.unwrap();
                if line.contains("counting") {
                    let _ = tell.send(Ok(()));
                } else if let Some(impossible) = Impossible::told_by(&line) {
                    let _ = tell.send(Err(impossible));
                }
                said += &line;
                said += "\n";
            }
            said
        });
        Self {
            args: command.get_args().map(Into::into).collect(),
            process,
            stdout,
            stderr: Some(stderr),
            counting,
        }
    }

    /// Goes on once it counts.
    #[track_caller]
    pub fn counting(args: impl Args) -> Self {
        require_root();
        let mut ktally = program();
        ktally.args(["run", "-v"]);
        let run = Self::of(&mut args.pass_to(ktally));
        run.wait_until_counting();
        run
    }

    /// As `-v` makes it say.
    #[track_caller]
    pub fn wait_until_counting(&self) {
        let told = self.counting.recv_timeout(PATIENCE);
        if let Err(impossible) = told.expect("no word that it is counting") {
            impossible.end();
        }
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: a process of ours that is not reaped yet.
        let ret = unsafe { libc::kill(self.process.id() as i32, signal) };
        assert_eq!(ret, 0);
    }

    /// Its next line on stdout.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        line
    }

    /// Its next reading.
    #[track_caller]
    pub fn next(&mut self) -> Value {
        json(&self.line())
    }

    /// Waits for its end; then also what it still wrote.
    pub fn end(&mut self) -> Ended {
        let stdout = self.stdout.take();
        let stdout = thread::spawn(move || {
            let mut rest = Vec::new();
            stdout.map(|mut it| it.read_to_end(&mut rest).unwrap());
            rest
        });
        let mut status = None;
        wait_until("ktally ends", || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        });
        let output = Output {
            status: status.unwrap(),
            stdout: stdout.join().unwrap(),
            stderr: self.stderr.take().unwrap().join().unwrap().into(),
        };
        Ended::new(self.args.iter(), output)
    }

    /// Interrupts it, and waits for its end.
    pub fn stop(&mut self) -> Ended {
        self.signal(libc::SIGINT);
        self.end()
    }

    /// What it holds in the kernel.
    pub fn objects(&self) -> Objects {
        let mut objects = Objects::default();
        let folder = format!("/proc/{}/fdinfo", self.process.id());
        for file in fs::read_dir(folder).unwrap() {
            let info = fs::read_to_string(file.unwrap().path()).unwrap_or_default();
            for line in info.lines() {
                let Some((name, id)) = line.split_once(":\t") else {
                    continue;
                };
                let ids = match name {
                    "prog_id" => &mut objects.programs,
                    "map_id" => &mut objects.maps,
                    _ => continue,
                };
                ids.insert(id.trim().parse().unwrap());
            }
        }
        objects
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

// ---- readings ---------------------------------------------------------------

/// System calls that children make, and failures: a label and its text.
pub const GETPPID: (&str, &str) = ("call", "getppid");
pub const ENOENT: (&str, &str) = ("error", "ENOENT");

/// The rows of a reading's first table.
#[track_caller]
pub fn rows_of(reading: &Value) -> &[Value] {
    let rows = reading["tables"][0]["rows"].as_array();
    rows.unwrap_or_else(|| panic!("no rows: {reading}"))
}

/// The sum of a column over all rows.
#[track_caller]
pub fn sum_of(reading: &Value, column: &str) -> u64 {
    let rows = rows_of(reading).iter();
    rows.map(|row| row[column].as_u64().unwrap()).sum()
}

/// The sum of a column over the rows whose label is this.
#[track_caller]
pub fn sum(reading: &Value, (label, text): (&str, &str), column: &str) -> u64 {
    let rows = rows_of(reading).iter().filter(|row| row[label] == text);
    rows.map(|row| row[column].as_u64().unwrap()).sum()
}

/// The same over all readings of a run.
pub fn total(readings: &[Value], label: (&str, &str)) -> u64 {
    readings.iter().map(|it| sum(it, label, "calls")).sum()
}
