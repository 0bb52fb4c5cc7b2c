//! Everything at once, for as long as `make soak MINUTES=n` says.

#![allow(clippy::unwrap_used)] // In tests, panics are what tells.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ktally::tally::{Support, Tally};

use crate::lifetime::{Run, sum};
use crate::objects::Objects;
use crate::support::{Child, fail_to_open, require_root};

fn ktally(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ktally"));
    command.args(args).stdout(Stdio::null());
    command
}

/// Open files, and resident memory in KiB.
fn usage(run: &Run) -> (usize, u64) {
    let folder = format!("/proc/{}", run.id());
    let files = fs::read_dir(folder.clone() + "/fd").unwrap().count();
    let status = fs::read_to_string(folder + "/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.unwrap().trim().trim_end_matches(" kB");
    (files, resident.parse().unwrap())
}

/// All tallies that need no options count under load, while others come, read
/// and go: nothing is lost, and nothing grows.
#[test]
#[ignore = "takes minutes: make soak"]
fn everything_at_once() {
    const EACH: u64 = 1000;
    /// Tables fill, and what symbols are looked up in is kept.
    const GROWTH: u64 = 16 << 10;
    /// Programs that symbols come from stay open.
    const FILES: usize = 64;
    require_root();
    let minutes = std::env::var("MINUTES").map_or(1.0, |text| text.parse().unwrap());
    let time = Duration::from_secs_f64(60.0 * minutes);
    let support = Support::probe();
    let mut tallies = Tally::builtins().unwrap();
    tallies.retain(|it| {
        let asks = it.schema.options.iter().any(|it| it.name == "function");
        !asks && support.obstacles(it).is_empty()
    });
    let mut runs: BTreeMap<String, Run> = tallies
        .iter()
        .map(|it| {
            let mut command = ktally(&["run", &it.name, "-v", "--every", "500ms", "--top", "3"]);
            (it.name.clone(), Run::of(&mut command))
        })
        .collect();
    runs.values().for_each(Run::wait_until_counting);
    let child = Child::new("kt-soak", || fail_to_open(EACH));
    let mut exact = Run::counting(&["failures", "-o", "json", "--pid", &child.pid()]);
    let objects: Vec<_> = runs.values().map(Run::objects).collect();

    let start = Instant::now();
    let (mut issued, mut before) = (0, None);
    while start.elapsed() < time {
        for tally in &tallies {
            child.work();
            issued += EACH;
            let status = ktally(&["run", &tally.name, "--for", "20ms"])
                .status()
                .unwrap();
            assert!(status.success(), "{}: {status}", tally.name);
        }
        let status = ktally(&["map", "list"]).status().unwrap();
        assert!(status.success(), "{status}");
        // What is made once has been made.
        if before.is_none() && start.elapsed() > time / 4 {
            before = Some(runs.values().map(usage).collect::<Vec<_>>());
        }
    }

    for ((name, run), (files, resident)) in runs.iter().zip(before.expect("more time")) {
        let (files_now, resident_now) = usage(run);
        assert!(
            files_now < files + FILES,
            "{name}: {files} to {files_now} open files"
        );
        assert!(
            resident_now < resident + GROWTH,
            "{name}: {resident} to {resident_now} KiB"
        );
    }
    exact.signal(libc::SIGINT);
    let reading = exact.reading();
    let turned_away = reading["tables"][0]["dropped"].as_u64().unwrap();
    let missed = reading["missed"].as_u64().unwrap_or(0);
    let counted = sum(&reading, ("error", "ENOENT"), "calls");
    assert_eq!(counted + turned_away + missed, issued);
    for (name, run) in &mut runs {
        run.signal(libc::SIGINT);
        let (status, _, stderr) = run.end();
        assert_eq!(status.code(), Some(0), "{name}: {stderr}");
    }
    objects.iter().for_each(Objects::wait_until_gone);
}
