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
mod schema;
mod shape;
mod sizes;
mod storage;
mod types;

use std::ffi::OsStr;
use std::os::fd::AsFd;

use libbpf_rs::{
    MapCore, MapHandle, MapInfo, MapType, Object, ObjectBuilder, OpenObject, ProgramMut, libbpf_sys,
};

use crate::common::{Ended, end, end_with_input, json, json_lines, program};
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

/// Arguments without spaces.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
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

/// An object of this C file: `kernel.h` and libbpf's headers are there.
fn compile(c: &str) -> Vec<u8> {
    Source::file("test.bpf.c", format!("#include \"ktally.bpf.h\"\n{c}")).compile()
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
