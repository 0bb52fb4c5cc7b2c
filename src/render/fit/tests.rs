//! Tables on narrow terminals.

#![allow(clippy::unwrap_used)]

use insta::assert_snapshot;

use super::*;
use crate::render::Format;
use crate::render::writer::RowWriter;
use crate::schema::Value;

/// Columns of text are plain names; those of numbers begin with `#`, of statistics
/// with `%`, and those that leave first with `?`.
fn table(style: Style, heads: &str, rows: &[&[&str]]) -> String {
    let heads = heads.split(' ').map(|head| match head.split_at(1) {
        ("#", head) => Head::number(head),
        ("%", head) => Head::number(head).leaving(Leaves::Early),
        ("?", head) => Head::text(head).leaving(Leaves::First),
        _ => Head::text(head),
    });
    let mut out = Vec::new();
    let mut writer = RowWriter::new(Format::Table, style, heads.collect());
    for row in rows {
        row.iter().for_each(|cell| writer.cell(&Value::from(*cell)));
        writer.end_row(&mut out).unwrap();
    }
    writer
        .end(&mut out, Some("2 rows; 0 dropped, 0 missed"))
        .unwrap();
    String::from_utf8(out).unwrap()
}

fn at(width: usize, heads: &str, rows: &[&[&str]]) -> String {
    let width = Some(width);
    let shown = table(
        Style {
            width,
            ..Style::default()
        },
        heads,
        rows,
    );
    let widest = shown.lines().map(UnicodeWidthStr::width).max();
    assert!(widest <= width, "{shown}");
    shown
}

const CALLS: &str = "COMM CALL #CALLS/s #ERRORS/s #TIME/s %MEAN %P50 #P99 #UNDER_WAY";
const TWO: [&[&str]; 2] = [
    &[
        "postgres",
        "clock_nanosleep",
        "12,304",
        "0",
        "312 ms",
        "25.4 µs",
        "6.19 µs",
        "12.8 µs",
        "0",
    ],
    &[
        "qemu-system-x86",
        "read",
        "7",
        "0",
        "1.2 µs",
        "-",
        "-",
        "-",
        "0",
    ],
];

#[test]
fn what_fits_is_whole() {
    let whole = table(Style::default(), CALLS, &TWO);
    assert_snapshot!(whole, @r#"
    COMM             CALL             CALLS/s  ERRORS/s  TIME/s     MEAN      P50      P99  UNDER_WAY
    postgres         clock_nanosleep   12,304         0  312 ms  25.4 µs  6.19 µs  12.8 µs          0
    qemu-system-x86  read                   7         0  1.2 µs        -        -        -          0
    2 rows; 0 dropped, 0 missed
    "#);
    let widest = whole.lines().map(UnicodeWidthStr::width).max();
    assert_eq!(at(widest.unwrap(), CALLS, &TWO), whole);
}

#[test]
fn zeroes_and_headings_go_first() {
    assert_snapshot!(at(80, CALLS, &TWO), @r#"
    COMM             CALL             CALLS/s  TIME/s     MEAN      P50      P99
    postgres         clock_nanosleep   12,304  312 ms  25.4 µs  6.19 µs  12.8 µs
    qemu-system-x86  read                   7  1.2 µs        -        -        -
    2 rows; 0 dropped, 0 missed; all 0: errors, under_way
    "#);
    let long = "REMOTE #OPENED/s #RESETS_RECEIVED/s #RETRANSMITS/s";
    let row: &[&str] = &["10.0.3.7", "31", "1", "3"];
    assert_snapshot!(at(42, long, &[row]), @r#"
              OPENED      RESETS  RETRANSMITS
    REMOTE        /s  RECEIVED/s           /s
    10.0.3.7      31           1            3
    2 rows; 0 dropped, 0 missed
    "#);
}

#[test]
fn at_40_columns_units_lose_their_space_and_statistics_leave() {
    assert_snapshot!(at(60, CALLS, &TWO), @r#"
    COMM            CALL            CALLS/s TIME/s   MEAN    P99
    postgres        clock_nanosleep  12,304  312ms 25.4µs 12.8µs
    qemu-system-x86 read                  7  1.2µs      -      -
    2 rows; 0 dropped, 0 missed; all 0: errors, under_way; not
    shown: p50 (--wide)
    "#);
    assert_snapshot!(at(40, CALLS, &TWO), @r#"
    COMM            CALL            CALLS/s
    postgres        clock_nanosleep  12,304
    qemu-system-x86 read                  7
    2 rows; 0 dropped, 0 missed; all 0:
    errors, under_way; not shown: time,
    mean, p50, p99 (--wide)
    "#);
    assert_snapshot!(at(20, CALLS, &TWO), @r#"
    COMM
    postgres
    qemu-system-x86
    2 rows; 0 dropped, 0
    missed; all 0:
    errors, under_way;
    not shown: call,
    calls, time, mean,
    p50, p99 (--wide)
    "#);
    for width in 12..100 {
        at(width, "COMM #CALLS/s", &[&["postgres", "1"]]);
    }
}

#[test]
fn text_is_shortened_and_addresses_are_not() {
    let rows: [&[&str]; 2] = [
        &[
            "kubepods/burstable/pod7c1e/web",
            "2001:db8:4::1f:abcd:1234",
            "12,477",
        ],
        &["one two three four five six", "::1", "7"],
    ];
    assert_snapshot!(at(60, "CGROUP REMOTE #CALLS/s", &rows), @r#"
                                                           CALLS
    CGROUP                       REMOTE                       /s
    kubepods/…stable/pod7c1e/web 2001:db8:4::1f:abcd:1234 12,477
    one two three four five six  ::1                           7
    2 rows; 0 dropped, 0 missed; shortened: cgroup (--wide)
    "#);
    assert_snapshot!(at(50, "CGROUP ?REMOTE #CALLS/s", &rows), @r#"
    CGROUP                         CALLS/s
    kubepods/burstable/pod7c1e/web  12,477
    one two three four five six          7
    2 rows; 0 dropped, 0 missed; not shown: remote
    (--wide)
    "#);
}

#[test]
fn text_is_never_cut_within_a_character() {
    let style = Style::default();
    for (text, width, short) in [
        ("日本語", 6, "日本語"),
        ("日本語", 5, "日本…"),
        ("日本語", 4, "日…"),
        ("cafe\u{301}s", 5, "cafe\u{301}s"),
        ("cafe\u{301}s", 4, "caf…"),
        ("/usr/lib/systemd", 10, "/us…ystemd"),
        ("/a/日本語", 6, "/…本語"),
        ("main;e\u{301}nd", 4, "m…nd"),
        ("long", 1, "…"),
    ] {
        assert_eq!(shortened(text, width, style), short);
        assert!(short.width() <= width, "{short}");
    }
    let ascii = Style {
        ascii: true,
        ..style
    };
    assert_eq!(shortened("postgres", 4, ascii), "pos~");
}

#[test]
fn a_locale_without_utf_8_gets_ascii() {
    let ascii = Style {
        ascii: true,
        ..Style::default()
    };
    let shown = table(ascii, CALLS, &TWO);
    assert!(shown.contains("25.4 us  6.19 us"), "{shown}");
    assert!(shown.is_ascii(), "{shown}");
    // The kernel's text stays as it is.
    let row: &[&str] = &["µs", "1 µs"];
    assert!(table(ascii, "COMM #TIME", &[row]).contains("µs    1 us"));
}

#[test]
fn no_cell_of_text_is_empty() {
    let row: &[&str] = &["", "7"];
    assert!(table(Style::default(), "FLAGS #ID", &[row]).contains("-       7\n"));
}

#[test]
fn sentences_are_broken_between_words() {
    let at = |width| {
        wrapped(
            "a sentence of 5 words",
            &Style {
                width,
                ..Style::default()
            },
        )
    };
    assert_eq!(at(None), "a sentence of 5 words");
    assert_eq!(at(Some(21)), "a sentence of 5 words");
    assert_eq!(at(Some(13)), "a sentence of\n5 words");
    assert_eq!(at(Some(3)), "a\nsentence\nof\n5\nwords");
}
