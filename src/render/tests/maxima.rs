//! The greatest number of a row: never a rate, and always since the start.

use insta::assert_snapshot;

use super::*;

fn maximum(byte: usize) -> Member {
    let tags = ["maximum:of one call", "unit:ns"];
    member("max", byte, &Type::unsigned(8), &tags)
}

#[test]
fn a_maximum_is_no_rate() {
    let columns = vec![counter("calls", 0), maximum(8)];
    let rows: [Row<'_>; 1] = [("postgres", libc::SYS_read, &[500, 1_310_720])];
    let mut shown = one(table("t", columns), &rows);
    assert_snapshot!(text(STYLE, &shown), @r#"
    syscalls: system calls, by process and call             5.0 s, 4 CPUs
    COMM      CALL  CALLS/s      MAX
    postgres  read      100  1.31 ms
    1 of 312 rows; 0 dropped, 0 missed
    "#);
    // The footer of an interval says so.
    shown.is_interval = true;
    shown.unraised = Some(2);
    assert_snapshot!(text(STYLE, &shown), @r#"
    syscalls: system calls, by process and call             5.0 s, 4 CPUs
    COMM      CALL  CALLS/s      MAX
    postgres  read      100  1.31 ms
    1 of 312 rows; 0 dropped, 0 missed, 2 unraised; since the start: max
    "#);
    let json: serde_json::Value = serde_json::from_str(&draw(Format::Json, &shown)).unwrap();
    assert_eq!(json["tables"][0]["rows"][0]["max"], 1_310_720);
    assert_eq!(json["unraised"], 2);
    assert!(!shown.is_whole());
}

/// Of a call that has not returned yet.
#[test]
fn there_is_no_maximum_before_the_first_end() {
    let columns = vec![counter("calls", 0), maximum(8)];
    let rows: [Row<'_>; 1] = [("sleep", libc::SYS_read, &[1, 0])];
    let shown = one(table("t", columns), &rows);
    let text = text(STYLE, &shown);
    assert!(text.lines().nth(2).unwrap().ends_with("  -"), "{text}");
}

/// Bars leave no columns for it.
#[test]
fn bars_say_it_above() {
    let columns = vec![latency(0), maximum(8 * Histogram::CELLS)];
    let numbers = [&postgres()[3..], &[14_000]].concat();
    let rows: [Row<'_>; 1] = [("postgres", libc::SYS_read, &numbers)];
    let mut shown = one(table("t", columns), &rows);
    shown.tables[0].rows_read = 1;
    shown.tables[0].matching = 1;
    assert_snapshot!(text(STYLE, &shown), @r#"
    syscalls: system calls, by process and call             5.0 s, 4 CPUs
    postgres read, latency: time of one call; 61,520 in all; mean 25.4 µs; max 14.0 µs
       UP TO     COUNT      %  UPTO%
     8.19 µs    60,110   97.7   97.7  |########################################| p50 6.19 µs, p90 7.87 µs
     16.4 µs     1,410    2.3  100.0  |#                                       | p99 11.5 µs, max 14.0 µs
    1 row; 0 dropped, 0 missed
    "#);
}
