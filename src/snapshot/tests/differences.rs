//! What was counted between two readings, and which rows were reset.

use std::time::SystemTime;

use insta::assert_snapshot;

use super::*;

/// What they counted since `before`.
fn show_since(line: &str, now: &[&str], before: &[&str]) -> String {
    let (since, _) = rows(now).since(&rows(before), &table().metrics);
    show_rows(line, &since)
}

#[test]
fn differences_subtract_all_but_gauges() {
    let now = ["a 2 5 19 | 25 3 -2 1000 [0:4 5:3 6:1]"];
    // `small` has wrapped around 32 bits.
    let before = ["a 2 5 19 | 20 4294967295 1 100 [0:4 5:1]"];
    assert_snapshot!(show_since("", &now, &before), @"a ENOENT 5 19 | 5 4 -2 900 [5:2 6:1]");
}

#[test]
fn differences_are_of_groups() {
    let now = ["a 2 5 19 | 21 2 1 100 [0:4 5:1]", ROWS[2]];
    assert_snapshot!(show_since("by:comm", &now, &ROWS[1..3]), @"a | 1 0 8 0 []");
}

#[test]
fn rows_that_are_new_count_in_full_and_unchanged_ones_are_hidden() {
    let unchanged = "b 2 5 -20 | 10 1 0 900 [0:1 9:1]";
    assert_snapshot!(show_since("", &[unchanged, ROWS[2]], &[unchanged]), @"a EAGAIN 7 19 | 30 4 7 50 [4:1]");
    // Where others count, a gauge alone is worth no row.
    assert_eq!(show_since("", &ROWS[..1], &ROWS[..1]), "");
    // A row that is gone has nothing to show.
    assert_eq!(show_since("", &[], &ROWS), "");
}

#[test]
fn rows_are_found_wherever_they_stand() {
    let row = |key: usize, counted: usize| {
        let comm = char::from(b'a' + key as u8);
        format!("{comm} 2 5 19 | {counted} 0 0 0 []")
    };
    let read = |keys: &mut dyn Iterator<Item = usize>, more: usize| {
        let texts: Vec<String> = keys.map(|key| row(key, 100 * key + more)).collect();
        rows(&texts.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let before = read(&mut (1..25), 0);
    // 25 is new; 3 is gone.
    let orders: [Vec<usize>; 3] = [
        (1..26).collect(),
        (1..26).rev().collect(),
        (20..26).chain(1..20).collect(),
    ];
    for order in orders {
        let mut there = order.iter().copied().filter(|key| *key != 3);
        let now = read(&mut there, 23);
        let (since, reset) = now.since(&before, &table().metrics);
        assert_eq!(reset, 1);
        let counted = since.iter().map(|(_, cells)| cells[0]);
        let counted: Vec<u64> = counted.collect();
        let there = order.iter().filter(|key| **key != 3);
        let wanted = there.map(|key| if *key == 25 { 2523 } else { 23 });
        assert_eq!(counted, wanted.collect::<Vec<u64>>());
    }
}

/// How many rows were reset.
fn reset(now: &[&str], before: &[&str]) -> u64 {
    rows(now).since(&rows(before), &table().metrics).1
}

#[test]
fn what_is_in_a_row_that_was_reset_was_counted_since() {
    for (before, now) in [
        // One counter fell: the row was made anew, and the others grew from zero too.
        (ROWS[1], "3 2 1 400 [0:4 5:1]"),
        // A bucket alone.
        (ROWS[1], "20 2 1 100 [5:7]"),
        // A number of 32 bits that was far from its end.
        (
            "a 2 5 19 | 20 2147483648 1 100 [0:4 5:1]",
            "20 2 1 100 [0:4 5:1]",
        ),
    ] {
        let row = format!("a 2 5 19 | {now}");
        assert_eq!(reset(&[&row], &[before]), 1, "{now}");
        let shown = show_since("", &[&row], &[before]);
        assert_eq!(shown, format!("a ENOENT 5 19 | {now}"));
    }
    // A gauge comes and goes.
    let level = "a 2 5 19 | 20 2 -9 100 [0:4 5:1]";
    assert_eq!(reset(&[level], &ROWS[1..2]), 0);
}

#[test]
fn a_row_that_is_gone_was_reset() {
    assert_eq!(reset(&[], &ROWS), 4);
    assert_eq!(reset(&ROWS[1..], &ROWS), 1);
    // It had counted nothing.
    assert_eq!(reset(&[], &["b 2 5 -20 | 0 0 -3 0 []"]), 0);
}

/// The sum of two rows may grow while one of them is reset.
#[test]
fn resets_are_of_rows_not_of_groups() {
    let before = ["a 2 0 0 | 100 0 0 0 []", "a 11 0 0 | 5 0 0 0 []"];
    let now = ["a 2 0 0 | 7 0 0 0 []", "a 11 0 0 | 205 0 0 0 []"];
    assert_snapshot!(show_since("by", &now, &before), @" | 207 0 0 0 []");
    assert_eq!(reset(&now, &before), 1);
}

/// Numbers that no tag declares as counters: each for itself.
#[test]
fn undeclared_numbers_are_reset_one_by_one() {
    let int = ty("long", 8, Kind::Int { signed: false });
    let numbers = ["events", "last"].into_iter().zip([0, 64]);
    let value = numbers.map(|(name, bit)| member(name, bit, None, &int, ""));
    let key = member("key", 0, None, &int, "");
    let table = table_of((8, vec![key]), (16, value.collect()));
    let mut now = [15, 3];
    assert!(difference(&table.metrics, &mut now, &[10, 8]));
    assert_eq!(now, [5, 3]);
    assert!(!difference(&table.metrics, &mut now, &[5, 3]));
    assert_eq!(now, [0, 0]);
}

fn reading(rows: Rows, dropped: u64, missed: Option<u64>, seconds: f64) -> Reading {
    let table = TableReading {
        rows,
        dropped: Some(dropped),
        ..TableReading::default()
    };
    Reading {
        time: SystemTime::UNIX_EPOCH,
        seconds,
        tables: vec![table],
        missed,
        missed_by: missed
            .map(|missed| ("end".to_owned(), missed))
            .into_iter()
            .collect(),
        gaps: missed,
        unraised: missed,
        incomplete: None,
    }
}

#[test]
fn what_was_lost_is_no_less_than_nothing() {
    let before = (5, Some(7), 1.0);
    for (now, before, since) in [
        ((8, Some(9), 3.0), before, (3, Some(2), 2.0)),
        ((2, Some(1), 3.0), before, (2, Some(1), 2.0)),
        ((8, None, 3.0), before, (3, None, 2.0)),
        (before, (5, None, 0.5), (0, None, 0.5)),
    ] {
        let [now, before] = [now, before]
            .map(|(dropped, missed, seconds)| reading(rows(&ROWS), dropped, missed, seconds));
        let grown = now.since(&before, &[table()]);
        let dropped = grown.tables[0].dropped.unwrap();
        assert_eq!((dropped, grown.missed, grown.seconds), since);
        // Of each program as of all.
        if let (Some(missed), Some(_)) = (grown.missed, before.missed) {
            assert_eq!(grown.missed_by, [("end".to_owned(), missed)]);
        }
    }
}

#[test]
fn what_an_incomplete_reading_lacks_is_as_it_was() {
    let grown = "b 2 5 -20 | 11 1 -3 900 [0:1 9:1]";
    let mut partial = reading(rows(&[grown]), 0, None, 0.0);
    partial.fill_from(&reading(rows(&ROWS[..2]), 0, None, 0.0));
    assert_eq!(partial.tables[0].rows, rows(&[grown, ROWS[1]]));
}

#[test]
fn a_gauge_at_zero_is_a_row_where_nothing_counts() {
    let table = secretive("ktally:gauge:");
    let now = read(&table, &[(1, 7, 0), (2, 7, 5)]);
    let (since, _) = now.since(&now, &table.metrics);
    assert_eq!(show_secretive(&table, &since), [(2, 5), (1, 0)]);
    let table = secretive("ktally:counter:");
    assert!(table.counts_nothing(&[0]) && !table.counts_nothing(&[1]));
}
