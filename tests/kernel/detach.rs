//! Instances that are hard to end: counts are printed or kept, whatever fails;
//! and what is pinned by others, or can be opened by readers, is not trusted.

#![allow(clippy::unwrap_used)] // In tests, panics are what tells.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::process::Stdio;

use libbpf_rs::{Link, MapHandle, MapType};
use serde_json::Value;

use crate::attach::{GETPPID, rewrite};
use crate::common::{Ended, NOBODY, assert_has, end, full};
use crate::fate::{self, Fate};
use crate::instances::Host;
use crate::lifetime::sum;
use crate::support::maps::{create, get, set};
use crate::support::{Child, amount, ask_for_parent, cases, nap, needs};

/// More than a program has system calls.
const MANY: usize = 400;

const GROUP: u32 = 54321;

fn json(ended: &Ended) -> Option<Value> {
    serde_json::from_str(&ended.stdout).ok()
}

fn mode(host: &Host, below: &str) -> u32 {
    fs::metadata(host.bpffs(below)).unwrap().mode() & 0o777
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
        let reading = host.json("read syscalls -o json");
        assert_eq!(sum(&reading, GETPPID, "calls"), 23);
        let last = host.json("detach syscalls -o json");
        assert_eq!(sum(&last, GETPPID, "calls"), 23);
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
        attach.args(["attach", "failures", "--readable-by", "54321"]);
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
        assert_eq!(mode(&host, ""), 0o700, "{what}");
        if !is_fate_met {
            assert_eq!(ended.code, 0, "{what}");
            break;
        }
    }
    eprintln!("{failed} failed, {attached} attached");
    assert!(failed > 4 && attached > 0, "{failed}, {attached}");
}

/// As an earlier version left it when it was killed.
#[test]
fn meta_without_state_is_to_be_removed() {
    let host = Host::new();
    host.good("attach failures --as half");
    host.good("attach failures --as whole");
    let half = |below: &str| host.bpffs(&format!("ktally/half/{below}"));
    for folder in ["links", "entries", "slots", "programs", "maps"] {
        fs::remove_dir_all(half(folder)).unwrap();
    }
    fs::remove_file(half("btf")).unwrap();
    fs::remove_file(half("state")).unwrap();
    host.good("status").told(&["`half` was half removed"]);
    assert!(host.pins().iter().all(|pin| !pin.contains("half")));
    host.good("detach whole");
    assert_eq!(host.pins(), [""; 0]);
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
    assert!(
        left.iter().all(|pin| !pin.starts_with("ktally/c")),
        "{left:?}"
    );
    // One alone says what it is.
    host.ktally("detach a").refused(3, &["instance `a`", "btf"]);
}

/// As the kernel lets anyone do who can open it and pin it elsewhere.
#[test]
fn a_state_that_is_forged_removes_nothing() {
    needs((5, 13), "task storage");
    let host = Host::new();
    let child = Child::new("kt-forged", || ask_for_parent(23));
    host.good(&format!("attach syscalls --pid {}", child.pid()));
    child.work();
    let state = MapHandle::from_pinned_path(host.bpffs("ktally/syscalls/state")).unwrap();
    for goal in [1u64, 7, u64::MAX] {
        let state_of = [goal, 0, 0].map(u64::to_ne_bytes).concat();
        set(&state, &[0; 4], &state_of);
        host.good("status");
        let reading = host.json("read syscalls -o json");
        assert_eq!(sum(&reading, GETPPID, "calls"), 23, "{goal}");
    }
    let last = host.json("detach syscalls -o json");
    assert_eq!(sum(&last, GETPPID, "calls"), 23);
    assert_eq!(host.pins(), [""; 0]);
}

/// As a member of the group, without privileges.
fn member(host: &Host, line: &str) -> Ended {
    host.without_privileges(&[GROUP], line)
}

#[test]
fn readers_learn_that_it_has_stopped_and_cannot_write() {
    needs((5, 19), "reading without privileges");
    let host = Host::new();
    let child = Child::new("kt-member", || ask_for_parent(23));
    host.good(&format!(
        "attach syscalls --pid {} --readable-by {GROUP}",
        child.pid()
    ));
    child.work();
    // Neither to write, nor to pin it where it could be opened to write.
    let table = "/sys/fs/bpf/ktally/syscalls/maps/syscalls";
    let cleared = member(&host, &format!("map clear {table} --yes"));
    cleared.refused(1, &["mode does not let you"]);
    for place in ["/sys/fs/bpf/mine", "/sys/fs/bpf/ktally/mine"] {
        member(&host, &format!("map pin {table} {place}")).failed(1, &[]);
    }
    for pin in ["state", "links", "entries", "slots", "programs"] {
        let mode = mode(&host, &format!("ktally/syscalls/{pin}"));
        assert_eq!(mode & 0o077, 0, "{pin}: {mode:o}");
    }
    host.good("detach syscalls --keep");
    child.work();
    // It ends, as there is nothing to wait for; what was missed is known now.
    let reading = member(&host, "read syscalls --every 50ms --total -o jsonl").json();
    assert_eq!(sum(&reading, GETPPID, "calls"), 23);
    assert_eq!(reading["missed"], 0);
    assert_eq!(
        host.json("read syscalls -o json")["seconds"],
        reading["seconds"]
    );
    host.good("detach syscalls");
    assert_eq!(host.pins(), [""; 0]);
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
        let reading = host.json("read syscalls -o json");
        assert_eq!(sum(&reading, GETPPID, "calls"), 23);
        host.good("detach syscalls");
    }
}

/// Who may pin a map that he reads can open it again to write.
#[test]
fn readers_are_refused_where_others_can_pin() {
    let host = Host::new();
    let readable = "attach failures --readable-by 54321";
    let open = |below: &str, mode: u32| {
        fs::set_permissions(host.bpffs(below), Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir_all(host.bpffs("theirs/deep")).unwrap();
    for (folder, open_mode) in [("", 0o1777), ("theirs/deep", 0o777), ("theirs", 0o775)] {
        let before = mode(&host, folder);
        open(folder, open_mode);
        let ended = host.ktally(readable);
        let shown = format!(
            "`/sys/fs/bpf{}{folder}`",
            if folder.is_empty() { "" } else { "/" }
        );
        ended.refused(1, &[&shown, "others may pin", "chmod 0700"]);
        open(folder, before);
        assert_eq!(host.pins(), ["theirs", "theirs/deep"]);
    }
    chown(host.bpffs("theirs/deep"), Some(NOBODY), None).unwrap();
    host.ktally(readable)
        .refused(1, &["`/sys/fs/bpf/theirs/deep`"]);
    chown(host.bpffs("theirs/deep"), Some(0), None).unwrap();
    // What is opened later is reported.
    host.good(readable);
    assert!(!host.good("status").stderr.contains("can change"));
    open("theirs/deep", 0o777);
    let told = "readers of instance `failures` can change its counts";
    host.good("status").told(&[told]);
    // The group goes on, so it is refused here as well.
    host.ktally("attach failures --replace")
        .refused(1, &["others may pin"]);
    host.good("detach failures");
    assert_eq!(mode(&host, ""), 0o700);
}

#[test]
fn bpffs_gets_its_mode_back_after_the_last_reader() {
    let host = Host::new();
    let modes = || (mode(&host, ""), mode(&host, "ktally"));
    host.good("attach failures --as closed");
    for label in ["a", "b"] {
        let told = host.good(&format!(
            "attach failures --as {label} --readable-by {GROUP}"
        ));
        let is_said = told
            .stderr
            .contains("everyone may now pass through `/sys/fs/bpf`");
        assert_eq!(is_said, label == "a", "{told:?}");
        assert_eq!(modes(), (0o711, 0o711));
    }
    assert!(host.good("status").stderr.is_empty());
    host.good("detach a");
    assert_eq!(modes(), (0o711, 0o711));
    host.good("detach b");
    assert_eq!(modes(), (0o700, 0o700));
    // What somebody else has set meanwhile stays.
    host.good(&format!("attach failures --readable-by {GROUP}"));
    fs::set_permissions(host.bpffs(""), Permissions::from_mode(0o755)).unwrap();
    host.good("detach --all");
    assert_eq!(mode(&host, ""), 0o755);
    assert_eq!(host.pins(), [""; 0]);
}

/// What is pinned as `meta` may be anybody's: it names only its own folder.
#[test]
fn no_pin_leads_out_of_the_folder() {
    let host = Host::new();
    let victim = tempfile::tempdir().unwrap();
    let file = victim.path().join("x");
    fs::write(&file, "").unwrap();
    let meta = host.bpffs("ktally/failures/meta");
    host.good("attach failures");
    let said = MapHandle::from_pinned_path(&meta).unwrap();
    let said = get(&said, &[0; 4]).unwrap();
    let good: Value = serde_json::from_slice(&said).unwrap();
    let path = format!("links/../../../../../..{}", file.display());
    for pin in [
        path.as_str(),
        "../failures/state",
        "links//etc/passwd",
        "state",
    ] {
        let mut said = good.clone();
        said["pins"].as_array_mut().unwrap().push(pin.into());
        rewrite(&meta, &said);
        for args in [["detach", "failures"], ["read", "failures"]] {
            host.ktally(args)
                .refused(1, &["not a pin in a folder of an instance"]);
        }
        assert_eq!(host.ktally("status").code, 4);
        assert!(file.exists());
    }
    let mut said = good.clone();
    said["programs"][0]["name"] = "../../../x".into();
    rewrite(&meta, &said);
    host.ktally("detach failures")
        .refused(1, &["cannot be pinned"]);
    rewrite(&meta, &good);
    host.good("detach failures");
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

/// Types, sizes and kinds are those that attaching made.
#[test]
fn pins_of_another_kind_are_refused() {
    let host = Host::new();
    host.good("attach failures --as there");
    let pin = |below: &str| host.bpffs(&format!("ktally/there/{below}"));
    let entry = fs::read_dir(pin("entries"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let entry = format!("entries/{}", entry.file_name().display());
    let others: [(&str, MapHandle); 5] = [
        ("meta", create(MapType::PercpuArray, 4, 4096, 1)),
        ("meta", create(MapType::Array, 4, 64, 2)),
        ("btf", create(MapType::Hash, 4, 64, 1)),
        ("maps/failures", create(MapType::Queue, 0, 64, 1)),
        (&entry, create(MapType::Array, 4, 64, 1)),
    ];
    for (name, mut other) in others {
        fs::rename(pin(name), pin("maps/aside")).unwrap();
        other.pin(pin(name)).unwrap();
        for args in [["read", "there"], ["detach", "there"]] {
            let ended = host.ktally(args);
            ended.refused(1, &["failed to open instance `there`"]);
        }
        fs::remove_file(pin(name)).unwrap();
        fs::rename(pin("maps/aside"), pin(name)).unwrap();
    }
    // What is emptied is a slot, and no other map.
    let (slot, mut other) = (
        entry.replace("entries", "slots"),
        create(MapType::Hash, 4, 4, 1),
    );
    set(&other, &[0; 4], &[1; 4]);
    fs::rename(pin(&slot), pin("maps/aside")).unwrap();
    other.pin(pin(&slot)).unwrap();
    host.ktally("detach there")
        .refused(1, &["is not an array of programs"]);
    assert!(get(&other, &[0; 4]).is_some());
    fs::remove_file(pin(&slot)).unwrap();
    fs::rename(pin("maps/aside"), pin(&slot)).unwrap();
    host.good("detach there");
}

/// Anybody can be first where bpffs is open to all.
#[test]
fn a_folder_of_others_is_not_read() {
    let host = Host::new();
    host.good(&format!("attach failures --readable-by {GROUP}"));
    let read = ["read failures", "run @failures"];
    for folder in ["ktally", "ktally/failures", "ktally/failures/maps"] {
        chown(host.bpffs(folder), Some(NOBODY), None).unwrap();
        for args in read {
            host.ktally(args).refused(1, &["belongs to others"]);
        }
        chown(host.bpffs(folder), Some(0), None).unwrap();
    }
    // Nor where it is said to be elsewhere.
    fs::rename(host.bpffs("ktally"), host.bpffs("other")).unwrap();
    symlink("other", host.bpffs("ktally")).unwrap();
    for args in read {
        host.ktally(args).refused(1, &["is not a folder"]);
    }
    fs::remove_file(host.bpffs("ktally")).unwrap();
    fs::rename(host.bpffs("other"), host.bpffs("ktally")).unwrap();
    host.good("detach failures");
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

/// RawOption or not is not the same as 0 or not; and options have a beginning.
#[test]
fn status_has_what_was_given() {
    needs((5, 13), "task storage");
    let host = Host::new();
    host.good("attach syscalls --uid 0");
    let status = host.json("status -o json");
    assert_eq!(status[0]["options"], serde_json::json!({"uid": "root"}));
    assert_eq!(status[0]["options_since"], status[0]["since"]);
    assert!(!host.good("status").stdout.contains("since"));
    nap(5);
    // With the same options nothing begins.
    host.good("attach syscalls --uid 0 --replace");
    let again = host.json("status -o json");
    assert_eq!(again[0]["options_since"], status[0]["since"]);
    host.good("attach syscalls --pid 1 --replace");
    let status = host.json("status -o json");
    assert_eq!(status[0]["options"], serde_json::json!({"pid": 1}));
    assert_eq!(status[0]["since"], again[0]["since"]);
    assert!(status[0]["options_since"].as_str() > status[0]["since"].as_str());
    assert_has(&host.good("status").stdout, &["--pid 1 (since 2"]);
    let other = host.ktally("attach failures --as syscalls --replace");
    let words = "it is of tally `syscalls`, not `failures`; choose another name";
    let other = other.refused(1, &[words]);
    assert_eq!(other.stderr.lines().count(), 1, "{other:?}");
    host.good("detach syscalls");
}
