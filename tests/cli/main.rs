//! The program as a user without privileges meets it: no test here needs root,
//! and none may use it.

#![allow(clippy::unwrap_used)]

mod errors;
mod files;
mod formats;
mod help;
mod output;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// `nobody`, and a group without rights.
const NOBODY: u32 = 65534;

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

/// How a run of the program ended.
#[derive(Debug)]
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

/// The program where anybody can run it: `target/` may lie where only root can
/// reach, and then it is copied.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let built = Path::new(env!("CARGO_BIN_EXE_ktally"));
    let is_open = |path: &Path| fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 1 == 1);
    if built.ancestors().all(is_open) {
        return built.to_owned();
    }
    // One place, so that test runs do not pile up copies.
    let folder = std::env::temp_dir().join("ktally-cli-tests");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let copy = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempfile_in(&folder)
        .unwrap();
    fs::copy(built, copy.path()).unwrap();
    // Renamed, not overwritten: another run may be using the old one.
    let program = folder.join("ktally");
    copy.persist(&program).unwrap();
    program
});

/// The program, without privileges and without the caller's wishes for color.
fn program() -> Command {
    let mut command = Command::new(&*PROGRAM);
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE")
        .env_remove("RUST_BACKTRACE");
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn end(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code().expect("it was not killed"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn ktally<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Ended {
    end(program().args(args))
}

/// What a command line prints that does all that it was asked for.
fn printed(line: &str) -> String {
    let ended = ktally(line.split_whitespace());
    assert_eq!(ended.code, 0, "{line}: {ended:?}");
    assert_eq!(ended.stderr, "", "{line}");
    ended.stdout
}
