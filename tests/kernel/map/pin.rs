//! The rest of a map's life: `create`, `pin`, `unpin`, `freeze`, in a bpffs of
//! the test's own.

use std::path::{Path, PathBuf};

use libbpf_rs::MapType;
use nix::mount::{MntFlags, umount2};
use serde_json::{Value, json};

use super::{Ended, Maps, compile, map, map_json, words};
use crate::common::rows;
use crate::support::maps::{create, id, set};
use crate::support::{mount_new, own_mounts, require_root};

/// A bpffs of a test's own, in mounts of its thread's own: it goes with the
/// thread, whatever ends that.
pub(super) struct Bpffs(tempfile::TempDir);

impl Bpffs {
    pub(super) fn new() -> Self {
        require_root();
        let folder = tempfile::tempdir().unwrap();
        own_mounts().unwrap();
        mount_new("bpf", folder.path(), None).unwrap();
        Self(folder)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        // What it is mounted on can then be removed.
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_pin_outlives_its_maker_and_goes_when_told() {
    let bpffs = Bpffs::new();
    let pin = bpffs.path("kept");
    let shown = pin.display();
    let map_id = {
        let hash = create(MapType::Hash, 4, 4, 2);
        map!("pin", id(&hash), shown).done();
        map!("pin", id(&hash), shown).failed(1, &["something is there"]);
        id(&hash)
    };
    map!("update", shown, 1, 2).done();
    assert_eq!(map!("lookup", map_id, 1).done(), "2\n");
    let seen = map_json!("show", shown);
    assert_eq!(seen["id"], map_id);
    assert_eq!(seen["pins"], json!([pin]));
    map!("unpin", shown).good().told(&["no longer pinned"]);
    assert!(!pin.exists());
    crate::support::wait_until("the map goes with its pin", || {
        map!("lookup", map_id, 1).code == 3
    });
    map!("unpin", shown).failed(3, &["there is no pin"]);
}

#[test]
fn only_maps_are_unpinned_and_only_a_bpffs_holds_pins() {
    let bpffs = Bpffs::new();
    let hash = create(MapType::Hash, 4, 4, 2);
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("file");
    std::fs::write(&plain, "kept").unwrap();
    map!("unpin", plain.display()).failed(1, &["is not a pin"]);
    assert_eq!(std::fs::read_to_string(&plain).unwrap(), "kept");
    map!("pin", id(&hash), folder.path().join("pin").display()).failed(1, &["bpffs"]);
    map!("pin", id(&hash), bpffs.path("no/such/pin").display()).failed(1, &["no/such/pin"]);
    // The pin of a program is not that of a map.
    let mut maps = Maps::load(
        r#"
SEC("socket") int pinned(void *ctx) { return 0; }
"#,
    );
    let pin = bpffs.path("program");
    maps.program("pinned").pin(&pin).unwrap();
    map!("unpin", pin.display()).failed(2, &["is not the pin of a map"]);
    map!("show", pin.display()).failed(2, &["is not the pin of a map"]);
    assert!(pin.exists());
}

#[test]
fn maps_are_created_as_asked() {
    let bpffs = Bpffs::new();
    let pin = bpffs.path("counts");
    let shown = pin.display();
    let sizes = "--type hash --key 4 --value 8 --max-entries 7";
    create_at(&pin, &format!("{sizes} --flags no_prealloc,zero_seed")).done();
    let seen = map_json!("show", shown);
    let wanted = json!({
        "type": "hash", "name": "counts", "key_size": 4, "value_size": 8,
        "max_entries": 7, "flags": ["no_prealloc", "zero_seed"], "frozen": false,
    });
    assert_shown(&seen, &wanted);
    create_at(&pin, sizes).failed(1, &["something is there"]);
    let other = bpffs.path("other");
    for (options, words) in rows(
        "
--type hsah --max-entries 1 => did you mean `hash`
--type hash --max-entries 1 => hash maps have keys
--type hash => --max-entries
--max-entries 1 => --type
--type array --key 8 --value 8 --max-entries 1 => array maps have keys of 4 bytes
--type hash --key 4 --value 4 --max-entries 1 --flags nonsense => nonsense",
    ) {
        create_at(&other, options).failed(2, &words);
        assert!(!other.exists());
    }
    let spaced = ["--name", "a name with spaces"];
    let create = ["create", other.to_str().unwrap()].into_iter();
    let create = create.chain(words(sizes)).chain(spaced);
    super::run(create).failed(2, &["a name with spaces"]);
    assert!(!other.exists());
}

/// `ktally map create`, with these options.
pub(super) fn create_at(pin: &Path, options: &str) -> Ended {
    let create = ["create", pin.to_str().unwrap()].into_iter();
    super::run(create.chain(words(options)))
}

/// What `map show` says has these members.
#[track_caller]
fn assert_shown(seen: &Value, wanted: &Value) {
    for (what, wanted) in wanted.as_object().unwrap() {
        assert_eq!(&seen[what], wanted, "{what}: {seen}");
    }
}

/// With types and flags of another map, and other numbers where they are given.
#[test]
fn a_map_is_created_like_another() {
    let maps = Maps::load(
        r#"
struct seen { __u32 reads; __u32 writes; };
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 5);
	__uint(map_flags, 1);
	__type(key, char[16]);
	__type(value, struct seen);
} model SEC(".maps");
"#,
    );
    let bpffs = Bpffs::new();
    let pin = bpffs.path("copy");
    let shown = pin.display();
    let model = maps.id("model");
    create_at(&pin, &format!("--like {model} --name own_name")).done();
    let seen = map_json!("show", shown);
    let wanted = json!({
        "type": "percpu_hash", "name": "own_name", "key_size": 16, "value_size": 8,
        "max_entries": 5, "flags": ["no_prealloc"],
    });
    assert_shown(&seen, &wanted);
    map!("update", shown, "bash", "reads=1,writes=2").done();
    let value = map_json!("lookup", shown, "bash");
    assert_eq!(value, json!({"reads": 1, "writes": 2}));
    // Of other sizes it has other types.
    let wide = bpffs.path("wide");
    create_at(&wide, &format!("--like {model} --value 16 --max-entries 9")).done();
    let seen = map_json!("show", wide.display());
    assert_shown(&seen, &json!({"value_size": 16, "max_entries": 9}));
    let other = bpffs.path("other");
    map!("create", other.display(), "--like", u32::MAX).failed(3, &["no map with id"]);
}

/// User space only reads it from then on; programs go on.
#[test]
fn a_frozen_map_is_read_only_for_user_space() {
    let array = create(MapType::Array, 4, 4, 2);
    let array_id = id(&array);
    map!("update", array_id, 0, 1).done();
    map!("freeze", array_id).done();
    map!("update", array_id, 0, 2).failed(1, &["frozen"]);
    map!("freeze", array_id).failed(1, &["frozen"]);
    assert_eq!(map!("lookup", array_id, 0).done(), "1\n");
    assert_eq!(map_json!("show", array_id)["frozen"], true);
    let hash = create(MapType::Hash, 4, 4, 2);
    let hash_id = id(&hash);
    set(&hash, &[1, 0, 0, 0], &[1, 0, 0, 0]);
    map!("freeze", hash_id).done();
    map!("delete", hash_id, 1).failed(1, &["frozen"]);
    map!("clear", hash_id, "--yes").failed(1, &["frozen"]);
    assert_eq!(map_json!("dump", hash_id), json!([{"key": 1, "value": 1}]));
    // What a program does inside the kernel is not for user space to ask for.
    map!("add", hash_id, 1, 1).failed(1, &["frozen"]);
    map!("drain", hash_id).failed(1, &["frozen"]);
    assert_eq!(map!("lookup", hash_id, 1).done(), "1\n");
    let queue = create(MapType::Queue, 0, 4, 2);
    map!("push", id(&queue), 1).done();
    map!("freeze", id(&queue)).done();
    map!("pop", id(&queue)).failed(1, &["frozen"]);
    map!("push", id(&queue), 2).failed(1, &["frozen"]);
    assert_eq!(map!("peek", id(&queue)).done(), "1\n");
}

/// The full name is longer than what the kernel keeps.
#[test]
fn names_are_whole_and_ambiguous_ones_refused() {
    let c = r#"
MAP(ARRAY, 1, __u32, __u32, kt_a_name_that_is_cut_x_PROCESS_ID);
"#;
    let object = compile(c);
    let [x, y] =
        ["x", "y"].map(|it| format!("kt_a_name_that_is_cut_{it}_{:010}", std::process::id()));
    let named = |name: &str| {
        let place = b"kt_a_name_that_is_cut_x_PROCESS_ID";
        let mut object = object.clone();
        while let Some(at) = object.windows(place.len()).position(|it| it == place) {
            object[at..][..place.len()].copy_from_slice(name.as_bytes());
        }
        Maps::of(&object, |_| {})
    };
    let (one, _other) = (named(&x), named(&y));
    map!("update", x, 0, 23).done();
    assert_eq!(map!("lookup", x, 0).done(), "23\n");
    assert_eq!(map!("lookup", format!("name:{x}"), 0).done(), "23\n");
    assert_eq!(map!("lookup", y, 0).done(), "0\n");
    let twin = named(&x);
    let [first, second] = [&one, &twin].map(|maps| maps.id(&x));
    map!("lookup", x, 0).failed(
        2,
        &["2 maps", &format!("{x}:{first}"), &format!("{x}:{second}")],
    );
    assert_eq!(map!("lookup", format!("{x}:{first}"), 0).done(), "23\n");
    assert_eq!(map!("lookup", format!("{x}:{second}"), 0).done(), "0\n");
    map!("lookup", format!("{y}:{second}"), 0).failed(3, &["is called"]);
    map!("lookup", "kt_no_such_map_anywhere", 0).failed(3, &["no map named"]);
}
