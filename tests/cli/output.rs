//! Where output goes, and what is said where it goes nowhere.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;

use crate::common::{Args, limit};
use crate::{end, ktally, printed, program};

const WRITERS: [&str; 5] = ["list", "list syscalls", "check", "--help", "--version"];

#[test]
fn a_closed_output_is_an_error() {
    for line in WRITERS {
        let mut ktally = line.pass_to(program());
        // SAFETY: system calls alone, which need no lock. Without standard input
        // the next descriptor is that of standard input.
        let closed = unsafe {
            ktally.pre_exec(|| {
                libc::close(0);
                libc::close(1);
                Ok(())
            })
        };
        let ended = end(closed);
        assert_eq!(ended.code, 1, "{ended:?}");
        let said = "ktally: failed to write: Bad file descriptor";
        assert!(ended.stderr.starts_with(said), "{line}: {ended:?}");
    }
}

#[test]
fn a_file_that_may_not_grow_is_an_error() {
    for line in WRITERS {
        let file = tempfile::tempfile().unwrap();
        let mut ktally = line.pass_to(program());
        let ended = end(limit(ktally.stdout(file), libc::RLIMIT_FSIZE, 0));
        assert_eq!(ended.code, 1, "{line}: {ended:?}");
        let said = "ktally: failed to write: File too large";
        assert!(ended.stderr.starts_with(said), "{line}: {ended:?}");
    }
}

/// The command line with `--output-file` leaves nothing on standard output.
fn written(line: &str, file: &Path) {
    let name = file.to_str().unwrap();
    ktally(&format!("{line} --output-file {name}")).refused(0, &[]);
}

#[test]
fn an_output_file_is_replaced_once_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let file = folder.path().join("out");
    written("list", &file);
    assert_eq!(fs::read_to_string(&file).unwrap(), printed("list"));

    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let inode = fs::metadata(&file).unwrap().ino();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("out", &link).unwrap();
    written("list syscalls -o json", &link);
    let now = fs::metadata(&file).unwrap();
    let json = fs::read_to_string(&file).unwrap();
    assert_eq!(json, printed("list syscalls -o json"));
    assert_ne!(now.ino(), inode);
    assert_eq!(now.mode() & 0o777, 0o600);

    // What fails leaves the old one, and no other file.
    let before = fs::read(&file).unwrap();
    let name = file.to_str().unwrap();
    ktally(["run", "failures", "--for", "0", "--output-file", name]).failed(1, &[]);
    assert_eq!(fs::read(&file).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);

    // A device stays a device.
    written("list", Path::new("/dev/null"));
    assert!(!fs::metadata("/dev/null").unwrap().is_file());

    let said = "failed to open `/nowhere/out` for output: No such file or directory";
    ktally("list --output-file /nowhere/out").failed(1, &[said]);
}

#[test]
fn lines_are_appended_to_an_output_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let file = folder.path().join("out");
    for _ in 0..2 {
        written("list -o jsonl", &file);
    }
    let twice = printed("list -o jsonl").repeat(2);
    assert_eq!(fs::read_to_string(&file).unwrap(), twice);
}
