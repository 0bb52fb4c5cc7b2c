//! `ktally diff`: files with known numbers.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use tempfile::NamedTempFile;

use crate::common::schema::assert_documented;
use crate::common::{Ended, assert_has, end, program};
use crate::ktally;

/// A file that every user can read.
fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let everyones = Permissions::from_mode(0o644);
    file.as_file().set_permissions(everyones).unwrap();
    file
}

/// A reading of `syscalls`, of so many seconds, with rows of comm, call and calls.
fn reading(seconds: u32, rows: &[(&str, &str, u64)]) -> String {
    let rows = rows.iter().map(|(comm, call, calls)| {
        let latency = json!({"count": calls, "sum": 1000 * calls, "mean": 1000.0, "p50": 768.0,
            "p90": 972.8, "p99": 1018.88, "buckets": [[1024, calls]]});
        json!({"comm": comm, "call": call, "calls": calls, "errors": 0, "time": 1000 * calls,
            "latency": latency, "max": 1000, "under_way": 0})
    });
    let rows: Vec<_> = rows.collect();
    let table = json!({"name": "syscalls", "rows_read": rows.len(), "dropped": 0, "reset": 0, "rows": rows});
    let reading = json!({"tally": "syscalls", "time": "2026-11-30T15:15:25.687Z", "seconds": seconds,
        "missed": 0, "incomplete": false, "tables": [table]});
    format!("{reading}\n")
}

fn before() -> String {
    reading(
        2,
        &[("dd", "read", 46), ("dd", "write", 74), ("cat", "read", 4)],
    )
}

/// As lines of two intervals: 23 a second to 46, 37 to 37, a new row and one that goes.
fn after() -> String {
    let first = reading(1, &[("dd", "read", 40), ("dd", "write", 37)]);
    first
        + &reading(
            1,
            &[("dd", "read", 52), ("dd", "write", 37), ("sh", "read", 6)],
        )
}

fn diff(before: &str, after: &str, more: &[&str]) -> Ended {
    let files = [file(before), file(after)];
    let paths = files.each_ref().map(|file| file.path().to_str().unwrap());
    let mut args = vec!["diff", paths[0], paths[1]];
    args.extend(more);
    ktally(&args[..])
}

#[test]
fn rows_are_compared_by_their_labels() {
    let shown = diff(&before(), &after(), &[]).good().stdout;
    let lines: Vec<Vec<&str>> = shown
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0], ["syscalls:", "2.0", "s,", "before", "2.0", "s"]);
    let start = |line: usize| lines[line][..5].to_vec();
    assert_eq!(start(2), ["dd", "read", "46", "23", "×2.0"], "{shown}");
    assert_eq!(start(3), ["sh", "read", "3", "-", "new"], "{shown}");
    assert_eq!(start(4), ["cat", "read", "-", "2", "gone"], "{shown}");
    assert_eq!(start(5), ["dd", "write", "37", "37", "+0%"], "{shown}");
    assert_eq!(lines[6], ["4", "rows"]);
}

/// For people they have separators.
/// Of a tally that this version does not know, as `ktally count` makes them.
#[test]
fn extremes_are_no_rates() {
    let reading = |seconds: u32, max: u64, min: Option<u64>| {
        let row = json!({"comm": "dd", "events": 4, "size.max": max, "size.min": min});
        let table = json!({"name": "events", "rows_read": 1, "rows": [row]});
        let reading = json!({"tally": "sys_enter", "seconds": seconds, "tables": [table]});
        format!("{reading}\n")
    };
    let before = reading(2, 9, Some(6)) + &reading(2, 8, Some(5)) + &reading(2, 0, None);
    let compared = diff(&before, &reading(1, 7, Some(4)), &["-o", "json"]).json();
    let numbers = &compared[0]["rows"][0]["numbers"];
    let number = |i: usize| [&numbers[i]["before"], &numbers[i]["after"]];
    assert_eq!(numbers[1]["column"], "size.max");
    assert_eq!([number(0), number(1), number(2)], [[12, 4], [9, 7], [5, 4]]);
}

#[test]
fn numbers_of_a_footer_are_plain_in_csv() {
    let names: Vec<String> = (0..1000).map(|i| format!("c{i}")).collect();
    let rows: Vec<_> = names.iter().map(|it| (it.as_str(), "read", 1)).collect();
    let many = reading(1, &rows);
    let footer = |more: &[&str]| {
        let shown = diff(&many, &many, more).good().stdout;
        shown.lines().last().unwrap().to_owned()
    };
    assert_eq!(footer(&[]), "1,000 rows");
    assert_eq!(footer(&["--top", "2"]), "2 of 1,000 rows");
    assert_eq!(footer(&["-o", "csv"]), "# 1000 rows");
}

#[test]
fn every_format_has_exact_numbers() {
    let run = |format: &str| diff(&before(), &after(), &["-o", format]).good();
    assert_documented("diff", run);
    let document = run("json").json();
    let row = &document[0]["rows"][0];
    assert_eq!(row["labels"], json!({"comm": "dd", "call": "read"}));
    assert_eq!(row["change"], "both");
    let calls = json!({"column": "calls", "before": 46, "after": 92, "change": 2.0});
    assert_eq!(row["numbers"][0], calls);
    let columns = row["numbers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["column"].as_str().unwrap());
    let columns: Vec<&str> = columns.filter(|it| it.starts_with("latency")).collect();
    let parts = [
        "latency.count",
        "latency.mean",
        "latency.p50",
        "latency.p90",
        "latency.p99",
    ];
    assert_eq!(columns, parts);
    let csv = run("csv").stdout;
    assert_has(
        &csv,
        &[
            "\"table\",\"change\",\"comm\",\"call\",\"calls_before\",\"calls_after\",\"calls_change\"",
        ],
    );
    assert_has(&csv, &["\"syscalls\",\"new\",\"sh\",\"read\",\"\",6,\"\""]);
}

#[test]
fn rows_are_filtered_grouped_sorted_and_cut() {
    let rows = |more: &[&str]| {
        let more = [more, &["-o", "json"]].concat();
        let document = diff(&before(), &after(), &more).good().json();
        let rows = document[0]["rows"].as_array().unwrap().clone();
        rows.iter()
            .map(|row| {
                let labels = row["labels"].as_object().unwrap().values();
                let labels: Vec<&str> = labels.map(|it| it.as_str().unwrap()).collect();
                format!("{} {}", labels.join(" "), row["numbers"][0]["after"])
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(rows(&["--where", "comm=dd", "--top", "1"]), ["dd read 92"]);
    assert_eq!(
        rows(&["--where", "calls>70"]),
        ["dd read 92", "dd write 74"]
    );
    assert_eq!(rows(&["--by", "call"]), ["read 98", "write 74"]);
    assert_eq!(rows(&["--sort", "comm"])[0], "cat read null");
    assert_eq!(rows(&["--sort=-calls"])[0], "dd write 74");
}

#[test]
fn a_pipe_is_as_good_as_a_file() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(before().as_bytes()).unwrap();
    drop(writer);
    let after = file(&after());
    let mut command = program();
    command.stdin(reader).args(["diff", "/dev/stdin"]);
    let ended = end(command.arg(after.path())).good();
    assert_has(
        &ended.stdout,
        &["dd    read        46", "dd    write       37"],
    );
}

/// A document may come from anywhere.
#[test]
fn the_tally_of_a_document_is_not_compiled() {
    let folder = tempfile::tempdir().unwrap();
    let [clang, was_run, source] =
        ["clang", "was_run", "x.bpf.c"].map(|name| folder.path().join(name));
    fs::write(&source, "").unwrap();
    fs::write(&clang, format!("#!/bin/sh\n: > {}\n", was_run.display())).unwrap();
    fs::set_permissions(&clang, Permissions::from_mode(0o755)).unwrap();
    let own = format!("\"tally\":\"{}\"", source.display());
    let document = file(&before().replace("\"tally\":\"syscalls\"", &own));
    let mut command = program();
    command.env("PATH", folder.path()).arg("diff");
    let ended = end(command.args([document.path(), document.path()])).good();
    assert_has(&ended.stdout, &[source.to_str().unwrap()]);
    assert!(!was_run.exists());
}

#[test]
fn errors_name_the_file_and_the_reason() {
    let runqlat = before().replace("syscalls", "runqlat");
    let grouped = before().replace("\"call\":", "\"error\":");
    for (before, after, words) in [
        (before(), "{".to_owned(), "is not a document of ktally"),
        (before(), "{}".to_owned(), "it is not a reading of ktally"),
        (before(), "7".to_owned(), "it is not a reading of ktally"),
        (before(), String::new(), "is empty"),
        (before() + "\n\n{]", after(), "line 4"),
        (
            before(),
            runqlat,
            "different tallies: `syscalls` and `runqlat`",
        ),
        (before(), grouped, "read both with the same --by"),
        (
            before().replace("74", "-74"),
            after(),
            "`calls`: -74 is not a count",
        ),
        ("[".repeat(100_000), after(), "recursion limit"),
    ] {
        let ended = diff(&before, &after, &[]);
        assert_eq!(ended.code, 1, "{words}: {ended:?}");
        assert_has(&ended.stderr, &[words]);
    }
    let ended = diff(&before(), &after(), &["--where", "nothing=1"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    let ended = ktally(&["diff", "/nothing", "/nothing"][..]);
    assert_has(&ended.stderr, &["failed to open `/nothing`"]);
}

/// Slots of objects without tags have no sum, and edges below powers of two.
#[test]
fn histograms_without_a_sum_are_compared() {
    let reading = |count: u64| {
        let slots = json!({"count": count, "sum": null, "mean": null, "p50": 5.0, "p90": 5.0,
            "p99": 5.0, "buckets": [[7, count]]});
        let row = json!({"key": 1, "slots": slots});
        let table =
            json!({"name": "hists", "rows_read": 1, "dropped": null, "reset": 0, "rows": [row]});
        let reading = json!({"tally": "others", "time": "2026-11-30T15:15:25.687Z", "seconds": 1,
            "missed": 0, "incomplete": false, "tables": [table]});
        format!("{reading}\n")
    };
    let shown = diff(&reading(23), &reading(46), &["-o", "json"])
        .good()
        .stdout;
    assert_has(&shown, &["23", "46"]);
}
