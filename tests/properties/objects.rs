//! Objects with mistakes in them, as `ktally run FILE.bpf.o` opens them: they
//! are opened or refused. Nothing is loaded.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use ktally::cli::{self, Chosen};
use ktally::names::HostNames;
use ktally::tally::{Support, Tally, resolve};
use proptest::prelude::*;

use crate::damage::damage;
use crate::hold::hold;
use crate::{OBJECTS, USUAL};

/// Up to where loading would begin.
fn open(path: &Path, support: &Support, labels: &HostNames) -> Result<Tally, String> {
    let line = |more: &[&str]| {
        let line = ["ktally", "run"].map(OsString::from).into_iter();
        let line = line.chain([path.into()]);
        let line: Vec<OsString> = line.chain(more.iter().map(OsString::from)).collect();
        cli::parse(&line)
    };
    let request = line(&[]).map_err(|error| format!("{error:#}"))?;
    let mut tallies = request.tallies.into_iter();
    let Chosen { tally, given, .. } = tallies.next().ok_or("it is no tally")?;
    assert!(given.is_empty());
    let help = line(&["--help"]).err().map(|help| help.to_string());
    assert!(help.is_some_and(|help| help.contains("--max-rows")));
    for option in &tally.schema.options {
        let default = labels.option(option, &tally.rodata).to_string();
        for text in [default.as_str(), "1", "x"] {
            let given = [(option.name.clone(), text.to_owned())];
            if let Ok(options) = resolve(&tally.schema.options, &given) {
                let _ = tally.tables(&options);
            }
        }
    }
    for hint in [
        "--as=key=hex",
        "--as=value=log2",
        "--tables=count",
        "--rate=value",
    ] {
        let _ = line(&[hint]);
    }
    let _ = tally.lint();
    let _ = support.obstacles(&tally);
    let _ = tally.schema.decoders();
    Ok(tally)
}

/// `int`, of which `pid` is made, is 4 GiB long.
#[test]
fn an_option_is_within_its_section() {
    const INT: [u8; 12] = [0, 0, 0, 1, 4, 0, 0, 0, 32, 0, 0, 1];
    let mut object = OBJECTS[0].to_vec();
    let at = object.windows(12).position(|bytes| bytes == INT).unwrap();
    object[at + 4..at + 8].copy_from_slice(&0xffff_ffe0u32.to_le_bytes());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.bpf.o");
    fs::write(&path, object).unwrap();
    let error = Tally::find(path.as_os_str()).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("tally `case`: option `"), "{error}");
    assert!(error.contains("is not within .rodata"), "{error}");
}

#[test]
fn damaged_objects_are_opened_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.bpf.o");
    let (support, labels) = (Support::probe(), HostNames::new());
    for (object, is_tally) in OBJECTS.iter().zip([true, true, false, true]) {
        fs::write(&path, object).unwrap();
        let tally = open(&path, &support, &labels).unwrap();
        assert_eq!(!tally.schema.is_found, is_tally);
    }
    let cases = (0..OBJECTS.len(), damage());
    hold(USUAL, cases, |(object, damage)| {
        fs::write(&path, damage.of(OBJECTS[object])).unwrap();
        if let Err(error) = open(&path, &support, &labels) {
            prop_assert!(!error.contains("annot allocate memory"), "{}", error);
        }
        Ok(())
    });
}
