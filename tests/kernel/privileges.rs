//! What a command that goes on may still do: it has read access and little else.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{self, Command, Stdio};
use std::time::Duration;

use crate::common::{NOBODY, assert_has, ktally};
use crate::instances::Host;
use crate::run::Run;
use crate::support::{kernel_series, require_root, wait_until};

/// Numbers of include/uapi/linux/capability.h.
const SYS_PTRACE: u64 = 1 << 19;
const DAC_READ_SEARCH: u64 = 1 << 2;
const KILL: u64 = 1 << 5;
const SYSLOG: u64 = 1 << 34;
const BPF: u64 = 1 << 39;

/// What reading takes by itself.
fn reading() -> u64 {
    if kernel_series() < (5, 19) { BPF } else { 0 }
}

fn status(pid: u32) -> BTreeMap<String, u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    parse(&status)
}

fn parse(status: &str) -> BTreeMap<String, u64> {
    let lines = status.lines().filter_map(|line| line.split_once(":\t"));
    let sets = lines.filter(|(name, _)| name.starts_with("Cap") || *name == "NoNewPrivs");
    sets.map(|(name, hex)| (name.to_owned(), u64::from_str_radix(hex, 16).unwrap()))
        .collect()
}

/// It has these capabilities from some moment on, and cannot get others back.
fn assert_keeps(what: &str, pid: u32, capabilities: u64) {
    let is_set = || status(pid)["NoNewPrivs"] == 1;
    wait_until(&format!("{what} gives up capabilities"), is_set);
    let status = status(pid);
    for set in ["CapEff", "CapPrm"] {
        assert_eq!(status[set], capabilities, "{what}: {status:x?}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(status[set], 0, "{what}: {status:x?}");
    }
}

#[test]
fn a_run_keeps_only_what_it_needs() {
    for (line, kept) in [
        ("syscalls", 0),
        ("netdrops", SYSLOG),
        ("netdrops --raw", 0),
        ("profile", SYS_PTRACE | DAC_READ_SEARCH | SYSLOG),
        ("profile --raw", 0),
        ("failures -- sleep 1000", KILL),
    ] {
        let mut run = Run::counting(&format!("-o json {line}"));
        assert_keeps(line, run.id(), kept | reading());
        let ended = run.stop();
        assert!(ended.stdout.contains("\"incomplete\":false"), "{ended:?}");
        assert!(!ended.stderr.contains("warning: failed"), "{ended:?}");
    }
}

#[test]
fn readers_keep_no_more() {
    let host = Host::new();
    host.good("attach syscalls");
    let mut read = host.start("read syscalls --every 100ms -o jsonl");
    assert_eq!(read.next()["incomplete"], false);
    assert_keeps("read", read.id(), reading());
    // The pins are still looked at.
    assert_eq!(read.next()["incomplete"], false);
    host.good("detach syscalls --keep");
    read.end().good();

    let map = "/sys/fs/bpf/ktally/syscalls/maps/syscalls";
    let watch = host.start(&format!("map watch {map} --every 100ms -o jsonl"));
    let kept = SYS_PTRACE | DAC_READ_SEARCH | SYSLOG;
    assert_keeps("map watch", watch.id(), kept | reading());
    drop(watch);
    host.good("detach syscalls");
}

/// It has what its user has, and ends with the run whichever user it has become.
#[test]
fn a_command_keeps_the_privileges_of_its_user() {
    require_root();
    let shown = ktally("run failures --output json -- cat /proc/self/status");
    let own = status(process::id());
    assert_eq!(parse(&shown.stdout), own, "{shown:?}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!(
        "echo $$ > {}; exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups sleep 1000",
        file.display()
    );
    let mut run = Run::start(["failures", "--", "sh", "-c", &script]);
    let mut pid = 0;
    wait_until("the command is another user's", || {
        pid = fs::read_to_string(&file).map_or(0, |pid| pid.trim().parse().unwrap_or(0));
        let status = fs::read_to_string(format!("/proc/{pid}/status"));
        status.is_ok_and(|it| it.contains(&format!("Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}")))
    });
    run.signal(libc::SIGTERM);
    let ended = run.end();
    // SAFETY: asks whether there is such a process.
    assert_eq!(unsafe { libc::kill(pid, 0) }, -1, "{ended:?}");
    assert!(!ended.stderr.contains("warning: failed"), "{ended:?}");
}

/// A program in a folder that only its user may enter.
#[test]
fn stacks_of_other_users_have_names() {
    require_root();
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("kt-busy");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for path in [&program, folder.path()] {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let mut busy = Command::new(&program);
    let busy = busy.args(["--ignored", "--exact", "privileges::is_busy"]);
    let busy = busy.stdout(Stdio::null()).uid(NOBODY).gid(NOBODY);
    let mut busy = busy.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let pid = busy.id();
    let ran = ktally(&format!("run profile --pid {pid} --for 500ms -o folded"));
    busy.kill().unwrap();
    busy.wait().unwrap();
    assert_has(&ran.done(), &["test::run_test"]);
}

#[test]
#[ignore = "a program for the test above, which ends it"]
fn is_busy() {
    loop {
        std::hint::spin_loop();
    }
}

/// As under sudo: a file in a folder of another user.
#[test]
fn output_goes_into_folders_of_other_users() {
    require_root();
    let folder = tempfile::tempdir().unwrap();
    chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for format in ["json", "jsonl"] {
        let file = folder.path().join(format);
        let to = file.display();
        let line = format!("run failures --for 10ms -o {format} --output-file {to}");
        ktally(&line).good();
        let written = fs::read_to_string(&file).unwrap();
        assert_has(&written, &["\"incomplete\":false"]);
    }
}
