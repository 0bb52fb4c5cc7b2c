//! Local storage: values that belong to a task, a cgroup, a socket or a file.

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process;
use std::sync::mpsc;

use ktally::host;
use serde_json::{Value as Json, json};

use super::{Maps, map, map_json, map_lines};
use crate::support::needs;

/// A map of this type, whose values are structs.
fn storage(kind: u32) -> Maps {
    Maps::load(&format!(
        "struct counts {{ __u32 a; __u64 b; }};\n\
         struct {{ __uint(type, {kind}); __uint(map_flags, 1); __type(key, int); \
         __type(value, struct counts); }} storage SEC(\".maps\");\n"
    ))
}

/// What is written by a key comes back by it, and in a dump as this.
#[track_caller]
fn holds(maps: &Maps, key: &str, shown: Option<&Json>) {
    let map = maps.id("storage");
    map!("lookup", map, key).failed(3, &["has no key"]);
    map!("update", map, key, "a=1,b=2").done();
    map!("update", map, key, "a=3", "--merge").done();
    let value = json!({"a": 3, "b": 2});
    assert_eq!(map_json!("lookup", map, key), value);
    if let Some(shown) = shown {
        let entry = json!({"key": shown, "value": value});
        assert_eq!(map_lines!("dump", map), [entry]);
        assert!(map!("dump", map).done().contains("1 entry"));
    }
    map!("next-key", map).failed(1, &["has no order of keys"]);
    map!("save", map, "-").failed(1, &["cannot be saved"]);
    map!("delete", map, key).done();
    map!("delete", map, key).failed(3, &[]);
    map!("lookup", map, key).failed(3, &["has no key"]);
}

#[test]
fn of_tasks_by_their_numbers() {
    needs((5, 11), "storage of tasks");
    let maps = storage(29);
    let this = process::id();
    holds(&maps, &this.to_string(), Some(&json!(this)));
    map!("lookup", maps.id("storage"), 1 << 30).failed(3, &["there is no process 1073741824"]);
    // A thread of this process.
    let (send, tid) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        send.send(nix::unistd::gettid()).unwrap();
        let _ = ended.recv();
    });
    let tid = tid.recv().unwrap().as_raw();
    if host::kernel_version(&host::kernel_release()) >= (6, 9) {
        holds(&maps, &tid.to_string(), Some(&json!(tid)));
    } else {
        map!("lookup", maps.id("storage"), tid).failed(1, &["is a thread"]);
    }
    drop(end);
    thread.join().unwrap();
}

#[test]
fn of_cgroups_by_their_folders_and_ids() {
    needs((6, 2), "storage of cgroups");
    let maps = storage(32);
    let root = host::cgroup2_mounts().next().expect("a cgroup2 mount");
    let folder = tempfile::tempdir_in(root).unwrap();
    let id = fs::metadata(folder.path()).unwrap().ino();
    let shown = json!(format!("/{}", folder.path().file_name().unwrap().display()));
    holds(&maps, folder.path().to_str().unwrap(), Some(&shown));
    holds(&maps, &id.to_string(), Some(&shown));
    holds(&maps, shown.as_str().unwrap(), Some(&shown));
}

#[test]
fn of_sockets_by_their_inodes() {
    needs((5, 9), "an iterator of the storage of sockets");
    let maps = storage(24);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
    let inode = fs::metadata(path).unwrap().ino();
    holds(&maps, &inode.to_string(), Some(&json!(inode)));
    drop(socket);
    map!("lookup", maps.id("storage"), inode).failed(3, &["no process has socket:["]);
}

#[test]
fn of_files_by_their_paths() {
    needs((5, 10), "storage of files");
    let maps = storage(28);
    let map = maps.id("storage");
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let ended = map!("update", map, path, "a=1,b=2");
    if ended.code == 1 {
        ended.failed(1, &["with the BPF LSM alone"]);
        let lsm = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
        assert!(!lsm.split(',').any(|it| it == "bpf"), "{lsm}");
        return;
    }
    map!("delete", map, path).done();
    holds(&maps, path, None);
    map!("dump", map).failed(1, &["no iterator of files"]);
    assert!(!Path::new("/no/such/file").exists());
    map!("lookup", map, "/no/such/file").failed(3, &["there is no file"]);
}
