//! Filters, groups, orders, and what is refused of them.

#![allow(clippy::unwrap_used)]

use insta::assert_snapshot;

use super::*;
use crate::names::HostNames;
use crate::schema::Statistic;
use crate::snapshot::Row;
use crate::snapshot::tests::{
    ROWS, member, query, read, rows, secretive, show, show_secretive, table, table_of, ty,
};

#[test]
fn every_row_with_the_greatest_first_column_of_numbers_first() {
    assert_snapshot!(show("", &ROWS), @r#"
    a EAGAIN 7 19 | 30 4 7 50 [4:1]
    a ENOENT 5 19 | 20 2 1 100 [0:4 5:1]
    b ENOENT 5 -20 | 10 1 -3 900 [0:1 9:1]
    c 4000 0 0 | 5 9 0 0 []
    "#);
}

#[test]
fn groups_add_up_counters_gauges_and_buckets() {
    assert_snapshot!(show("by:comm", &ROWS), @r#"
    a | 50 6 8 150 [0:4 4:1 5:1]
    b | 10 1 -3 900 [0:1 9:1]
    c | 5 9 0 0 []
    "#);
    // From the middle of the key, with the names of what is there.
    assert_snapshot!(show("by:error", &ROWS), @r#"
    ENOENT | 30 3 -2 1000 [0:5 5:1 9:1]
    EAGAIN | 30 4 7 50 [4:1]
    4000 | 5 9 0 0 []
    "#);
    // In the order that was asked for.
    assert_snapshot!(show("by:error,comm", &ROWS), @r#"
    EAGAIN a | 30 4 7 50 [4:1]
    ENOENT a | 20 2 1 100 [0:4 5:1]
    ENOENT b | 10 1 -3 900 [0:1 9:1]
    4000 c | 5 9 0 0 []
    "#);
    // No field at all: the total.
    assert_snapshot!(show("by", &ROWS), @" | 65 16 5 1050 [0:5 4:1 5:1 9:1]");
}

#[test]
fn groups_by_bitfields_keep_their_sign() {
    assert_snapshot!(show("by:depth", &ROWS), @r#"
    5 | 30 3 -2 1000 [0:5 5:1 9:1]
    7 | 30 4 7 50 [4:1]
    0 | 5 9 0 0 []
    "#);
    assert_snapshot!(show("by:nice,depth", &ROWS), @r#"
    19 7 | 30 4 7 50 [4:1]
    19 5 | 20 2 1 100 [0:4 5:1]
    -20 5 | 10 1 -3 900 [0:1 9:1]
    0 0 | 5 9 0 0 []
    "#);
}

#[test]
fn counters_of_a_group_wrap_and_do_not_panic() {
    let most = format!("b 2 5 -20 | {0} 1 -3 {0} [0:1 9:1]", u64::MAX);
    assert_snapshot!(show("by", &[&most, ROWS[1]]), @" | 19 3 -2 99 [0:5 5:1 9:1]");
}

#[test]
fn filters_take_the_name_or_the_number() {
    let name = show("where:error=ENOENT", &ROWS);
    assert_snapshot!(name, @r#"
    a ENOENT 5 19 | 20 2 1 100 [0:4 5:1]
    b ENOENT 5 -20 | 10 1 -3 900 [0:1 9:1]
    "#);
    // However it is typed.
    assert_eq!(show("where:error=2", &ROWS), name);
    assert_eq!(show("where:error=0x2", &ROWS), name);
    // An error without a name has only its number.
    assert_snapshot!(show("where:error=4000", &ROWS), @"c 4000 0 0 | 5 9 0 0 []");
    assert_snapshot!(show("where:nice=-20", &ROWS), @"b ENOENT 5 -20 | 10 1 -3 900 [0:1 9:1]");
    // With `--raw` too.
    let (query, table) = (query("where:error=ENOENT"), table());
    let raw = HostNames::raw();
    let filter = query.filter(&table, &raw);
    let (key, other) = (rows(&ROWS[1..2]), rows(&ROWS[2..3]));
    assert!(filter.keeps_key(key.key(0), &raw) && !filter.keeps_key(other.key(0), &raw));
    // As it is shown, escaped.
    let odd = "a\u{1b} 0 0 0 | 1 0 0 0 []";
    let shown = show("where:comm=a\\u{1b}", &[ROWS[1], odd]);
    assert_eq!(shown.lines().count(), 1);
}

#[test]
fn filters_are_joined_and_come_before_grouping() {
    let both = "by:depth where:comm=a where:error=EAGAIN";
    assert_snapshot!(show(both, &ROWS), @"7 | 30 4 7 50 [4:1]");
    assert_eq!(show(&format!("{both} where:comm=b"), &ROWS), "");
}

#[test]
fn what_looks_the_same_is_one_row() {
    let table = secretive("ktally:counter:");
    assert!(table.hides_key);
    let now = read(&table, &[(1, 7, 2), (1, 8, 3), (2, 7, 4)]);
    let before = read(&table, &[(1, 8, 1)]);
    let (since, reset) = now.since(&before, &table.metrics);
    assert_eq!(reset, 0);
    // Both have counted 4: in the order of their keys.
    assert_eq!(show_secretive(&table, &since), [(1, 4), (2, 4)]);
}

#[test]
fn stacks_that_look_the_same_are_one_row() {
    let shown = |decoder: &str, stacks: &[[u64; 3]], names: &HostNames| {
        let (element, len) = (Type::unsigned(8), 3);
        let ips = ty("u64[3]", 24, Kind::Array { element, len });
        let key = member("stack", 0, None, &ips, &format!("ktally:as:{decoder}"));
        let value = member("value", 0, None, &Type::unsigned(8), "");
        let table = table_of((24, vec![key]), (8, vec![value]));
        let mut rows = Rows::of(&table);
        for stack in stacks {
            rows.push(&stack.map(u64::to_ne_bytes).concat())[0] = 1;
        }
        let shown = Query::default().apply(&table, &rows, names);
        let named = shown.named(names, false);
        let line = |row: Row<'_>| format!("{} {}", row.names[0], row.cells[0]);
        named.iter().map(line).collect::<Vec<_>>()
    };
    let (names, raw) = (HostNames::new(), HostNames::raw());
    // No kernel has code so low: their names are numbers.
    let kernel = [[8, 9, 0], [8, 10, 0]];
    assert_eq!(shown("kstack", &kernel, &names), ["0x9;0x8 1", "0xa;0x8 1"]);
    // The frames of a process that does not exist are all unknown.
    let gone = u64::from(u32::MAX);
    let user = [[gone, 8, 9], [gone, 8, 10]];
    let unknown = ["[unknown];[unknown] 2"];
    assert_eq!(shown("ustack", &user, &names), unknown);
    // Numbers are told apart, also of two processes.
    let user = [[gone, 8, 9], [gone - 1, 8, 9]];
    let numbers = ["0x9;0x8 1", "0x9;0x8 1"];
    assert_eq!(shown("ustack", &user, &raw), numbers);
}

/// The process and error of each row, in the order of these columns.
#[test]
fn rows_are_sorted_by_any_column() {
    for (columns, order) in [
        // Labels as text or as numbers.
        ("comm", "a ENOENT, a EAGAIN, b ENOENT, c 4000"),
        ("depth", "c 4000, a ENOENT, b ENOENT, a EAGAIN"),
        ("nice", "b ENOENT, c 4000, a ENOENT, a EAGAIN"),
        // Names first by the alphabet; digits stand before letters.
        ("error", "c 4000, a EAGAIN, a ENOENT, b ENOENT"),
        // The greatest number first.
        ("calls", "a EAGAIN, a ENOENT, b ENOENT, c 4000"),
        ("small", "c 4000, a EAGAIN, a ENOENT, b ENOENT"),
        // Below zero comes last.
        ("level", "a EAGAIN, a ENOENT, c 4000, b ENOENT"),
        // Parts of a histogram.
        (
            "latency latency.count count",
            "a ENOENT, b ENOENT, a EAGAIN, c 4000",
        ),
        ("latency.sum sum", "b ENOENT, a ENOENT, a EAGAIN, c 4000"),
        ("latency.mean mean", "b ENOENT, a EAGAIN, a ENOENT, c 4000"),
        ("latency.p99 p99", "b ENOENT, a ENOENT, a EAGAIN, c 4000"),
        (
            "latency.p99.9 p99.9",
            "b ENOENT, a ENOENT, a EAGAIN, c 4000",
        ),
        ("p50", "a EAGAIN, b ENOENT, a ENOENT, c 4000"),
    ] {
        for column in columns.split(' ') {
            let shown = show(&format!("sort:{column}"), &ROWS);
            let names = shown.lines().map(|line| line.split(' '));
            let names = names.map(|names| names.take(2).collect::<Vec<_>>().join(" "));
            assert_eq!(names.collect::<Vec<_>>().join(", "), order, "{column}");
        }
    }
}

#[test]
fn a_dash_turns_the_order_around() {
    for (column, order) in [
        ("-calls", "5 10 20 30"),
        ("-small", "10 20 30 5"),
        ("-comm", "5 10 20 30"),
        ("-nice", "20 30 5 10"),
        // What has no mean comes last either way.
        ("mean", "10 30 20 5"),
        ("-mean", "20 30 10 5"),
    ] {
        let shown = show(&format!("sort:{column}"), &ROWS);
        let calls = shown.lines().map(|line| line.split(' ').nth(5).unwrap());
        assert_eq!(calls.collect::<Vec<_>>().join(" "), order, "{column}");
    }
}

/// The errors and the levels of the rows, which a C file could ask for.
#[test]
fn a_table_says_how_it_is_sorted() {
    let order = |line: &str, sort_by: Option<&str>, idle: &[&str]| {
        let mut table = table();
        table.sort_by = sort_by.map(str::to_owned);
        table.labels[1].idle = idle.iter().copied().map(str::to_owned).collect();
        let (rows, names) = (rows(&ROWS), HostNames::new());
        let shown = query(line).apply(&table, &rows, &names);
        let calls = shown.iter().map(|(_, cells)| cells[0].to_string());
        calls.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(order("", None, &[]), "30 20 10 5");
    assert_eq!(order("", Some("small"), &[]), "5 30 20 10");
    assert_eq!(order("", Some("latency.p99"), &[]), "10 20 30 5");
    assert_eq!(order("sort:calls", Some("small"), &[]), "30 20 10 5");
    // Idle rows have their own order behind the others; by name, or by number.
    assert_eq!(order("", None, &["EAGAIN"]), "20 10 5 30");
    assert_eq!(order("", None, &["2", "EAGAIN"]), "5 30 20 10");
    assert_eq!(order("", Some("small"), &["4000"]), "30 20 10 5");
    // A value that there is not is never idle, and who sorts wants no exception.
    assert_eq!(order("", None, &["ENOTHING"]), "30 20 10 5");
    assert_eq!(order("sort:calls", None, &["EAGAIN"]), "30 20 10 5");
    assert_eq!(order("by:comm", None, &["EAGAIN"]), "50 10 5");
}

#[test]
fn a_short_name_of_a_quantile_needs_a_single_histogram() {
    let mut two = table();
    let mut second = two.metrics[3].clone();
    second.name = "size".into();
    second.cell = two.cells();
    two.metrics.push(second);
    assert_eq!(Column::of(&two, "p99"), None);
    let p99 = Statistic::Quantile(0.99);
    let Some(Column::Statistic(size, statistic)) = Column::of(&two, "size.p99") else {
        panic!("{two:?}");
    };
    assert_eq!((size.cell, statistic), (68, p99));
}

#[test]
fn ties_are_in_the_order_of_their_keys() {
    let [a, b, c] = ["a", "b", "c"].map(|comm| format!("{comm} 0 0 0 | 1 0 0 0 []"));
    let sorted = [&*a, &*b, &*c].join("\n");
    assert_eq!(show("sort:calls", &[&b, &c, &a]), sorted);
    assert_eq!(show("sort:calls", &[&c, &a, &b]), sorted);
    assert_eq!(show("sort:level", &[&a, &c, &b]), sorted);
}

#[test]
fn top_cuts_after_sorting() {
    let top = |top: usize| show(&format!("sort:small top:{top}"), &ROWS);
    assert_snapshot!(top(1), @"c 4000 0 0 | 5 9 0 0 []");
    assert_eq!(top(0), "");
    assert_eq!(top(4).lines().count(), 4);
    assert_eq!(top(usize::MAX), top(5));
}

fn check(query: &Query) -> Result<()> {
    query.check(&[table()], &HostNames::new())
}

#[test]
fn check_refuses_what_no_row_can_pass_and_no_table_has() {
    let refused = |line: &str| check(&query(line)).unwrap_err().to_string();
    assert_snapshot!(refused("where:error=ENOTHING"), @"`--where error=ENOTHING`: no errno named `ENOTHING`; did you mean `ENOTDIR` or `ENOTNAM` or `ENOTUNIQ` or `ENOTCONN` or `ENOTSYNC` or `ENOLINK` or `ENOTTY` or `ENOENT`?");
    assert_snapshot!(refused("where:error="), @"`--where error=`: no errno named ``; 145 are known");
    assert_snapshot!(refused("where:nice=64"), @"`--where nice=64`: 64 is out of range: -64 to 63");
    assert_snapshot!(refused("where:comm=postgres"), @"`--where comm=postgres`: 8 bytes are too long: at most 4");
    assert_snapshot!(refused("where:comm=a,error=2"), @"`--where comm=a,error=2`: it takes one field; write --where comm=a --where error=2");
    assert_snapshot!(refused("where:eror=2"), @"`--where eror=2`: no field named `eror`; did you mean `error`?");
    assert_snapshot!(refused("by:comm,zzz"), @"no field named `zzz`; known: `comm`, `error`, `depth`, `nice`");
    // Rows have no column of numbers before they are grouped.
    assert_snapshot!(refused("by:calls"), @"no field named `calls`; known: `comm`, `error`, `depth`, `nice`");
    assert_snapshot!(refused("by:comm,comm"), @"`--by` names `comm` twice");
    assert_snapshot!(refused("by:comm sort:error"), @"rows grouped without `error` cannot be sorted by it");
    assert_snapshot!(refused("sort:zzz"), @"no column named `zzz`; known: `comm`, `error`, `depth`, `nice`, `calls`, `small`, `level`, `latency`");
    for column in "p101 p-1 pNaN latency. calls.p50 calls.mean level.sum"
        .split(' ')
        .chain([""])
    {
        let error = refused(&format!("sort:{column}"));
        assert!(error.contains("no column named"), "{column}");
    }
    // No table at all has nothing to name.
    let none = query("by:comm").check(&[], &HostNames::new());
    assert!(none.is_err());
}

#[test]
fn check_takes_what_a_row_may_have() {
    Query::default().check(&[], &HostNames::new()).unwrap();
    for line in ["where:comm=a,b", "where:error=4000", "by:comm sort:comm"] {
        check(&query(line)).unwrap();
    }
    for column in "latency latency.p99 p0 p100 mean latency.mean sum calls nice".split(' ') {
        check(&query(&format!("sort:{column}"))).unwrap();
    }
}
