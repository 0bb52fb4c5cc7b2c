//! What the tests of instances share: a bpffs of their own, in a mount
//! namespace that ends with the test, and the program run inside of it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};

use libbpf_rs::query::LinkInfoIter;
use libbpf_rs::{MapHandle, Program};
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::common::{Args, Ended, OPEN_PROGRAM, PROGRAM, command, end, without_privileges};
use crate::objects::Objects;
use crate::run::{Run, sum};
use crate::support::{mount_new, own_mounts, require_root};

/// A host with a bpffs that no other process sees. All that is pinned there goes
/// when it is dropped.
pub struct Host {
    holder: process::Child,
    namespace: File,
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
                own_mounts()?;
                while umount2("/sys/fs/bpf", MntFlags::MNT_DETACH).is_ok() {}
                if mounted {
                    mount_new("bpf", Path::new("/sys/fs/bpf"), Some("mode=0700"))?;
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
        self.inside(PROGRAM)
    }

    /// Any program.
    pub fn inside(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = command(program);
        let namespace = self.namespace.try_clone().unwrap();
        // SAFETY: one system call.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(setns(namespace.as_fd(), CloneFlags::CLONE_NEWNS)?)
            });
        }
        command
    }

    #[track_caller]
    pub fn ktally(&self, args: impl Args) -> Ended {
        end(&mut args.pass_to(self.program()))
    }

    /// It ends well.
    #[track_caller]
    pub fn good(&self, args: impl Args) -> Ended {
        self.ktally(args).good()
    }

    /// The same, and it prints JSON.
    #[track_caller]
    pub fn json(&self, args: impl Args) -> Value {
        self.ktally(args).json()
    }

    /// The calls of this label in the reading that it prints.
    #[track_caller]
    pub fn calls(&self, args: impl Args, label: (&str, &str)) -> u64 {
        sum(&self.json(args), label, "calls")
    }

    /// In the background.
    pub fn start(&self, args: impl Args) -> Run {
        Run::of(&mut args.pass_to(self.program()))
    }

    /// As `nobody`, in these groups as well.
    pub fn without_privileges(&self, groups: &'static [u32], args: impl Args) -> Ended {
        let mut program = self.inside(&*OPEN_PROGRAM);
        without_privileges(&mut program, groups);
        end(&mut args.pass_to(program))
    }

    /// A path of its bpffs, as this process reaches it.
    pub fn bpffs(&self, below: &str) -> PathBuf {
        let root = format!("/proc/{}/root/sys/fs/bpf", self.holder.id());
        Path::new(&root).join(below)
    }

    /// The mode of a file of its bpffs.
    pub fn mode(&self, below: &str) -> u32 {
        fs::metadata(self.bpffs(below)).unwrap().mode() & 0o777
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
                // Not the slots: a process that opens an array of programs
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

/// Whether a link of any program is there that uses this map or one of these
/// entries: something counts.
pub fn links_of(programs: &BTreeSet<u32>) -> usize {
    LinkInfoIter::default()
        .filter(|link| programs.contains(&link.prog_id))
        .count()
}
