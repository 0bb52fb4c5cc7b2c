//! The program as a user without privileges meets it: no test here needs root,
//! and none may use it.

#![allow(clippy::unwrap_used)]

mod complete;
mod dashboard;
mod diff;
mod errors;
mod files;
mod formats;
mod help;
mod output;

#[path = "../common/mod.rs"]
mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use common::{Args, Ended, OPEN_PROGRAM, command, end, without_privileges};

/// The built-in tallies, sorted: a C file each.
static TALLIES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bpf");
    let files = fs::read_dir(folder).unwrap().map(|entry| {
        let name = entry.unwrap().file_name();
        name.to_string_lossy().into_owned()
    });
    let names = files.filter_map(|name| Some(name.strip_suffix(".bpf.c")?.to_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort();
    assert!(names.len() >= 25, "{names:?}");
    names
});

/// The program, without privileges.
fn program() -> Command {
    let mut program = command(&*OPEN_PROGRAM);
    program.current_dir("/");
    if nix::unistd::geteuid().is_root() {
        without_privileges(&mut program, &[]);
    }
    program
}

fn ktally(args: impl Args) -> Ended {
    end(&mut args.pass_to(program()))
}

/// What a command line prints that does all that it was asked for.
#[track_caller]
fn printed(line: &str) -> String {
    let ended = ktally(line).good();
    assert_eq!(ended.stderr, "", "{line}");
    ended.stdout
}
