//! Memory while counting, and the room that programs take on a disk.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::measure::{Table, alternate};
use super::subject::{BPFTRACE_COUNT, KTALLY, Peer, resident};

pub fn section() -> Result<Vec<Table>> {
    let subjects: [(&str, &str, &[&str]); 5] = [
        (
            "ktally run syscalls",
            KTALLY,
            &["run", "syscalls", "--every", "1s", "-o", "jsonl"],
        ),
        (
            "ktally count sys_enter --by comm",
            KTALLY,
            &[
                "count",
                "sys_enter",
                "--by",
                "comm",
                "--every",
                "1s",
                "-o",
                "jsonl",
            ],
        ),
        (
            "bpftrace @[comm] = count()",
            "bpftrace",
            &["-e", BPFTRACE_COUNT],
        ),
        ("libbpf-tools syscount", "syscount", &["-d", "600"]),
        ("bcc syscount", "syscount-bpfcc", &["-d", "600"]),
    ];
    let rounds = alternate(&subjects, |(_, program, args)| {
        let peer = Peer::start(program, args)?;
        let memory = peer.map(|peer| resident(peer.pid())).transpose()?;
        Ok(memory.map(|memory| vec![memory]))
    })?;
    let mut table = Table::new(
        "Sizes: MiB",
        &[
            "command",
            "resident at most",
            "program",
            "with its libraries",
        ],
    );
    for ((name, program, _), rounds) in subjects.iter().zip(&rounds) {
        let Some(memory) = rounds.first() else {
            table.row([*name, "not here"]);
            continue;
        };
        let files = files_of(program);
        let mib = |files: &[PathBuf]| {
            let bytes: u64 = files
                .iter()
                .filter_map(|file| Some(fs::metadata(file).ok()?.len()))
                .sum();
            format!("{:.1}", bytes as f64 / f64::from(1 << 20))
        };
        table.row([
            (*name).to_owned(),
            memory.show(1),
            mib(files.get(..1).unwrap_or_default()),
            mib(&files),
        ]);
    }
    Ok(vec![table])
}

/// The program first, then the libraries that the loader finds for it.
fn files_of(program: &str) -> Vec<PathBuf> {
    let folders = std::env::var("PATH").unwrap_or_default();
    let found = match program.contains('/') {
        true => Some(PathBuf::from(program)),
        false => folders
            .split(':')
            .map(|folder| PathBuf::from(folder).join(program))
            .find(|path| path.is_file()),
    };
    let Some(path) = found else {
        return Vec::new();
    };
    let mut libraries = BTreeSet::new();
    if let Ok(output) = Command::new("ldd").arg(&path).output() {
        let text = String::from_utf8_lossy(&output.stdout);
        libraries.extend(
            text.split_whitespace()
                .filter(|word| word.starts_with('/'))
                .map(PathBuf::from),
        );
    }
    [path].into_iter().chain(libraries).collect()
}
