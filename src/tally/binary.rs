//! Finds programs and libraries, and says why a function of one cannot be probed.

use std::env;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use object::SymbolFlags;
use object::elf::STT_GNU_IFUNC;
use object::read::{Object, ObjectSymbol, ReadCache};

use crate::error::unknown_text;
use crate::names::functions_of;

/// Finds a file by its path, or a library (`libc.so.6`) or program (`bash`) by its
/// name.
pub(super) fn find(name: &str) -> Result<PathBuf> {
    if name.contains('/') {
        return Ok(name.into());
    }
    let found = folders(name).map(|folder| folder.join(name));
    let mut found = found.filter(|path| path.is_file());
    found.next().ok_or_else(|| {
        let (kind, place) = if is_library(name) {
            ("library", "the system's folders")
        } else {
            ("program", "PATH")
        };
        anyhow!("no {kind} `{name}` in {place}; write its path")
    })
}

fn is_library(name: &str) -> bool {
    name.contains(".so")
}

/// The folders that libbpf searches for libraries or programs.
fn folders(name: &str) -> impl Iterator<Item = PathBuf> {
    let (variable, system) = if is_library(name) {
        ("LD_LIBRARY_PATH", SYSTEM)
    } else {
        ("PATH", &["/usr/bin", "/usr/sbin"][..])
    };
    let own = env::var_os(variable).unwrap_or_default();
    let own: Vec<PathBuf> = env::split_paths(&own)
        .filter(|folder| folder.is_absolute())
        .collect();
    own.into_iter().chain(system.iter().map(PathBuf::from))
}

#[cfg(target_arch = "aarch64")]
const SYSTEM: &[&str] = &["/usr/lib64", "/usr/lib", "/lib/aarch64-linux-gnu"];
#[cfg(not(target_arch = "aarch64"))]
const SYSTEM: &[&str] = &["/usr/lib64", "/usr/lib", "/lib/x86_64-linux-gnu"];

/// Checks that a file has this function. An error says what to write instead.
pub fn check_function(file: &Path, function: &str) -> Result<()> {
    let path = file.display();
    check_elf(file)?;
    ensure!(
        !function.contains(['*', '?']),
        "`{function}` is a pattern, and one function is probed; write its whole name"
    );
    // If its symbols cannot be read, libbpf decides.
    let Ok(known) = functions_of(file) else {
        return Ok(());
    };
    // A version may follow: `malloc@GLIBC_2.2.5`.
    let bare = function.split('@').next().unwrap_or_default();
    ensure!(
        !is_chosen_at_start(file, bare).unwrap_or_default(),
        "`{path}` has many functions `{bare}` (an IFUNC), of which each process picks the one for \
         its CPU when it starts; write the name of that one, or of what calls `{bare}`"
    );
    if known
        .binary_search_by(|name| name.as_str().cmp(bare))
        .is_ok()
    {
        return Ok(());
    }
    let known = known.iter().map(String::as_str);
    let unknown = unknown_text("function", function, known);
    bail!("`{path}` has {unknown} (a stripped file names only what others may call)")
}

fn check_elf(file: &Path) -> Result<()> {
    let path = file.display();
    let opened = File::open(file).with_context(|| {
        format!("failed to open `{path}`; write the path of a program or library")
    })?;
    ensure!(
        opened.metadata()?.is_file(),
        "`{path}` is not a file; write the path of a program or library"
    );
    let mut start = Vec::new();
    Read::take(opened, 256).read_to_end(&mut start)?;
    if let Some(line) = start.strip_prefix(b"#!") {
        let line = String::from_utf8_lossy(line);
        let runs_it = line.split_whitespace().next().unwrap_or_default();
        bail!("`{path}` is a script; probe what runs it, `{runs_it}`");
    }
    ensure!(
        start.starts_with(b"\x7fELF"),
        "`{path}` is not a program or library (ELF)"
    );
    Ok(())
}

/// Whether it is an IFUNC: a function that returns the function to call.
fn is_chosen_at_start(file: &Path, function: &str) -> Result<bool> {
    let cache = ReadCache::new(File::open(file)?);
    let file = object::File::parse(&cache)?;
    let is_chosen = |symbol: object::Symbol<'_, '_, _>| {
        let is_ifunc = matches!(
            symbol.flags(),
            SymbolFlags::Elf { st_info, .. } if st_info & 0xf == STT_GNU_IFUNC
        );
        is_ifunc && symbol.name() == Ok(function)
    };
    Ok(file.dynamic_symbols().chain(file.symbols()).any(is_chosen))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[unsafe(no_mangle)]
    #[inline(never)]
    extern "C" fn kt_probed_here() -> u32 {
        std::process::id()
    }

    fn refusal(file: &Path, function: &str) -> String {
        format!("{:#}", check_function(file, function).unwrap_err())
    }

    #[test]
    fn what_cannot_be_probed_is_told_why() {
        assert!(kt_probed_here() > 0);
        let own = env::current_exe().unwrap();
        let path = own.display();
        assert!(check_function(&own, "kt_probed_here").is_ok());
        assert!(check_function(&own, "kt_probed_here@VERSION").is_ok());
        let unknown = refusal(&own, "kt_probed_her");
        let words = format!("`{path}` has no function named `kt_probed_her`; did you mean ");
        assert!(unknown.starts_with(&words), "{unknown}");
        assert!(unknown.contains("`kt_probed_here`"), "{unknown}");
        assert!(refusal(&own, "kt_*").starts_with("`kt_*` is a pattern"));

        // Every libc has several of it; getpid is one function.
        let libc = find("libc.so.6").unwrap();
        assert!(check_function(&libc, "getpid").is_ok());
        let chosen = refusal(&libc, "strlen");
        assert!(
            chosen.contains("has many functions `strlen` (an IFUNC)"),
            "{chosen}"
        );

        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        for (file, words) in [
            (
                file("script", "#! /bin/sh -e\n"),
                "is a script; probe what runs it, `/bin/sh`",
            ),
            (file("text", "text"), "is not a program or library (ELF)"),
            (file("empty", ""), "is not a program or library (ELF)"),
            (folder.path().to_owned(), "is not a file; write the path"),
            (folder.path().join("none"), "failed to open `"),
        ] {
            let refusal = refusal(&file, "main");
            assert!(refusal.contains(words), "{refusal}");
            assert!(refusal.contains(file.to_str().unwrap()), "{refusal}");
        }
    }

    #[test]
    fn programs_and_libraries_are_found_by_name() {
        assert_eq!(find("./x").unwrap(), Path::new("./x"));
        assert!(find("sh").unwrap().ends_with("sh"));
        assert!(find("libc.so.6").unwrap().ends_with("libc.so.6"));
        for (name, words) in [
            (
                "no-such-thing",
                "no program `no-such-thing` in PATH; write its path",
            ),
            (
                "nolib.so.6",
                "no library `nolib.so.6` in the system's folders; write its path",
            ),
        ] {
            assert_eq!(find(name).unwrap_err().to_string(), words);
        }
    }
}
