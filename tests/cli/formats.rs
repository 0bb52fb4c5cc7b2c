//! JSON that programs read, and color that only terminals see.

use serde_json::Value;

use crate::{TALLIES, end, ktally, printed, program};

fn names(tallies: &[Value]) -> Vec<&str> {
    tallies
        .iter()
        .map(|tally| tally["name"].as_str().unwrap())
        .collect()
}

#[test]
fn list_as_json_is_one_array_of_every_tally() {
    let tallies: Vec<Value> = serde_json::from_str(&printed("list -o json")).unwrap();
    assert_eq!(names(&tallies), *TALLIES);
    for tally in &tallies {
        for table in tally["tables"].as_array().unwrap() {
            assert!(table["max_rows"].is_u64(), "{table}");
            assert!(!table["labels"].as_array().unwrap().is_empty(), "{table}");
            assert!(!table["metrics"].as_array().unwrap().is_empty(), "{table}");
        }
        for option in tally["options"].as_array().unwrap() {
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

#[test]
fn list_as_jsonl_is_a_tally_a_line() {
    let lines = printed("list -o jsonl");
    let tallies: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(names(&tallies), *TALLIES);
    let one: Value = serde_json::from_str(&printed("list runqlat -o jsonl")).unwrap();
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
    for word in [" no ", "CAP_BPF", "CAP_PERFMON", "root"] {
        assert!(line("capabilities").contains(word), "{word}: {table}");
    }
    for tally in TALLIES.iter() {
        let line = line(&format!("tally {tally}"));
        assert!(line.contains(" no "), "{table}");
        assert!(line.contains("run it as root"), "{table}");
    }
}

/// Neither promises what the other denies.
#[test]
fn list_and_check_agree() {
    let list: Vec<Value> = serde_json::from_str(&printed("list -o json")).unwrap();
    let check: Value = serde_json::from_str(&printed("check -o json")).unwrap();
    for (listed, checked) in list.iter().zip(check["tallies"].as_array().unwrap()) {
        assert_eq!(listed["name"], checked["name"]);
        assert_eq!(listed["runs_here"], checked["ok"]);
        assert_eq!(listed["obstacles"], checked["obstacles"]);
        assert_eq!(listed["runs_here"], false);
    }
    // Once for all of them.
    let table = printed("list");
    let told = table.lines().filter(|line| line.contains("CAP_BPF"));
    assert_eq!(told.count(), 1, "{table}");
}

#[test]
fn check_as_json() {
    let report: Value = serde_json::from_str(&printed("check -o json")).unwrap();
    let facts = report["facts"].as_array().unwrap();
    // What is not well comes with its fix, and only that.
    for fact in facts {
        assert_eq!(
            fact["ok"].as_bool().unwrap(),
            fact["fix"].is_null(),
            "{fact}"
        );
    }
    let capabilities = facts.iter().find(|fact| fact["name"] == "capabilities");
    assert_eq!(capabilities.unwrap()["ok"], false);
    let tallies = report["tallies"].as_array().unwrap();
    assert_eq!(names(tallies), *TALLIES);
    assert!(tallies.iter().all(|tally| tally["ok"] == false));
    assert_eq!(printed("check -o jsonl"), printed("check -o json"));
}

#[test]
fn color_only_where_it_is_wanted() {
    let escapes = |text: &str| text.contains('\x1b');
    for line in ["list", "list syscalls", "check"] {
        // A pipe is no terminal.
        assert!(!escapes(&printed(line)), "{line}");
        assert!(
            !escapes(&printed(&format!("{line} --color never"))),
            "{line}"
        );
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
    assert!(!escapes(&ktally(["--color", "never", "nonsense"]).stderr));
}
