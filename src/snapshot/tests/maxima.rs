//! The greatest number of a row: of two rows it is the greater one, and an
//! interval has that since the start.

use std::time::SystemTime;

use super::*;

/// How many, and the greatest of them.
fn table() -> Table {
    let int = ty("long", 8, Kind::Int { signed: false });
    let key = ["shown", "other"].into_iter().zip([0, 64]);
    let key = key.map(|(name, bit)| member(name, bit, None, &int, ""));
    let value = vec![
        member("calls", 0, None, &int, "ktally:counter:"),
        member("max", 64, None, &int, "ktally:maximum:"),
    ];
    table_of((16, key.collect()), (16, value))
}

fn rows(all: &[(u64, u64, [u64; 2])]) -> Rows {
    let mut rows = Rows::of(&table());
    for (shown, other, cells) in all {
        let key = [shown.to_ne_bytes(), other.to_ne_bytes()].concat();
        rows.push(&key).copy_from_slice(cells);
    }
    rows
}

fn reading(all: &[(u64, u64, [u64; 2])], other: [u64; 2]) -> Reading {
    let table = TableReading {
        rows: rows(all),
        other: Some(other.to_vec()),
        ..TableReading::default()
    };
    Reading {
        time: SystemTime::UNIX_EPOCH,
        seconds: 1.0,
        tables: vec![table],
        missed: None,
        missed_by: Vec::new(),
        gaps: None,
        unraised: Some(0),
        incomplete: None,
    }
}

fn cells_of(rows: &Rows) -> Vec<&[u64]> {
    rows.iter().map(|(_, cells)| cells).collect()
}

/// What has not ended is none of the rarest.
#[test]
fn a_reversed_order_has_what_never_ended_last() {
    let mut table = table();
    let mut under_way = table.metrics[0].clone();
    (under_way.kind, under_way.cell) = (MetricKind::UnderWay, 2);
    table.metrics.push(under_way);
    let mut rows = Rows::of(&table);
    for (shown, cells) in [(1, [0, 0, 1]), (2, [7, 9, 1]), (3, [3, 9, 0])] {
        let key = [u64::to_ne_bytes(shown), [0; 8]].concat();
        rows.push(&key).copy_from_slice(&cells);
    }
    let calls = |line: &str| -> Vec<u64> {
        let shown = query(line).apply(&table, &rows, &HostNames::new());
        shown.iter().map(|(_, cells)| cells[0]).collect()
    };
    assert_eq!(calls("sort:calls"), [7, 3, 0]);
    assert_eq!(calls("sort:-calls"), [3, 7, 0]);
}

#[test]
fn a_group_has_the_greatest_of_its_rows() {
    let rows = rows(&[
        (1, 1, [3, 23]),
        (1, 2, [4, 37]),
        (1, 3, [5, 5]),
        (2, 1, [1, 9]),
    ]);
    let shown = query("by:shown").apply(&table(), &rows, &HostNames::new());
    let cells: Vec<&[u64]> = shown.iter().map(|(_, cells)| cells).collect();
    assert_eq!(cells, [[12, 37], [1, 9]]);
    let shown = query("by:shown sort:max top:1").apply(&table(), &rows, &HostNames::new());
    assert_eq!(shown.iter().next().unwrap().1, [12, 37]);
}

#[test]
fn copies_of_a_row_have_the_greatest() {
    let (table, mut cells) = (table(), [0; 2]);
    for copy in [[3, 23u64], [0, 37], [9, 0]] {
        table.add_cells(&copy.map(u64::to_ne_bytes).concat(), &mut cells);
    }
    assert_eq!(cells, [12, 37]);
}

#[test]
fn an_interval_has_the_greatest_since_the_start() {
    let before = reading(&[(1, 1, [3, 37]), (2, 2, [5, 9])], [2, 50]);
    let now = reading(&[(1, 1, [4, 37]), (2, 2, [5, 9])], [2, 50]);
    let since = now.since(&before, &[table()]);
    assert_eq!(cells_of(&since.tables[0].rows), [[1, 37], [0, 9]]);
    assert_eq!(since.tables[0].other, Some(vec![0, 50]));
    assert_eq!(since.tables[0].reset, 0);
    // A row that counted nothing in the interval is not shown.
    let shown = Query::default().apply(&table(), &since.tables[0].rows, &HostNames::new());
    assert_eq!(shown.iter().len(), 1);
    // Of a row that was made anew it is the new one.
    let anew = reading(&[(1, 1, [1, 7])], [0, 0]);
    let since = anew.since(&before, &[table()]);
    assert_eq!(cells_of(&since.tables[0].rows), [[1, 7]]);
}

#[test]
fn two_sets_have_the_greater_one() {
    let mut live = reading(&[(1, 1, [3, 23]), (2, 2, [1, 9])], [2, 50]);
    let ended = reading(&[(1, 1, [4, 37]), (3, 3, [1, 1])], [1, 7]);
    live.add(&ended, &[table()]);
    let table = &live.tables[0];
    assert_eq!(cells_of(&table.rows), [[7, 37], [1, 9], [1, 1]]);
    assert_eq!((&table.other, live.unraised), (&Some(vec![3, 50]), Some(0)));
}

/// What is under way may yet raise it.
#[test]
fn time_under_way_does_not_raise_it() {
    let mut reading = reading(&[(1, 1, [3, 23])], [0, 0]);
    reading.tables[0].under_way = rows(&[(1, 1, [99, 0])]);
    let all = reading.in_all(&[table()]);
    assert_eq!(cells_of(&all.tables[0].rows), [[102, 23]]);
}

/// The cell has the complement: all else is as with the greatest.
#[test]
fn the_least_is_the_greatest_complement() {
    let mut table = table();
    table.metrics[1].kind = MetricKind::Minimum;
    let mut least = [0; 2];
    for copy in [[3, !23u64], [0, 0], [9, !5]] {
        table.add_cells(&copy.map(u64::to_ne_bytes).concat(), &mut least);
    }
    assert_eq!(table.metrics[1].value(&least), Value::Uint(5));
    let rows = rows(&[
        (1, 1, [3, !7]),
        (1, 2, [4, !5]),
        (2, 1, [1, !9]),
        (3, 1, [8, 0]),
    ]);
    let shown = |line: &str| -> Vec<Value<'static>> {
        let shown = query(line).apply(&table, &rows, &HostNames::new());
        let rows = shown.iter();
        rows.map(|(_, cells)| table.metrics[1].value(cells))
            .collect()
    };
    let [five, seven, nine] = [5, 7, 9].map(Value::Uint);
    assert_eq!(
        shown("sort:max"),
        [nine.clone(), seven.clone(), five.clone(), Value::Null]
    );
    // A row that has seen none comes last in either order.
    assert_eq!(
        shown("sort:-max"),
        [five.clone(), seven, nine.clone(), Value::Null]
    );
    assert_eq!(
        shown("by:shown sort:max"),
        [nine, five.clone(), Value::Null]
    );
    assert_eq!(shown("where:max<7"), [five]);
    let since = reading(&[(1, 1, [4, !5])], [2, 0]);
    let since = since.since(&reading(&[(1, 1, [3, !7])], [2, 0]), &[table]);
    assert_eq!(cells_of(&since.tables[0].rows), [[1, !5]]);
}

#[test]
fn only_an_unsigned_number_of_64_bits_is_one() {
    for (size, signed, tag) in [(4, false, "maximum"), (8, true, "minimum")] {
        let int = ty("int", size, Kind::Int { signed });
        let number = member("number", 0, None, &int, &format!("ktally:{tag}:"));
        let table = table_of((0, Vec::new()), (size, vec![number]));
        let tag = tag.to_uppercase();
        assert_eq!(
            table.fault().unwrap(),
            format!("`number` is tagged {tag}, but is not a __u64")
        );
    }
}
