//! A table and rows of it, for the tests of this module; rows.

#![allow(clippy::unwrap_used)]

mod differences;
mod maxima;

use std::sync::Arc;

use super::*;
use crate::names::HostNames;
use crate::schema::{Histogram, Kind, Member, Place, Tags, Type, Value};

pub(super) fn ty(name: &str, size: usize, kind: Kind) -> Arc<Type> {
    let name = name.to_owned();
    Arc::new(Type { name, size, kind })
}

pub(super) fn member(
    name: &str,
    bit_offset: usize,
    bits: Option<u8>,
    ty: &Arc<Type>,
    tags: &str,
) -> Member {
    let mut all = Tags::default();
    tags.split(' ').for_each(|tag| all.add(tag));
    let (name, ty) = (name.to_owned(), Arc::clone(ty));
    let place = Place {
        bit_offset,
        bits,
        ty,
    };
    let tags = all;
    Member { name, place, tags }
}

/// A table `t` of these members.
pub(super) fn table_of(key: (usize, Vec<Member>), value: (usize, Vec<Member>)) -> Table {
    let key = ty("struct key", key.0, Kind::Struct(key.1));
    let value = ty("struct value", value.0, Kind::Struct(value.1));
    Table::new("t", &Tags::default(), 8, &key, &value)
}

/// A label in the middle of the key, two bitfields behind it; a counter that
/// wraps early, a gauge that goes below zero, a histogram.
pub(super) fn table() -> Table {
    let int = |size, signed| ty("int", size, Kind::Int { signed });
    let (element, len) = (ty("char", 1, Kind::Char), 4);
    let comm = ty("char[4]", 4, Kind::Array { element, len });
    let size = 8 * Histogram::CELLS;
    let histogram = ty("struct tally_histogram", size, Kind::Struct(vec![]));
    let key = vec![
        member("comm", 0, None, &comm, "ktally:as:comm"),
        member("error", 32, None, &int(4, false), "ktally:as:errno"),
        member("depth", 64, Some(3), &int(4, false), ""),
        member("nice", 67, Some(7), &int(4, true), ""),
    ];
    let value = vec![
        member("calls", 0, None, &int(8, false), "ktally:counter:"),
        member("small", 64, None, &int(4, false), "ktally:counter:"),
        member("level", 128, None, &int(8, true), "ktally:gauge:"),
        member("latency", 192, None, &histogram, "ktally:unit:ns"),
    ];
    table_of((12, key), (24 + size, value))
}

/// Its labels, then `calls small level sum [bucket:count ...]`.
pub(super) const ROWS: [&str; 4] = [
    "b 2 5 -20 | 10 1 -3 900 [0:1 9:1]",
    "a 2 5 19 | 20 2 1 100 [0:4 5:1]",
    "a 11 7 19 | 30 4 7 50 [4:1]",
    "c 4000 0 0 | 5 9 0 0 []",
];

pub(super) fn rows(lines: &[&str]) -> Rows {
    let mut rows = Rows::of(&table());
    for line in lines {
        let (labels, numbers) = line.split_once(" | ").unwrap();
        let (numbers, buckets) = numbers.split_once(" [").unwrap();
        let (comm, labels) = labels.split_once(' ').unwrap();
        let labels: Vec<i32> = labels.split(' ').map(|it| it.parse().unwrap()).collect();
        let mut key = [0; 12];
        key[..comm.len()].copy_from_slice(comm.as_bytes());
        key[4..8].copy_from_slice(&labels[0].to_le_bytes());
        let bits = labels[1] | (labels[2] & 0x7f) << 3;
        key[8..].copy_from_slice(&bits.to_le_bytes());
        let cells = rows.push(&key);
        for (cell, number) in cells.iter_mut().zip(numbers.split(' ')) {
            *cell = number.parse::<i128>().unwrap() as u64;
        }
        for bucket in buckets.trim_end_matches(']').split_terminator(' ') {
            let (bucket, count) = bucket.split_once(':').unwrap();
            cells[4 + bucket.parse::<usize>().unwrap()] = count.parse().unwrap();
        }
    }
    rows
}

/// A query as it is typed.
pub(super) fn query(line: &str) -> Query {
    let mut query = Query::default();
    for flag in line.split_whitespace() {
        let (flag, text) = flag.split_once(':').unwrap_or((flag, ""));
        match flag {
            "by" => query.by = Some(text.split_terminator(',').map(str::to_owned).collect()),
            "where" => query.filters.push(Condition::parse(text).unwrap()),
            "sort" => query.sort = Some(Sort::parse(text)),
            "top" => query.top = Some(text.parse().unwrap()),
            _ => panic!("{line}"),
        }
    }
    query
}

/// The rows, a line each as in [`ROWS`], with names.
pub(super) fn show(line: &str, now: &[&str]) -> String {
    show_rows(line, &rows(now))
}

fn show_rows(line: &str, rows: &Rows) -> String {
    let shown = query(line).apply(&table(), rows, &HostNames::new());
    let named = shown.named(&HostNames::new(), false);
    let line = |Row { names, cells, .. }: Row<'_>| {
        let names: Vec<String> = names.iter().map(Value::to_string).collect();
        let buckets = cells[4..].iter().enumerate();
        let buckets = buckets.filter(|(_, count)| **count > 0);
        let buckets: Vec<String> = buckets.map(|(i, count)| format!("{i}:{count}")).collect();
        let (names, buckets) = (names.join(" "), buckets.join(" "));
        let [calls, small, level, sum] = [0, 1, 2, 3].map(|i| cells[i]);
        let level = level as i64;
        format!("{names} | {calls} {small} {level} {sum} [{buckets}]")
    };
    named.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Of `int`s: a key with a hidden part, and a value with these tags.
pub(super) fn secretive(tags: &str) -> Table {
    let int = ty("int", 4, Kind::Int { signed: true });
    let key = vec![
        member("shown", 0, None, &int, ""),
        member("secret", 32, None, &int, "ktally:hidden:"),
    ];
    table_of((8, key), (4, vec![member("level", 0, None, &int, tags)]))
}

/// What is shown of its rows: the first byte of the key, the number.
pub(super) fn show_secretive(table: &Table, rows: &Rows) -> Vec<(u8, u64)> {
    let shown = Query::default().apply(table, rows, &HostNames::new());
    assert_eq!(shown.table.key_size, 4);
    shown
        .iter()
        .map(|(key, cells)| (key[0], cells[0]))
        .collect()
}

pub(super) fn read(table: &Table, all: &[(i32, i32, u64)]) -> Rows {
    let mut rows = Rows::of(table);
    for (shown, secret, number) in all {
        let key = [shown.to_le_bytes(), secret.to_le_bytes()].concat();
        rows.push(&key)[0] = *number;
    }
    rows
}

#[test]
fn rows_are_packed_and_can_be_taken_back() {
    let mut all = rows(&ROWS);
    assert_eq!(all.len(), 4);
    all.pop();
    assert_eq!(all, rows(&ROWS[..3]));
    (0..4).for_each(|_| all.pop());
    assert!(all.is_empty());

    // A key of no bytes: the total, one row.
    let mut total = table();
    total.key_size = 0;
    let mut total = Rows::of(&total);
    assert!(total.is_empty());
    total.push(&[])[0] = 1;
    assert_eq!((total.len(), total.key(0)), (1, &[][..]));
    total.pop();
    assert!(total.is_empty());
}

#[test]
fn a_snapshot_is_whole_only_if_nothing_is_missing() {
    let rows = Selection::all(table(), Rows::of(&table()));
    let is_whole = |dropped, reset, missed, gaps, incomplete: Option<&str>| {
        let table = TableSnapshot {
            table: &rows.table,
            rows: rows.named(&HostNames::raw(), false),
            rows_read: 0,
            held_back: false,
            matching: 0,
            other: None,
            leaves_out_other: false,
            uncertain: 0,
            dropped,
            reset,
        };
        let snapshot = Snapshot {
            missed_by: Vec::new(),
            tally: String::new(),
            summary: String::new(),
            time: SystemTime::UNIX_EPOCH,
            seconds: 1.0,
            is_interval: false,
            missed,
            gaps,
            unraised: gaps,
            incomplete: incomplete.map(str::to_owned),
            sort: None,
            tables: vec![table],
        };
        snapshot.is_whole()
    };
    let none = Some(0);
    assert!(is_whole(none, 0, none, none, None));
    // An unknown number does not prove a loss.
    assert!(is_whole(None, 0, none, None, None));
    assert!(is_whole(none, 0, None, None, None));
    assert!(!is_whole(Some(1), 0, none, None, None));
    assert!(!is_whole(none, 1, none, None, None));
    assert!(!is_whole(none, 0, Some(1), None, None));
    assert!(!is_whole(none, 0, none, Some(1), None));
    assert!(!is_whole(none, 0, none, None, Some("a row vanished")));
}

/// The name of a process stands behind its number, unless there is a column of it.
#[test]
fn a_name_is_not_shown_twice() {
    let int = |size| ty("int", size, Kind::Int { signed: false });
    let (element, len) = (ty("char", 1, Kind::Char), 4);
    let comm = ty("char[4]", 4, Kind::Array { element, len });
    let calls = || vec![member("calls", 0, None, &int(8), "ktally:counter:")];
    let pid = |at| member("pid", at, None, &int(4), "ktally:as:pid");
    let shown = |size, key, bytes: &[u8], for_people| {
        let table = table_of((size, key), (8, calls()));
        let mut rows = Rows::of(&table);
        rows.push(bytes)[0] = 1;
        let selection = Selection::all(table, rows);
        let named = selection.named(&HostNames::new(), for_people);
        let row = named.iter().next().unwrap();
        row.names
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let number = std::process::id();
    let bytes = number.to_ne_bytes();
    let alone = |for_people| shown(4, vec![pid(0)], &bytes, for_people).remove(0);
    let number = number.to_string();
    assert_eq!(alone(false), number);
    assert!(alone(true).starts_with(&format!("{number} (")));
    let key = vec![member("comm", 0, None, &comm, "ktally:as:comm"), pid(32)];
    let beside = shown(8, key, &[&b"kt\0\0"[..], &bytes].concat(), true);
    assert_eq!(beside, ["kt", &number]);
}
