//! `docs/count.md`: its commands are typed as they stand there, and each is a C file.

use ktally::tally::{Session, Tally};

use crate::instances::Host;
use crate::support::cases;
use crate::typed::{has_column, type_in};

/// What is typed, and the columns of it.
fn questions() -> impl Iterator<Item = (&'static str, &'static str)> {
    let rows = include_str!("../../../docs/count.md").lines();
    rows.filter(|row| row.contains("| `ktally count "))
        .map(|row| {
            let cells: Vec<&str> = row.trim_matches(['|', ' ']).split(" | ").collect();
            let [_, typed, shown] = cells[..] else {
                panic!("not three cells: {row}");
            };
            (typed.trim_matches('`'), shown)
        })
}

/// Whether this kernel cannot count it, and says so.
pub fn is_impossible(stderr: &str) -> bool {
    [
        "cannot be counted here",
        "no event named",
        "no value named",
        "no member of",
    ]
    .iter()
    .any(|words| stderr.contains(words))
}

#[test]
fn each_question_is_answered() {
    assert!(questions().count() > 20);
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let mut answered = 0;
    for (typed, shown) in cases(questions(), 4) {
        // A table without rows has no heading; this has.
        let csv = typed.replace(" -d1", " -d0 -o csv");
        assert_ne!(csv, typed);
        let ended = type_in(&host, folder.path(), &csv);
        if ended.code != 0 && is_impossible(&ended.stderr) {
            continue;
        }
        let answer = ended.done();
        for word in shown.split(' ') {
            assert!(has_column(&answer, word), "{csv}: no {word}: {answer}");
        }
        answered += 1;
    }
    assert!(answered > 3, "{answered}");
}

#[test]
fn each_question_is_a_c_file() {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let file = folder.path().join("question.bpf.c");
    for (typed, _) in cases(questions(), 4) {
        let ended = type_in(&host, folder.path(), &typed.replace(" -d1", " --print"));
        if ended.code != 0 && is_impossible(&ended.stderr) {
            continue;
        }
        std::fs::write(&file, ended.done()).unwrap();
        let tally = Tally::find(file.as_os_str()).unwrap();
        Session::verify(&tally, &[]).unwrap_or_else(|error| panic!("{typed}: {error:#}"));
    }
}
