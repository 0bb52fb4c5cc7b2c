//! What the tests of instances share: a bpffs of their own, in a mount
//! namespace that ends with the test, and the program run inside of it.

#![allow(clippy::unwrap_used)] // In tests, panics are what tells.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};

use libbpf_rs::query::LinkInfoIter;
use libbpf_rs::{MapHandle, Program};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::Value;

use crate::objects::Objects;
use crate::support::{end_if_too_old, require_root};

/// A host with a bpffs that nobody else sees. All that is pinned there goes
/// when it is dropped.
pub struct Host {
    holder: process::Child,
    namespace: File,
}

/// How a run of the program ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Host {
    pub fn new() -> Self {
        Self::with_bpffs(true)
    }

    /// Without it, bpffs is not mounted.
    pub fn with_bpffs(mounted: bool) -> Self {
        require_root();
        let mut command = Command::new("sleep");
        command.arg("1h").stdin(Stdio::null());
        // SAFETY: system calls alone, which need no lock.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                unshare(CloneFlags::CLONE_NEWNS)?;
                let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
                while umount2("/sys/fs/bpf", MntFlags::MNT_DETACH).is_ok() {}
                if mounted {
                    let none = MsFlags::empty();
                    mount(
                        Some("bpf"),
                        "/sys/fs/bpf",
                        Some("bpf"),
                        none,
                        Some("mode=0700"),
                    )?;
                }
                Ok(())
            });
        }
        let holder = command.spawn().unwrap();
        // `spawn` returns once it has become another program.
        let namespace = File::open(format!("/proc/{}/ns/mnt", holder.id())).unwrap();
        Self { holder, namespace }
    }

    /// The program, as root.
    pub fn program(&self) -> Command {
        self.inside(env!("CARGO_BIN_EXE_ktally"))
    }

    /// Any program.
    pub fn inside(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let namespace = self.namespace.try_clone().unwrap();
        command.stdin(Stdio::null()).env_remove("RUST_BACKTRACE");
        // SAFETY: one system call.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(setns(namespace.as_fd(), CloneFlags::CLONE_NEWNS)?)
            });
        }
        command
    }

    pub fn ktally<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ended {
        end(self.program().args(args))
    }

    /// Of a command line without spaces in its words; it ends well.
    pub fn good(&self, line: &str) -> Ended {
        let ended = self.ktally(line.split_whitespace());
        end_if_too_old(&ended.stderr);
        assert_eq!(ended.code, Some(0), "{line}: {ended:?}");
        ended
    }

    /// The same, which prints JSON.
    pub fn json(&self, line: &str) -> Value {
        let ended = self.good(line);
        serde_json::from_str(&ended.stdout).unwrap()
    }

    /// A path of its bpffs, as this process reaches it.
    pub fn bpffs(&self, below: &str) -> PathBuf {
        let root = format!("/proc/{}/root/sys/fs/bpf", self.holder.id());
        Path::new(&root).join(below)
    }

    /// Everything that is pinned, from bpffs on, folders included.
    pub fn pins(&self) -> Vec<String> {
        let root = self.bpffs("");
        let mut found = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(&folder) else {
                continue;
            };
            for path in entries.map(|entry| entry.unwrap().path()) {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
                if !name.ends_with(".debug") {
                    found.push(name.to_owned());
                }
                if path.is_dir() {
                    folders.push(path);
                }
            }
        }
        found.sort();
        found
    }

    /// What an instance has in the kernel.
    pub fn objects(&self, label: &str) -> Objects {
        let mut objects = Objects::default();
        for pin in self.pins() {
            let Some(pin) = pin.strip_prefix(&format!("ktally/{label}/")) else {
                continue;
            };
            let path = self.bpffs(&format!("ktally/{label}/{pin}"));
            match pin.split('/').next().unwrap() {
                "entries" | "programs" if path.is_file() => {
                    let program = Program::fd_from_pinned_path(&path).unwrap();
                    let id = Program::id_from_fd(program.as_fd()).unwrap();
                    objects.programs.insert(id);
                }
                // Not the slots: whoever on this host opens an array of programs
                // while the kernel empties it can keep it for ever.
                "maps" if path.is_file() => {
                    let map = MapHandle::from_pinned_path(&path).unwrap();
                    let info = libbpf_rs::MapInfo::new(map.as_fd()).unwrap();
                    objects.maps.insert(info.info.id);
                }
                _ => {}
            }
        }
        objects
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

pub fn end(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Whether a link of any program is there that uses this map or one of these
/// entries: something counts.
pub fn links_of(programs: &BTreeSet<u32>) -> usize {
    LinkInfoIter::default()
        .filter(|link| programs.contains(&link.prog_id))
        .count()
}

/// A `read --every` in the background.
pub struct Reader {
    process: process::Child,
    stdout: BufReader<process::ChildStdout>,
}

impl Reader {
    pub fn start(host: &Host, line: &str) -> Self {
        let mut command = host.program();
        command.args(line.split_whitespace());
        let mut process = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        Self { process, stdout }
    }

    pub fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }

    /// Everything that it still prints; it ends by itself, well.
    pub fn rest(mut self) -> (Vec<Value>, String) {
        let mut readings = Vec::new();
        while let Some(reading) = self.next() {
            readings.push(reading);
        }
        let output = self.process.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        (readings, stderr)
    }
}
