//! `ktally detach`: counts are printed or kept, whatever fails.

use std::fs;
use std::process::Stdio;

use libbpf_rs::{Link, MapHandle};
use serde_json::Value;

use crate::common::{Ended, end, full};
use crate::fate::{self, Fate};
use crate::instances::Host;
use crate::run::{GETPPID, sum};
use crate::support::{Child, amount, ask_for_parent, cases, needs};

/// More than a program has system calls.
const MANY: usize = 400;

fn json(ended: &Ended) -> Option<Value> {
    serde_json::from_str(&ended.stdout).ok()
}

#[test]
fn what_is_not_printed_is_kept() {
    needs((5, 13), "task storage");
    let host = Host::new();
    let child = Child::new("kt-unread", || ask_for_parent(23));
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    for (output, why) in [(full(), "No space"), (closed(), "Broken pipe")] {
        host.good(&format!("attach syscalls --pid {}", child.pid()));
        child.work();
        let mut detach = host.program();
        detach.args(["detach", "syscalls"]).stdout(output);
        end(&mut detach).failed(1, &["`syscalls`", "not written", "stays", why]);
        // It counts no more, and has lost nothing.
        child.work();
        assert_eq!(host.json("status -o json")[0]["state"], "stopped");
        assert_eq!(host.calls("read syscalls -o json", GETPPID), 23);
        assert_eq!(host.calls("detach syscalls -o json", GETPPID), 23);
        assert_eq!(host.pins(), [""; 0]);
    }
}

/// At every call that changes something, and at every one that could fail.
#[test]
fn counts_are_printed_or_kept_whatever_ends_a_detach() {
    needs((5, 13), "task storage");
    let host = Host::new();
    let child = Child::new("kt-ends", || ask_for_parent(23));
    let (mut kept, mut printed) = (0, 0);
    for fate in [Fate::Kill, Fate::Fail(libc::ENOMEM)] {
        for nth in cases(0..MANY, 8) {
            host.good(&format!("attach syscalls --pid {}", child.pid()));
            child.work();
            let mut detach = host.program();
            detach.args(["detach", "syscalls", "-o", "json"]);
            let (ended, is_fate_met) = fate::run(&mut detach, nth, fate);
            let what = format!("{fate:?} at {nth}: {ended:?}");
            let status = host.good("status -o json");
            assert!(!status.stderr.contains("in order"), "{what}: {status:?}");
            let last = match json(&status).unwrap().as_array().unwrap().len() {
                0 => json(&ended).expect(&what),
                _ => host.json("detach syscalls -o json"),
            };
            assert_eq!(sum(&last, GETPPID, "calls"), 23, "{what}");
            assert_eq!(last["missed"], 0, "{what}");
            assert_eq!(host.pins(), [""; 0], "{what}");
            match json(&ended) {
                Some(_) => printed += 1,
                None => kept += 1,
            }
            if !is_fate_met {
                assert_eq!(ended.code, 0, "{what}");
                break;
            }
        }
    }
    eprintln!("{kept} kept, {printed} printed");
    assert!(kept >= 4 && printed >= 4, "{kept} kept, {printed} printed");
}

/// All of it or nothing; and what is attached can be replaced.
#[test]
fn an_attach_that_fails_at_any_call_leaves_nothing() {
    let host = Host::new();
    let (mut failed, mut attached) = (0, 0);
    for nth in cases(0..MANY, 8) {
        let mut attach = host.program();
        attach.args([
            "attach",
            "failures",
            "--rotatable",
            "--readable-by",
            "54321",
        ]);
        let (ended, is_fate_met) = fate::run(&mut attach, nth, Fate::Fail(libc::ENOMEM));
        let what = format!("call {nth}: {ended:?}");
        if ended.code == 0 {
            attached += 1;
            host.good("attach failures --replace");
            host.good("detach failures");
        } else {
            failed += 1;
        }
        assert_eq!(host.pins(), [""; 0], "{what}");
        assert_eq!(host.mode(""), 0o700, "{what}");
        if !is_fate_met {
            assert_eq!(ended.code, 0, "{what}");
            break;
        }
    }
    eprintln!("{failed} failed, {attached} attached");
    assert!(failed > 4 && attached > 0, "{failed}, {attached}");
}

#[test]
fn detach_all_goes_on_after_a_failure() {
    needs((5, 13), "task storage");
    let host = Host::new();
    let child = Child::new("kt-all", || ask_for_parent(23));
    for label in ["a", "b", "c"] {
        host.good(&format!(
            "attach syscalls --as {label} --pid {}",
            child.pid()
        ));
    }
    child.work();
    // Two that cannot be opened.
    for label in ["a", "b"] {
        fs::remove_file(host.bpffs(&format!("ktally/{label}/btf"))).unwrap();
    }
    let words = ["2 instances are not detached", "`a`", "`b`"];
    let ended = host.ktally("detach --all -o jsonl").failed(1, &words);
    assert_eq!(sum(&json(&ended).unwrap(), GETPPID, "calls"), 23);
    let left = host.pins();
    let is_gone = left.iter().all(|pin| !pin.starts_with("ktally/c"));
    assert!(is_gone, "{left:?}");
    // One alone says what it is.
    host.ktally("detach a").refused(3, &["instance `a`", "btf"]);
}

/// The kernel releases the links of removed pins some time later.
#[test]
fn nothing_counts_once_a_detach_has_returned() {
    let host = Host::new();
    let child = Child::new("kt-late", || ask_for_parent(23));
    for _ in 0..amount(20).max(5) {
        host.good(&format!("attach syscalls --pid {}", child.pid()));
        child.work();
        host.good("detach syscalls --keep");
        child.work();
        assert_eq!(host.calls("read syscalls -o json", GETPPID), 23);
        host.good("detach syscalls");
    }
}

/// The kernel cuts a link and empties a slot some time after the last user is gone.
#[test]
fn what_is_detached_counts_no_more_though_it_is_held_open() {
    needs((5, 13), "task storage");
    let host = Host::new();
    let child = Child::new("kt-held", || ask_for_parent(23));
    host.good(&format!("attach syscalls --pid {}", child.pid()));
    child.work();
    let pins = |kind: &str| {
        let folder = fs::read_dir(host.bpffs(&format!("ktally/syscalls/{kind}"))).unwrap();
        folder.map(|pin| pin.unwrap().path())
    };
    let links: Vec<Link> = pins("links").map(|pin| Link::open(pin).unwrap()).collect();
    let slots = pins("slots").map(|pin| MapHandle::from_pinned_path(pin).unwrap());
    let slots: Vec<MapHandle> = slots.collect();
    assert_eq!((links.len(), slots.len()), (2, 2));
    host.good("detach syscalls --keep");
    child.work();
    let reading = host.json("read syscalls -o json");
    assert_eq!(sum(&reading, GETPPID, "calls"), 23);
    assert_eq!(reading["missed"], 0);
    drop((links, slots));
    host.good("detach syscalls");
}

/// What fails for want of memory is not called foreign.
#[test]
fn a_failure_is_not_blamed_on_the_instance() {
    let host = Host::new();
    host.good("attach failures --as there");
    let lines: [&[&str]; 3] = [
        &["attach", "failures", "--as", "there"],
        &["attach", "failures", "--as", "there", "--replace"],
        &["status"],
    ];
    for line in lines {
        for nth in cases(0..MANY, 8) {
            let mut command = host.program();
            let fate = Fate::Fail(libc::EMFILE);
            let (ended, is_fate_met) = fate::run(command.args(line), nth, fate);
            for words in ["another name", "did not pin", "not ktally's"] {
                assert!(!ended.stderr.contains(words), "{line:?} {nth}: {ended:?}");
            }
            if !is_fate_met {
                break;
            }
        }
    }
    host.good("detach there");
    assert_eq!(host.pins(), [""; 0]);
}
