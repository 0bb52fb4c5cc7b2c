//! What holds for every type, every run of bytes and every text, of any author.
//! `make fuzz` tries these for as long as `FUZZ_SECONDS` says.

#![allow(clippy::unwrap_used)] // In tests, panics are what tells.
#![allow(clippy::print_stdout)] // How many cases were tried.

mod binaries;
mod btf;
mod damage;
mod export;
mod files;
mod hold;
mod objects;
mod query;
mod shape;
mod text;
mod values;

/// How many cases are tried where no time is given.
const USUAL: u32 = 1024;

/// Objects as the build makes them: of tables, options, tags, helpers, stacks and
/// what is attached to somebody's function.
const OBJECTS: [&[u8]; 4] = [
    include_bytes!(concat!(env!("OUT_DIR"), "/syscalls.bpf.o")),
    include_bytes!(concat!(env!("OUT_DIR"), "/runqlat.bpf.o")),
    include_bytes!(concat!(env!("OUT_DIR"), "/drain.bpf.o")),
    include_bytes!(concat!(env!("OUT_DIR"), "/profile.bpf.o")),
];
