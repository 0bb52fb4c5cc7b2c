//! JSON and CSV.

use insta::assert_snapshot;

use super::*;

#[test]
fn json_has_this_shape_and_order() {
    let mut shown = one_row();
    shown.tables[0].rows_read = 312;
    let wanted = r#"{"tally":"syscalls","time":"2026-11-22T07:22:22.123Z","seconds":5.0,"missed":0,"incomplete":false,"tables":[{"name":"syscalls","rows_read":312,"dropped":0,"reset":0,"rows":[{"comm":"postgres","call":"read","calls":61520,"errors":0,"time":1560000000,"latency":{"count":61520,"sum":1560000000,"mean":25357.607,"p50":6192.04,"p90":7868.872,"p99":12809.732,"buckets":[[8192,60110],[16384,1410]]}}]}]}"#;
    assert_eq!(json(&shown), format!("{wanted}\n"));
    assert_eq!(
        all(Format::Jsonl, STYLE, &[&shown, &shown]),
        format!("{wanted}\n{wanted}\n")
    );
}

#[test]
fn json_tells_unknown_from_none_and_keeps_every_digit() {
    let signed = ty("__s64", 8, Kind::Int { signed: true });
    let value = vec![
        counter("calls", 0),
        member("level", 8, &signed, &["gauge:"]),
    ];
    let cells = [u64::MAX, i64::MIN as u64];
    let mut shown = one(table("t", value), &[("a", libc::SYS_read, &cells)]);
    shown.missed = None;
    shown.incomplete = Some("a row vanished".into());
    shown.seconds = 0.100_000_049;
    assert_snapshot!(json(&shown), @r#"{"tally":"syscalls","time":"2026-11-22T07:22:22.123Z","seconds":0.1,"missed":null,"incomplete":true,"tables":[{"name":"t","rows_read":312,"dropped":0,"reset":0,"rows":[{"comm":"a","call":"read","calls":18446744073709551615,"level":-9223372036854775808}]}]}"#);
    // The same in CSV; people get what they can read.
    assert_snapshot!(csv(STYLE, &shown), @r#"
    "table","timestamp","seconds","kind","comm","call","calls","level"
    "t","2026-11-22T07:22:22.123Z",0.1,"row","a","read",18446744073709551615,-9223372036854775808
    # t: 1 of 312 rows; 0 dropped, unknown missed; incomplete
    "#);
    assert_snapshot!(text(STYLE, &shown), @r#"
    syscalls: system calls, by process and call             0.1 s, 4 CPUs
    COMM  CALL                      CALLS/s                       LEVEL
    a     read  184,467,350,348,093,849,600  -9,223,372,036,854,775,808
    1 of 312 rows; 0 dropped, unknown missed; incomplete
    "#);
}

#[test]
fn csv_has_exact_numbers_and_a_footer() {
    assert_snapshot!(csv(STYLE, &two_rows()), @r#"
    "table","timestamp","seconds","kind","comm","call","calls","errors","time","latency_count","latency_sum","latency_mean","latency_p50","latency_p90","latency_p99","latency_buckets"
    "syscalls","2026-11-22T07:22:22.123Z",5,"row","postgres","read",61520,0,1560000000,61520,1560000000,25357.607,6192.04,7868.872,12809.732,"[[8192,60110],[16384,1410]]"
    "syscalls","2026-11-22T07:22:22.123Z",5,"row","bash","openat",7,3,1200,0,0,"","","","","[]"
    # syscalls: 2 of 312 rows; 0 dropped, 0 missed
    "#);
}

#[test]
fn csv_quotes_text() {
    let names = ["a,b", "a\"b", "a\nb", "#a", " a ", ""];
    let rows = names.map(|comm| (comm, libc::SYS_read, &[1][..]));
    let shown = csv(STYLE, &calls(&rows));
    assert_snapshot!(shown, @r##"
    "table","timestamp","seconds","kind","comm","call","calls"
    "plain","2026-11-22T07:22:22.123Z",5,"row","a,b","read",1
    "plain","2026-11-22T07:22:22.123Z",5,"row","a""b","read",1
    "plain","2026-11-22T07:22:22.123Z",5,"row","a\nb","read",1
    "plain","2026-11-22T07:22:22.123Z",5,"row","#a","read",1
    "plain","2026-11-22T07:22:22.123Z",5,"row"," a ","read",1
    "plain","2026-11-22T07:22:22.123Z",5,"row","","read",1
    # plain: 6 of 312 rows; 0 dropped, 0 missed
    "##);
    // A reader gets back what was written, on one line.
    let mut reader = ::csv::ReaderBuilder::new()
        .comment(Some(b'#'))
        .from_reader(shown.as_bytes());
    let read: Vec<String> = reader
        .records()
        .map(|record| record.unwrap()[4].to_owned())
        .collect();
    assert_eq!(read, names.map(escape));
}

/// A name of several lines would forge a footer.
#[test]
fn csv_has_no_formulas() {
    for (comm, cell) in [
        ("=1+1", "'=1+1"),
        ("+cmd|'x'!A1", "'+cmd|'x'!A1"),
        ("-bash", "'-bash"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("=\t1", "'=\\t1"),
        ("-", "-"),
        ("a=b", "a=b"),
    ] {
        let shown = csv(STYLE, &calls(&[(comm, libc::SYS_read, &[5])]));
        assert!(shown.contains(&format!(",\"{cell}\",")), "{comm}: {shown}");
    }
    // A number is one, below zero too.
    let shown = csv(STYLE, &calls(&[("-42", libc::SYS_read, &[5])]));
    assert!(shown.contains(",-42,"), "{shown}");
}

#[test]
fn a_record_of_csv_is_one_line() {
    let name = "x\n#y\nz\x1b[2J";
    let shown = csv(STYLE, &calls(&[(name, libc::SYS_read, &[1])]));
    assert!(shown.contains(r#""x\n#y\nz\u{1b}[2J""#), "{shown}");
    let comments: Vec<&str> = shown.lines().filter(|line| line.starts_with('#')).collect();
    assert_eq!(comments, ["# plain: 1 of 312 rows; 0 dropped, 0 missed"]);
    assert_eq!(shown.lines().count(), 3);
}

#[test]
fn csv_has_one_header_a_stream() {
    let shown = calls(&[("a", libc::SYS_read, &[1])]);
    let readings = all(Format::Csv, STYLE, &[&shown, &shown]);
    assert_snapshot!(readings, @r#"
    "table","timestamp","seconds","kind","comm","call","calls"
    "plain","2026-11-22T07:22:22.123Z",5,"row","a","read",1
    # plain: 1 of 312 rows; 0 dropped, 0 missed
    "plain","2026-11-22T07:22:22.123Z",5,"row","a","read",1
    # plain: 1 of 312 rows; 0 dropped, 0 missed
    "#);
    // Of each table once; its rows name it.
    let mut two = shown.clone();
    two.tables.push(two_rows().tables.remove(0));
    let readings = all(Format::Csv, STYLE, &[&two, &two]);
    let starting = |with: &str| {
        readings
            .lines()
            .filter(|line| line.starts_with(with))
            .count()
    };
    assert_eq!(starting("\"table\","), 2);
    assert_eq!(starting("\"plain\","), 2);
    assert_eq!(starting("\"syscalls\","), 4);
    assert_eq!(starting("# plain: "), 2);
    assert_eq!(starting("# syscalls: "), 2);
}

#[test]
fn json_gives_a_terminal_nothing_to_obey() {
    let mut shown = one_row();
    shown.tally = "a\u{9b}31m\u{7f}\u{202e}\u{61c}".to_owned();
    let text = json(&shown);
    assert!(
        text.starts_with(r#"{"tally":"a\u009b31m\u007f\u202e\u061c","#),
        "{text}"
    );
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(parsed["tally"], shown.tally);
}
