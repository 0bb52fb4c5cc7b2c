//! ELF files with mistakes in them, wherever they are likely to matter.

use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// What became of a file.
#[derive(Debug, Clone)]
pub struct Damage {
    changes: Vec<Change>,
    /// How much of it is left.
    cut: Option<Index>,
}

/// A number that became another one.
#[derive(Debug, Clone)]
struct Change {
    part: Index,
    at: Index,
    width: usize,
    number: Number,
}

#[derive(Debug, Clone)]
enum Number {
    Is(u64),
    More(i8),
}

pub fn damage() -> impl Strategy<Value = Damage> {
    let number = prop_oneof![
        any::<u64>().prop_map(Number::Is),
        prop::sample::select(vec![0, 1, 1 << 31, (1 << 32) - 1, 1 << 63, u64::MAX])
            .prop_map(Number::Is),
        (0..64u64).prop_map(Number::Is),
        any::<i8>().prop_map(Number::More),
    ];
    let width = prop::sample::select(vec![1, 2, 4, 4, 8]);
    let change = (any::<Index>(), any::<Index>(), width, number);
    let change = change.prop_map(|(part, at, width, number)| Change {
        part,
        at,
        width,
        number,
    });
    let cut = prop::option::weighted(0.05, any::<Index>());
    (vec(change, 1..6), cut).prop_map(|(changes, cut)| Damage { changes, cut })
}

impl Damage {
    /// Each part of a file is hit as often as any other, long or short.
    pub fn of(&self, whole: &[u8]) -> Vec<u8> {
        let parts = parts(whole);
        let mut bytes = whole.to_vec();
        for change in &self.changes {
            let part = parts[change.part.index(parts.len())].clone();
            let width = change.width.min(part.len());
            let at = part.start + change.at.index(part.len() / width) * width;
            let old = number(&bytes[at..at + width]);
            let new = match change.number {
                Number::Is(number) => number,
                Number::More(more) => old.wrapping_add_signed(more.into()),
            };
            bytes[at..at + width].copy_from_slice(&new.to_le_bytes()[..width]);
        }
        if let Some(cut) = self.cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes
    }
}

/// The header, each header of a section, and each section that has bytes.
fn parts(elf: &[u8]) -> Vec<Range<usize>> {
    const HEADER: usize = 64;
    const NOBITS: u64 = 8;
    let at = |at: usize, width: usize| number(&elf[at..at + width]);
    let (table, size, count) = (at(40, 8) as usize, at(58, 2) as usize, at(60, 2) as usize);
    let headers = (0..count).map(|i| table + i * size..table + (i + 1) * size);
    let sections = headers.clone().filter_map(|header| {
        let (kind, offset, len) = (
            at(header.start + 4, 4),
            at(header.start + 24, 8),
            at(header.start + 32, 8),
        );
        let section = offset as usize..(offset + len) as usize;
        (kind != NOBITS && !section.is_empty()).then_some(section)
    });
    let header = std::iter::once(0..HEADER);
    header.chain(sections).chain(headers).collect()
}

/// Little-endian.
fn number(bytes: &[u8]) -> u64 {
    let bytes = bytes.iter().rev();
    bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
}
