//! What may not be done, and is said so: maps that are read-only, and readers
//! without privileges.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use libbpf_rs::{MapCore, MapFlags, MapType, libbpf_sys};
use serde_json::json;

use super::pin::Bpffs;
use super::{Ended, end, map, words};
use crate::common::{OPEN_PROGRAM, command, without_privileges};
use crate::support::maps::{create, create_with, id, set};
use crate::support::{kernel_series, needs};

/// As a user without privileges.
fn nobody(args: &[&str]) -> Ended {
    let mut program = command(&*OPEN_PROGRAM);
    without_privileges(&mut program, &[]);
    end(program.current_dir("/").arg("map").args(args))
}

fn open_up(path: PathBuf, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Those flags bind the descriptor that the map's maker got; root, who opens it
/// by its id, gets what the kernel gives: all of it.
#[test]
fn flags_for_user_space_bind_its_maker_alone() {
    let readonly = create_with(MapType::Array, 4, 4, 2, libbpf_sys::BPF_F_RDONLY);
    let map_id = id(&readonly);
    assert!(readonly.update(&[0; 4], &[1; 4], MapFlags::ANY).is_err());
    map!("update", map_id, 0, 5).done();
    assert_eq!(map!("add", map_id, 0, 5).done(), "value: 5 -> 10\n");
    map!("dump", map_id, "-o", "csv").prints("\"key\",\"value\"\n0,10\n1,0\n# 2 entries\n");
    let writeonly = create_with(MapType::Array, 4, 4, 2, libbpf_sys::BPF_F_WRONLY);
    assert!(writeonly.lookup(&[0; 4], MapFlags::ANY).is_err());
    assert_eq!(map!("lookup", id(&writeonly), 1).done(), "0\n");
}

/// Those for programs bind every program, and so `add` and `drain`.
#[test]
fn flags_for_programs_bind_add_and_drain() {
    for (flag, name) in [
        (libbpf_sys::BPF_F_RDONLY_PROG, "rdonly_prog"),
        (libbpf_sys::BPF_F_WRONLY_PROG, "wronly_prog"),
    ] {
        let bound = create_with(MapType::Array, 4, 4, 2, flag);
        map!("update", id(&bound), 0, 5).done();
        map!("add", id(&bound), 0, 5).failed(1, &[name]);
        map!("drain", id(&bound)).failed(1, &[name]);
        assert_eq!(map!("lookup", id(&bound), 0).done(), "5\n");
    }
}

/// By an id nothing is to be had; by a pin as much as its file mode says.
#[test]
fn a_reader_without_privileges_reads_what_is_readable() {
    let hash = create(MapType::Hash, 4, 4, 4);
    set(&hash, &[1, 0, 0, 0], &[7, 0, 0, 0]);
    let map_id = id(&hash).to_string();
    for args in [
        &["dump", &map_id][..],
        &["lookup", &map_id, "1"],
        &["update", &map_id, "1", "2"],
        &["list"],
        &["dump", "kt_map"],
    ] {
        nobody(args).failed(1, &["CAP_SYS_ADMIN", "run it as root", "pin"]);
    }
    let bpffs = Bpffs::new();
    open_up(bpffs.path(""), 0o755);
    let pin = bpffs.path("pin");
    map!("pin", map_id, pin.display()).done();
    let path = pin.to_str().unwrap();
    if kernel_series() < (5, 19) {
        open_up(pin.clone(), 0o644);
        nobody(&["dump", path]).failed(1, &["CAP_BPF", path]);
    }
    needs((5, 19), "reading without privileges");
    nobody(&["dump", path]).failed(1, &["file mode", path]);
    for mode in [0o644, 0o444] {
        open_up(pin.clone(), mode);
        assert_eq!(nobody(&["lookup", path, "1"]).done(), "7\n");
        assert_eq!(
            nobody(&["dump", path, "-o", "json"]).json(),
            json!([{"key": 1, "value": 7}])
        );
        assert_eq!(nobody(&["next-key", path]).done(), "1\n");
        nobody(&["show", path]).done();
        nobody(&["save", path, "-"]).done();
        for args in [
            &["update", path, "1", "2"][..],
            &["delete", path, "1"],
            &["clear", path, "--yes"],
            &["freeze", path],
            &["add", path, "1", "1"],
            &["drain", path],
        ] {
            nobody(args).failed(1, &["to write", "file mode"]);
        }
    }
    open_up(pin.clone(), 0o666);
    nobody(&["update", path, "1", "8"]).done();
    // The kernel runs programs only for the privileged.
    nobody(&["add", path, "1", "1"]).failed(1, &["needs CAP_BPF", "run it as root"]);
    nobody(&["drain", path]).failed(1, &["needs CAP_BPF", "run it as root"]);
    assert_eq!(map!("lookup", map_id, 1).done(), "8\n");
    let other = bpffs.path("other");
    let sizes = "--type hash --key 4 --value 4 --max-entries 1";
    let create = [&["create", other.to_str().unwrap()][..], &words(sizes)].concat();
    nobody(&create).failed(1, &["CAP_BPF"]);
}
