//! `ktally map` on live maps that somebody else made: each test makes its own,
//! names them by their ids, and looks at what the program prints and how it ends.

#![allow(clippy::unwrap_used)] // In tests, panics are what tells.

mod access;
mod bpftool;
mod create;
mod drain;
mod dump;
mod edit;
mod faces;
mod inplace;
mod list;
mod names;
mod pin;
mod queue;
mod save;
mod shape;
mod sizes;
mod storage;
mod types;

use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{fs, str};

use libbpf_rs::{
    MapCore, MapHandle, MapInfo, MapType, Object, ObjectBuilder, OpenObject, ProgramMut, libbpf_sys,
};
use serde_json::Value as Json;

use crate::support::{end_if_too_old, require_root};

// ---- the program ------------------------------------------------------------

/// How a run of the program ended.
#[derive(Debug)]
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ended {
    /// What it printed, having done all that it was asked for.
    #[track_caller]
    fn done(self) -> String {
        self.check_age();
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// It failed as its kernel is too old.
    fn check_age(&self) {
        if self.code == 1 {
            end_if_too_old(&self.stderr);
        }
    }

    /// The same as JSON.
    #[track_caller]
    fn json(self) -> Json {
        json(&self.done())
    }

    /// It ended with this code, and said why, with all of these words.
    #[track_caller]
    fn failed(self, code: i32, words: &[&str]) -> Self {
        if self.code != code || words.iter().any(|word| !self.stderr.contains(word)) {
            self.check_age();
        }
        assert_eq!(self.code, code, "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "no `{word}`: {self:?}");
        }
        self
    }
}

#[track_caller]
fn json(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Each line of JSON lines.
fn json_lines(text: &str) -> Vec<Json> {
    text.lines().map(json).collect()
}

/// The program as root, without the caller's wishes for color.
fn program() -> Command {
    require_root();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ktally"));
    command
        .stdin(Stdio::null())
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE")
        .env_remove("RUST_BACKTRACE");
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

/// `ktally map`, with these arguments.
fn run<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Ended {
    end(program().arg("map").args(args))
}

/// The same, with something to read.
fn map_reading(args: &[&str], input: &str) -> Ended {
    let mut process = program()
        .arg("map")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    // It may end early, and then says why.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = process.wait_with_output().unwrap();
    Ended {
        code: output.status.code().expect("it was not killed"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// `map!("lookup", id, 3)`: anything that displays is an argument.
macro_rules! map {
    ($($arg:expr),+ $(,)?) => { $crate::map::run([$($arg.to_string()),+]) };
}
use map;

// ---- maps with types --------------------------------------------------------

/// The maps (and programs) of a C file of a test's own.
struct Maps {
    object: Object,
}

impl Maps {
    /// Compiled and loaded; `c` is what stands behind the includes.
    fn load(c: &str) -> Self {
        Self::load_with(c, |_| {})
    }

    /// The same, with something done before it is loaded.
    fn load_with(c: &str, set: impl FnOnce(&mut OpenObject)) -> Self {
        Self::of(&compile(c), set)
    }

    fn of(object: &[u8], set: impl FnOnce(&mut OpenObject)) -> Self {
        require_root();
        let mut opened = ObjectBuilder::default().open_memory(object).unwrap();
        // Of the header, for tallies alone: it wants Linux 5.11.
        let followed = opened.maps_mut().find(|map| map.name() == "tally_followed");
        if let Some(mut followed) = followed {
            followed.set_autocreate(false).unwrap();
        }
        set(&mut opened);
        Self {
            object: opened.load().unwrap(),
        }
    }

    /// There may be others, of the headers.
    fn program(&mut self, name: &str) -> ProgramMut<'_> {
        let program = self.object.progs_mut().find(|it| it.name() == name);
        program.expect(name)
    }

    fn handle(&self, name: &str) -> MapHandle {
        let map = self.object.maps().find(|map| map.name() == name);
        MapHandle::try_from(&map.expect(name)).unwrap()
    }

    /// As a MAP on the command line.
    fn id(&self, name: &str) -> u32 {
        id(&self.handle(name))
    }
}

#[cfg(target_arch = "x86_64")]
const ARCH: &str = "-D__TARGET_ARCH_x86";
#[cfg(target_arch = "aarch64")]
const ARCH: &str = "-D__TARGET_ARCH_arm64";

/// An object of this C file: `kernel.h` and libbpf's headers are there.
fn compile(c: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let headers = folder.path().join("bpf");
    fs::create_dir(&headers).unwrap();
    for (name, text) in libbpf_sys::API_HEADERS {
        fs::write(headers.join(name), text).unwrap();
    }
    let [source, object] = ["test.bpf.c", "test.bpf.o"].map(|name| folder.path().join(name));
    fs::write(&source, format!("#include \"ktally.bpf.h\"\n{c}")).unwrap();
    let output = ktally::host::clang()
        .args(["-O2", "-g", "-target", "bpf", "-mcpu=v3", ARCH, "-c"])
        .arg("-I")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bpf"))
        .arg("-I")
        .arg(folder.path())
        .arg(&source)
        .arg("-o")
        .arg(&object)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    fs::read(&object).unwrap()
}

// ---- maps without types -----------------------------------------------------

/// A map that this process holds.
#[track_caller]
fn create(ty: MapType, key: u32, value: u32, max_entries: u32) -> MapHandle {
    create_with(ty, key, value, max_entries, 0)
}

#[track_caller]
fn create_with(ty: MapType, key: u32, value: u32, max_entries: u32, flags: u32) -> MapHandle {
    require_root();
    let opts = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        map_flags: flags,
        ..Default::default()
    };
    MapHandle::create(ty, Some("kt_map"), key, value, max_entries, &opts).unwrap()
}

fn id(map: &MapHandle) -> u32 {
    MapInfo::new(map.as_fd()).unwrap().info.id
}
