//! README and `docs/`: the commands that they show are typed as they stand there, those of
//! a section one after the other. (`docs/tasks.md` and the questions of `docs/count.md`
//! have tests that look at what is shown, too.)

use std::path::Path;

use crate::count::typed::is_impossible as is_impossible_event;
use crate::instances::Host;
use crate::top::Top;
use crate::typed::{is_impossible, shell, type_in};

/// What a section needs and does not show, by its page and its heading.
const BEFORE: [(&str, &str, &str); 7] = [
    (
        "README.md",
        "What do you want to know?",
        "echo '#!/bin/sh' >make && chmod +x make",
    ),
    (
        "docs/export.md",
        "# Export",
        "ktally attach blkio --as disk &&
         ktally map create /sys/fs/bpf/counts --type array --key 4 --value 8 --max-entries 1",
    ),
    ("docs/guide.md", "A whole tally", "ktally new failures"),
    ("docs/maps.md", "# Live maps", "ktally attach syscalls"),
    (
        "docs/output.md",
        "openmetrics and prometheus",
        "ktally attach syscalls && mount -t tmpfs none /var/lib && mkdir /var/lib/node_exporter",
    ),
    (
        "docs/writing-a-tally.md",
        "2. One row for each process",
        "ktally new mine",
    ),
    (
        "docs/writing-a-tally.md",
        "How to test it",
        "ktally new mine",
    ),
];

/// What only names a command or a flag: all of it stands where it is explained.
const NAMES: [&str; 4] = [
    "ktally map add",
    "ktally map dump",
    "ktally map dump --recurse",
    "ktally top --map",
];

macro_rules! pages {
    ($($test:ident: $path:literal),* $(,)?) => {$(
        #[test]
        fn $test() {
            type_page($path, include_str!(concat!("../../", $path)));
        }
    )*};
}

pages! {
    readme: "README.md",
    architecture: "docs/architecture.md",
    benchmarks: "docs/benchmarks.md",
    count: "docs/count.md",
    export: "docs/export.md",
    guide: "docs/guide.md",
    kernels: "docs/kernels.md",
    live_maps: "docs/maps.md",
    objects_of_others: "docs/objects-of-others.md",
    operating: "docs/operating.md",
    output: "docs/output.md",
    reading_the_code: "docs/reading-the-code.md",
    tallies: "docs/tallies.md",
    writing_a_tally: "docs/writing-a-tally.md",
}

fn type_page(path: &str, text: &str) {
    for section in text.split("\n## ") {
        let (title, _) = section.split_once('\n').unwrap_or_default();
        let commands = commands(section);
        if commands.is_empty() {
            continue;
        }
        let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
        let before = BEFORE.iter().filter(|it| (it.0, it.1) == (path, title));
        before.for_each(|(.., line)| drop(type_in(&host, folder.path(), line).good()));
        for line in commands {
            type_one(&host, folder.path(), &as_here(path, &line));
        }
    }
}

/// The commands of a section, in its blocks and its sentences.
fn commands(section: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, part) in section.split("```").enumerate() {
        let is_block = number % 2 == 1;
        match is_block {
            true => found.extend(lines(part)),
            false => found.extend(spans(part)),
        }
    }
    found.retain(|line| line.starts_with("ktally ") && !NAMES.contains(&line.as_str()));
    found
}

/// Those behind a `$`, or all lines of a block without one.
fn lines(block: &str) -> impl Iterator<Item = String> {
    let has_prompt = block.contains("\n$ ");
    let lines = block.lines().filter_map(move |line| match has_prompt {
        true => line.strip_prefix("$ "),
        false => Some(line.trim_start_matches("if ")),
    });
    let lines = lines.filter_map(|line| line.split(" #").next());
    lines.map(|line| line.trim_end().trim_end_matches(" &").to_owned())
}

/// Not the name of a command alone, and without a word like NAME.
fn spans(text: &str) -> impl Iterator<Item = String> {
    let questions = |line: &&str| !line.contains("| `ktally count ");
    let text: Vec<&str> = text.lines().filter(questions).collect();
    let is_name = |word: &str| word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase());
    let is_whole = move |line: &&str| {
        let mut words = line.split([' ', '.', '@']);
        line.split(' ').count() > 2 && !words.any(is_name)
    };
    let text = text.join(" ");
    let spans = text.split('`').skip(1).step_by(2).filter(is_whole);
    spans.map(str::to_owned).collect::<Vec<_>>().into_iter()
}

fn type_one(host: &Host, folder: &Path, line: &str) {
    eprintln!("{line}");
    if line.starts_with("ktally top") {
        Top::of(shell(host, folder, line)).ends(|top| top.types("q"));
        return;
    }
    let ended = type_in(host, folder, line);
    let is_impossible = is_impossible(&ended.stderr) || is_impossible_event(&ended.stderr);
    // No disk is slow here.
    let is_met = ended.code == 6 && line.contains(" --until ");
    assert!(
        ended.code == 0 || is_met || is_impossible,
        "{line}: {ended:?}"
    );
}

/// The same command, which ends soon.
fn as_here(path: &str, line: &str) -> String {
    let mut words: Vec<&str> = line.split(' ').collect();
    for at in 2..words.len() {
        match words[at] {
            word if word.starts_with("-d") && word.len() > 2 => words[at] = "-d0.2",
            _ if words[at - 1] == "--for" => words[at] = "0.2",
            // Other tests have maps of this name.
            "syscalls" if path == "docs/maps.md" => {
                words[at] = "/sys/fs/bpf/ktally/syscalls/maps/syscalls";
            }
            _ => {}
        }
    }
    let goes_on = words[1] == "run" || words.contains(&"--every");
    let ends = |word: &&str| ["--for", "-d0.2", "--", "--help"].contains(word);
    if goes_on && !words.iter().any(ends) {
        words.insert(2, "--for 0.2");
    }
    if words[1] == "export" {
        words.insert(2, "--listen unix:./exporter");
        words.push("& sleep 1; kill $!; wait $!");
    }
    words.join(" ")
}
