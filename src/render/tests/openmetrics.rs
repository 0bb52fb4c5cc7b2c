//! The text that Prometheus reads.

use insta::assert_snapshot;

use super::*;

fn open(snapshots: &[Snapshot<'_>]) -> String {
    written(Format::OpenMetrics, snapshots)
}

fn written(format: Format, snapshots: &[Snapshot<'_>]) -> String {
    let mut out = Vec::new();
    let mut renderer = Renderer::new(format, STYLE);
    renderer.render(&mut out, snapshots, None).unwrap();
    String::from_utf8(out).unwrap()
}

/// Counters in three units, of two rows.
fn counters() -> Snapshot<'static> {
    let number = |name, byte, tags: &[&str]| member(name, byte, &Type::unsigned(8), tags);
    let columns = vec![
        counter("calls", 0),
        number("bytes", 8, &["counter:", "unit:bytes"]),
        number("time", 16, &["counter:time \"in\" them", "unit:us"]),
        number("depth", 24, &["gauge:how\ndeep"]),
        number("worst", 32, &["maximum:the longest", "unit:ns"]),
    ];
    let rows: [Row<'_>; 2] = [
        (
            "postgres",
            libc::SYS_read,
            &[61_520, 4096, 1_500_000, 3, 70],
        ),
        ("a\"b\\c\nd", libc::SYS_read, &[1, 0, 7, 0, 1_000_000_000]),
    ];
    let mut snapshot = one(table("files", columns), &rows);
    snapshot.tables[0].other = Some(vec![2, u64::MAX, 0, 0, 0]);
    snapshot.missed_by = vec![("sys_exit".to_owned(), 4)];
    snapshot.unraised = Some(5);
    snapshot
}

#[test]
fn openmetrics_has_base_units_and_escapes() {
    assert_snapshot!(open(&[counters()]), @r#"
    # HELP ktally_syscalls_files_calls all of them
    # TYPE ktally_syscalls_files_calls counter
    ktally_syscalls_files_calls_total{comm="postgres",call="read"} 61520
    ktally_syscalls_files_calls_total{comm="a\"b\\c\nd",call="read"} 1
    ktally_syscalls_files_calls_total{comm="other",call="other"} 2
    # HELP ktally_syscalls_files_bytes what happened
    # TYPE ktally_syscalls_files_bytes counter
    # UNIT ktally_syscalls_files_bytes bytes
    ktally_syscalls_files_bytes_total{comm="postgres",call="read"} 4096
    ktally_syscalls_files_bytes_total{comm="a\"b\\c\nd",call="read"} 0
    ktally_syscalls_files_bytes_total{comm="other",call="other"} 18446744073709551615
    # HELP ktally_syscalls_files_time_seconds time 'in' them
    # TYPE ktally_syscalls_files_time_seconds counter
    # UNIT ktally_syscalls_files_time_seconds seconds
    ktally_syscalls_files_time_seconds_total{comm="postgres",call="read"} 1.5
    ktally_syscalls_files_time_seconds_total{comm="a\"b\\c\nd",call="read"} 0.000007
    ktally_syscalls_files_time_seconds_total{comm="other",call="other"} 0
    # HELP ktally_syscalls_files_depth how\ndeep
    # TYPE ktally_syscalls_files_depth gauge
    ktally_syscalls_files_depth{comm="postgres",call="read"} 3
    ktally_syscalls_files_depth{comm="a\"b\\c\nd",call="read"} 0
    ktally_syscalls_files_depth{comm="other",call="other"} 0
    # HELP ktally_syscalls_files_worst_seconds the longest
    # TYPE ktally_syscalls_files_worst_seconds gauge
    # UNIT ktally_syscalls_files_worst_seconds seconds
    ktally_syscalls_files_worst_seconds{comm="postgres",call="read"} 0.00000007
    ktally_syscalls_files_worst_seconds{comm="a\"b\\c\nd",call="read"} 1
    ktally_syscalls_files_worst_seconds{comm="other",call="other"} 0
    # HELP ktally_counting_since_timestamp_seconds when counting began
    # TYPE ktally_counting_since_timestamp_seconds gauge
    # UNIT ktally_counting_since_timestamp_seconds seconds
    ktally_counting_since_timestamp_seconds{tally="syscalls"} 1795332137.123
    # HELP ktally_missed runs of a program that the kernel skipped
    # TYPE ktally_missed counter
    ktally_missed_total{tally="syscalls",program="sys_exit"} 4
    # HELP ktally_unraised attempts to raise a maximum that were given up
    # TYPE ktally_unraised counter
    ktally_unraised_total{tally="syscalls"} 5
    # HELP ktally_dropped events whose start found no memory, so that their time is unknown
    # TYPE ktally_dropped counter
    ktally_dropped_total{tally="syscalls",table="files"} 0
    # HELP ktally_table_rows rows that a table has
    # TYPE ktally_table_rows gauge
    ktally_table_rows{tally="syscalls",table="files"} 312
    # HELP ktally_table_uncertain_rows rows that lack the time of events which ended while they were read
    # TYPE ktally_table_uncertain_rows gauge
    ktally_table_uncertain_rows{tally="syscalls",table="files"} 0
    # EOF
    "#);
}

/// Line for line, the older format is OpenMetrics without its units and its end; only the
/// heads of counters differ.
#[test]
fn the_older_format_differs_in_its_heads() {
    let newer = open(&[counters()]);
    let has_older = |line: &&str| !line.starts_with("# UNIT") && *line != "# EOF";
    let newer: Vec<&str> = newer.lines().filter(has_older).collect();
    let older = written(Format::Prometheus, &[counters()]);
    let older: Vec<&str> = older.lines().collect();
    assert_eq!(older.len(), newer.len());
    let pairs = older.into_iter().zip(newer);
    let differing = pairs.filter(|(older, newer)| older != newer);
    let differing: Vec<&str> = differing.map(|(older, _)| older).collect();
    assert_snapshot!(differing.join("\n"), @r#"
    # HELP ktally_syscalls_files_calls_total all of them
    # TYPE ktally_syscalls_files_calls_total counter
    # HELP ktally_syscalls_files_bytes_total what happened
    # TYPE ktally_syscalls_files_bytes_total counter
    # HELP ktally_syscalls_files_time_seconds_total time 'in' them
    # TYPE ktally_syscalls_files_time_seconds_total counter
    # HELP ktally_missed_total runs of a program that the kernel skipped
    # TYPE ktally_missed_total counter
    # HELP ktally_unraised_total attempts to raise a maximum that were given up
    # TYPE ktally_unraised_total counter
    # HELP ktally_dropped_total events whose start found no memory, so that their time is unknown
    # TYPE ktally_dropped_total counter
    "#);
}

/// Every edge is there, whatever was counted, and is the one of JSON.
#[test]
fn histograms_have_every_edge() {
    let text = open(&[one_row()]);
    let labels = "comm=\"postgres\",call=\"read\"";
    let buckets: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("_bucket{"))
        .collect();
    assert_eq!(buckets.len(), Histogram::BUCKETS);
    let bucket = |le: &str, count: u64| {
        format!("ktally_syscalls_latency_seconds_bucket{{{labels},le=\"{le}\"}} {count}")
    };
    assert_eq!(buckets[0], bucket("1e-09", 0));
    assert_eq!(buckets[12], bucket("4.096e-06", 0));
    assert_eq!(buckets[13], bucket("8.192e-06", 60_110));
    assert_eq!(buckets[14], bucket("1.6384e-05", 61_520));
    assert_eq!(buckets[30], bucket("1.073741824", 61_520));
    assert_eq!(buckets[63], bucket("+Inf", 61_520));
    for line in [
        format!("ktally_syscalls_latency_seconds_sum{{{labels}}} 1.56"),
        format!("ktally_syscalls_latency_seconds_count{{{labels}}} 61520"),
        "# TYPE ktally_syscalls_latency_seconds histogram".to_owned(),
        "# UNIT ktally_syscalls_latency_seconds seconds".to_owned(),
    ] {
        assert!(text.lines().any(|it| it == line), "no `{line}`: {text}");
    }
    assert!(text.ends_with("\n# EOF\n"));
}

/// A family stands in one place, also where two tallies have it.
#[test]
fn families_of_two_tallies_are_one() {
    let mut other = counters();
    other.tally = "files".to_owned();
    let mut third = counters();
    third.tally = "files".to_owned();
    third.tables[0].rows = counters().tables[0].rows.clone();
    let text = open(&[other, third]);
    let heads = text.lines().filter(|line| line.starts_with("# TYPE"));
    let mut names: Vec<&str> = heads.collect();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
    let calls = "ktally_files_calls_total{comm=\"postgres\",call=\"read\"} 61520\n";
    assert_eq!(text.matches(calls).count(), 2);
}

/// The same name for another kind of number would make the text invalid.
#[test]
fn a_name_that_means_two_things_is_two_names() {
    let gauge = member("calls", 0, &Type::unsigned(8), &["gauge:"]);
    let of = |table| {
        let mut snapshot = one(table, &[("a", 0, &[3])]);
        snapshot.tally = "plain".to_owned();
        snapshot
    };
    let text = open(&[of(plain()), of(table("plain", vec![gauge]))]);
    for line in [
        "# TYPE ktally_plain_calls counter",
        "# TYPE ktally_plain_plain_calls gauge",
    ] {
        assert!(text.contains(line), "{text}");
    }
}
