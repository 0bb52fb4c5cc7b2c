//! BTF with mistakes in it: read as far as it makes sense.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;

use ktally::schema::{Labels, Schema};
use libbpf_rs::Btf;
use nix::sys::memfd::{MFdFlags, memfd_create};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::cases;

/// Objects as the build makes them: of tables, options, tags and helpers.
const OBJECTS: [&[u8]; 3] = [
    include_bytes!(concat!(env!("OUT_DIR"), "/syscalls.bpf.o")),
    include_bytes!(concat!(env!("OUT_DIR"), "/runqlat.bpf.o")),
    include_bytes!(concat!(env!("OUT_DIR"), "/drain.bpf.o")),
];

/// The `.BTF` section of an object: by its magic number, version and the length
/// of its header, which `.BTF.ext` has not.
fn raw_btf(object: &[u8]) -> Vec<u8> {
    const HEADER: [u8; 8] = [0x9f, 0xeb, 1, 0, 24, 0, 0, 0];
    let start = object.windows(8).position(|bytes| bytes == HEADER).unwrap();
    let word =
        |at: usize| u32::from_le_bytes(object[start + at..][..4].try_into().unwrap()) as usize;
    let end = 24 + (word(8) + word(12)).max(word(16) + word(20));
    object[start..start + end].to_vec()
}

/// As `ktally::schema` reads the BTF of maps; whether libbpf takes it at all.
fn read(bytes: &[u8]) -> bool {
    let mut file = File::from(memfd_create(c"btf", MFdFlags::MFD_CLOEXEC).unwrap());
    file.write_all(bytes).unwrap();
    let Ok(btf) = Btf::from_path(format!("/proc/self/fd/{}", file.as_raw_fd())) else {
        return false;
    };
    let schema = Schema::of_btf(&btf);
    let labels = Labels::new();
    let _ = schema.fault();
    for table in &schema.tables {
        // A row of the table, as bytes would have it.
        let key = vec![0xa5; table.key_size.min(1 << 16)];
        for label in &table.labels {
            let _ = labels.of(label, &key).to_string();
        }
        let mut cells = vec![0; table.cells()];
        table.add_cells(&vec![0x5a; table.value_size.min(1 << 16)], &mut cells);
        for metric in &table.metrics {
            let _ = metric.value(&cells).to_string();
        }
    }
    for option in &schema.options {
        let _ = labels.option(option, &[0xff; 4096]).to_string();
    }
    true
}

#[test]
fn the_objects_are_read_whole() {
    let tables = OBJECTS.map(|object| {
        let btf = raw_btf(object);
        assert!(read(&btf));
        assert!(!read(&btf[..btf.len() / 2]));
    });
    assert_eq!(tables.len(), 3);
}

proptest! {
    #![proptest_config(cases(1024))]

    /// Bytes of the types (not of the header or the names) are changed: most of
    /// these libbpf takes.
    #[test]
    fn mutated_types_are_read_or_refused(
        object in 0..OBJECTS.len(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        small in any::<bool>(),
    ) {
        let mut btf = raw_btf(OBJECTS[object]);
        let len = btf.len() - 24;
        for (at, byte) in changes {
            // Small numbers are the ids of other types.
            btf[24 + at.index(len)] = if small { byte & 0x3f } else { byte };
        }
        read(&btf);
    }

    /// Whole words, and places in the header, too.
    #[test]
    fn mutated_words_are_read_or_refused(
        object in 0..OBJECTS.len(),
        changes in vec((any::<prop::sample::Index>(), prop_oneof![any::<u32>(), 0u32..200, Just(u32::MAX)]), 1..4),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let mut btf = raw_btf(OBJECTS[object]);
        let words = btf.len() / 4;
        for (at, word) in changes {
            let at = 4 * at.index(words);
            btf[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        if let Some(cut) = cut {
            btf.truncate(cut.index(btf.len()));
        }
        read(&btf);
    }
}
