#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use insta::assert_snapshot;

use super::*;
use crate::names::HostNames;
use crate::schema::{Histogram, Member};
use crate::snapshot::*;

fn ty(name: &str, size: usize, kind: Kind) -> Arc<Type> {
    let name = name.to_owned();
    Arc::new(Type { name, size, kind })
}

fn member(name: &str, bit_offset: usize, bits: Option<u8>, ty: &Arc<Type>, tags: &str) -> Member {
    let mut all = Tags::default();
    tags.split(' ').for_each(|tag| all.add(tag));
    let (name, ty) = (name.to_owned(), Arc::clone(ty));
    Member {
        name,
        place: Place {
            bit_offset,
            bits,
            ty,
        },
        tags: all,
    }
}

/// A label in the middle of the key, two bitfields behind it; a counter that
/// wraps early, a gauge that goes below zero, a histogram.
fn table() -> Table {
    let int = |size, signed| ty("int", size, Kind::Int { signed });
    let (element, len) = (ty("char", 1, Kind::Char), 4);
    let comm = ty("char[4]", 4, Kind::Array { element, len });
    let histogram = ty(
        "struct tally_histogram",
        size_of::<Histogram>(),
        Kind::Struct(vec![]),
    );
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
    let size = 24 + size_of::<Histogram>();
    Table::new(
        "t",
        &Tags::default(),
        8,
        &ty("struct key", 12, Kind::Struct(key)),
        &ty("struct value", size, Kind::Struct(value)),
    )
}

#[derive(Clone, Copy, Default)]
struct Row {
    comm: &'static str,
    error: u32,
    depth: u32,
    nice: i32,
    calls: u64,
    small: u32,
    level: i64,
    sum: u64,
    buckets: &'static [(usize, u64)],
}

fn rows(all: &[Row]) -> Rows {
    let mut rows = Rows::of(&table());
    for row in all {
        let mut key = [0; 12];
        key[..row.comm.len()].copy_from_slice(row.comm.as_bytes());
        key[4..8].copy_from_slice(&row.error.to_le_bytes());
        let bits = row.depth | (row.nice as u32 & 0x7f) << 3;
        key[8..].copy_from_slice(&bits.to_le_bytes());
        let cells = rows.push(&key);
        cells[..4].copy_from_slice(&[row.calls, row.small.into(), row.level as u64, row.sum]);
        for (bucket, count) in row.buckets {
            cells[4 + bucket] = *count;
        }
    }
    rows
}

/// A line a row: labels, then `calls small level sum [bucket:count ...]`.
fn show(query: &Query, now: &[Row], before: Option<&[Row]>) -> String {
    let mut now = rows(now);
    if let Some(before) = before {
        (now, _) = now.since(&rows(before), &table().metrics);
    }
    let shown = query.apply(&table(), &now, &HostNames::new());
    let line = |crate::snapshot::Row { names, cells, .. }: crate::snapshot::Row<'_>| {
        let names: Vec<String> = names.iter().map(Value::to_string).collect();
        let counts = cells[4..]
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0);
        let counts: Vec<String> = counts.map(|(i, count)| format!("{i}:{count}")).collect();
        let (level, counts) = (cells[2] as i64, counts.join(" "));
        let names = names.join(" ");
        format!(
            "{names} | {} {} {level} {} [{counts}]",
            cells[0], cells[1], cells[3]
        )
    };
    let named = shown.named(&HostNames::new(), false);
    named.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn by(names: &[&str]) -> Query {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Query {
        by: Some(names),
        ..Query::default()
    }
}

fn only(field: &str, value: &str) -> Query {
    Query {
        filters: vec![(field.into(), value.into())],
        ..Query::default()
    }
}

fn sort(column: &str) -> Query {
    Query {
        sort: Some(column.into()),
        ..Query::default()
    }
}

const ROWS: [Row; 4] = [
    Row {
        comm: "b",
        error: 2,
        depth: 5,
        nice: -20,
        calls: 10,
        small: 1,
        level: -3,
        sum: 900,
        buckets: &[(0, 1), (9, 1)],
    },
    Row {
        comm: "a",
        error: 2,
        depth: 5,
        nice: 19,
        calls: 20,
        small: 2,
        level: 1,
        sum: 100,
        buckets: &[(0, 4), (5, 1)],
    },
    Row {
        comm: "a",
        error: 11,
        depth: 7,
        nice: 19,
        calls: 30,
        small: 4,
        level: 7,
        sum: 50,
        buckets: &[(4, 1)],
    },
    Row {
        comm: "c",
        error: 4000,
        depth: 0,
        nice: 0,
        calls: 5,
        small: 9,
        level: 0,
        sum: 0,
        buckets: &[],
    },
];

#[test]
fn every_row_with_the_greatest_first_column_of_numbers_first() {
    assert_snapshot!(show(&Query::default(), &ROWS, None), @r#"
    a EAGAIN 7 19 | 30 4 7 50 [4:1]
    a ENOENT 5 19 | 20 2 1 100 [0:4 5:1]
    b ENOENT 5 -20 | 10 1 -3 900 [0:1 9:1]
    c 4000 0 0 | 5 9 0 0 []
    "#);
}

#[test]
fn groups_add_up_counters_gauges_and_buckets() {
    assert_snapshot!(show(&by(&["comm"]), &ROWS, None), @r#"
    a | 50 6 8 150 [0:4 4:1 5:1]
    b | 10 1 -3 900 [0:1 9:1]
    c | 5 9 0 0 []
    "#);
    // From the middle of the key, with the names of what is there.
    assert_snapshot!(show(&by(&["error"]), &ROWS, None), @r#"
    ENOENT | 30 3 -2 1000 [0:5 5:1 9:1]
    EAGAIN | 30 4 7 50 [4:1]
    4000 | 5 9 0 0 []
    "#);
    // In the order that was asked for.
    assert_snapshot!(show(&by(&["error", "comm"]), &ROWS, None), @r#"
    EAGAIN a | 30 4 7 50 [4:1]
    ENOENT a | 20 2 1 100 [0:4 5:1]
    ENOENT b | 10 1 -3 900 [0:1 9:1]
    4000 c | 5 9 0 0 []
    "#);
    // No field at all: the total.
    assert_snapshot!(show(&by(&[]), &ROWS, None), @" | 65 16 5 1050 [0:5 4:1 5:1 9:1]");
}

#[test]
fn groups_by_bitfields_keep_their_sign() {
    assert_snapshot!(show(&by(&["depth"]), &ROWS, None), @r#"
    5 | 30 3 -2 1000 [0:5 5:1 9:1]
    7 | 30 4 7 50 [4:1]
    0 | 5 9 0 0 []
    "#);
    assert_snapshot!(show(&by(&["nice", "depth"]), &ROWS, None), @r#"
    19 7 | 30 4 7 50 [4:1]
    19 5 | 20 2 1 100 [0:4 5:1]
    -20 5 | 10 1 -3 900 [0:1 9:1]
    0 0 | 5 9 0 0 []
    "#);
}

#[test]
fn counters_of_a_group_wrap_and_do_not_panic() {
    let most = Row {
        calls: u64::MAX,
        sum: u64::MAX,
        ..ROWS[0]
    };
    assert_snapshot!(show(&by(&[]), &[most, ROWS[1]], None), @" | 19 3 -2 99 [0:5 5:1 9:1]");
}

#[test]
fn filters_take_the_name_or_the_number() {
    let name = show(&only("error", "ENOENT"), &ROWS, None);
    assert_snapshot!(name, @r#"
    a ENOENT 5 19 | 20 2 1 100 [0:4 5:1]
    b ENOENT 5 -20 | 10 1 -3 900 [0:1 9:1]
    "#);
    assert_eq!(show(&only("error", "2"), &ROWS, None), name);
    // An error without a name has only its number.
    assert_snapshot!(show(&only("error", "4000"), &ROWS, None), @"c 4000 0 0 | 5 9 0 0 []");
    assert_snapshot!(show(&only("nice", "-20"), &ROWS, None), @"b ENOENT 5 -20 | 10 1 -3 900 [0:1 9:1]");
    // However it is typed, and with `--raw` too.
    assert_eq!(show(&only("error", "0x2"), &ROWS, None), name);
    let raw = only("error", "ENOENT")
        .filter(&table(), &HostNames::raw())
        .0
        .len();
    assert_eq!(raw, 1);
}

#[test]
fn filters_match_what_is_shown_escaped() {
    let odd = Row {
        comm: "a\u{1b}",
        calls: 1,
        ..Row::default()
    };
    let typed = only("comm", "a\\u{1b}");
    assert_eq!(show(&typed, &[ROWS[1], odd], None).lines().count(), 1);
}

#[test]
fn filters_that_nothing_can_pass_are_refused() {
    let refused = |field: &str, text: &str| {
        let query = only(field, text);
        query
            .check(&[table()], &HostNames::new())
            .unwrap_err()
            .to_string()
    };
    assert_snapshot!(refused("error", "ENOTHING"), @"`--where error=ENOTHING`: no errno named `ENOTHING`; did you mean `ENOTDIR` or `ENOTNAM` or `ENOTUNIQ` or `ENOTCONN` or `ENOTSYNC` or `ENOLINK` or `ENOTTY` or `ENOENT`?");
    assert_snapshot!(refused("error", ""), @"`--where error=`: no errno named ``; 145 are known");
    assert_snapshot!(refused("nice", "64"), @"`--where nice=64`: 64 is out of range: -64 to 63");
    assert_snapshot!(refused("comm", "postgres"), @"`--where comm=postgres`: 8 bytes are too long: at most 4");
    assert_snapshot!(refused("comm", "a,error=2"), @"`--where` takes one field; write --where comm=a --where error=2");
    only("comm", "a,b")
        .check(&[table()], &HostNames::new())
        .unwrap();
    only("error", "4000")
        .check(&[table()], &HostNames::new())
        .unwrap();
}

#[test]
fn filters_are_joined_and_come_before_grouping() {
    let mut query = by(&["depth"]);
    query.filters = vec![
        ("comm".into(), "a".into()),
        ("error".into(), "EAGAIN".into()),
    ];
    assert_snapshot!(show(&query, &ROWS, None), @"7 | 30 4 7 50 [4:1]");
    query.filters.push(("comm".into(), "b".into()));
    assert_eq!(show(&query, &ROWS, None), "");
}

#[test]
fn differences_subtract_all_but_gauges() {
    let now = Row {
        calls: 25,
        small: 3,
        level: -2,
        sum: 1000,
        buckets: &[(0, 4), (5, 3), (6, 1)],
        ..ROWS[1]
    };
    // `small` has wrapped around 32 bits.
    let before = Row {
        small: u32::MAX,
        ..ROWS[1]
    };
    assert_snapshot!(show(&Query::default(), &[now], Some(&[before])), @"a ENOENT 5 19 | 5 4 -2 900 [5:2 6:1]");
}

#[test]
fn rows_that_are_new_count_in_full_and_unchanged_ones_are_hidden() {
    let unchanged = Row {
        level: 0,
        ..ROWS[0]
    };
    let now = [unchanged, ROWS[2]];
    assert_snapshot!(show(&Query::default(), &now, Some(&[unchanged])), @"a EAGAIN 7 19 | 30 4 7 50 [4:1]");
    // Where others count, a gauge alone is worth no row.
    assert_eq!(show(&Query::default(), &ROWS[..1], Some(&ROWS[..1])), "");
    // A row that is gone has nothing to show.
    assert_eq!(show(&Query::default(), &[], Some(&ROWS)), "");
}

/// How many rows were reset.
fn reset(now: &[Row], before: &[Row]) -> u64 {
    rows(now).since(&rows(before), &table().metrics).1
}

#[test]
fn what_is_in_a_row_that_was_reset_was_counted_since() {
    let before = ROWS[1];
    let fell = |row: Row| {
        assert_eq!(reset(&[row], &[before]), 1);
        show(&Query::default(), &[row], Some(&[before]))
    };
    // One counter fell: the row was made anew, and the others grew from zero too.
    let row = Row {
        calls: 3,
        sum: 400,
        ..before
    };
    assert_snapshot!(fell(row), @"a ENOENT 5 19 | 3 2 1 400 [0:4 5:1]");
    // A bucket alone.
    let row = Row {
        buckets: &[(5, 7)],
        ..before
    };
    assert_snapshot!(fell(row), @"a ENOENT 5 19 | 20 2 1 100 [5:7]");
    // A number of 32 bits that was far from its end.
    let far = Row {
        small: 1 << 31,
        ..before
    };
    assert_eq!(reset(&[before], &[far]), 1);
    assert_snapshot!(show(&Query::default(), &[before], Some(&[far])), @"a ENOENT 5 19 | 20 2 1 100 [0:4 5:1]");
    // A gauge comes and goes.
    assert_eq!(
        reset(
            &[Row {
                level: -9,
                ..before
            }],
            &[before]
        ),
        0
    );
}

#[test]
fn a_row_that_is_gone_was_reset() {
    assert_eq!(reset(&[], &ROWS), 4);
    assert_eq!(reset(&ROWS[1..], &ROWS), 1);
    // It had counted nothing.
    let idle = Row {
        calls: 0,
        small: 0,
        sum: 0,
        buckets: &[],
        ..ROWS[0]
    };
    assert_eq!(reset(&[], &[idle]), 0);
}

/// The sum of two rows may grow while one of them is reset.
#[test]
fn resets_are_of_rows_not_of_groups() {
    let before = [
        Row {
            error: 2,
            calls: 100,
            ..Row::default()
        },
        Row {
            error: 11,
            calls: 5,
            ..Row::default()
        },
    ];
    let now = [
        Row {
            calls: 7,
            ..before[0]
        },
        Row {
            calls: 205,
            ..before[1]
        },
    ];
    assert_snapshot!(show(&by(&[]), &now, Some(&before)), @" | 207 0 0 0 []");
    assert_eq!(reset(&now, &before), 1);
}

/// Numbers of no author who says that they count: each for itself.
#[test]
fn undeclared_numbers_are_reset_one_by_one() {
    let int = ty("long", 8, Kind::Int { signed: false });
    let value = vec![
        member("events", 0, None, &int, ""),
        member("last", 64, None, &int, ""),
    ];
    let table = Table::new(
        "t",
        &Tags::default(),
        8,
        &int,
        &ty("struct v", 16, Kind::Struct(value)),
    );
    let mut now = [15, 3];
    assert!(difference(&table.metrics, &mut now, &[10, 8]));
    assert_eq!(now, [5, 3]);
    assert!(!difference(&table.metrics, &mut now, &[5, 3]));
    assert_eq!(now, [0, 0]);
}

#[test]
fn what_was_lost_is_no_less_than_nothing() {
    let reading = |dropped, missed, seconds| Reading {
        time: SystemTime::UNIX_EPOCH,
        seconds,
        tables: vec![TableReading {
            rows: rows(&ROWS),
            dropped: Some(dropped),
            reset: 0,
        }],
        missed,
        gaps: missed,
        incomplete: None,
    };
    let since = |now: &Reading, before: &Reading| {
        let since = now.since(before, &[table()]);
        (since.tables[0].dropped, since.missed, since.seconds)
    };
    let before = reading(5, Some(7), 1.0);
    assert_eq!(
        since(&reading(8, Some(9), 3.0), &before),
        (Some(3), Some(2), 2.0)
    );
    assert_eq!(
        since(&reading(2, Some(1), 3.0), &before),
        (Some(2), Some(1), 2.0)
    );
    assert_eq!(since(&reading(8, None, 3.0), &before), (Some(3), None, 2.0));
    assert_eq!(since(&before, &reading(5, None, 0.5)), (Some(0), None, 0.5));
}

#[test]
fn what_an_incomplete_reading_lacks_is_as_it_was() {
    let reading = |all: &[Row]| Reading {
        time: SystemTime::UNIX_EPOCH,
        seconds: 0.0,
        tables: vec![TableReading {
            rows: rows(all),
            dropped: Some(0),
            reset: 0,
        }],
        missed: None,
        gaps: None,
        incomplete: None,
    };
    let grown = Row {
        calls: 11,
        ..ROWS[0]
    };
    let mut partial = reading(&[grown]);
    partial.fill_from(&reading(&ROWS[..2]));
    assert_eq!(partial.tables[0].rows, rows(&[grown, ROWS[1]]));
}

/// Of `int`s: a key with a hidden part, and a value with these tags.
fn secretive(tags: &str) -> Table {
    let int = ty("int", 4, Kind::Int { signed: true });
    let key = vec![
        member("shown", 0, None, &int, ""),
        member("secret", 32, None, &int, "ktally:hidden:"),
    ];
    let value = vec![member("level", 0, None, &int, tags)];
    Table::new(
        "t",
        &Tags::default(),
        8,
        &ty("struct key", 8, Kind::Struct(key)),
        &ty("struct value", 4, Kind::Struct(value)),
    )
}

fn read(table: &Table, all: &[(i32, i32, u64)]) -> Rows {
    let mut rows = Rows::of(table);
    for (shown, secret, number) in all {
        let key = [shown.to_le_bytes(), secret.to_le_bytes()].concat();
        rows.push(&key)[0] = *number;
    }
    rows
}

#[test]
fn what_looks_the_same_is_one_row() {
    let table = secretive("ktally:counter:");
    assert!(table.hides_key);
    let now = read(&table, &[(1, 7, 2), (1, 8, 3), (2, 7, 4)]);
    let before = read(&table, &[(1, 8, 1)]);
    let (since, reset) = now.since(&before, &table.metrics);
    assert_eq!(reset, 0);
    let rows = Query::default().apply(&table, &since, &HostNames::new());
    assert_eq!(rows.table.key_size, 4);
    let rows: Vec<_> = rows.iter().map(|(key, cells)| (key[0], cells[0])).collect();
    // Both have counted 4: in the order of their keys.
    assert_eq!(rows, [(1, 4), (2, 4)]);
}

#[test]
fn stacks_that_look_the_same_are_one_row() {
    let shown = |decoder: &str, stacks: &[[u64; 3]], names: &HostNames| {
        let (element, len) = (Type::unsigned(8), 3);
        let ips = ty("u64[3]", 24, Kind::Array { element, len });
        let tag = format!("ktally:as:{decoder}");
        let key = vec![member("stack", 0, None, &ips, &tag)];
        let key = ty("struct key", 24, Kind::Struct(key));
        let table = Table::new("t", &Tags::default(), 8, &key, &Type::unsigned(8));
        let mut rows = Rows::of(&table);
        for stack in stacks {
            rows.push(&stack.map(u64::to_ne_bytes).concat())[0] = 1;
        }
        let shown = Query::default().apply(&table, &rows, names);
        let name = |row: crate::snapshot::Row<'_>| format!("{} {}", row.names[0], row.cells[0]);
        shown
            .named(names, false)
            .iter()
            .map(name)
            .collect::<Vec<_>>()
    };
    let (names, raw) = (HostNames::new(), HostNames::raw());
    // No kernel has code so low: their names are numbers.
    let kernel = [[8, 9, 0], [8, 10, 0]];
    assert_eq!(shown("kstack", &kernel, &names), ["0x9;0x8 1", "0xa;0x8 1"]);
    // The frames of a process that there is not are all unknown.
    let nobody = u64::from(u32::MAX);
    let user = [[nobody, 8, 9], [nobody, 8, 10]];
    let unknown = ["[unknown];[unknown] 2"];
    assert_eq!(shown("ustack", &user, &names), unknown);
    // Numbers are told apart, also of two processes.
    let user = [[nobody, 8, 9], [nobody - 1, 8, 9]];
    let numbers = ["0x9;0x8 1", "0x9;0x8 1"];
    assert_eq!(shown("ustack", &user, &raw), numbers);
}

#[test]
fn a_gauge_at_zero_is_a_row_where_nothing_counts() {
    let table = secretive("ktally:gauge:");
    let now = read(&table, &[(1, 7, 0), (2, 7, 5)]);
    let (since, _) = now.since(&now, &table.metrics);
    let rows = Query::default().apply(&table, &since, &HostNames::new());
    let rows: Vec<_> = rows.iter().map(|(key, cells)| (key[0], cells[0])).collect();
    assert_eq!(rows, [(2, 5), (1, 0)]);
    let table = secretive("ktally:counter:");
    assert!(table.counts_nothing(&[0]) && !table.counts_nothing(&[1]));
}

#[test]
fn differences_are_of_groups() {
    let grown = Row {
        calls: 21,
        ..ROWS[1]
    };
    let query = by(&["comm"]);
    assert_snapshot!(show(&query, &[grown, ROWS[2]], Some(&ROWS[1..3])), @"a | 1 0 8 0 []");
}

/// The first columns of the rows, in their order.
fn order(column: &str) -> String {
    let names = show(&sort(column), &ROWS, None);
    let names = names.lines().map(|line| line.split(" | ").next().unwrap());
    names.collect::<Vec<_>>().join(", ")
}

#[test]
fn sorted_by_labels_as_text_or_as_numbers() {
    assert_snapshot!(order("comm"), @"a ENOENT 5 19, a EAGAIN 7 19, b ENOENT 5 -20, c 4000 0 0");
    assert_snapshot!(order("depth"), @"c 4000 0 0, a ENOENT 5 19, b ENOENT 5 -20, a EAGAIN 7 19");
    assert_snapshot!(order("nice"), @"b ENOENT 5 -20, c 4000 0 0, a ENOENT 5 19, a EAGAIN 7 19");
    // Names first by the alphabet; digits stand before letters.
    assert_snapshot!(order("error"), @"c 4000 0 0, a EAGAIN 7 19, a ENOENT 5 19, b ENOENT 5 -20");
}

#[test]
fn sorted_by_numbers_the_greatest_first() {
    assert_snapshot!(order("calls"), @"a EAGAIN 7 19, a ENOENT 5 19, b ENOENT 5 -20, c 4000 0 0");
    assert_snapshot!(order("small"), @"c 4000 0 0, a EAGAIN 7 19, a ENOENT 5 19, b ENOENT 5 -20");
    // Below zero comes last.
    assert_snapshot!(order("level"), @"a EAGAIN 7 19, a ENOENT 5 19, c 4000 0 0, b ENOENT 5 -20");
}

#[test]
fn sorted_by_parts_of_a_histogram() {
    assert_snapshot!(order("latency"), @"a ENOENT 5 19, b ENOENT 5 -20, a EAGAIN 7 19, c 4000 0 0");
    assert_eq!(order("latency.count"), order("latency"));
    assert_eq!(order("count"), order("latency"));
    assert_snapshot!(order("latency.sum"), @"b ENOENT 5 -20, a ENOENT 5 19, a EAGAIN 7 19, c 4000 0 0");
    assert_eq!(order("sum"), order("latency.sum"));
    assert_snapshot!(order("latency.p99"), @"b ENOENT 5 -20, a ENOENT 5 19, a EAGAIN 7 19, c 4000 0 0");
    assert_eq!(order("p99"), order("latency.p99"));
    assert_eq!(order("p99.9"), order("latency.p99.9"));
    assert_snapshot!(order("p50"), @"a EAGAIN 7 19, a ENOENT 5 19, b ENOENT 5 -20, c 4000 0 0");
}

#[test]
fn a_short_name_of_a_quantile_needs_a_single_histogram() {
    let mut two = table();
    let mut second = two.metrics[3].clone();
    second.name = "size".into();
    second.cell = two.cells();
    two.metrics.push(second);
    assert_eq!(sort_by(&two, "p99"), None);
    assert_eq!(sort_by(&two, "size.p99"), Some(SortBy::Quantile(68, 0.99)));
}

#[test]
fn ties_are_in_the_order_of_their_keys() {
    let row = |comm| Row {
        comm,
        calls: 1,
        ..Row::default()
    };
    let (a, b, c) = (row("a"), row("b"), row("c"));
    let first = show(&sort("calls"), &[b, c, a], None);
    assert_snapshot!(first, @r#"
    a 0 0 0 | 1 0 0 0 []
    b 0 0 0 | 1 0 0 0 []
    c 0 0 0 | 1 0 0 0 []
    "#);
    assert_eq!(show(&sort("calls"), &[c, a, b], None), first);
    assert_eq!(show(&sort("level"), &[a, c, b], None), first);
}

#[test]
fn top_cuts_after_sorting() {
    let top = |top| Query {
        top: Some(top),
        ..sort("small")
    };
    assert_snapshot!(show(&top(1), &ROWS, None), @"c 4000 0 0 | 5 9 0 0 []");
    assert_eq!(show(&top(0), &ROWS, None), "");
    assert_eq!(show(&top(4), &ROWS, None).lines().count(), 4);
    assert_eq!(
        show(&top(usize::MAX), &ROWS, None),
        show(&top(5), &ROWS, None)
    );
}

#[test]
fn check_refuses_what_no_table_has() {
    let refused = |query: Query| {
        query
            .check(&[table()], &HostNames::new())
            .unwrap_err()
            .to_string()
    };
    assert_snapshot!(refused(by(&["comm", "zzz"])), @"no field named `zzz`; known: `comm`, `error`, `depth`, `nice`");
    assert_snapshot!(refused(only("eror", "2")), @"no field named `eror`; did you mean `error`?");
    // Rows have no column of numbers before they are grouped.
    assert_snapshot!(refused(by(&["calls"])), @"no field named `calls`; known: `comm`, `error`, `depth`, `nice`");
    assert_snapshot!(refused(by(&["comm", "comm"])), @"`--by` names `comm` twice");
    assert_snapshot!(refused(sort("zzz")), @"no column named `zzz`; known: `comm`, `error`, `depth`, `nice`, `calls`, `small`, `level`, `latency`");
    for column in [
        "",
        "p101",
        "p-1",
        "pNaN",
        "latency.",
        "calls.p50",
        "level.sum",
    ] {
        assert!(
            refused(sort(column)).contains("no column named"),
            "{column}"
        );
    }
    let mut sorted = by(&["comm"]);
    sorted.sort = Some("error".into());
    assert_snapshot!(refused(sorted.clone()), @"rows grouped without `error` cannot be sorted by it");
    sorted.sort = Some("comm".into());
    sorted.check(&[table()], &HostNames::new()).unwrap();
    for column in [
        "latency",
        "latency.p99",
        "p0",
        "p100",
        "sum",
        "calls",
        "nice",
    ] {
        sort(column).check(&[table()], &HostNames::new()).unwrap();
    }
    // No table at all has nothing to be wrong about, but nothing to name either.
    Query::default().check(&[], &HostNames::new()).unwrap();
    assert!(by(&["comm"]).check(&[], &HostNames::new()).is_err());
}

/// A histogram with these buckets.
fn cells(buckets: &[(usize, u64)]) -> Vec<u64> {
    let mut cells = vec![0; Histogram::CELLS];
    for (bucket, count) in buckets {
        cells[1 + bucket] = *count;
    }
    cells
}

#[test]
fn quantiles_are_edges_of_buckets() {
    // Nothing: the sum alone is no observation.
    let mut empty = cells(&[]);
    empty[0] = 7;
    assert_eq!((count(&empty), quantile(&empty, 0.5)), (0, None));

    let one = cells(&[(3, 1)]);
    assert_eq!(count(&one), 1);
    for q in [0.0, 0.5, 1.0] {
        assert_eq!(quantile(&one, q), Some(8), "{q}");
    }

    // 99 and 1 of 100: the 99th is still low, whatever is above it is not.
    let hundred = cells(&[(0, 99), (10, 1)]);
    assert_eq!(count(&hundred), 100);
    assert_eq!(quantile(&hundred, 0.99), Some(1));
    assert_eq!(quantile(&hundred, 0.991), Some(1024));
    assert_eq!(quantile(&hundred, 1.0), Some(1024));

    // Of two, the median is the lower.
    let two = cells(&[(1, 1), (2, 1)]);
    assert_eq!(quantile(&two, 0.5), Some(2));
    assert_eq!(quantile(&two, 0.51), Some(4));

    let last = cells(&[(62, 1), (63, 1)]);
    assert_eq!(quantile(&last, 0.5), Some(1 << 62));
    assert_eq!(quantile(&last, 1.0), Some(u64::MAX));
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
    let mut total = Rows::of(&Projection::new(&table(), &[]).table);
    assert!(total.is_empty());
    total.push(&[])[0] = 1;
    assert_eq!((total.len(), total.key(0)), (1, &[][..]));
    total.pop();
    assert!(total.is_empty());
}

#[test]
fn a_snapshot_is_whole_only_if_nothing_is_missing() {
    let rows = Selection::all(table(), Rows::of(&table()));
    let snapshot = |dropped, missed, gaps, incomplete: Option<&str>| Snapshot {
        tally: String::new(),
        summary: String::new(),
        time: SystemTime::UNIX_EPOCH,
        seconds: 1.0,
        missed,
        gaps,
        incomplete: incomplete.map(str::to_owned),
        tables: vec![TableSnapshot {
            table: &rows.table,
            rows: rows.named(&HostNames::raw(), false),
            rows_read: 0,
            dropped,
            reset: 0,
        }],
    };
    let all = snapshot;
    let snapshot = |dropped, missed, gaps, incomplete| all(Some(dropped), missed, gaps, incomplete);
    assert!(snapshot(0, Some(0), Some(0), None).is_whole());
    assert!(all(None, Some(0), None, None).is_whole());
    // Unknown is no proof of a miss.
    assert!(snapshot(0, None, None, None).is_whole());
    assert!(!snapshot(1, Some(0), None, None).is_whole());
    assert!(!snapshot(0, Some(1), None, None).is_whole());
    assert!(!snapshot(0, Some(0), Some(1), None).is_whole());
    assert!(!snapshot(0, Some(0), None, Some("a row vanished")).is_whole());
    let mut reset = snapshot(0, Some(0), None, None);
    reset.tables[0].reset = 1;
    assert!(!reset.is_whole());
}

#[test]
fn quantiles_are_not_off_by_a_rounding_error() {
    // 0.07 * 100 and 0.55 * 100 are a little more than 7 and 55 in binary.
    for percent in [7, 55] {
        let cells = cells(&[(1, percent), (2, 100 - percent)]);
        assert_eq!(
            quantile(&cells, percent as f64 / 100.0),
            Some(2),
            "p{percent}"
        );
    }
}
