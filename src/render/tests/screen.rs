//! The tables of one reading on a screen.

use insta::assert_snapshot;

use super::*;

fn on_screen(height: Option<usize>, snapshots: &[Snapshot<'_>], clock: Option<&str>) -> String {
    let mut out = Vec::new();
    let mut renderer = Renderer::new(Format::Table, STYLE);
    renderer.fit(100, height);
    renderer.render(&mut out, snapshots, clock).unwrap();
    String::from_utf8(out).unwrap()
}

fn of_rows(rows: u64) -> Snapshot<'static> {
    let cells: Vec<[u64; 1]> = (1..=rows).rev().map(|calls| [calls]).collect();
    let rows: Vec<Row<'_>> = cells.iter().map(|cells| ("dd", 0, &cells[..])).collect();
    calls(&rows)
}

#[test]
fn a_clock_and_as_many_rows_as_fit() {
    let clock = Some("2026-11-22 07:22:22.123");
    assert_snapshot!(on_screen(Some(6), &[of_rows(30)], clock), @r#"
    2026-11-22 07:22:22.123
    syscalls: system calls, by process and call             5.0 s, 4 CPUs
    COMM  CALL  CALLS/s
    dd    read        6
    dd    read      5.8
    2 of 312 rows (--top all); 0 dropped, 0 missed
    "#);
    assert_snapshot!(on_screen(Some(12), &[of_rows(30), of_rows(2)], None), @r#"
    syscalls: system calls, by process and call             5.0 s, 4 CPUs
    COMM  CALL  CALLS/s
    dd    read        6
    dd    read      5.8
    dd    read      5.6
    3 of 312 rows (--top all); 0 dropped, 0 missed

    syscalls: system calls, by process and call             5.0 s, 4 CPUs
    COMM  CALL  CALLS/s
    dd    read      0.4
    dd    read      0.2
    2 of 312 rows; 0 dropped, 0 missed
    "#);
}

#[test]
fn no_screen_is_exceeded_and_none_is_left_half_empty() {
    let tallies = [of_rows(30), of_rows(20)];
    let whole = on_screen(None, &tallies, None);
    for height in 9..60 {
        let text = on_screen(Some(height), &tallies, None);
        let (lines, rows) = (text.lines().count(), text.matches("\ndd ").count());
        assert!(lines <= height, "{height}: {text}");
        assert!(lines + 2 > height || rows == 50, "{height}: {text}");
        assert_eq!(text.contains("(--top all)"), rows < 50, "{height}: {text}");
        assert_eq!(text == whole, rows == 50, "{height}: {text}");
    }
    // One row each is the least.
    for height in 0..9 {
        let text = on_screen(Some(height), &tallies, None);
        assert_eq!(text.matches("\ndd ").count(), 2, "{height}: {text}");
    }
}
