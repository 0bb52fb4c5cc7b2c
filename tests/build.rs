//! What the build script finds, makes, and says: the script itself, run on a
//! copy of a part of `src/bpf/`.

#![allow(clippy::unwrap_used)] // In tests, panics are what tells.

#[path = "common/mod.rs"]
mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

use common::{end, source};

/// A folder with the headers and no tally yet; gone when dropped.
struct Sources(tempfile::TempDir);

impl Sources {
    fn new() -> Self {
        let sources = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(sources.path("src/bpf/internal")).unwrap();
        for folder in ["out", "docs"] {
            fs::create_dir(sources.path(folder)).unwrap();
        }
        sources.add("flags", "flags");
        let originals = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bpf");
        for file in fs::read_dir(originals).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".h") {
                sources.add(&name, &name);
            }
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
        let mut command = Command::new(script());
        command
            .current_dir(self.0.path())
            .env("OUT_DIR", self.path("out"))
            .env("CARGO_CFG_TARGET_ARCH", std::env::consts::ARCH)
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

// ---- the headers ------------------------------------------------------------

/// What bpf_tracing.h has of registers, in a program of its own.
const REGISTERS: &str = r#"
SEC("uprobe")
int BPF_UPROBE(registers_at_entry, void *one, long two, int three, char four,
	       void *five)
{
	return !one + two + three + four + !five + PT_REGS_PARM1(ctx) +
	       PT_REGS_PARM6(ctx) + PT_REGS_FP(ctx) + PT_REGS_SP(ctx) +
	       PT_REGS_IP(ctx) + PT_REGS_PARM4_CORE(ctx) +
	       PT_REGS_PARM1_CORE_SYSCALL(ctx) + PT_REGS_PARM4_CORE_SYSCALL(ctx);
}

SEC("uretprobe")
int BPF_URETPROBE(registers_at_return, long result)
{
	return result + PT_REGS_RC_CORE(ctx);
}
"#;

/// Whatever the tests' own C files may have before them, and types of their own
/// that are called like some of the kernel's.
fn prelude() -> String {
    let own = r#"
#define SIZE 8
#define ROWS 8
#define mine() ((pid_t)bpf_get_current_pid_tgid() == 42)
#define add_one(table, key) __sync_fetch_and_add((__u64 *)tally_entry(table, key), 1)
#define NONE own_none
#define key own_key
#define state own_state
#define bpf_spin_lock own_spin_lock
#define bpf_timer own_timer
"#;
    [
        "#include \"ktally.bpf.h\"",
        source::CALLS,
        source::EVENTS,
        source::MAPS,
        own,
    ]
    .concat()
}

/// Every C file that there is: tallies, helpers, and those of the tests that
/// are written in one piece.
fn c_files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src/bpf", "src/bpf/internal"] {
        let sources = fs::read_dir(root.join(folder)).unwrap();
        for path in sources.map(|file| file.unwrap().path()) {
            if path.to_string_lossy().ends_with(".bpf.c") {
                let text = fs::read_to_string(&path).unwrap() + REGISTERS;
                files.push((path.display().to_string(), text));
            }
        }
    }
    for folder in ["tests/kernel", "tests/kernel/map"] {
        let tests = fs::read_dir(root.join(folder)).unwrap();
        for path in tests.map(|file| file.unwrap().path()) {
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let pieces = text.split("r#\"").skip(1);
            let pieces = pieces.filter_map(|piece| Some(piece.split_once("\"#")?.0));
            let is_whole = |piece: &&str| {
                let maps = ["TABLE(", "\nMAP(", "SEC(\".maps\")"];
                maps.iter().any(|map| piece.contains(map)) && !piece.contains("{{")
            };
            for (i, piece) in pieces.filter(is_whole).enumerate() {
                let name = format!("{}, C file {i}", path.display());
                files.push((name, prelude() + piece));
            }
        }
    }
    files
}

/// The kernel's types, with the registers of either architecture: a kernel has
/// its own alone.
fn vmlinux(arch: &str) -> String {
    const OTHERS: [(&str, &str); 2] = [
        (
            "x86",
            "struct pt_regs { unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, \
             dx, si, di, orig_ax, ip, cs, flags, sp, ss; };",
        ),
        (
            "arm64",
            "struct user_pt_regs { unsigned long regs[31], sp, pc, pstate; };\n\
             struct pt_regs { union { struct user_pt_regs user_regs; struct { \
             unsigned long regs[31], sp, pc, pstate; }; }; unsigned long orig_x0; int syscallno; };",
        ),
    ];
    let types = ktally::schema::KernelBtf::load().unwrap();
    let types = types.as_c_header().unwrap();
    let is_own = matches!(
        (std::env::consts::ARCH, arch),
        ("x86_64", "x86") | ("aarch64", "arm64")
    );
    if is_own {
        return types;
    }
    let (_, registers) = OTHERS.iter().find(|(name, _)| *name == arch).unwrap();
    assert_eq!(types.matches("\nstruct pt_regs {").count(), 1);
    types.replace(
        "\nstruct pt_regs {",
        &format!("\n{registers}\nstruct pt_regs_here {{"),
    )
}

#[test]
fn every_c_file_compiles_with_and_without_vmlinux_h() {
    let files = c_files();
    assert!(files.len() > 50, "{}", files.len());
    std::thread::scope(|scope| {
        for arch in ["x86", "arm64"] {
            let files = &files;
            scope.spawn(move || compile_both_ways(arch, files));
        }
    });
}

/// Those of the build.
const FLAGS: &str = include_str!("../src/bpf/flags");

fn compile_both_ways(arch: &str, files: &[(String, String)]) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let clang = |more: &[&str]| {
        let mut clang = source::clang(arch, folder.path());
        clang.args(FLAGS.split_whitespace()).args(more);
        end(clang.current_dir(folder.path()))
    };
    // Parsed once.
    fs::write(path("vmlinux.h"), vmlinux(arch)).unwrap();
    clang(&["-x", "c-header", "vmlinux.h", "-o", "vmlinux.pch"]).good();
    for (name, text) in files {
        fs::write(path("test.bpf.c"), text).unwrap();
        for how in [
            &["-c", "-o", "test.bpf.o"][..],
            &["-include-pch", "vmlinux.pch", "-fsyntax-only"],
        ] {
            let ended = clang(&[how, &["test.bpf.c"]].concat());
            assert_eq!(
                ended.code, 0,
                "{name} for {arch}, {how:?}:\n{}",
                ended.stderr
            );
        }
    }
}
