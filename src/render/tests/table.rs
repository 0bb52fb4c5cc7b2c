//! Tables for people, and what all formats have.

use insta::assert_snapshot;

use super::*;

#[test]
fn a_table_has_rates_and_quantiles() {
    assert_snapshot!(text(STYLE, &two_rows()), @r#"
    syscalls: system calls, by process and call             5.0 s, 4 CPUs
    COMM      CALL    CALLS/s  ERRORS/s  TIME/s     MEAN      P50      P99
    postgres  read     12,304         0  312 ms  25.4 µs  6.19 µs  12.8 µs
    bash      openat      1.4       0.6  240 ns        -        -        -
    2 of 312 rows; 0 dropped, 0 missed
    "#);
}

#[test]
fn totals_are_no_rates() {
    let totals = style(|it| it.totals = true);
    assert_snapshot!(text(totals, &two_rows()), @r#"
    syscalls: system calls, by process and call             5.0 s, 4 CPUs
    COMM      CALL     CALLS  ERRORS     TIME     MEAN      P50      P99
    postgres  read    61,520       0   1.56 s  25.4 µs  6.19 µs  12.8 µs
    bash      openat       7       3  1.20 µs        -        -        -
    2 of 312 rows; 0 dropped, 0 missed
    "#);
}

/// Of a single reading: seven in five seconds say more than 1.4 a second.
#[test]
fn rare_events_are_totals() {
    let rare = style(|it| it.rare_totals = true);
    let title = |shown: &Snapshot<'_>| text(rare, shown).lines().nth(1).unwrap().to_owned();
    let few = |number: u64| calls(&[("a", 0, &[number]), ("b", 0, &[1])]);
    assert_eq!(title(&few(49)), "COMM  CALL  CALLS");
    assert_eq!(title(&few(50)), "COMM  CALL  CALLS/s");
    assert_eq!(
        text(STYLE, &few(49)).lines().nth(1).unwrap(),
        "COMM  CALL  CALLS/s"
    );
    let mut other = few(49);
    other.tables[0].other = Some(vec![50]);
    assert_eq!(title(&other), "COMM     CALL  CALLS/s");
    // Times and bytes are no events, and what a histogram holds are.
    let mut slow = postgres();
    slow[0] = 7;
    let shown = |cells: &[u64]| one(syscalls(), &[("a", 0, cells), ("b", 0, &[1])]);
    assert!(title(&shown(&slow)).contains("CALLS/s"));
    assert!(title(&shown(&slow[..4])).contains("CALLS  ERRORS "));
}

/// A float has 53 bits.
#[test]
fn totals_are_exact() {
    let gauge = member("now", 8, &Type::unsigned(8), &["gauge:of them"]);
    let table = table("large", vec![counter("all", 0), gauge]);
    let snapshot = one(table, &[("a", 0, &[u64::MAX, (1 << 53) + 1])]);
    let text = text(style(|it| it.totals = true), &snapshot);
    assert!(text.contains("18,446,744,073,709,551,615"), "{text}");
    assert!(text.contains("9,007,199,254,740,993"), "{text}");
}

#[test]
fn several_tables_have_their_names() {
    let mut both = two_rows();
    let plain = table_snapshot(plain(), &[("cat", libc::SYS_read, &[10])]);
    both.tables.push(plain);
    both.tables[1].dropped = Some(2);
    assert_snapshot!(text(STYLE, &both), @r#"
    syscalls: system calls, by process and call             5.0 s, 4 CPUs
    syscalls: what happened
    COMM      CALL    CALLS/s  ERRORS/s  TIME/s     MEAN      P50      P99
    postgres  read     12,304         0  312 ms  25.4 µs  6.19 µs  12.8 µs
    bash      openat      1.4       0.6  240 ns        -        -        -
    2 of 312 rows; 0 dropped, 0 missed

    plain: what happened
    COMM  CALL  CALLS/s
    cat   read        2
    1 of 312 rows; 2 dropped, 0 missed
    "#);
}

#[test]
fn no_rows_leave_the_footer() {
    assert_snapshot!(text(STYLE, &calls(&[])), @r#"
    syscalls: system calls, by process and call             5.0 s, 4 CPUs
    0 of 312 rows; 0 dropped, 0 missed
    "#);
    // Nothing but --top holds rows back.
    let mut cut = two_rows();
    cut.tables[0].matching = 2;
    assert!(text(STYLE, &cut).ends_with("\n2 rows; 0 dropped, 0 missed\n"));
    let mut empty = two_rows();
    empty.tables[0] = table_snapshot(syscalls(), &[]);
    empty.tables[0].matching = 0;
    assert_snapshot!(text(STYLE, &empty), @r#"
    syscalls: system calls, by process and call             5.0 s, 4 CPUs
    0 rows; 0 dropped, 0 missed
    "#);
}

#[test]
fn a_total_has_no_labels() {
    let mut total = syscalls();
    (total.labels, total.key_size) = (vec![], 0);
    let mut rows = Rows::of(&total);
    rows.push(&[]).copy_from_slice(&postgres());
    let rows = Selection::all(total, rows);
    let shown = snapshot(vec![named(rows, 312, &HostNames::new())]);
    assert_snapshot!(text(STYLE, &shown), @r#"
    syscalls: system calls, by process and call             5.0 s, 4 CPUs
    CALLS/s  ERRORS/s  TIME/s     MEAN      P50      P99
     12,304         0  312 ms  25.4 µs  6.19 µs  12.8 µs

    latency: time of one call; 61,520 in all; mean 25.4 µs
       UP TO     COUNT      %  UPTO%
     8.19 µs    60,110   97.7   97.7  |########################################| p50 6.19 µs, p90 7.87 µs
     16.4 µs     1,410    2.3  100.0  |#                                       | p99 12.8 µs
    1 of 312 rows; 0 dropped, 0 missed
    "#);
}

/// Two events in a microsecond are not two million a second.
#[test]
fn a_time_too_short_for_rates_shows_counts() {
    let mut shown = calls(&[("a", 1_000_000, &[2])]);
    shown.seconds = 0.0001;
    assert_snapshot!(draw(Format::Table, &shown), @r#"
    syscalls: system calls, by process and call             100 µs, 4 CPUs
    COMM  CALL     CALLS
    a     1000000      2
    1 of 312 rows; 0 dropped, 0 missed
    "#);
    shown.seconds = 0.1;
    assert!(draw(Format::Table, &shown).contains("0.1 s, 4 CPUs\nCOMM  CALL     CALLS/s\n"));
}

/// Text, and arrays too long for columns: in JSON as they are, and elsewhere not.
#[test]
fn details_are_in_json() {
    let (element, len) = (ty("char", 1, Kind::Char), 4);
    let text = ty("char[4]", 4, Kind::Array { element, len });
    let (element, len) = (Type::unsigned(1), 20);
    let long = ty("__u8[20]", 20, Kind::Array { element, len });
    let value = vec![
        counter("calls", 0),
        member("last", 8, &text, &[]),
        member("slots", 12, &long, &[]),
    ];
    let mut selection = selection(table("t", value), &[("a", 1_000_000, &[3])]);
    let value = [&3u64.to_ne_bytes()[..], b"ab\0\0", &[1; 20]].concat();
    // Of two CPUs: what cannot be added is shown once where it is the same.
    selection.rows.to_mut().keep_value(0, &value);
    selection.rows.to_mut().keep_value(0, &value);
    let shown = snapshot(vec![named(selection, 312, &HostNames::new())]);
    let json: serde_json::Value = serde_json::from_str(&draw(Format::Json, &shown)).unwrap();
    let row = &json["tables"][0]["rows"][0];
    assert_eq!(row["calls"], 3);
    assert_eq!(row["last"], "ab");
    assert_eq!(row["slots"], serde_json::json!(vec![2; 20]));
}

#[test]
fn footers_say_what_is_not_there() {
    let mut snapshot = snapshot(Vec::new());
    let mut table = table_snapshot(plain(), &[]);
    assert_eq!(
        footer(&snapshot, &table, Format::Table),
        "0 of 312 rows; 0 dropped, 0 missed"
    );
    (table.matching, table.dropped, table.reset) = (1, Some(5), 2);
    (snapshot.missed, snapshot.gaps) = (Some(7), Some(1));
    assert_eq!(
        footer(&snapshot, &table, Format::Table),
        "0 of 1 row; 5 dropped, 7 missed, 1 gap, 2 reset"
    );
    // Unknown is not 0.
    (snapshot.missed, snapshot.gaps, table.dropped) = (None, Some(0), None);
    snapshot.incomplete = Some("a row vanished".into());
    assert_eq!(
        footer(&snapshot, &table, Format::Table),
        "0 of 1 row; unknown dropped, unknown missed, 2 reset; incomplete"
    );
}

/// What a process may call itself must not reach the terminal as it is.
#[test]
fn text_from_the_kernel_cannot_steer_a_terminal() {
    for (comm, shown) in [
        ("\x1b[31mred", "\\u{1b}[31mred"),
        ("\x1b]0;x\x07", "\\u{1b}]0;x\\u{7}"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x7f", "\\u{7f}"),
        ("\u{9b}31m", "\\u{9b}31m"),
        ("\u{202e}gpj.exe", "\\u{202e}gpj.exe"),
        ("\u{2066}\u{200f}", "\\u{2066}\\u{200f}"),
        ("back\\slash é", "back\\slash é"),
    ] {
        assert_eq!(escape(comm), shown);
        let rows: [Row<'_>; 1] = [(comm, libc::SYS_read, &[5])];
        let table = text(STYLE, &calls(&rows));
        assert!(table.contains(shown), "{table}");
        let unseen = |c: char| c != '\n' && crate::text::is_control(c);
        assert!(!table.contains(unseen), "{table:?}");
        // JSON is for programs: they get the name itself.
        let value: serde_json::Value = serde_json::from_str(&json(&calls(&rows))).unwrap();
        assert_eq!(value["tables"][0]["rows"][0]["comm"], comm);
    }
}

#[test]
fn without_headings_rows_and_footers_stay() {
    let bare = style(|it| it.no_header = true);
    let shown = calls(&[("a", libc::SYS_read, &[5])]);
    assert_snapshot!(text(bare, &shown), @r#"
    a  read  1
    1 of 312 rows; 0 dropped, 0 missed
    "#);
    assert_snapshot!(csv(bare, &shown), @r#"
    "plain","2026-11-22T07:22:22.123Z",5,"row","a","read",5
    # plain: 1 of 312 rows; 0 dropped, 0 missed
    "#);
    let bars = text(bare, &one_row());
    assert!(!bars.contains("mean") && bars.contains('#'), "{bars}");
}

#[test]
fn color_is_for_headings_and_only_on_demand() {
    let color = style(|it| it.color = true);
    for snapshot in [one_row(), two_rows()] {
        let colored = text(color, &snapshot);
        assert!(colored.starts_with("\x1b[1msyscalls: "), "{colored:?}");
        let without = colored.replace("\x1b[1m", "").replace("\x1b[0m", "");
        assert_eq!(without, text(STYLE, &snapshot));
        assert!(!without.contains('\x1b'), "{without:?}");
        // Only people see color.
        assert_eq!(csv(color, &snapshot), csv(STYLE, &snapshot));
        assert_eq!(all(Format::Json, color, &[&snapshot]), json(&snapshot));
    }
}

#[test]
fn columns_are_as_wide_as_they_look() {
    let aligned = |name: &str, rows: [[&'static str; 2]; 2], style| {
        let mut out = Vec::new();
        let heads = vec![writer::Head::text(name), writer::Head::number("µs")];
        let mut writer = writer::RowWriter::new(Format::Table, style, heads);
        for row in rows {
            row.map(Value::from)
                .iter()
                .for_each(|cell| writer.cell(cell));
            writer.end_row(&mut out).unwrap();
        }
        writer.end(&mut out, None).unwrap();
        String::from_utf8(out).unwrap()
    };
    let rows = [["né", "8.19 µs"], ["name-ö", "∞"]];
    assert_snapshot!(aligned("NAME", rows, STYLE), @r#"
    NAME         µs
    né      8.19 µs
    name-ö        ∞
    "#);
    // Of these, two take four columns, and the accent none.
    let wide = [["日本", "1"], ["cafe\u{301}", "2"]];
    let lines = "NAME  µs\n日本   1\ncafe\u{301}   2\n";
    assert_eq!(aligned("NAME", wide, STYLE), lines);
    // A heading that is not written takes no space.
    let bare = style(|it| it.no_header = true);
    assert_snapshot!(aligned("A VERY LONG NAME", rows, bare), @r#"
    né      8.19 µs
    name-ö        ∞
    "#);
}

#[test]
fn readings_of_a_table_stand_apart() {
    let shown = calls(&[("a", libc::SYS_read, &[5])]);
    let twice = all(Format::Table, STYLE, &[&shown, &shown]);
    let once = text(STYLE, &shown);
    assert_eq!(twice, format!("{once}\n{once}"));
}

#[test]
fn who_closed_the_output_is_told_apart() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for format in [Format::Table, Format::Json, Format::Jsonl, Format::Csv] {
        let mut renderer = Renderer::new(format, STYLE);
        let error = renderer.render(&mut Closed, &[two_rows()], None);
        assert_eq!(
            error.unwrap_err().kind(),
            io::ErrorKind::BrokenPipe,
            "{format:?}"
        );
    }
}

/// Who a row is of stays, and its first counter, P99, and what rows are sorted by.
#[test]
fn a_narrow_terminal_has_what_matters() {
    let mut shown = two_rows();
    shown.summary = "system calls, by process and call, of all processes".into();
    let at = |shown: &Snapshot<'_>, width| {
        let text = text(style(|it| it.width = Some(width)), shown);
        let widest = text.lines().map(UnicodeWidthStr::width).max();
        assert!(widest <= Some(width), "{text}");
        text
    };
    assert_eq!(at(&shown, 82), text(STYLE, &shown));
    assert_snapshot!(at(&shown, 60), @r#"
    syscalls: system calls, by process and call,…  5.0 s, 4 CPUs
                     CALLS ERRORS
    COMM     CALL       /s     /s TIME/s    MEAN     P50     P99
    postgres read   12,304      0 312 ms 25.4 µs 6.19 µs 12.8 µs
    bash     openat    1.4    0.6 240 ns       -       -       -
    2 of 312 rows; 0 dropped, 0 missed
    "#);
    assert_snapshot!(at(&shown, 40), @r#"
    syscalls: system calls, …  5.0 s, 4 CPUs
    COMM     CALL   CALLS/s ERRORS/s    P99
    postgres read    12,304        0 12.8µs
    bash     openat     1.4      0.6      -
    2 of 312 rows; 0 dropped, 0 missed; not
    shown: time, mean, p50 (--wide)
    "#);
    shown.sort = Some("latency.mean".into());
    assert_snapshot!(at(&shown, 40), @r#"
    syscalls: system calls, …  5.0 s, 4 CPUs
    COMM     CALL   CALLS/s   MEAN    P99
    postgres read    12,304 25.4µs 12.8µs
    bash     openat     1.4      -      -
    2 of 312 rows; 0 dropped, 0 missed; not
    shown: errors, time, p50 (--wide)
    "#);
    // As the table says it.
    let mut by_time = syscalls();
    by_time.sort_by = Some("time".into());
    let by_time = one(by_time, &[("bash", libc::SYS_openat, &[7, 3, 1_200])]);
    let text = at(&by_time, 30);
    assert!(
        text.contains("TIME/s") && !text.contains("ERRORS"),
        "{text}"
    );
    assert_snapshot!(at(&one_row(), 60), @r#"
    syscalls: system calls, by process and call    5.0 s, 4 CPUs
    COMM      CALL  CALLS/s  TIME/s     MEAN      P50      P99
    postgres  read   12,304  312 ms  25.4 µs  6.19 µs  12.8 µs
    all 0: errors

    postgres read, latency: time of one call; 61,520 in all;
    mean 25.4 µs
       UP TO     COUNT      %  UPTO%
     8.19 µs    60,110   97.7   97.7  |#######################|
     16.4 µs     1,410    2.3  100.0  |#                      |
    1 row; 0 dropped, 0 missed
    "#);
}
