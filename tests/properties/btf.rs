//! BTF with mistakes in it: read as far as it makes sense.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;

use ktally::names::HostNames;
use ktally::schema::{Names, Schema};
use libbpf_rs::Btf;
use nix::sys::memfd::{MFdFlags, memfd_create};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::hold::hold;
use crate::{OBJECTS, USUAL};

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
fn read(bytes: &[u8], labels: &HostNames) -> bool {
    // It says what is wrong with each.
    libbpf_rs::set_print(None);
    let mut file = File::from(memfd_create(c"btf", MFdFlags::MFD_CLOEXEC).unwrap());
    file.write_all(bytes).unwrap();
    let Ok(btf) = Btf::from_path(format!("/proc/self/fd/{}", file.as_raw_fd())) else {
        return false;
    };
    let schema = Schema::of_btf(&btf);
    let _ = schema.fault(&[0xff; 4096]);
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

/// Types of BTF, one behind the other, and the names that they have.
struct Written {
    types: Vec<u8>,
    names: Vec<u8>,
}

impl Written {
    fn name(&mut self, name: &str) -> u32 {
        let at = self.names.len() as u32;
        self.names.extend([name.as_bytes(), &[0]].concat());
        at
    }

    /// `struct btf_type`, and the words behind it.
    fn ty(&mut self, name: &str, kind: u32, vlen: usize, size_or_type: u32, more: &[u32]) {
        let name = if name.is_empty() { 0 } else { self.name(name) };
        let words = [name, kind << 24 | vlen as u32, size_or_type];
        let words = words.iter().chain(more).flat_map(|word| word.to_le_bytes());
        self.types.extend(words);
    }

    fn bytes(&self) -> Vec<u8> {
        let (types, names) = (self.types.len() as u32, self.names.len() as u32);
        let header = [0x0001_eb9f, 24, 0, types, types, names];
        let header = header.iter().flat_map(|word| word.to_le_bytes());
        header
            .chain(self.types.iter().copied())
            .chain(self.names.iter().copied())
            .collect()
    }
}

/// Structs within structs at the same place: few bytes that say they have ten
/// to the twentieth members.
#[test]
fn types_that_multiply_end_as_bytes() {
    const INT: u32 = 1;
    const PTR: u32 = 2;
    const STRUCT: u32 = 4;
    const VAR: u32 = 14;
    const DATASEC: u32 = 15;
    const TAG: u32 = 17;
    const LEVELS: u32 = 20;
    let mut btf = Written {
        types: Vec::new(),
        names: vec![0],
    };
    btf.ty("int", INT, 0, 4, &[32]);
    for level in 0..LEVELS {
        let inner = 1 + level;
        let members: Vec<u32> = (0..10)
            .flat_map(|i| [btf.name(&format!("m{i}")), inner, 0])
            .collect();
        btf.ty("s", STRUCT, 10, 4, &members);
    }
    let last = 1 + LEVELS;
    btf.ty("", PTR, 0, last, &[]);
    let members = ["key", "value"]
        .map(|name| [btf.name(name), last + 1, 0])
        .concat();
    btf.ty("", STRUCT, 2, 16, &members);
    btf.ty("multiplied", VAR, 0, last + 2, &[1]);
    btf.ty(".maps", DATASEC, 1, 16, &[last + 3, 0, 16]);
    btf.ty("ktally:table:x", TAG, 0, last + 3, &[u32::MAX]);
    assert!(read(&btf.bytes(), &HostNames::new()));
}

#[test]
fn the_objects_are_read_whole() {
    let tables = OBJECTS.map(|object| {
        let btf = raw_btf(object);
        assert!(read(&btf, &HostNames::new()));
        assert!(!read(&btf[..btf.len() / 2], &HostNames::new()));
    });
    assert_eq!(tables.len(), OBJECTS.len());
}

/// Bytes of the types (not of the header or the names) are changed: most of
/// these libbpf takes.
#[test]
fn mutated_types_are_read_or_refused() {
    let cases = (
        0..OBJECTS.len(),
        vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        any::<bool>(),
    );
    let labels = HostNames::new();
    hold(USUAL, cases, |(object, changes, small)| {
        let mut btf = raw_btf(OBJECTS[object]);
        let len = btf.len() - 24;
        for (at, byte) in changes {
            // Small numbers are the ids of other types.
            btf[24 + at.index(len)] = if small { byte & 0x3f } else { byte };
        }
        read(&btf, &labels);
        Ok(())
    });
}

/// Whole words, and places in the header, too.
#[test]
fn mutated_words_are_read_or_refused() {
    let cases = (
        0..OBJECTS.len(),
        vec(
            (
                any::<prop::sample::Index>(),
                prop_oneof![any::<u32>(), 0u32..200, Just(u32::MAX)],
            ),
            1..4,
        ),
        prop::option::weighted(0.1, any::<prop::sample::Index>()),
    );
    let labels = HostNames::new();
    hold(USUAL, cases, |(object, changes, cut)| {
        let mut btf = raw_btf(OBJECTS[object]);
        let words = btf.len() / 4;
        for (at, word) in changes {
            let at = 4 * at.index(words);
            btf[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        if let Some(cut) = cut {
            btf.truncate(cut.index(btf.len()));
        }
        read(&btf, &labels);
        Ok(())
    });
}
