//! Strangers' programs with mistakes in them: whether they have a function to
//! probe, and what the frames of a stack in them are called.

use std::ffi::c_int;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{self, Command};
use std::ptr;

use ktally::names::HostNames;
use ktally::schema::{Label, Names, Place, Tags, Type};
use ktally::tally::check_function;
use proptest::prelude::*;

use crate::USUAL;
use crate::damage::damage;
use crate::hold::hold;

/// A library of few functions, with debug information, as compilers make it.
fn library(folder: &Path) -> Vec<u8> {
    const SOURCE: &str = "static int twice(int n) { return n * 2; }
int kt_probed(int n) { return twice(n) + 1; }
struct named { int (*of)(int); } kt_names[] = {{ kt_probed }};
";
    let (source, made) = (folder.join("x.c"), folder.join("x.so"));
    fs::write(&source, SOURCE).unwrap();
    let mut cc = Command::new("clang");
    cc.args(["-g", "-O1", "-shared", "-fPIC", "-nostdlib", "-o"]);
    let status = cc.args([&made, &source]).status().unwrap();
    assert!(status.success());
    fs::read(made).unwrap()
}

/// Code of a file, as a process has it that runs it.
struct Mapped {
    start: *mut libc::c_void,
    len: usize,
}

impl Mapped {
    fn new(path: &Path) -> Option<Self> {
        let file = File::open(path).unwrap();
        let len = file.metadata().unwrap().len() as usize;
        let protection: c_int = libc::PROT_READ | libc::PROT_EXEC;
        let (private, fd) = (libc::MAP_PRIVATE, file.as_raw_fd());
        // SAFETY: a new mapping, which is neither read nor run.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, private, fd, 0) };
        (start != libc::MAP_FAILED).then_some(Self { start, len })
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: a mapping of our own.
        unsafe { libc::munmap(self.start, self.len) };
    }
}

#[test]
fn damaged_programs_are_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let whole = library(folder.path());
    let path = folder.path().join("case.so");
    let mut tags = Tags::default();
    tags.add("ktally:as:ustack");
    let label = Label {
        name: "stack".into(),
        place: Place::whole(Type::unsigned(24)),
        decoder: tags.decoder,
        with: None,
        idle: Vec::new(),
    };
    let frame = |offset: u64| {
        let mapped = Mapped::new(&path)?;
        let address = mapped.start as u64 + offset;
        let key = [process::id().into(), address, 0].map(u64::to_ne_bytes);
        Some(HostNames::new().of(&label, &key.concat()).to_string())
    };
    fs::write(&path, &whole).unwrap();
    check_function(&path, "kt_probed").unwrap();
    assert!(check_function(&path, "kt_proved").is_err());
    let frames = (0..whole.len() as u64).step_by(16).filter_map(frame);
    assert!(frames.into_iter().any(|frame| frame == "kt_probed"));

    let cases = (damage(), any::<prop::sample::Index>());
    hold(USUAL, cases, |(damage, at)| {
        let bytes = damage.of(&whole);
        fs::write(&path, &bytes).unwrap();
        let _ = check_function(&path, "kt_probed");
        let _ = check_function(&path, "kt_proved");
        let _ = frame(at.index(bytes.len().max(1)) as u64);
        Ok(())
    });
}
