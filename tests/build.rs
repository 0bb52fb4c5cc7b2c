//! What the build script finds, makes, and says: the script itself, run on a
//! copy of a part of `src/bpf/`.

#![allow(clippy::unwrap_used)] // In tests, panics are what tells.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

/// A folder with the headers and no tally yet; gone when dropped.
struct Sources(tempfile::TempDir);

impl Sources {
    fn new() -> Self {
        let sources = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(sources.path("src/bpf/internal")).unwrap();
        fs::create_dir(sources.path("out")).unwrap();
        for name in ["ktally.bpf.h", "kernel.h", "flags"] {
            sources.add(name, name);
        }
        sources
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// A file of `src/bpf/`, under another name.
    fn add(&self, name: &str, from: &str) {
        let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bpf");
        fs::copy(original.join(from), self.path("src/bpf").join(name)).unwrap();
    }

    fn build(&self, clang: Option<&Path>) -> Output {
        self.build_for(std::env::consts::ARCH, clang)
    }

    fn build_for(&self, arch: &str, clang: Option<&Path>) -> Output {
        let mut command = Command::new(script());
        command
            .current_dir(self.0.path())
            .env("OUT_DIR", self.path("out"))
            .env("CARGO_CFG_TARGET_ARCH", arch)
            .env_remove("CLANG");
        if let Some(clang) = clang {
            command.env("CLANG", clang);
        }
        command.output().unwrap()
    }

    fn built(&self) {
        let output = self.build(std::env::var_os("CLANG").as_deref().map(Path::new));
        assert!(output.status.success(), "{output:?}");
    }

    fn refused(&self, clang: &Path) -> String {
        let output = self.build(Some(clang));
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// When the object of a tally was made.
    fn made(&self, name: &str) -> SystemTime {
        let object = self.path("out").join(format!("{name}.bpf.o"));
        fs::metadata(object).unwrap().modified().unwrap()
    }
}

/// The newest of those that cargo has compiled.
fn script() -> PathBuf {
    // target/debug/build/ktally-HASH/out
    let builds = Path::new(env!("OUT_DIR")).ancestors().nth(2).unwrap();
    let folders = fs::read_dir(builds).unwrap().map(|entry| entry.unwrap());
    let ours = folders.filter(|it| it.file_name().to_string_lossy().starts_with("ktally-"));
    let scripts = ours.map(|folder| folder.path().join("build-script-build"));
    let modified = |path: &PathBuf| fs::metadata(path).and_then(|it| it.modified()).ok();
    let scripts = scripts.filter(|path| path.exists());
    scripts.max_by_key(modified).expect("no build script")
}

/// A program that calls itself clang of this version.
fn fake_clang(sources: &Sources, version: &str) -> PathBuf {
    let path = sources.path("clang");
    fs::write(&path, format!("#!/bin/sh\necho '{version}'\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn without_a_clang_that_will_do_it_says_what_to_install() {
    let sources = Sources::new();
    sources.add("one.bpf.c", "failures.bpf.c");
    let missing = sources.refused(Path::new("/no/clang"));
    assert!(missing.contains("failed to run `/no/clang`"), "{missing}");
    let old = sources.refused(&fake_clang(&sources, "Debian clang version 13.0.0"));
    assert!(old.contains("is version 13"), "{old}");
    assert!(old.contains("need 14"), "{old}");
    let strange = sources.refused(&fake_clang(&sources, "gcc 13.2"));
    assert!(strange.contains("failed to read the version"), "{strange}");
    for said in [missing, old, strange] {
        assert!(said.contains("package `clang`"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_changed_file_rebuilds_one_object() {
    let sources = Sources::new();
    sources.add("two.bpf.c", "failures.bpf.c");
    sources.add("one.bpf.c", "failures.bpf.c");
    sources.add("internal/helper.bpf.c", "internal/probe.bpf.c");
    sources.built();
    // Found by themselves, sorted; helpers are no tallies.
    let catalogue = fs::read_to_string(sources.path("out/catalogue.rs")).unwrap();
    let entries = catalogue
        .lines()
        .filter_map(|line| line.split_once("name: \""));
    let names = entries.map(|(_, rest)| rest.split('"').next().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["one", "two"]);

    let made = |names: [&str; 3]| names.map(|name| sources.made(name));
    let all = ["one", "two", "helper"];
    let before = made(all);
    sources.built();
    assert_eq!(made(all), before);

    sources.add("two.bpf.c", "failures.bpf.c");
    sources.built();
    let after = made(all);
    assert_eq!((after[0], after[2]), (before[0], before[2]));
    assert!(after[1] > before[1]);

    // A header is part of every object.
    sources.add("kernel.h", "kernel.h");
    sources.built();
    assert!(made(all).iter().zip(after).all(|(now, then)| *now > then));
}

#[test]
fn a_name_that_is_no_module_is_refused() {
    let sources = Sources::new();
    sources.add("My-Tally.bpf.c", "failures.bpf.c");
    let said = String::from_utf8(sources.build(None).stderr).unwrap();
    assert!(said.contains("My-Tally.bpf.c"), "{said}");
    assert!(said.contains("lower-case letters"), "{said}");
}

/// Registers, and what only one of them has, differ.
#[test]
fn every_tally_compiles_for_every_architecture() {
    let sources = Sources::new();
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bpf");
    for folder in ["", "internal"] {
        for file in fs::read_dir(original.join(folder)).unwrap() {
            let file = file.unwrap();
            if file.file_type().unwrap().is_file() {
                let name = Path::new(folder).join(file.file_name());
                let name = name.to_str().unwrap();
                sources.add(name, name);
            }
        }
    }
    let clang = std::env::var_os("CLANG");
    let clang = clang.as_deref().map(Path::new);
    let other = match std::env::consts::ARCH {
        "x86_64" => "aarch64",
        _ => "x86_64",
    };
    let output = sources.build_for(other, clang);
    assert!(output.status.success(), "{output:?}");
    let objects = fs::read_dir(sources.path("out")).unwrap();
    let objects = objects.filter(|it| {
        let name = it.as_ref().unwrap().file_name();
        name.to_string_lossy().ends_with(".bpf.o")
    });
    assert!(objects.count() > 20);
}
