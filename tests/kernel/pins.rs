//! Pins of others, and pins that are not as ktally made them: nothing outside an
//! instance is trusted, changed or removed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use libbpf_rs::{MapCore, MapHandle, MapType};
use serde_json::Value;

use crate::common::NOBODY;
use crate::instances::Host;
use crate::readable_by::GROUP;
use crate::replace::own_tally;
use crate::run::{GETPPID, rows_of, sum_of};
use crate::support::maps::{create, get, set};
use crate::support::{Child, Source, ask_for_parent, event, needs};

/// Pins other words in the place of those.
pub fn rewrite(meta: &std::path::Path, said: &Value) {
    let said = said.to_string();
    let mut map = create(MapType::Array, 4, said.len() as u32, 1);
    set(&map, &[0; 4], said.as_bytes());
    fs::remove_file(meta).unwrap();
    map.pin(meta).unwrap();
}

/// A map that ktally did not pin.
fn pin_foreign_map(path: &std::path::Path) {
    create(MapType::Array, 4, 4, 1).pin(path).unwrap();
}

#[test]
fn what_is_foreign_is_left_alone_and_told() {
    let host = Host::new();
    host.good("attach failures --as mine");
    fs::create_dir(host.bpffs("ktally/theirs")).unwrap();
    let foreign = [
        "ktally/theirs/map",
        "ktally/single",
        "ktally/mine/maps/extra",
    ];
    for pin in foreign {
        pin_foreign_map(&host.bpffs(pin));
    }
    let told = host.good("status").told(&[
        "`/sys/fs/bpf/ktally/theirs`",
        "`/sys/fs/bpf/ktally/single`",
        "`/sys/fs/bpf/ktally/mine/maps/extra`",
    ]);
    assert_eq!(told.stdout.lines().count(), 2, "{told:?}");
    // A name that is taken by such a folder.
    for verb in [
        &["attach", "failures", "--as", "theirs"][..],
        &["attach", "failures", "--as", "theirs", "--replace"],
    ] {
        host.ktally(verb)
            .refused(1, &["theirs` is not an instance"]);
    }
    for verb in ["read", "detach"] {
        host.ktally([verb, "theirs"])
            .refused(3, &["theirs` is not an instance"]);
    }
    // What would have to be moved along is not.
    let replace = host.ktally("attach failures --as mine --replace");
    replace.refused(1, &["ktally did not pin", "mine/maps/extra"]);
    let left = "left `/sys/fs/bpf/ktally/mine/maps/extra` alone";
    host.good("detach --all").told(&[left]);
    for pin in foreign {
        let map = MapHandle::from_pinned_path(host.bpffs(pin)).unwrap();
        assert_eq!(map.name(), "kt_map");
    }
    let left = " /mine /mine/maps /mine/maps/extra /single /theirs /theirs/map";
    let left: Vec<_> = left.split(' ').map(|it| format!("ktally{it}")).collect();
    assert_eq!(host.pins(), left);
}

/// bpffs may be open to all: then another user may have been first.
#[test]
fn a_folder_of_others_is_not_used() {
    let host = Host::new();
    fs::create_dir(host.bpffs("ktally")).unwrap();
    for (owner, mode) in [(65534, 0o700), (0, 0o777)] {
        std::os::unix::fs::chown(host.bpffs("ktally"), Some(owner), None).unwrap();
        fs::set_permissions(host.bpffs("ktally"), fs::Permissions::from_mode(mode)).unwrap();
        host.ktally("attach failures")
            .refused(1, &["belongs to others"]);
        host.ktally("status").refused(1, &["belongs to others"]);
    }
    assert_eq!(host.pins(), ["ktally"]);
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

/// A map that an object pins by its name is a run's own: nothing stays, and
/// nothing is gone on with.
#[test]
fn maps_that_an_object_pins_are_not_left_behind() {
    let host = Host::new();
    let source = Source::new(
        r#"
TALLY("events, in a map that wants to be pinned");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} kt_pinned SEC(".maps") __ktally_tag("table", "events");

EVENT(enter, number)
{
	__u32 key = 0;
	__u64 *events = bpf_map_lookup_elem(&kt_pinned, &key);

	if (events)
		__sync_fetch_and_add(events, 1);
}
"#,
    );
    let child = Child::new("kt-pinned", || (0..23).for_each(event));
    let (path, pid) = (source.arg(), child.pid());
    let attach = format!("attach {path} --pid {pid} --as pinned");
    for _ in 0..2 {
        host.good(&attach).told(&["map `kt_pinned` is not pinned"]);
        child.work();
        let run = format!("run {path} --pid {pid} --for 0");
        host.good(&run).told(&["map `kt_pinned` is not pinned"]);
        assert_eq!(sum_of(&host.json("detach pinned -o json"), "value"), 23);
        assert_eq!(host.pins(), [""; 0]);
    }
}

/// An instance as another release leaves it: its C file is gone, this binary
/// knows neither its tally nor one of its decoders, and its words about itself
/// have fewer fields, and others.
#[test]
fn an_instance_of_another_release_is_read_and_detached() {
    let host = Host::new();
    let child = Child::new("kt-release", || (0..23).for_each(event));
    let theirs = own_tally("__u64", 1, "");
    host.good(&format!("attach {} --pid {}", theirs.arg(), child.pid()));
    drop(theirs);
    let meta = host.bpffs("ktally/own/meta");
    let said = MapHandle::from_pinned_path(&meta).unwrap();
    let said = get(&said, &[0; 4]).unwrap();
    let mut said: Value = serde_json::from_slice(&said).unwrap();
    said["version"] = "0.0.9".into();
    said["mood"] = "good".into();
    said["programs"][0]
        .as_object_mut()
        .unwrap()
        .remove("target");
    rewrite(&meta, &said);
    child.work();
    let status = host.json("status -o json");
    assert_eq!(status[0]["version"], "0.0.9");
    let reading = host.json("read own -o json");
    assert_eq!(sum_of(&reading, "events"), 23);
    assert_eq!(rows_of(&reading)[0]["number"], 7);

    // A later one is not guessed at.
    said["ktally"] = 2.into();
    said["version"] = "99.0.0".into();
    rewrite(&meta, &said);
    for verb in ["read", "detach"] {
        host.ktally([verb, "own"])
            .refused(1, &["ktally 99.0.0 attached it"]);
    }
    host.ktally("status").failed(4, &["99.0.0"]);

    said["ktally"] = 1.into();
    rewrite(&meta, &said);
    assert_eq!(sum_of(&host.json("detach own -o json"), "events"), 23);
    assert_eq!(host.pins(), [""; 0]);
}

/// A per-CPU value is longer than its map's value size says: what reads it by
/// that size alone writes past the end of its buffer.
#[test]
fn pins_of_other_types_and_sizes_are_refused() {
    let mut other = create(MapType::PercpuArray, 4, 16384, 1);
    for pin in ["meta", "state", "btf", "maps/@rodata", "maps/@bss@ktally"] {
        let host = Host::new();
        host.good("attach failures");
        let pin = host.bpffs(&format!("ktally/failures/{pin}"));
        fs::remove_file(&pin).unwrap();
        other.pin(&pin).unwrap();
        for line in ["status", "read failures"] {
            let ended = host.ktally(line);
            // Reading wants no state.
            let is_read = ended.code == 0 && pin.ends_with("state");
            assert!(is_read || matches!(ended.code, 1 | 4), "{pin:?}: {ended:?}");
            ended.told(&["is not an array"]);
        }
        for line in ["attach failures --replace", "detach failures"] {
            let ended = host.ktally(line);
            assert!(ended.code >= 0, "{pin:?}: {ended:?}");
        }
        let _ = fs::remove_file(&pin);
    }
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

/// Any user may have pinned `meta`: it names only its own folder.
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
        // The last two are what each of its programs missed.
        let state_of = [goal, 0, 0, 0, 0].map(u64::to_ne_bytes).concat();
        set(&state, &[0; 4], &state_of);
        host.good("status");
        assert_eq!(host.calls("read syscalls -o json", GETPPID), 23, "{goal}");
    }
    assert_eq!(host.calls("detach syscalls -o json", GETPPID), 23);
    assert_eq!(host.pins(), [""; 0]);
}
