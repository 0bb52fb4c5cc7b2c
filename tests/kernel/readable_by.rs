//! `ktally attach --readable-by`: members of a group read without privileges, and
//! cannot change anything.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use serde_json::Value;

use crate::common::{Ended, NOBODY};
use crate::instances::Host;
use crate::run::{GETPPID, sum};
use crate::support::{Child, ask_for_parent, needs};

pub const GROUP: u32 = 54321;

/// As a member of the group, without privileges.
fn member(host: &Host, line: &str) -> Ended {
    host.without_privileges(&[GROUP], line)
}

/// Only the group, without privileges.
#[test]
fn members_of_a_group_read_without_privileges() {
    pub const GROUP: u32 = 54321;
    let host = Host::new();
    let child = Child::new("kt-group", || ask_for_parent(23));
    host.good(&format!(
        "attach syscalls --pid {} --readable-by {GROUP}",
        child.pid()
    ));
    host.good("attach failures");
    child.work();
    let reads =
        |label: &str, groups| host.without_privileges(groups, ["read", label, "-o", "json"]);
    let reading = reads("syscalls", &[GROUP]).json();
    assert_eq!(sum(&reading, GETPPID, "calls"), 23);
    assert_eq!(reading["tables"][0]["dropped"], 0);
    // Only who may have a program's descriptor knows what it missed.
    assert_eq!(reading["missed"], Value::Null);
    // Again after a replacement, which keeps to the group.
    host.good(&format!("attach syscalls --pid {} --replace", child.pid()));
    child.work();
    let reading = reads("syscalls", &[GROUP]).json();
    assert_eq!(sum(&reading, GETPPID, "calls"), 46);
    for (label, groups) in [
        ("syscalls", &[][..]),
        ("syscalls", &[4, 5]),
        ("failures", &[GROUP]),
    ] {
        reads(label, groups).refused(1, &["mode does not let you"]);
    }
    // Who has a descriptor of a program can run it, of a link can cut it.
    for pin in host.pins().iter().filter(|pin| pin.starts_with("ktally/")) {
        let metadata = fs::metadata(host.bpffs(pin)).unwrap();
        let below = pin.strip_prefix("ktally/syscalls").unwrap_or("/closed");
        let is_open = metadata.gid() == GROUP && metadata.mode() & 0o070 != 0;
        let should = matches!(below, "" | "/meta" | "/btf")
            || ["/maps", "/iterators"]
                .iter()
                .any(|it| below.starts_with(it));
        assert_eq!(is_open, should, "{pin}: {:o}", metadata.mode());
        assert_eq!(metadata.mode() & 0o027, 0, "{pin}: {:o}", metadata.mode());
    }
    host.good("detach --all");
    // By its name as well; one that there is not is refused.
    host.good("attach failures --readable-by root");
    host.good("detach failures");
    let none = host.ktally("attach failures --readable-by no-such-group");
    none.refused(2, &["no group `no-such-group`"]);
}

/// What they may read, and no other.
#[test]
fn readers_see_what_they_may_read() {
    let host = Host::new();
    member(&host, "status").refused(1, &["its mode does not let you"]);
    host.good(&format!("attach failures --readable-by {GROUP}"));
    host.good("attach failures --as closed");
    host.good("attach failures --as theirs --readable-by 54322");
    let seen = |groups: &'static [u32]| -> Vec<Value> {
        let ended = host.without_privileges(groups, "status -o jsonl").good();
        assert!(!ended.stderr.contains("not ktally's"), "{ended:?}");
        ended.json_lines()
    };
    let names = |seen: &[Value]| -> Vec<String> {
        let names = seen
            .iter()
            .map(|it| it["instance"].as_str().unwrap().to_owned());
        names.collect()
    };
    let mine = seen(&[GROUP]);
    assert_eq!(names(&mine), ["failures"]);
    assert_eq!(mine[0]["missed"], Value::Null);
    assert_eq!(names(&seen(&[GROUP, 54322])), ["failures", "theirs"]);
    assert_eq!(names(&seen(&[])), [""; 0]);
    host.good("detach --all");
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
        let mode = host.mode(&format!("ktally/syscalls/{pin}"));
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
        let before = host.mode(folder);
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
    assert_eq!(host.mode(""), 0o700);
}

#[test]
fn bpffs_gets_its_mode_back_after_the_last_reader() {
    let host = Host::new();
    let modes = || (host.mode(""), host.mode("ktally"));
    host.good("attach failures --as closed");
    for label in ["a", "b"] {
        let told = host.good(&format!(
            "attach failures --as {label} --readable-by {GROUP}"
        ));
        let is_said = told
            .stderr
            .contains("everyone may now pass through `/sys/fs/bpf`");
        assert_eq!(is_said, label == "a", "{told:?}");
        assert_eq!(modes(), (0o711, 0o755));
    }
    assert!(host.good("status").stderr.is_empty());
    host.good("detach a");
    assert_eq!(modes(), (0o711, 0o755));
    host.good("detach b");
    assert_eq!(modes(), (0o700, 0o700));
    // A mode that was changed meanwhile stays.
    host.good(&format!("attach failures --readable-by {GROUP}"));
    fs::set_permissions(host.bpffs(""), Permissions::from_mode(0o755)).unwrap();
    host.good("detach --all");
    assert_eq!(host.mode(""), 0o755);
    assert_eq!(host.pins(), [""; 0]);
}
