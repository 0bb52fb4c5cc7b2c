//! Holds what `docs/architecture.md` says: who may import whom, who may be
//! unsafe, and that the frontend names no tally. It reads text, not types, so
//! it asks for plain paths: `use crate::module::...`, one module per line.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ktally::names::{decoders, is_known};
use ktally::schema::Decoder;

/// The modules from top to bottom, and the modules below that each may use.
const MODULES: [(&str, &str); 18] = [
    ("main", "cli commands tally error"),
    (
        "commands",
        "cli tui export render recording tally map query snapshot names schema host error text",
    ),
    (
        "cli",
        "render tally query snapshot names schema internal error text",
    ),
    ("tui", "render recording snapshot schema error text"),
    ("export", "render snapshot schema error"),
    ("render", "recording snapshot schema error text"),
    ("recording", "snapshot schema error"),
    (
        "tally",
        "map snapshot query names schema host internal sys error text",
    ),
    ("map", "names schema host internal sys error"),
    ("snapshot", "schema error"),
    ("query", "schema error"),
    ("names", "schema host sys error"),
    ("schema", "sys error text"),
    ("host", ""),
    ("internal", ""),
    ("sys", "text"),
    ("error", "text"),
    ("text", ""),
];

/// Crates that only some files may mention.
const CRATES: [(&str, &str); 7] = [
    ("blazesym", "names/symbols.rs"),
    ("inferno", "render/flame.rs"),
    ("ratatui", "tui/ commands/top/"),
    ("hyper", "commands/export/"),
    ("tokio", "commands/export/"),
    ("clap", "main.rs cli.rs cli/ commands/"),
    ("libbpf_rs", "sys.rs sys/ map/ tally/ schema/btf/"),
];

/// The only files with unsafe code, and with libbpf's own functions.
const UNSAFE: &str = "map/add.rs map/drain.rs map/helper.rs map/iterator.rs \
    schema/btf/object.rs sys.rs sys/btf.rs sys/log.rs sys/map.rs sys/program.rs";
const LIBBPF: &str = "map/errors.rs sys.rs sys/btf.rs sys/log.rs sys/map.rs sys/program.rs tally/count.rs \
    tally/headers.rs tally/target.rs";

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap()
}

/// Files below a folder of `src/` with this ending: path within `src/`, text.
fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root("src").join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                let name = path.strip_prefix(root("src")).unwrap().to_str().unwrap();
                found.push((name.to_owned(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// The Rust files of the program itself, without comments and tests.
fn program() -> Vec<(String, String)> {
    files("", ".rs")
        .into_iter()
        .filter(|(path, _)| !path.ends_with("tests.rs") && !path.contains("/tests/"))
        .map(|(path, text)| (path, code(&text)))
        .collect()
}

/// Without the tests at the end of a file.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\n").next().unwrap_or_default()
}

/// Without comments either.
fn code(text: &str) -> String {
    let lines = without_tests(text).lines().map(|line| {
        let is_comment = line.trim_start().starts_with("//");
        let code = line.split(" // ").next().unwrap_or_default();
        if is_comment { "" } else { code }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// State that finds no memory is counted as dropped: `tally_state()` does so.
#[test]
fn tallies_make_state_of_tasks_where_failures_are_counted() {
    for (path, text) in files("bpf", ".bpf.c") {
        assert!(!mentions(&text, "BPF_LOCAL_STORAGE_GET_F_CREATE"), "{path}");
    }
}

/// `schema/btf.rs` is in `schema`, `sys.rs` in `sys`.
fn module(path: &str) -> &str {
    let first = path.split('/').next().unwrap_or_default();
    first.trim_end_matches(".rs")
}

/// The identifiers of a text, each with what stands right before it.
fn words(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut end = 0;
    std::iter::from_fn(move || {
        let start = end + text[end..].find(is_word)?;
        end = start
            + text[start..]
                .find(|c| !is_word(c))
                .unwrap_or(text.len() - start);
        Some((&text[..start], &text[start..end]))
    })
}

fn mentions(text: &str, name: &str) -> bool {
    words(text).any(|(_, word)| word == name)
}

/// Where one file imports what it must not.
fn violations(path: &str, text: &str) -> Vec<String> {
    let (code, module) = (code(text), module(path));
    let Some((_, allowed)) = MODULES.iter().find(|(name, _)| *name == module) else {
        return vec![format!(
            "{path}: `{module}` is not a module of the architecture"
        )];
    };
    // `main.rs` sees the modules as another crate does.
    let root = if module == "main" {
        "ktally::"
    } else {
        "crate::"
    };
    let used = words(&code).filter(|(before, _)| before.ends_with(root));
    let mut found: Vec<String> = used
        .filter(|(_, word)| *word != module && !mentions(allowed, word))
        .map(|(_, word)| format!("{path}: `{module}` must not use `{word}`"))
        .collect();
    // What would hide a path from the lines above.
    for hidden in ["crate::{", "ktally::{", "super::super::", "use crate as"] {
        if code.contains(hidden) {
            found.push(format!("{path}: `{hidden}` hides what is used"));
        }
    }
    if !path.contains('/') && code.contains("super::") {
        found.push(format!(
            "{path}: `super::` of a module is the whole program"
        ));
    }
    for (name, places) in CRATES {
        let mut places = places.split(' ');
        if mentions(&code, name) && !places.any(|place| path.starts_with(place)) {
            found.push(format!("{path}: must not mention `{name}`"));
        }
    }
    found
}

/// The texts between double quotes.
fn literals(text: &str) -> Vec<&str> {
    text.lines()
        .flat_map(|line| line.split('"').skip(1).step_by(2))
        .collect()
}

fn tallies() -> Vec<String> {
    let files = files("bpf", ".bpf.c").into_iter();
    let names = files.map(|(path, _)| path["bpf/".len()..].trim_end_matches(".bpf.c").to_owned());
    names.filter(|name| !name.contains('/')).collect()
}

/// The program's files that mention a name.
fn files_that_mention(name: &str) -> String {
    let mut files = program();
    files.retain(|(_, text)| mentions(text, name));
    let paths: Vec<String> = files.into_iter().map(|(path, _)| path).collect();
    paths.join(" ")
}

#[test]
fn imports_point_downward() {
    let found: Vec<String> = program()
        .iter()
        .filter(|(path, _)| path != "lib.rs")
        .flat_map(|(path, text)| violations(path, text))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// A module that is listed above another never stands in the other's list.
#[test]
fn the_modules_are_in_order() {
    for (rank, (module, allowed)) in MODULES.iter().enumerate() {
        for below in allowed.split_whitespace() {
            let other = MODULES.iter().position(|(name, _)| *name == below);
            assert!(other.unwrap() > rank, "`{module}` stands below `{below}`");
        }
    }
    for line in read("src/lib.rs").lines() {
        if let Some(module) = line.strip_prefix("pub mod ") {
            let module = module.trim_end_matches(';');
            assert!(MODULES.iter().any(|(name, _)| *name == module), "{module}");
        }
    }
}

#[test]
fn a_violation_is_found() {
    // A file, its text, and what must not be there.
    let cases = "
render/xml.rs => use crate::map::Map; => `map`
render/xml.rs => use crate::names::HostNames; => `names`
snapshot/query.rs => use crate::host; => `host`
schema/parse.rs => use crate::names; => `names`
render/xml.rs => fn f() { crate::tally::resolve() } => `tally`
snapshot.rs => use libbpf_rs::Map; => `libbpf_rs`
schema/table.rs => use libbpf_rs::Btf; => `libbpf_rs`
schema/table.rs => use crate::snapshot::Rows; => `snapshot`
tally/session.rs => use crate::render::Style; => `render`
tally/session.rs => fn f(e: clap::Error) {} => `clap`
cli.rs => use crate::commands; => `commands`
sys.rs => use crate::{error, map}; => `crate::{`
host.rs => use super::sys; => `super::`
map/read.rs => use super::super::render; => `super::super::`
main.rs => use ktally::map; => `map`
attic.rs =>  => `attic`";
    for case in cases.trim().lines() {
        let [path, text, wanted] = case.split(" => ").collect::<Vec<_>>()[..] else {
            panic!("{case}");
        };
        let found = violations(path, text).join("\n");
        assert!(found.contains(wanted), "{path}: {text}: {found:?}");
    }
    // Comments, tests and longer names are no imports.
    let harmless = "// crate::map\nfn f() {} // crate::map\nuse clapper::x;\n\n#[cfg(test)]\nmod tests { use crate::map; }";
    assert_eq!(violations("render/xml.rs", harmless), Vec::<String>::new());
    assert_eq!(literals(r#"f("a b", x, "c")"#), ["a b", "c"]);
}

#[test]
fn unsafe_code_and_raw_libbpf_stay_where_they_are() {
    assert_eq!(files_that_mention("unsafe"), UNSAFE);
    assert_eq!(files_that_mention("libbpf_sys"), LIBBPF);
}

/// How many there are, so that one more is seen in a change; each says right
/// before it why it is sound.
#[test]
fn every_unsafe_block_is_counted_and_justified() {
    let mut all = 0;
    for path in files_that_mention("unsafe").split(' ') {
        let text = read(&format!("src/{path}"));
        let blocks = words(&code(&text))
            .filter(|(_, word)| *word == "unsafe")
            .count();
        all += blocks;
        let mut said = false;
        for (i, line) in without_tests(&text).lines().enumerate() {
            let line = line.trim();
            let is_type = line.contains("unsafe extern");
            if !line.starts_with("//") && !is_type && mentions(line, "unsafe") {
                assert!(said, "{path}:{}: no SAFETY", i + 1);
            }
            // Up to the end of the statement that it is about.
            said = line.starts_with("// SAFETY: ") || said && !line.ends_with([';', '}']);
        }
    }
    let (page, written) = ("docs/architecture.md", format!("{all} unsafe blocks"));
    assert!(
        read(page).contains(&written),
        "{page} does not say {written:?}"
    );
}

#[test]
fn the_frontend_names_no_tally() {
    let tallies = tallies();
    assert!(tallies.len() >= 4, "{tallies:?}");
    for (path, text) in program() {
        for literal in literals(&text) {
            let named = tallies.iter().find(|tally| mentions(literal, tally));
            assert_eq!(named, None, "{path}: {literal:?}");
        }
    }
}

#[test]
fn every_c_file_names_both_licences() {
    for (path, text) in [files("bpf", ".c"), files("bpf", ".h")].concat() {
        let first = text.lines().next().unwrap_or_default();
        let licence = "SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause";
        assert!(first.contains(licence), "{path}: {first}");
    }
}

/// A filter that is offered but not asked would be silently ignored.
#[test]
fn every_filter_that_a_tally_offers_is_asked() {
    for (path, text) in files("bpf", ".bpf.c") {
        for (offer, asks) in [
            ("TASK_FILTERS", ["wanted_task", "wanted_task_for", "wanted"]),
            ("CPU_FILTER", ["wanted_cpu"; 3]),
        ] {
            let asked = asks.iter().any(|ask| mentions(&text, ask));
            assert!(asked || !mentions(&text, offer), "{path}: {offer}");
        }
    }
}

#[test]
fn every_decoder_that_a_tally_uses_is_known() {
    let mut used = BTreeSet::new();
    for (_, text) in [files("bpf", ".c"), files("bpf", ".h")].concat() {
        // Not where the macro itself is defined.
        for line in text.lines().filter(|line| !line.contains("define AS(")) {
            let decoders = line.split(" AS(").skip(1);
            let names = decoders.map(|rest| rest.split(')').next().unwrap_or_default());
            used.extend(names.map(str::to_owned));
        }
    }
    assert!(used.contains("comm") && used.contains("errno"), "{used:?}");
    for name in &used {
        assert!(is_known(&Decoder::from_tag(name)), "AS({name}) in src/bpf");
    }
    assert!(!is_known(&Decoder::from_tag("tomorrow")));
}

/// `ktally.bpf.h` lists what `AS(...)` takes, and no more than that.
#[test]
fn the_header_lists_every_decoder() {
    let known: BTreeSet<String> = decoders().map(str::to_owned).collect();
    let header = read("src/bpf/ktally.bpf.h");
    let listed = header.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix(" *\tAS(")?.split_once(')')?;
        Some(name.to_owned())
    });
    assert_eq!(listed.collect::<BTreeSet<_>>(), known);
}

/// The guide shows one tally whole, and promises that this is all of it.
#[test]
fn the_example_of_the_guide_is_the_file() {
    let guide = read("docs/guide.md");
    let (_, rest) = guide.split_once("```c\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    assert_eq!(example, read("src/bpf/failures.bpf.c"));
}

/// Commands that pages show are typed by tests of these files.
#[test]
fn each_page_is_typed() {
    let tests = read("tests/kernel/pages.rs") + &read("tests/kernel/typed.rs");
    for page in fs::read_dir(root("docs")).unwrap() {
        let name = page.unwrap().file_name().into_string().unwrap();
        assert!(
            !name.ends_with(".md") || tests.contains(&format!("docs/{name}\"")),
            "{name}"
        );
    }
}

/// They install, build and run for minutes, so they are not typed.
#[test]
fn what_pages_make_are_targets() {
    let makefile = read("Makefile");
    let mut targets = makefile
        .lines()
        .filter_map(|line| line.strip_prefix(".PHONY: "));
    let targets: Vec<&str> = targets.next().unwrap().split(' ').collect();
    for page in ["README.md", "CONTRIBUTING.md"] {
        let text = read(page);
        let shown: Vec<&str> = text
            .lines()
            .filter_map(|it| it.strip_prefix("make "))
            .collect();
        assert!(shown.len() > 4, "{page}");
        for line in shown {
            let target = line.split_whitespace().next().unwrap();
            assert!(targets.contains(&target), "{page}: make {target}");
        }
    }
}
