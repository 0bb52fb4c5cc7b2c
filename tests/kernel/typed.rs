//! `docs/tasks.md`: its commands are typed as they stand there.

use std::path::Path;
use std::process::Command;

use ktally::tally::{Support, Tally};

use crate::common::{Ended, PROGRAM, end};
use crate::instances::Host;
use crate::support::{cases, wait_until};
use crate::top::Top;

/// A row: what is typed here and elsewhere, the keys of both, and columns.
struct Task {
    typed: &'static str,
    keys: &'static str,
    other: &'static str,
    other_keys: &'static str,
    shown: Vec<&'static str>,
}

fn tasks() -> impl Iterator<Item = Task> {
    let rows = include_str!("../../docs/tasks.md").lines();
    rows.filter(|row| row.contains("| `ktally ")).map(|row| {
        let cells: Vec<&str> = row.trim_matches(['|', ' ']).split(" | ").collect();
        let [_, typed, keys, other, other_keys, shown] = cells[..] else {
            panic!("not six cells: {row}");
        };
        Task {
            typed: typed.trim_matches('`'),
            keys,
            other: other.trim_matches('`'),
            other_keys,
            shown: shown.split(' ').filter(|word| *word != "-").collect(),
        }
    })
}

/// Whether a tally's obstacle on this kernel is what stderr tells.
pub fn is_impossible(stderr: &str) -> bool {
    let support = Support::probe();
    let tallies = Tally::builtins().unwrap();
    let mut obstacles = tallies.iter().flat_map(|tally| support.obstacles(tally));
    obstacles.any(|reason| stderr.contains(&reason))
}

/// A shell that runs this line in this folder, where `ktally` is the program.
pub fn shell(host: &Host, folder: &Path, line: &str) -> Command {
    let mut shell = host.inside("sh");
    let folders = Path::new(PROGRAM).parent().unwrap().to_str().unwrap();
    let path = format!("{folders}:.:{}", std::env::var("PATH").unwrap());
    // A process that enters a mount namespace starts in its root.
    let line = format!("cd {} && {line}", folder.display());
    shell.env("PATH", path).args(["-c", &line]);
    shell
}

pub fn type_in(host: &Host, folder: &Path, line: &str) -> Ended {
    end(&mut shell(host, folder, line))
}

/// The heading of a table: words of capitals; of CSV: names of columns.
pub fn has_column(answer: &str, word: &str) -> bool {
    let is_of_csv = |name: &str| {
        let name = name.to_uppercase();
        name == *word || name.ends_with(&format!("_{word}"))
    };
    let is_of_table = |name: &str| name.split('/').next() == Some(word);
    let is_it = |line: &str| match line.starts_with("\"table\"") {
        true => line.split(',').any(|it| is_of_csv(it.trim_matches('"'))),
        false => line.split_whitespace().any(is_of_table),
    };
    answer.lines().any(is_it)
}

#[test]
fn keys_are_counted() {
    let mut number = 0;
    for task in tasks() {
        assert_eq!(task.keys, task.typed.len().to_string(), "{}", task.typed);
        let keys = match task.other {
            "-" => "-".to_owned(),
            other => other.len().to_string(),
        };
        assert_eq!(task.other_keys, keys, "{}", task.other);
        number += 1;
    }
    assert!(number > 40, "{number}");
}

#[test]
fn each_command_answers() {
    let host = Host::new();
    let folder = tempfile::tempdir().unwrap();
    let is_live = |task: &Task| task.typed.starts_with("ktally top");
    let once = tasks().filter(|task| !is_live(task));
    let (runs, others): (Vec<_>, Vec<_>) = once.partition(|it| it.typed.starts_with("ktally run "));
    for task in cases(runs, 4).chain(others) {
        let ended = type_in(&host, folder.path(), task.typed);
        if ended.code != 0 && is_impossible(&ended.stderr) {
            continue;
        }
        assert_eq!(ended.code, 0, "{ended:?}");
        if task.typed.contains(" -o svg >f.svg") {
            let graph = std::fs::read_to_string(folder.path().join("f.svg")).unwrap();
            assert!(graph.contains("<svg"), "{graph}");
            continue;
        }
        // A table without rows has no heading; this has.
        let csv = task.typed.replace("ktally run ", "ktally run -o csv ");
        let csv = csv.replace(" -d1", " -d0");
        let answer = match csv == task.typed {
            true => ended.stdout,
            false => type_in(&host, folder.path(), &csv).done(),
        };
        for word in task.shown {
            assert!(has_column(&answer, word), "{csv}: no {word}: {answer}");
        }
    }
}

#[test]
fn each_live_view_shows_it() {
    let mut number = 0;
    for task in tasks() {
        let Some(line) = task.typed.strip_prefix("ktally top") else {
            continue;
        };
        number += 1;
        Top::start(&format!("top{line}")).ends(|top| {
            // Before the first reading there are no columns.
            wait_until(&format!("top{line} shows {:?}", task.shown), || {
                let screen = top.screen();
                task.shown.iter().all(|word| screen.contains(word))
            });
            top.types("q");
        });
    }
    assert_eq!(number, 3);
}
