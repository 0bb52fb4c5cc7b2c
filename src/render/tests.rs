#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use insta::assert_snapshot;

use super::*;
use crate::names::HostNames;
use crate::schema::{Histogram, Kind, Member, Place, Table, Tags, Type, Value};
use crate::snapshot::{Rows, Selection, TableSnapshot};

fn ty(name: &str, size: usize, kind: Kind) -> Arc<Type> {
    let name = name.to_owned();
    Arc::new(Type { name, size, kind })
}

/// A member of a struct that begins with this byte.
fn member(name: &str, byte: usize, ty: &Arc<Type>, tags: &[&str]) -> Member {
    let mut all = Tags::default();
    tags.iter()
        .for_each(|tag| all.add(&format!("ktally:{tag}")));
    Member {
        name: name.to_owned(),
        place: Place::whole(Arc::clone(ty)).shifted(byte * 8),
        tags: all,
    }
}

/// A table of these columns; the labels are a process name and a system call.
fn table(name: &str, value: Vec<Member>) -> Table {
    let (element, len) = (ty("char", 1, Kind::Char), 16);
    let comm = ty("char[16]", 16, Kind::Array { element, len });
    let key = vec![
        member("comm", 0, &comm, &["as:comm"]),
        member("call", 16, &Type::unsigned(4), &["as:syscall"]),
    ];
    let size = value.iter().map(|member| member.place.ty.size).sum();
    let mut tags = Tags::default();
    tags.add("ktally:table:what happened");
    Table::new(
        name,
        &tags,
        8,
        &ty("struct key", 20, Kind::Struct(key)),
        &ty("struct value", size, Kind::Struct(value)),
    )
}

fn counter(name: &str, byte: usize) -> Member {
    member(name, byte, &Type::unsigned(8), &["counter:all of them"])
}

fn latency(byte: usize) -> Member {
    let size = size_of::<Histogram>();
    let histogram = ty("struct tally_histogram", size, Kind::Struct(vec![]));
    let tags = ["histogram:time of one call", "unit:ns"];
    member("latency", byte, &histogram, &tags)
}

fn syscalls() -> Table {
    let time = member("time", 16, &Type::unsigned(8), &["counter:", "unit:ns"]);
    let all = vec![counter("calls", 0), counter("errors", 8), time, latency(24)];
    table("syscalls", all)
}

/// A counter alone.
fn plain() -> Table {
    table("plain", vec![counter("calls", 0)])
}

/// Rows of a table: process, system call, cells.
type Row<'a> = (&'a str, i64, &'a [u64]);

fn table_snapshot(table: Table, all: &[Row<'_>]) -> TableSnapshot<'static> {
    named(selection(table, all), 312, &HostNames::new())
}

fn selection(table: Table, all: &[Row<'_>]) -> Selection<'static> {
    let mut rows = Rows::of(&table);
    for (comm, call, cells) in all {
        let mut key = [0; 20];
        key[..comm.len()].copy_from_slice(comm.as_bytes());
        key[16..].copy_from_slice(&(*call as u32).to_le_bytes());
        rows.push(&key)[..cells.len()].copy_from_slice(cells);
    }
    Selection::all(table, rows)
}

fn named(rows: Selection<'static>, rows_read: usize, names: &HostNames) -> TableSnapshot<'static> {
    let selection = Box::leak(Box::new(rows));
    TableSnapshot {
        table: &selection.table,
        rows: selection.named(names, false),
        rows_read,
        dropped: Some(0),
        reset: 0,
    }
}

fn snapshot(tables: Vec<TableSnapshot<'static>>) -> Snapshot<'static> {
    Snapshot {
        tally: "syscalls".into(),
        summary: "system calls, by process and call".into(),
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_332_142_123),
        seconds: 5.0,
        missed: Some(0),
        gaps: None,
        incomplete: None,
        tables,
    }
}

/// Calls, errors, time; the histogram's sum; 60110 of up to 8192 ns, 1410 of
/// up to 16384 ns.
fn postgres() -> Vec<u64> {
    let mut cells = vec![0; 3 + Histogram::CELLS];
    cells[..4].copy_from_slice(&[61_520, 0, 1_560_000_000, 1_560_000_000]);
    cells[4 + 13] = 60_110;
    cells[4 + 14] = 1_410;
    cells
}

fn two_rows() -> Snapshot<'static> {
    let bash = [7, 3, 1_200];
    let (read, openat) = (libc::SYS_read, libc::SYS_openat);
    let rows: [Row<'_>; 2] = [("postgres", read, &postgres()), ("bash", openat, &bash)];
    snapshot(vec![table_snapshot(syscalls(), &rows)])
}

fn one_row() -> Snapshot<'static> {
    let cells = postgres();
    let rows: [Row<'_>; 1] = [("postgres", libc::SYS_read, &cells)];
    let mut table = table_snapshot(syscalls(), &rows);
    table.rows_read = 1;
    snapshot(vec![table])
}

/// A table of counters with these rows.
fn calls(rows: &[Row<'_>]) -> Snapshot<'static> {
    snapshot(vec![table_snapshot(plain(), rows)])
}

const STYLE: Style = Style {
    color: false,
    histogram: false,
    totals: false,
    no_header: false,
    terminal: false,
    cpus: 4,
};

fn all(format: Format, style: Style, snapshots: &[&Snapshot<'_>]) -> String {
    let mut out = Vec::new();
    let mut renderer = Renderer::new(format, style);
    for snapshot in snapshots {
        renderer.render(&mut out, snapshot).unwrap();
    }
    String::from_utf8(out).unwrap()
}

fn text(style: Style, snapshot: &Snapshot<'_>) -> String {
    all(Format::Table, style, &[snapshot])
}

fn json(snapshot: &Snapshot<'_>) -> String {
    all(Format::Json, STYLE, &[snapshot])
}

fn csv(style: Style, snapshot: &Snapshot<'_>) -> String {
    all(Format::Csv, style, &[snapshot])
}

#[test]
fn a_table_has_rates_and_quantiles() {
    assert_snapshot!(text(STYLE, &two_rows()), @r#"
    syscalls: system calls, by process and call             5.0 s, 4 CPUs
    COMM      CALL    CALLS/s  ERRORS/s  TIME/s      p50      p99
    postgres  read     12,304         0  312 ms  8.19 µs  16.4 µs
    bash      openat      1.4       0.6  240 ns        -        -
    2 of 312 rows; 0 dropped, 0 missed
    "#);
}

#[test]
fn totals_are_no_rates() {
    let totals = Style {
        totals: true,
        ..STYLE
    };
    assert_snapshot!(text(totals, &two_rows()), @r#"
    syscalls: system calls, by process and call             5.0 s, 4 CPUs
    COMM      CALL     CALLS  ERRORS    TIME      p50      p99
    postgres  read    61,520       0  1.56 s  8.19 µs  16.4 µs
    bash      openat       7       3  1.2 µs        -        -
    2 of 312 rows; 0 dropped, 0 missed
    "#);
}

/// A float has 53 bits.
#[test]
fn totals_are_exact() {
    let gauge = member("now", 8, &Type::unsigned(8), &["gauge:of them"]);
    let table = table("large", vec![counter("all", 0), gauge]);
    let cells = [u64::MAX, (1 << 53) + 1];
    let snapshot = snapshot(vec![table_snapshot(table, &[("a", 0, &cells)])]);
    let style = Style {
        totals: true,
        no_header: true,
        ..Style::default()
    };
    let text = text(style, &snapshot);
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
    COMM      CALL    CALLS/s  ERRORS/s  TIME/s      p50      p99
    postgres  read     12,304         0  312 ms  8.19 µs  16.4 µs
    bash      openat      1.4       0.6  240 ns        -        -
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
    let mut empty = two_rows();
    empty.tables[0] = table_snapshot(syscalls(), &[]);
    empty.tables[0].rows_read = 0;
    assert_snapshot!(text(STYLE, &empty), @r#"
    syscalls: system calls, by process and call             5.0 s, 4 CPUs
    0 of 0 rows; 0 dropped, 0 missed
    "#);
}

#[test]
fn a_single_row_shows_its_histogram_as_bars() {
    assert_snapshot!(text(STYLE, &one_row()), @r#"
    syscalls: system calls, by process and call             5.0 s, 4 CPUs
    COMM      CALL  CALLS/s  ERRORS/s  TIME/s      p50      p99
    postgres  read   12,304         0  312 ms  8.19 µs  16.4 µs

    postgres read, latency: time of one call; mean 25.4 µs
       4.1 µs .. 8.19 µs          60110 |########################################|
      8.19 µs .. 16.4 µs           1410 |#                                       |
    1 of 1 row; 0 dropped, 0 missed
    "#);
}

#[test]
fn bars_on_demand_are_a_block_a_row() {
    let histogram = Style {
        histogram: true,
        ..STYLE
    };
    let mut few = [0; Histogram::CELLS];
    // From 0 up to the last bucket, which has no edge.
    (few[0], few[1], few[3], few[64]) = (9, 1, 1000, 500);
    let rows: [Row<'_>; 2] = [
        ("a", libc::SYS_read, &few),
        ("b", libc::SYS_read, &postgres()[3..]),
    ];
    let mut bars = snapshot(vec![table_snapshot(table("t", vec![latency(0)]), &rows)]);
    let shown = text(histogram, &bars);
    // The empty buckets between 4 and the last.
    let shown: Vec<&str> = shown
        .lines()
        .filter(|line| !line.contains("            0 |"))
        .collect();
    assert_snapshot!(shown.join("\n"), @r#"
    syscalls: system calls, by process and call             5.0 s, 4 CPUs
    a read, latency: time of one call
                0 .. 1 ns                     1 |#                                       |
             2 ns .. 4 ns                  1000 |########################################|
    53,375 d 23 h .. ∞                      500 |####################                    |

    b read, latency: time of one call; mean 25.4 µs
       4.1 µs .. 8.19 µs          60110 |########################################|
      8.19 µs .. 16.4 µs           1410 |#                                       |
    2 of 312 rows; 0 dropped, 0 missed
    "#);
    // Nothing observed: no block.
    bars.tables[0] = table_snapshot(table("t", vec![latency(0)]), &[("a", 0, &[])]);
    assert_snapshot!(text(histogram, &bars), @r#"
    syscalls: system calls, by process and call             5.0 s, 4 CPUs
    1 of 312 rows; 0 dropped, 0 missed
    "#);
}

/// Each stands apart, and rows with none leave no gap.
#[test]
fn histograms_stand_apart() {
    let mut both = vec![latency(0), latency(size_of::<Histogram>())];
    both[1].name = "size".into();
    let two = [&postgres()[3..], &postgres()[3..]].concat();
    let rows: [Row<'_>; 3] = [
        ("a", libc::SYS_read, &two),
        ("b", libc::SYS_read, &[]),
        ("c", libc::SYS_read, &two[..Histogram::CELLS]),
    ];
    let histogram = Style {
        histogram: true,
        ..STYLE
    };
    let shown = text(
        histogram,
        &snapshot(vec![table_snapshot(table("t", both), &rows)]),
    );
    let blocks: Vec<&str> = shown.split("\n\n").collect();
    assert_eq!(blocks.len(), 3, "{shown}");
    for (block, head) in blocks
        .iter()
        .zip(["a read, latency", "a read, size", "c read, latency"])
    {
        assert!(block.contains(head), "{head}: {shown}");
        assert!(!block.contains("\n\n"), "{shown}");
    }
}

#[test]
fn where_only_histograms_count_they_say_how_much() {
    let rows: [Row<'_>; 2] = [
        ("a", libc::SYS_read, &postgres()[3..]),
        ("b", libc::SYS_read, &[]),
    ];
    let shown = snapshot(vec![table_snapshot(table("t", vec![latency(0)]), &rows)]);
    assert_snapshot!(text(STYLE, &shown), @r#"
    syscalls: system calls, by process and call             5.0 s, 4 CPUs
    COMM  CALL  COUNT/s      p50      p99
    a     read   12,304  8.19 µs  16.4 µs
    b     read        0        -        -
    2 of 312 rows; 0 dropped, 0 missed
    "#);
    let totals = Style {
        totals: true,
        ..STYLE
    };
    let total = text(totals, &shown);
    assert!(total.contains("COUNT      p50"), "{total}");
    assert!(total.contains("61,520  8.19"), "{total}");
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
    CALLS/s  ERRORS/s  TIME/s      p50      p99
     12,304         0  312 ms  8.19 µs  16.4 µs

    latency: time of one call; mean 25.4 µs
       4.1 µs .. 8.19 µs          60110 |########################################|
      8.19 µs .. 16.4 µs           1410 |#                                       |
    1 of 312 rows; 0 dropped, 0 missed
    "#);
}

/// Two events in a microsecond are not two million a second.
#[test]
fn a_time_too_short_for_rates_shows_counts() {
    let mut shown = calls(&[("a", 1_000_000, &[2])]);
    shown.seconds = 0.0001;
    assert_snapshot!(draw(Format::Table, &shown), @r#"
    syscalls: system calls, by process and call             100 µs, 0 CPUs
    COMM  CALL     CALLS
    a     1000000      2
    1 of 312 rows; 0 dropped, 0 missed
    "#);
    shown.seconds = 0.1;
    assert!(draw(Format::Table, &shown).contains("0.1 s, 0 CPUs\nCOMM  CALL     CALLS/s\n"));
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
        footer(&snapshot, &table),
        "0 of 312 rows; 0 dropped, 0 missed"
    );
    (table.rows_read, table.dropped, table.reset) = (1, Some(5), 2);
    (snapshot.missed, snapshot.gaps) = (Some(7), Some(1));
    assert_eq!(
        footer(&snapshot, &table),
        "0 of 1 row; 5 dropped, 7 missed, 1 gap, 2 reset"
    );
    // Unknown is not 0.
    (snapshot.missed, snapshot.gaps, table.dropped) = (None, Some(0), None);
    snapshot.incomplete = Some("a row vanished".into());
    assert_eq!(
        footer(&snapshot, &table),
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
fn json_has_this_shape_and_order() {
    let mut shown = one_row();
    shown.tables[0].rows_read = 312;
    let wanted = r#"{"tally":"syscalls","time":"2026-11-22T07:22:22.123Z","seconds":5.0,"missed":0,"incomplete":false,"tables":[{"name":"syscalls","rows_read":312,"dropped":0,"reset":0,"rows":[{"comm":"postgres","call":"read","calls":61520,"errors":0,"time":1560000000,"latency":{"count":61520,"sum":1560000000,"buckets":[[8192,60110],[16384,1410]]}}]}]}"#;
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
    let rows: [Row<'_>; 1] = [("a", libc::SYS_read, &[u64::MAX, i64::MIN as u64])];
    let mut shown = snapshot(vec![table_snapshot(table("t", value), &rows)]);
    shown.missed = None;
    shown.incomplete = Some("a row vanished".into());
    shown.seconds = 0.100_000_049;
    assert_snapshot!(json(&shown), @r#"{"tally":"syscalls","time":"2026-11-22T07:22:22.123Z","seconds":0.1,"missed":null,"incomplete":true,"tables":[{"name":"t","rows_read":312,"dropped":0,"reset":0,"rows":[{"comm":"a","call":"read","calls":18446744073709551615,"level":-9223372036854775808}]}]}"#);
    // The same in CSV; people get what they can read.
    assert_snapshot!(csv(STYLE, &shown), @r#"
    "table","timestamp","seconds","comm","call","calls","level"
    "t","2026-11-22T07:22:22.123Z",0.1,"a","read",18446744073709551615,-9223372036854775808
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
    "table","timestamp","seconds","comm","call","calls","errors","time","latency_count","latency_sum","latency_buckets"
    "syscalls","2026-11-22T07:22:22.123Z",5,"postgres","read",61520,0,1560000000,61520,1560000000,"[[8192,60110],[16384,1410]]"
    "syscalls","2026-11-22T07:22:22.123Z",5,"bash","openat",7,3,1200,0,0,"[]"
    # syscalls: 2 of 312 rows; 0 dropped, 0 missed
    "#);
}

#[test]
fn csv_quotes_text() {
    let names = ["a,b", "a\"b", "a\nb", "#a", " a ", ""];
    let rows = names.map(|comm| (comm, libc::SYS_read, &[1][..]));
    let shown = csv(STYLE, &calls(&rows));
    assert_snapshot!(shown, @r##"
    "table","timestamp","seconds","comm","call","calls"
    "plain","2026-11-22T07:22:22.123Z",5,"a,b","read",1
    "plain","2026-11-22T07:22:22.123Z",5,"a""b","read",1
    "plain","2026-11-22T07:22:22.123Z",5,"a\nb","read",1
    "plain","2026-11-22T07:22:22.123Z",5,"#a","read",1
    "plain","2026-11-22T07:22:22.123Z",5," a ","read",1
    "plain","2026-11-22T07:22:22.123Z",5,"","read",1
    # plain: 6 of 312 rows; 0 dropped, 0 missed
    "##);
    // A reader gets back what was written, on one line.
    let mut reader = ::csv::ReaderBuilder::new()
        .comment(Some(b'#'))
        .from_reader(shown.as_bytes());
    let read: Vec<String> = reader
        .records()
        .map(|record| record.unwrap()[3].to_owned())
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
    "table","timestamp","seconds","comm","call","calls"
    "plain","2026-11-22T07:22:22.123Z",5,"a","read",1
    # plain: 1 of 312 rows; 0 dropped, 0 missed
    "plain","2026-11-22T07:22:22.123Z",5,"a","read",1
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
fn without_headings_rows_and_footers_stay() {
    let bare = Style {
        no_header: true,
        ..STYLE
    };
    let shown = calls(&[("a", libc::SYS_read, &[5])]);
    assert_snapshot!(text(bare, &shown), @r#"
    a  read  1
    1 of 312 rows; 0 dropped, 0 missed
    "#);
    assert_snapshot!(csv(bare, &shown), @r#"
    "plain","2026-11-22T07:22:22.123Z",5,"a","read",5
    # plain: 1 of 312 rows; 0 dropped, 0 missed
    "#);
    let bars = text(bare, &one_row());
    assert!(!bars.contains("mean") && bars.contains('#'), "{bars}");
}

#[test]
fn color_is_for_headings_and_only_on_demand() {
    let color = Style {
        color: true,
        ..STYLE
    };
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
        let heads = vec![(name.to_owned(), false), ("µs".to_owned(), true)];
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
    // A heading that is not written takes no room.
    let bare = Style {
        no_header: true,
        ..STYLE
    };
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
        let error = renderer.render(&mut Closed, &two_rows());
        assert_eq!(
            error.unwrap_err().kind(),
            io::ErrorKind::BrokenPipe,
            "{format:?}"
        );
    }
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

// ---- flame graphs ----------------------------------------------------------

/// A process name, a stack of the kernel; samples.
fn stacks(all: &[(&str, &[u64], u64)]) -> Snapshot<'static> {
    let char = ty("char", 1, Kind::Char);
    let comm = ty(
        "char[16]",
        16,
        Kind::Array {
            element: char,
            len: 16,
        },
    );
    let element = Type::unsigned(8);
    let ips = ty("u64[4]", 32, Kind::Array { element, len: 4 });
    let key = vec![
        member("comm", 0, &comm, &["as:comm"]),
        member("kernel", 16, &ips, &["as:kstack"]),
    ];
    let table = Table::new(
        "profile",
        &Tags::default(),
        8,
        &ty("struct key", 48, Kind::Struct(key)),
        &ty("struct value", 8, Kind::Struct(vec![counter("samples", 0)])),
    );
    let mut rows = Rows::of(&table);
    for (comm, stack, samples) in all {
        let mut key = [0; 48];
        key[..comm.len()].copy_from_slice(comm.as_bytes());
        for (place, ip) in key[16..].chunks_exact_mut(8).zip(*stack) {
            place.copy_from_slice(&ip.to_ne_bytes());
        }
        rows.push(&key)[0] = *samples;
    }
    let rows = Selection::all(table, rows);
    snapshot(vec![named(rows, all.len(), &HostNames::raw())])
}

fn draw(format: Format, snapshot: &Snapshot<'_>) -> String {
    let mut out = Vec::new();
    let mut renderer = Renderer::new(format, Style::default());
    renderer.render(&mut out, snapshot).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn folded_stacks_are_root_first_and_add_up() {
    let snapshot = stacks(&[
        ("b;ash\n", &[1, 2, 3], 4),
        ("a", &[1], 2),
        ("a", &[1], 3),
        ("a", &[], 9),
        ("none", &[7], 0),
    ]);
    assert_snapshot!(draw(Format::Folded, &snapshot), @r"
    a 9
    a;0x1_[k] 5
    b:ash\n;0x3_[k];0x2_[k];0x1_[k] 4
    ");
}

#[test]
fn people_see_the_frames_that_were_running() {
    let shown = stacks(&[("a", &[1, 2, 3, 4], 4), ("b", &[1, 2, 3], 2), ("c", &[], 1)]);
    assert_snapshot!(draw(Format::Table, &shown), @r"
    syscalls: system calls, by process and call             5.0 s, 0 CPUs
    COMM  KERNEL          SAMPLES/s
    a     ..;0x3;0x2;0x1        0.8
    b     0x3;0x2;0x1           0.4
    c                           0.2
    3 of 3 rows; 0 dropped, 0 missed
    ");
}

#[test]
fn pictures_are_whole_also_when_nothing_was_counted() {
    let svg = draw(Format::Svg, &stacks(&[("a<b", &[1, 2], 4)]));
    assert!(svg.starts_with("<?xml") && svg.trim_end().ends_with("</svg>"));
    assert!(svg.contains("<title>a&lt;b (4 samples, 100.00%)"), "{svg}");
    let empty = draw(Format::Svg, &stacks(&[]));
    assert!(empty.trim_end().ends_with("</svg>"));
    assert!(empty.contains("nothing was counted (0 samples)"), "{empty}");
    let mut hostile = stacks(&[]);
    hostile.summary = "<&\n".to_owned();
    let empty = draw(Format::Svg, &hostile);
    assert!(empty.contains(": &lt;&amp;\\n</text>"), "{empty}");
}

#[test]
fn only_stacks_can_be_drawn() {
    let table = stacks(&[]).tables[0].table;
    let refused = |table: &Table, by: Option<&[String]>| {
        let result = Format::Folded.check(std::slice::from_ref(table), by);
        result.err().map(|error| error.to_string())
    };
    let by = |label: &str| Some(vec![label.to_owned()]);
    assert_eq!(refused(table, None), None);
    assert_eq!(refused(table, by("kernel").as_deref()), None);
    assert!(refused(table, by("comm").as_deref()).is_some());
    assert!(refused(&plain(), None).is_some());
    assert!(Format::Json.check(&[plain()], None).is_ok());
}
