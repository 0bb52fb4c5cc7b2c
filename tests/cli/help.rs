//! What the program says about itself.

use crate::common::{assert_has, full};
use crate::{TALLIES, end, ktally, printed, program};

#[test]
fn help_shows_every_subcommand_and_the_version_is_the_package_s() {
    let help = printed("--help");
    assert_has(
        &help,
        &[
            "list", "run", "attach", "status", "read", "rotate", "detach", "check",
        ],
    );
    assert_has(&help, &["--output", "--color", "--verbose"]);
    let version = format!("ktally {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(printed("--version"), version);
    assert!(printed("-h").len() <= help.len());
}

#[test]
fn help_of_run_has_the_tally_s_own_options() {
    for (tally, own) in [
        ("syscalls", "--pid --comm --uid --cgroup --cpu"),
        ("runqlat", "--pid --by-comm"),
        ("softirqs", "--cpu"),
    ] {
        let help = printed(&format!("run {tally} --help"));
        let (common, special) = help.split_once(&format!("Options of {tally}")).unwrap();
        assert!(common.contains("--max-rows"), "{help}");
        for option in own.split(' ') {
            let shown = |text: &str| text.contains(&format!("{option} "));
            assert!(
                shown(special) || special.contains(option),
                "{option}: {help}"
            );
            assert!(!shown(common), "{option}: {help}");
        }
    }
    assert!(!printed("run --help").contains("--pid"));
}

/// Each with its letter; those of a tally come from its C file.
#[test]
fn short_help_is_short_and_in_groups() {
    let (short, long) = (printed("run syscalls -h"), printed("run syscalls --help"));
    assert!(2 * short.lines().count() < long.lines().count(), "{short}");
    for help in [&short, &long] {
        let heads = "What to count, and for how long: | What to show: | How to show it: | Options of syscalls";
        let places = heads.split(" | ").map(|head| help.find(head));
        let places: Vec<usize> = places.map(Option::unwrap).collect();
        assert!(places.is_sorted(), "{help}");
        assert_has(
            help,
            &["-d, --for ", "-i, --every ", "-n, --top ", "-s, --sort "],
        );
        assert_has(help, &["-o, --output ", "-p, --pid ", "-c, --comm "]);
    }
    let read = printed("read -h");
    assert!(
        read.find("--every").unwrap() < read.find("--where").unwrap(),
        "{read}"
    );
    assert_has(&long, &["--max-rows", "--color", "--raw", "10.0.0.0/8"]);
    assert!(
        !short.contains("--max-rows") && !short.contains("--color"),
        "{short}"
    );
    assert!(!printed("run softirqs --help").contains("-p, "));
}

/// The same on a terminal, and where there is none to be seen.
#[test]
fn help_has_colors_on_a_terminal_alone() {
    assert!(!printed("run -h").contains('\u{1b}'));
    let forced = end(program().args(["run", "-h"]).env("CLICOLOR_FORCE", "1")).stdout;
    assert!(forced.contains("\u{1b}[36m--for"), "{forced}");
    let mut plain = program();
    plain.args(["run", "-h"]).env("CLICOLOR_FORCE", "1");
    assert!(!end(plain.env("NO_COLOR", "1")).stdout.contains("\u{1b}[3"));
}

#[test]
fn the_version_is_that_of_ktally_everywhere() {
    let version = printed("--version");
    for line in ["run --version", "run syscalls --version", "list --version"] {
        assert_eq!(printed(line), version, "{line}");
    }
}

#[test]
fn help_is_a_command_too() {
    for (line, same) in [
        ("help", "--help"),
        ("help run", "run --help"),
        ("help run syscalls", "run syscalls --help"),
        ("help map dump", "map dump --help"),
        ("map help dump", "map dump --help"),
    ] {
        assert_eq!(printed(line), printed(same), "{line}");
    }
    assert!(printed("--help").contains("  help  "));
}

/// Each page of `docs/`, by its topic and by its file.
#[test]
fn each_page_is_a_topic() {
    let help = printed("help");
    let (_, topics) = help.split_once("Topics").unwrap();
    let topics = topics.lines().filter(|line| line.starts_with("  "));
    let topics: Vec<&str> = topics
        .filter_map(|it| it.split_whitespace().next())
        .collect();
    let mut shown: Vec<String> = topics
        .iter()
        .map(|it| printed(&format!("help {it}")))
        .collect();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");
    let pages = std::fs::read_dir(folder)
        .unwrap()
        .map(|it| it.unwrap().path());
    let mut by_file: Vec<String> = pages
        .filter(|path| path.extension().is_some_and(|it| it == "md"))
        .map(|path| {
            printed(&format!(
                "help {}",
                path.file_name().unwrap().to_str().unwrap()
            ))
        })
        .collect();
    shown.sort();
    by_file.sort();
    assert_eq!(shown, by_file);
    let page = printed("help operating");
    let source = include_str!("../../docs/operating.md");
    let words = |text: &str| text.matches("CAP_SYS_ADMIN").count();
    assert_eq!(words(&page), words(source));
    assert!(
        page.starts_with("Operating ktally\n\n") && !page.contains("]("),
        "{page}"
    );
    assert!(
        page.lines().all(|line| line.chars().count() <= 100),
        "{page}"
    );
    assert_has(&printed("count --help"), &["ktally help queries"]);
}

#[test]
fn an_unknown_topic_has_a_hint() {
    ktally("help gide").failed(
        2,
        &["no topic or command named `gide`; did you mean `guide`?"],
    );
    ktally("help rum").failed(2, &["did you mean `run`?"]);
    ktally("help zzz").failed(2, &["known: `guide`, `tasks`"]);
    ktally("help syscalls").failed(2, &["is a tally", "ktally list syscalls"]);
    ktally("help guide -o json").failed(2, &["`help` has no output"]);
}

#[test]
fn help_that_cannot_be_written_is_an_error() {
    for line in [
        "--help",
        "run syscalls --help",
        "--version",
        "list",
        "check",
    ] {
        let ended = end(program().args(line.split(' ')).stdout(full()));
        ended.failed(1, &["No space left"]);
    }
}

#[test]
fn what_cannot_be_said_is_no_failure() {
    for (line, code) in [
        ("run nothing", 2),
        ("map lookup 1 --nothing", 2),
        ("list", 0),
    ] {
        end(program().args(line.split(' ')).stderr(full())).failed(code, &[]);
    }
}

#[test]
fn help_of_what_stays_has_what_it_takes() {
    let attach = printed("attach runqlat --help");
    assert_has(&attach, &["--as ", "--replace", "--readable-by"]);
    assert_has(&attach, &["Options of runqlat", "--by-comm"]);
    assert!(!printed("attach --help").contains("--by-comm"));
    // A reading is shown in the same ways, of a run or an instance.
    let (run, read) = (printed("run --help"), printed("read --help"));
    for help in [&run, &read] {
        assert_has(help, &["--every", "--by ", "--top", "--sort"]);
        assert_has(help, &["--where", "--histogram", "--raw", "--strict"]);
    }
    assert!(!read.contains("--max-rows"), "{read}");
    assert!(printed("detach --help").contains("--keep"));
}

#[test]
fn list_has_a_line_a_tally() {
    let list = printed("list");
    let lines: Vec<&str> = list.lines().collect();
    assert!(lines[0].starts_with("NAME"), "{list}");
    assert!(!lines[0].contains("TABLES"), "{list}");
    for (line, tally) in lines[1..].iter().zip(TALLIES.iter()) {
        assert!(line.starts_with(tally), "{list}");
    }
    let bare = printed("list --no-header");
    assert!(bare.starts_with(&TALLIES[0]), "{bare}");
}

#[test]
fn list_of_one_tally_has_its_columns_and_options() {
    for tally in TALLIES.iter() {
        let full = printed(&format!("list {tally}"));
        assert!(full.starts_with(&format!("{tally}: ")), "{full}");
        assert_has(&full, &[&format!("table {tally}: ")]);
    }
    let full = printed("list syscalls");
    let lines = [
        "comm       key        comm      the name of a thread or program\n",
        "latency    histogram  ns        time of one call",
        "under_way  gauge      -         events that have begun and not ended",
        // These do nothing until they are given.
        "-p, --pid                      PID         count only this process\n",
        "--uid                          UID         count only this user's processes\n",
        "pid        key        pid       the number of a process or thread; with --by-pid\n",
    ];
    assert_has(&full, &lines);
    for tally in ["kfunc", "locks", "offcpu", "reclaim", "ufunc", "workqueue"] {
        assert_has(
            &printed(&format!("list {tally}")),
            &[" rows, sorted by time)"],
        );
    }
    assert_has(
        &printed("list locks"),
        &["enum kind  spinlock, rwlock_read, "],
    );
    assert_has(
        &printed("list offcpu"),
        &["how the task sleeps; interruptible, idle last"],
    );
    let profile = printed("list profile");
    let hz = "--hz                           N           samples a second and CPU [default: 99]\n";
    assert!(profile.contains(hz), "{profile}");
}

/// A newcomer finds each by a question.
#[test]
fn the_tasks_have_a_question_for_every_tally() {
    let tasks = include_str!("../../docs/tasks.md");
    for tally in TALLIES.iter() {
        let answers = tasks.lines().filter(|line| line.starts_with("| "));
        let run = format!("| `ktally run {tally} ");
        let end = format!("| `ktally run {tally}`");
        let mut found = answers.filter(|line| line.contains(&run) || line.contains(&end));
        assert!(found.next().is_some(), "{tally}");
    }
}

/// Who counts need not know C.
#[test]
fn options_take_words_not_types_of_c() {
    for tally in TALLIES.iter() {
        let list = printed(&format!("list {tally}"));
        let (_, options) = list.split_once("\noptions\n").unwrap_or_default();
        let help = printed(&format!("run {tally} --help"));
        let (_, own) = help.split_once("Options of").unwrap_or_default();
        for text in [options, own] {
            for word in ["_t ", "_t>", "__u", "default: 0", "false]", "4294967295"] {
                assert!(!text.contains(word), "{word}: {text}");
            }
        }
    }
}

/// Each verb of `map` offers what it takes, and refuses the rest.
#[test]
fn verbs_of_map_say_what_they_write() {
    let help = |verb: &str| ktally(["map", verb, "--help"]).stdout;
    assert!(!help("dump").contains("svg") && help("dump").contains("csv"));
    assert!(!help("watch").contains("- json:") && help("watch").contains("- jsonl:"));
    assert!(!help("save").contains("--output") && help("save").contains("--raw"));
    assert!(!help("list").contains("--raw"));
    assert!(ktally("map --help").stdout.contains("NAME:42"));
}
