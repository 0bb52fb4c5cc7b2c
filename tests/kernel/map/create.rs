//! `create`: what cannot be says what would do.

use libbpf_rs::MapType;

use super::pin::{Bpffs, create_at};
use super::{map, map_json};
use crate::common::rows;
use crate::support::maps::{create, id};

/// Bad usage, each with the words that mend it; nothing is made.
#[test]
fn what_a_type_wants_is_said() {
    let bpffs = Bpffs::new();
    let pin = bpffs.path("new");
    let array = create(MapType::Array, 4, 4, 1);
    let other = id(&array);
    let table = format!(
        "
--type lpm_trie --key 8 --value 8 --max-entries 1 => --flags no_prealloc
--type lpm_trie --key 4 --value 8 --max-entries 1 --flags no_prealloc => --key 8 for IPv4
--type hash_of_maps --key 4 --value 4 --max-entries 1 => --inner MAP
--type array_of_maps --key 4 --value 4 --max-entries 1 => --inner MAP
--type hash --key 4 --value 4 --max-entries 1 --inner {other} => --inner is for maps of type hash_of_maps
--type hash --value 4 --max-entries 1 => with --key
--type hash --key 4 --max-entries 1 => with --value
--type hash --key 4 --value 4 --max-entries 0 => at least one entry
--type queue --key 4 --value 4 --max-entries 1 => leave out --key
--type array --key 8 --value 4 --max-entries 1 => --key 4
--type ringbuf --max-entries 10 => power of 2
--type ringbuf --max-entries 12288 => power of 2
--type ringbuf --key 4 --max-entries 65536 => leave out --key
--type percpu_array --key 4 --value 32769 --max-entries 1 => at most 32768 bytes
--type percpu_hash --key 4 --value 32769 --max-entries 1 => at most 32768 bytes
--type array --key 4 --value 4 --max-entries 1 --flags no_prealloc => do not take --flags no_prealloc
--type lru_hash --key 4 --value 4 --max-entries 1 --flags no_prealloc => do not take --flags no_prealloc
--type hash --key 4 --value 4 --max-entries 1 --flags rdonly,wronly => either rdonly or wronly
--type stack_trace --key 4 --value 7 --max-entries 1 => multiple of 8
--type hash --key 4 --value 4 --max-entries 1 --name a-b => `-` is not a letter
--type hash --key 4 --value 4 --max-entries 1 --name sixteen_letters_ => 16 characters, and the kernel keeps 15"
    );
    for (options, words) in rows(&table) {
        create_at(&pin, options).failed(2, &words);
        assert!(!pin.exists(), "{options}");
    }
    let long = bpffs.path("longer_than_15_characters");
    let sizes = "--type hash --key 4 --value 4 --max-entries 1";
    create_at(&long, sizes).failed(2, &["25 characters", "--name"]);
    create_at(&long, &format!("{sizes} --name fifteen_letters")).done();
    let seen = map_json!("show", long.display());
    assert_eq!(seen["name"], "fifteen_letters");
    map!("dump", long.parent().unwrap().display()).failed(2, &["is a folder, not the pin"]);
    map!("dump", "/proc").failed(2, &["`/proc` is a folder"]);
}
