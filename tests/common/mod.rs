//! What the tests of the program share: how it is run and how it ended, C files
//! of a test's own, and proofs that a kernel cannot run a test.

#![allow(dead_code)] // Each test binary uses a part of it.

pub mod impossible;
pub mod schema;
pub mod source;

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io::{Error, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

use impossible::Impossible;

/// The user `nobody`, and a group without rights.
pub const NOBODY: u32 = 65534;

/// The program as cargo has built it.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_ktally");

/// The program where every user can run it: it is copied where `target/` lies
/// below a folder that others may not enter.
pub static OPEN_PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let built = Path::new(PROGRAM);
    let is_open = |path: &Path| fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 1 == 1);
    if built.ancestors().all(is_open) {
        return built.to_owned();
    }
    // One place, so that test runs do not pile up copies.
    let folder = std::env::temp_dir().join("ktally-tests");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    let copy = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o755))
        .tempfile_in(&folder)
        .unwrap();
    fs::copy(built, copy.path()).unwrap();
    // Renamed, not overwritten: another run may be using the old one.
    let program = folder.join("ktally");
    copy.persist(&program).unwrap();
    program
});

/// A command without input and without the caller's wishes for color.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    for name in ["NO_COLOR", "CLICOLOR_FORCE", "RUST_BACKTRACE"] {
        command.env_remove(name);
    }
    command
}

/// The program, as the user who runs the tests.
pub fn program() -> Command {
    command(PROGRAM)
}

/// Runs the program to its end.
pub fn ktally(args: impl Args) -> Ended {
    end(&mut args.pass_to(program()))
}

/// Takes the privileges of the child: it runs as `nobody`, in these groups. It
/// must be able to run the program: see [`OPEN_PROGRAM`].
pub fn without_privileges(command: &mut Command, groups: &'static [u32]) {
    let give_up = move || {
        // SAFETY: system calls alone, on groups that live.
        let failed = unsafe {
            libc::setgroups(groups.len(), groups.as_ptr())
                | libc::setresgid(NOBODY, NOBODY, NOBODY)
                | libc::setresuid(NOBODY, NOBODY, NOBODY)
        };
        if failed == 0 {
            Ok(())
        } else {
            Err(Error::last_os_error())
        }
    };
    // SAFETY: system calls alone, which need no lock.
    unsafe { command.pre_exec(give_up) };
}

/// Limits a resource of the child.
pub fn limit(
    command: &mut Command,
    resource: libc::__rlimit_resource_t,
    most: u64,
) -> &mut Command {
    let set = move || {
        let limit = libc::rlimit {
            rlim_cur: most,
            rlim_max: most,
        };
        // SAFETY: the kernel reads the limits.
        match unsafe { libc::setrlimit(resource, &raw const limit) } {
            0 => Ok(()),
            _ => Err(Error::last_os_error()),
        }
    };
    // SAFETY: a system call alone, which needs no lock.
    unsafe { command.pre_exec(set) }
}

/// An output that has no space left.
pub fn full() -> Stdio {
    let full = fs::File::options().write(true).open("/dev/full");
    full.unwrap().into()
}

/// The arguments of a program: a line of words without spaces, or a list.
pub trait Args {
    fn pass_to(self, command: Command) -> Command;
}

impl Args for &str {
    fn pass_to(self, mut command: Command) -> Command {
        command.args(self.split_whitespace());
        command
    }
}

impl Args for &String {
    fn pass_to(self, command: Command) -> Command {
        self.as_str().pass_to(command)
    }
}

macro_rules! lists {
    ($($list:ty: [$($parameter:tt)*]),*) => {$(
        impl<S: AsRef<OsStr>, $($parameter)*> Args for $list {
            fn pass_to(self, mut command: Command) -> Command {
                command.args(self);
                command
            }
        }
    )*};
}
lists!(&[S]: [], Vec<S>: [], [S; N]: [const N: usize], &[S; N]: [const N: usize]);

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    args: Vec<OsString>,
    /// Its exit code, or `-N` where signal N killed it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end.
#[track_caller]
pub fn end(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended::new(command.get_args(), output)
}

/// The same, with something to read.
pub fn end_with_input(command: &mut Command, input: &str) -> Ended {
    let (stdout, stderr) = (Stdio::piped(), Stdio::piped());
    let piped = command.stdin(Stdio::piped()).stdout(stdout).stderr(stderr);
    let mut process = piped.spawn().unwrap();
    let mut stdin = process.stdin.take().unwrap();
    // It may end early, and then says why.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = process.wait_with_output().unwrap();
    Ended::new(command.get_args(), output)
}

impl Ended {
    pub fn new(args: impl Iterator<Item = impl Into<OsString>>, output: Output) -> Self {
        let code = output.status.code();
        Self {
            args: args.map(Into::into).collect(),
            code: code.unwrap_or_else(|| -output.status.signal().unwrap()),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// It did all that it was asked for.
    #[track_caller]
    pub fn good(self) -> Self {
        self.failed(0, &[])
    }

    /// What it printed then.
    #[track_caller]
    pub fn done(self) -> String {
        self.good().stdout
    }

    /// It did all that it was asked for, and printed this.
    #[track_caller]
    pub fn prints(self, text: &str) {
        assert_eq!(self.done(), text);
    }

    /// The same as JSON.
    #[track_caller]
    pub fn prints_json(self, value: Value) {
        assert_eq!(self.json(), value);
    }

    /// What it printed, as JSON.
    #[track_caller]
    pub fn json(self) -> Value {
        json(&self.done())
    }

    /// The same as JSON, a value per line.
    #[track_caller]
    pub fn json_lines(self) -> Vec<Value> {
        json_lines(&self.done())
    }

    /// It ended with this code, and stderr has all of these words.
    #[track_caller]
    pub fn failed(self, code: i32, words: &[&str]) -> Self {
        let has_words = words.iter().all(|word| self.stderr.contains(word));
        let is_expected = self.code == code && has_words;
        if self.code != 0
            && !is_expected
            && let Some(impossible) = Impossible::told_by(&self.stderr)
        {
            impossible.end();
        }
        assert_eq!(self.code, code, "{self:?}");
        self.told(words)
    }

    /// The same, and it printed nothing.
    #[track_caller]
    pub fn refused(self, code: i32, words: &[&str]) -> Self {
        let ended = self.failed(code, words);
        assert_eq!(ended.stdout, "", "{ended:?}");
        ended
    }

    /// Its stderr has all of these words.
    #[track_caller]
    pub fn told(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stderr.contains(word), "no `{word}`: {self:?}");
        }
        self
    }
}

/// The rows of a table `COMMAND LINE => WORDS | WORDS`.
pub fn rows(table: &str) -> impl Iterator<Item = (&str, Vec<&str>)> {
    let rows = table.trim().lines().map(|row| row.split_once(" => "));
    rows.map(|row| {
        let (line, words) = row.expect("words behind =>");
        (line.trim(), words.split(" | ").collect())
    })
}

/// The text has all of these words.
#[track_caller]
pub fn assert_has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no `{word}`: {text}");
    }
}

/// The elements of a list in JSON.
#[track_caller]
pub fn items(list: &Value) -> &[Value] {
    list.as_array()
        .unwrap_or_else(|| panic!("not a list: {list}"))
}

#[track_caller]
pub fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Each line of JSON lines.
#[track_caller]
pub fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(json).collect()
}
