//! JSON that programs read, and color that only terminals see.

use serde_json::Value;

use crate::common::schema::assert_documented;
use crate::common::{assert_has, items, json, json_lines};
use crate::{TALLIES, end, ktally, printed, program};

fn names(tallies: &[Value]) -> Vec<&str> {
    tallies
        .iter()
        .map(|tally| tally["name"].as_str().unwrap())
        .collect()
}

#[test]
fn list_as_json_is_one_array_of_every_tally() {
    let list = json(&printed("list -o json"));
    let tallies = items(&list);
    assert_eq!(names(tallies), *TALLIES);
    for tally in tallies {
        for table in items(&tally["tables"]) {
            assert!(table["max_rows"].is_u64(), "{table}");
            assert!(!items(&table["keys"]).is_empty(), "{table}");
            assert!(!items(&table["metrics"]).is_empty(), "{table}");
        }
        for option in items(&tally["options"]) {
            assert!(option["name"].is_string(), "{option}");
            assert!(!option["type"].as_str().unwrap().is_empty(), "{option}");
            // 0 would be root, or the first CPU, where none is meant.
            let has_none = option["name"] == "uid" || option["name"] == "cpu";
            assert_eq!(option["default"].is_null(), has_none, "{option}");
        }
    }
    let runqlat = tallies.iter().find(|tally| tally["name"] == "runqlat");
    let mut options = runqlat.unwrap()["options"].as_array().unwrap().iter();
    let by_comm = options.find(|it| it["name"] == "by-comm").unwrap();
    assert_eq!(by_comm["type"], "bool");
    assert_eq!(by_comm["default"], false);
}

/// What can be filtered by task can be split by it, by every part of who it is.
#[test]
fn tallies_of_tasks_tell_who() {
    // Requests and connections have no filters, as they end where no task is.
    let list = json(&printed("list -o json"));
    for tally in items(&list) {
        let has = |name: &str| items(&tally["options"]).iter().any(|it| it["name"] == name);
        if !has("comm") && !has("by-pid") {
            continue;
        }
        for table in items(&tally["tables"]) {
            let with = |name: &str| {
                let mut labels = items(&table["keys"]).iter();
                let label = labels.find(|label| label["name"] == name);
                label.map(|label| label["with"].clone())
            };
            let of_comm = has("by-comm").then_some("by-comm");
            assert_eq!(with("comm"), Some(of_comm.into()), "{table}");
            for (name, option) in [
                ("pid", "by-pid"),
                ("tid", "by-tid"),
                ("cgroup", "by-cgroup"),
            ] {
                assert_eq!(with(name), Some(option.into()), "{table}");
                assert!(has(option), "{tally}");
            }
        }
        assert!(has("process-name"), "{tally}");
    }
}

#[test]
fn list_as_jsonl_is_a_tally_a_line() {
    let tallies = json_lines(&printed("list -o jsonl"));
    assert_eq!(names(&tallies), *TALLIES);
    let one = json(&printed("list runqlat -o jsonl"));
    assert!(tallies.contains(&one), "{one}");
}

/// `check` reports; only what it reports may be bad news.
#[test]
fn check_names_missing_capabilities_and_the_fix() {
    let table = printed("check");
    let line = |start: &str| {
        let found = table.lines().find(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("{start}: {table}"))
    };
    assert_has(
        line("capabilities"),
        &[" no ", "CAP_BPF", "CAP_PERFMON", "root"],
    );
    for tally in TALLIES.iter() {
        let line = line(&format!("tally {tally}"));
        assert_has(line, &[" no ", "run it as root"]);
    }
}

/// Neither promises what the other denies.
#[test]
fn list_and_check_agree() {
    let list = json(&printed("list -o json"));
    let check = json(&printed("check -o json"));
    let tallies = items(&check["tallies"]);
    for (listed, checked) in items(&list).iter().zip(tallies) {
        assert_eq!(listed["name"], checked["name"]);
        assert_eq!(listed["runs_here"], checked["ok"]);
        assert_eq!(listed["obstacles"], checked["obstacles"]);
        assert_eq!(listed["runs_here"], false);
    }
    // Once for all of them.
    let table = printed("list");
    assert_eq!(table.matches("CAP_BPF").count(), 1, "{table}");
}

#[test]
fn check_as_json() {
    let report = json(&printed("check -o json"));
    let facts = items(&report["facts"]);
    // What is not well comes with its fix, and only that.
    for fact in facts {
        let is_well = fact["ok"].as_bool().unwrap();
        assert_eq!(is_well, fact["fix"].is_null(), "{fact}");
    }
    let capabilities = facts.iter().find(|fact| fact["name"] == "capabilities");
    assert_eq!(capabilities.unwrap()["ok"], false);
    let tallies = items(&report["tallies"]);
    assert_eq!(names(tallies), *TALLIES);
    assert!(tallies.iter().all(|tally| tally["ok"] == false));
    assert_eq!(printed("check -o jsonl"), printed("check -o json"));
}

#[test]
fn list_and_check_have_what_is_documented() {
    for command in ["list", "check"] {
        assert_documented(command, |format| ktally([command, "-o", format]));
    }
    for event in ["sched_sw", "sched_switch"] {
        assert_documented("events", |format| ktally(["events", event, "-o", format]));
    }
}

/// The columns of CSV are the fields of JSON; an object or a list is JSON.
#[test]
fn csv_has_what_json_has() {
    let tallies: Vec<Value> = serde_json::from_str(&printed("list -o json")).unwrap();
    let csv = printed("list -o csv");
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let heads = reader.headers().unwrap().clone();
    assert!(heads.iter().eq(tallies[0].as_object().unwrap().keys()));
    let mut records = 0;
    for (record, tally) in reader.records().map(Result::unwrap).zip(&tallies) {
        for (head, field) in heads.iter().zip(&record) {
            let as_json: Value = serde_json::from_str(field).unwrap_or_else(|_| field.into());
            assert_eq!(as_json, tally[head], "{head}: {record:?}");
        }
        records += 1;
    }
    assert_eq!(records, TALLIES.len());

    let csv = printed("check -o csv");
    assert!(
        csv.starts_with("\"name\",\"ok\",\"found\",\"fix\"\n"),
        "{csv}"
    );
    let tally = format!("\n\"tally {}\",\"false\",\"\",", TALLIES[0]);
    assert!(csv.contains(&tally), "{csv}");
    assert!(!printed("check -o csv --no-header").contains("\"fix\""));
}

/// By words of the summary and of the overview, and by the names of other tools.
#[test]
fn list_searches() {
    let found = |word: &str| -> Vec<String> {
        let listed = printed(&format!("list -o jsonl {word}"));
        let lines = listed
            .lines()
            .map(serde_json::from_str::<serde_json::Value>);
        let name = |line: serde_json::Value| line["name"].as_str().unwrap().to_owned();
        lines.map(|line| name(line.unwrap())).collect()
    };
    assert_eq!(found("runqslower"), ["runqlat"]);
    assert_eq!(found("Disk"), ["blkio"]);
    assert_eq!(found("block"), ["blkio", "cgroups", "offcpu"]);
    assert_eq!(found("blkio"), ["blkio"]);
}

#[test]
fn color_only_where_it_is_wanted() {
    let escapes = |text: &str| text.contains('\x1b');
    for line in ["list", "list syscalls", "check"] {
        // A pipe is not a terminal.
        assert!(!escapes(&printed(line)), "{line}");
        let never = printed(&format!("{line} --color never"));
        assert!(!escapes(&never), "{line}");
        let always = printed(&format!("{line} --color always"));
        assert!(escapes(&always), "{line}: {always}");
        let wished = |name, value| end(program().args(line.split(' ')).env(name, value)).stdout;
        assert!(!escapes(&wished("NO_COLOR", "1")), "{line}");
        assert!(escapes(&wished("CLICOLOR_FORCE", "1")), "{line}");
    }
    // What the user types wins over what the environment says.
    let mut both = program();
    both.args(["list", "--color", "never"])
        .env("CLICOLOR_FORCE", "1");
    assert!(!escapes(&end(&mut both).stdout));
    assert!(!escapes(&ktally("--color never nonsense").stderr));
    assert!(!escapes(&printed("run --help --color never")));
    assert!(escapes(&printed("run --color=always -h")));
    assert!(escapes(&ktally("--color always nonsense").stderr));
}
