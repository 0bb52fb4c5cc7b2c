//! What the exporter may still do once it serves.

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;

use super::client::{head, tcp};
use super::{Exporter, Host};
use crate::attach::assert_verified;
use crate::common::NOBODY;
use crate::run::Run;
use crate::support::{Child, fail_to_open};

/// A line of `/proc/PID/task/TID/status`, of each thread, by the thread's name.
fn lines(exporter: &Exporter, name: &str) -> Vec<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{}/task", exporter.run.id())).unwrap();
    let lines = tasks.map(|task| {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let line = |name: &str| {
            let lines = status.lines();
            let mut values = lines.filter_map(|line| line.split_once(":\t"));
            values
                .find(|(known, _)| *known == name)
                .unwrap()
                .1
                .to_owned()
        };
        (line("Name"), line(name))
    });
    lines.collect()
}

fn assert_all(exporter: &Exporter, name: &str, value: &str) {
    let lines = lines(exporter, name);
    assert!(lines.len() >= 2, "{lines:?}");
    for (thread, line) in lines {
        assert_eq!(line, value, "{name} of {thread}");
    }
}

const NONE: &str = "0000000000000000";

#[test]
fn no_thread_keeps_a_capability() {
    let host = Host::new();
    host.good("attach failures --as f");
    let exporter = Exporter::start(&host, "softirqs @f --cost");
    for sets in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_all(&exporter, sets, NONE);
    }
    assert_all(&exporter, "NoNewPrivs", "1");
    assert_all(&exporter, "Seccomp", "2");
    // It can still read both, and what the programs cost.
    let samples = exporter.scrape();
    for series in ["ktally_up{tally=\"softirqs\"}", "ktally_up{tally=\"f\"}"] {
        assert_eq!(samples[series], "1");
    }
    let of_f = "ktally_program_runs_total{tally=\"f\",program=\"sys_exit\"}";
    assert!(samples[of_f].parse::<u64>().unwrap() > 0);
}

/// A capability stays for what a decoder reads.
#[test]
fn names_of_functions_need_one_capability() {
    const CAP_SYSLOG: &str = "0000000400000000";
    let host = Host::new();
    let exporter = Exporter::start(&host, "netdrops");
    for (thread, held) in lines(&exporter, "CapEff") {
        let wanted = if thread == "ktally-reader" {
            CAP_SYSLOG
        } else {
            NONE
        };
        assert_eq!(held, wanted, "{thread}");
    }
}

#[test]
fn another_user_serves_the_same() {
    let host = Host::new();
    let child = Child::new("kt-user", || fail_to_open(23));
    let args = format!("failures --pid {} --user nobody", child.pid());
    let exporter = Exporter::start(&host, &args);
    child.work();
    let user = format!("{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}");
    assert_all(&exporter, "Uid", &user);
    assert_all(&exporter, "Gid", &user);
    assert_all(&exporter, "CapEff", NONE);
    let samples = exporter.scrape();
    let calls = "ktally_failures_calls_total{comm=\"kt-user\",call=\"openat\",error=\"ENOENT\"}";
    assert_eq!(samples[calls], "23");

    host.ktally("export failures --user no-such-user")
        .refused(2, &["there is no user `no-such-user`"]);
    host.ktally("export --attached --user nobody")
        .refused(2, &["only root can follow instances"]);
}

#[test]
fn the_units_for_systemd_are_good_ones() {
    for unit in ["ktally-export.service", "ktally-export.socket"] {
        assert_verified(unit);
    }
}

/// systemd opens the socket, and hears when all counts.
#[test]
fn a_socket_of_systemd_is_served() {
    let host = Host::new();
    let folder = tempfile::tempdir().unwrap();
    let notified = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut program = host.program();
    program.args(["export", "failures"]);
    program.env("NOTIFY_SOCKET", folder.path().join("notify"));
    let socket = listener.as_raw_fd();
    // Of systemd it is the first one behind stderr, which may be another here.
    program.env("LISTEN_FDS", "1");
    program.env("LISTEN_FDS_FIRST_FD", socket.to_string());
    // SAFETY: a system call alone.
    unsafe {
        program.pre_exec(move || match libc::fcntl(socket, libc::F_SETFD, 0) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let _run = Run::of(&mut program);
    let mut text = [0; 64];
    let length = notified.recv(&mut text).unwrap();
    assert_eq!(&text[..length], b"READY=1\n");
    assert_eq!(tcp(address, &head("/-/ready", &[])).status, 200);
}
