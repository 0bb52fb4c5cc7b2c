//! `ktally map` on live maps that ktally did not make: each test makes its own,
//! names them by their ids, and looks at what the program prints and how it ends.

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
mod schema;
mod shape;
mod sizes;
mod storage;
mod types;

use std::ffi::OsStr;
use std::fmt::Display;

use libbpf_rs::{MapCore, MapHandle, Object, ObjectBuilder, OpenObject, ProgramMut};

use crate::common::source::MAPS;
use crate::common::{Ended, end, end_with_input, json, json_lines, program};
use crate::support::maps::id;
use crate::support::{Source, require_root};

// ---- the program ------------------------------------------------------------

/// `ktally map`, with these arguments.
fn run<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Ended {
    end(program().arg("map").args(args))
}

/// The same, with something to read.
fn map_reading(args: &[&str], input: &str) -> Ended {
    end_with_input(program().arg("map").args(args), input)
}

/// `ktally map restore` of this text.
fn restore(map: impl Display, text: &str) -> Ended {
    map_reading(&["restore", &map.to_string(), "-"], text)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Arguments without spaces.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// `map!("lookup", id, 3)`: anything that displays is an argument.
macro_rules! map {
    ($($arg:expr),+ $(,)?) => { $crate::map::run([$($arg.to_string()),+]) };
}

/// The same, and what it prints as JSON.
macro_rules! map_json {
    ($($arg:expr),+ $(,)?) => { $crate::map::map!($($arg),+, "-o", "json").json() };
}

/// The same, and what it prints as JSON lines.
macro_rules! map_lines {
    ($($arg:expr),+ $(,)?) => { $crate::map::map!($($arg),+, "-o", "jsonl").json_lines() };
}

use {map, map_json, map_lines};

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
        // Of the header, for tallies alone: it wants Linux 5.13.
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

/// An object of this C file: the headers and [`MAPS`] are there, and a licence.
fn compile(c: &str) -> Vec<u8> {
    let licence = match c.contains("TALLY(") {
        true => "",
        false => "char LICENSE[] SEC(\"license\") = \"GPL\";\n",
    };
    let text = ["#include \"ktally.bpf.h\"\n", licence, MAPS, c].concat();
    Source::file("test.bpf.c", text).compile()
}
