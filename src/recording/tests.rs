//! What is recorded is what is read.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::time::{Duration, SystemTime};

use super::*;
use crate::schema::testing::{int, text};
use crate::schema::{
    Decoder, Kind, Label, Metric, MetricKind, Names, Place, Scale, Table, Type, Value,
};
use crate::snapshot::{Interval, Lost, Rows};

/// Names for the numbers of `state`.
struct Letters;

impl Names for Letters {
    fn name<'a>(&self, decoder: &Decoder, place: &Place, bytes: &'a [u8]) -> Option<Value<'a>> {
        let number = place.raw(bytes).filter(|_| decoder.tag() == "letter")?;
        Some(char::from(b'a' + number as u8).to_string().into())
    }

    fn number(&self, _: &Decoder, _: &str) -> anyhow::Result<Option<i128>> {
        Ok(None)
    }

    fn described<'a>(&self, label: &'a Label, key: &'a [u8]) -> Value<'a> {
        match label.name.as_str() {
            "letter" => format!("the letter {}", self.of(label, key)).into(),
            _ => self.of(label, key),
        }
    }
}

fn table() -> Table {
    let label = |name: &str, byte: usize, ty, decoder: Option<&str>| Label {
        name: name.to_owned(),
        place: Place::whole(ty).shifted(8 * byte),
        decoder: decoder.map(Decoder::from_tag),
        with: None,
        idle: Vec::new(),
    };
    let metric = |name: &str, kind, ty| Metric {
        name: name.to_owned(),
        help: "help".to_owned(),
        kind,
        is_declared: true,
        place: Place::whole(ty),
        unit: Some(crate::schema::Unit::from_tag("ns")),
        cell: 0,
        greatest: None,
        with: None,
    };
    let word = || Type::new("", 8, Kind::Int { signed: false });
    let labels = vec![
        label("comm", 0, text(8), None),
        label("number", 8, int(4, true), None),
        label("letter", 12, Type::unsigned(4), Some("letter")),
    ];
    let metrics = vec![
        metric("calls", MetricKind::Counter, word()),
        metric("level", MetricKind::Gauge, int(8, true)),
        metric("latency", MetricKind::Histogram, Scale::Linear(5).ty()),
        metric("min", MetricKind::Minimum, word()),
        metric("max", MetricKind::Maximum, word()),
    ];
    let mut table = Table::of_columns(("t", "of things"), labels, metrics);
    (table.key_size, table.max_entries) = (16, 64);
    table
}

fn key(comm: &str, number: i32, letter: u32) -> Vec<u8> {
    let mut key = vec![0; 8];
    key[..comm.len()].copy_from_slice(comm.as_bytes());
    key.extend(number.to_le_bytes());
    key.extend(letter.to_le_bytes());
    key
}

/// Of one second, with these counts; a key's totals are given beside them.
fn interval(second: u64, rows: &[(Vec<u8>, u64, u64)]) -> Interval {
    let table = table();
    let (mut now, mut totals) = (Rows::of(&table), Rows::of(&table));
    for (key, count, total) in rows {
        for (rows, count) in [(&mut now, *count), (&mut totals, *total)] {
            let cells = rows.push(key);
            cells[0] = count;
            cells[1] = (-3i64 - second as i64) as u64;
            cells[2] = count.wrapping_mul(7);
            cells[2 + 1 + 2] = count;
            let max = cells.len() - 1;
            cells[max] = 10 * total;
            cells[max - 1] = if *total == 23 { 0 } else { !(3 * total) };
        }
    }
    Interval {
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_788_000 + second),
        seconds: 1.000_000_1,
        rows: now,
        other: (second == 3).then(|| vec![1; table.cells()]),
        total_seconds: second as f64,
        totals,
        total_other: Some(vec![u64::MAX; table.cells()]),
        lost: Lost {
            other: second / 3,
            dropped: Some(0),
            missed: None,
            gaps: None,
        },
        incomplete: None,
    }
}

/// Five seconds: a row that is new, one that is reset, one that goes.
fn intervals() -> Vec<Interval> {
    let (a, b, c) = (key("a\\x", -1, 0), key("b", i32::MAX, 1), key("", 0, 25));
    vec![
        interval(1, &[(a.clone(), 23, 23), (b.clone(), 0, 40)]),
        interval(2, &[(a.clone(), 0, 23), (b.clone(), 37, 77)]),
        interval(
            3,
            &[(a.clone(), 1, 24), (b.clone(), 5, 5), (c.clone(), 2, 2)],
        ),
        interval(4, &[(b.clone(), 1, 6), (c.clone(), 0, 2)]),
        interval(5, &[(b, u64::MAX, 5), (c, 0, 2)]),
    ]
}

/// The head and a line for each of these; in `tabs` tabs.
fn recorded(intervals: &[Interval], tabs: usize) -> String {
    let table = table();
    let head = Head {
        recording: 0,
        ktally: "0.1.0".to_owned(),
        host: "db1".to_owned(),
        kernel: "6.12".to_owned(),
        cpus: 8,
        every: 1.0,
        absent: None,
        tabs: vec![TabHead::new(("run t", "t", "things"), 64, &table); tabs],
    };
    let mut lines = head.line();
    let mut recorder = Recorder::default();
    let mut before: Option<&Rows> = None;
    for interval in intervals {
        for tab in 0..tabs {
            lines += &recorder.line(tab, &table, before, interval, &Letters);
        }
        before = Some(&interval.totals);
    }
    lines
}

fn open(text: &[u8]) -> anyhow::Result<Recording> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(text)?;
    Recording::open(file.path())
}

/// Without rows that counted nothing, which are not recorded, and in one order.
fn sorted(rows: &Rows, is_all: bool) -> Vec<(Vec<u8>, Vec<u64>)> {
    let table = table();
    let rows = rows
        .iter()
        .filter(|(_, cells)| is_all || !table.counts_nothing(cells));
    let mut rows: Vec<_> = rows
        .map(|(key, cells)| (key.to_vec(), cells.to_vec()))
        .collect();
    rows.sort();
    rows
}

fn check(read: &Interval, recorded: &Interval, is_last: bool) {
    assert_eq!(sorted(&read.rows, true), sorted(&recorded.rows, false));
    if is_last {
        assert_eq!(sorted(&read.totals, true), sorted(&recorded.totals, true));
    }
    let rest = |it: &Interval| {
        (
            it.time,
            it.seconds,
            it.other.clone(),
            it.total_seconds,
            it.total_other.clone(),
            it.lost,
        )
    };
    assert_eq!(rest(read), rest(recorded));
}

#[test]
fn intervals_are_read_as_they_were_recorded() {
    let intervals = intervals();
    let mut recording = open(recorded(&intervals, 1).as_bytes()).unwrap();
    assert_eq!(recording.tables, [table_as_recorded()]);
    let lost: Vec<bool> = recording.frames.iter().map(|it| it.has_lost).collect();
    assert_eq!(lost, [false, false, true, false, false]);
    assert_eq!(recording.frames[1].rate, 37.0 / 1.000_000_1);
    // One after the other, and at once from the start.
    for order in [vec![0, 1, 2, 3, 4], vec![4, 2, 3, 0, 4], vec![1, 0, 3]] {
        for frame in order {
            let mut read = Vec::new();
            recording
                .read(frame, 1, |_, interval| read.push(interval))
                .unwrap();
            assert_eq!(read.len(), 1);
            check(&read[0], &intervals[frame], true);
        }
    }
    let mut read = Vec::new();
    recording
        .read(3, 3, |_, interval| read.push(interval))
        .unwrap();
    let pairs = read.iter().zip(&intervals[1..4]).enumerate();
    pairs.for_each(|(i, (read, recorded))| check(read, recorded, i == 2));
    assert_eq!(read.len(), 3);
}

/// Types have other names there.
fn table_as_recorded() -> Table {
    open(recorded(&[interval(1, &[])], 1).as_bytes())
        .unwrap()
        .tables
        .remove(0)
}

#[test]
fn names_are_those_of_the_recording() {
    let mut recording = open(recorded(&intervals(), 1).as_bytes()).unwrap();
    recording.read(4, 60, |_, _| {}).unwrap();
    let (table, names) = (&recording.tables[0], &recording.names);
    let key = key("b", i32::MAX, 1);
    let shown = |i: usize| names.of(&table.labels[i], &key).to_string();
    assert_eq!([shown(0), shown(1), shown(2)], ["b", "2147483647", "b"]);
    let described = names.described(&table.labels[2], &key);
    assert_eq!(described.to_string(), "the letter b");
    let letter = Decoder::from_tag("letter");
    assert_eq!(names.number(&letter, "z").unwrap(), Some(25));
    assert!(names.number(&letter, "q").is_err());
}

#[test]
fn a_long_recording_is_read_from_its_middle() {
    let key = key("a", 1, 1);
    let intervals: Vec<Interval> = (1..=200)
        .map(|i| interval(i, &[(key.clone(), i, i * (i + 1) / 2)]))
        .collect();
    let text = recorded(&intervals, 2);
    let whole = text
        .lines()
        .filter(|line| line.contains("\"whole\":true"))
        .count();
    assert_eq!(whole, 2 * 4);
    let mut recording = open(text.as_bytes()).unwrap();
    for frame in [199, 130, 131, 61, 60, 59, 0] {
        let mut read = Vec::new();
        recording
            .read(frame, 60, |tab, interval| read.push((tab, interval)))
            .unwrap();
        let (tab, last) = read.last().unwrap();
        assert_eq!(*tab, 1);
        check(last, &intervals[frame], true);
    }
}

#[test]
fn a_recording_that_was_cut_is_read_up_to_its_last_whole_line() {
    let text = recorded(&intervals(), 2);
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
    for cut in (0..text.len()).step_by(7) {
        let lines = ends.iter().filter(|end| **end <= cut).count();
        match open(&text.as_bytes()[..cut]) {
            Ok(recording) => assert_eq!(recording.frames.len(), (lines - 1).div_ceil(2)),
            Err(_) => assert!(lines < 2, "{cut}"),
        }
    }
}

#[test]
fn what_is_no_recording_is_refused_by_its_line() {
    let text = recorded(&intervals(), 1);
    let (head, lines) = text.split_once('\n').unwrap();
    let nested = format!("{}{}", "[".repeat(1 << 16), "]".repeat(1 << 16));
    let second = |what: &str| format!("{head}\n{what}\n{lines}");
    let first = lines.lines().next().unwrap();
    for (text, words) in [
        (String::new(), "line 1: it has no whole line"),
        ("{}\n".to_owned(), "line 1: it is not the first line"),
        (nested.clone() + "\n", "line 1"),
        (second("{}"), "line 2: it is not a line of a recording"),
        (second(&nested), "line 2"),
        (second("\u{1b}[31m"), "line 2"),
        (format!("{head}\n"), "has no reading"),
        (
            second(&first.replace("\"tab\":0", "\"tab\":1")),
            "line 2: there is no tab 1",
        ),
        (second(&first.replace("\"tab\":0", "\"tab\":-1")), "line 2"),
        (
            second(&first.replace("\"seconds\":1", "\"seconds\":-1")),
            "`seconds`",
        ),
        (
            second(&first.replace("\"seconds\":1", "\"seconds\":22222222222222222222")),
            "`seconds`",
        ),
        (
            second(&first.replace("\"seconds\":1", "\"seconds\":1e999")),
            "line 2",
        ),
        (second(&first.replace("2026-", "x")), "`time` is not a time"),
        (
            text.replacen("\"recording\":1", "\"recording\":2", 1),
            "later version",
        ),
        (text.replacen("\"every\":1", "\"every\":0", 1), "`every`"),
        (
            text.replacen("\"key_size\":16", "\"key_size\":15", 1),
            "not within its key",
        ),
        (
            text.replacen("\"step\":5", "\"step\":0", 1),
            "step of `latency`",
        ),
        (
            text.replacen("\"name\":\"max\"", "\"name\":\"calls\"", 1),
            "two columns",
        ),
    ] {
        let error = format!("{:#}", open(text.as_bytes()).unwrap_err());
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn rows_of_the_wrong_kind_are_refused_when_they_are_shown() {
    let text = recorded(&intervals(), 1);
    for (from, to, words) in [
        ("\"@key\":\"61", "\"@key\":\"6", "hexadecimal"),
        ("\"@key\":\"61", "\"@key\":\"", "a key has 15 bytes"),
        ("\"@key\":\"61", "\"key\":\"61", "no `@key`"),
        (
            "\"calls\":23",
            "\"calls\":-23",
            "`calls`: -23 is not a count",
        ),
        ("\"calls\":23", "\"calls\":\"23\"", "is not a count"),
        ("\"calls\":23", "\"calls\":1e300", "is not a count"),
        ("[10,23]", "[11,23]", "11 is not the edge"),
        ("[10,23]", "[10]", "pairs"),
        ("[10,23]", "[10,2.5]", "a count is a whole number"),
        ("\"latency\":{", "\"latency\":7,\"_\":{", "a histogram has"),
        ("\"letter\":\"a\"", "\"_\":0", "no `letter`"),
    ] {
        let text = text.replacen(from, to, 1);
        let mut recording = open(text.as_bytes()).unwrap();
        let error = recording.read(0, 1, |_, _| {}).unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.contains(words) && error.contains("line 2"),
            "{words}: {error}"
        );
    }
}

#[test]
fn a_recording_counts_what_its_intervals_count() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let text = recorded(&intervals()[..4], 1);
    file.write_all(text.as_bytes()).unwrap();
    let known = |_: &str| Vec::new();
    let read = || Document::read(file.path(), &known).unwrap();
    let all = read();
    assert_eq!((all.len(), all[0].tally.as_str()), (1, "t"));
    let counts: Vec<(u64, u64)> = all[0]
        .rows
        .values()
        .map(|cells| (cells[0], cells[2]))
        .collect();
    // By their labels: the empty name, `a\x`, `b`.
    assert_eq!(counts, [(2, 14), (24, 168), (43, 301)]);
    let compared = Comparison::of_all(all, read()).unwrap();
    let query = crate::snapshot::Query::default();
    let (_, rows) = compared[0].rows(&query).unwrap();
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row.cells[0] == row.cells[1]));
}
