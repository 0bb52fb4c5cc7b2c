//! How a property is held: for so many cases, or for as long as `make fuzz` says,
//! in a process of its own.
//!
//! What a process dies of, be it in the C of libbpf, is told with the case, and
//! with a seed: `PROPTEST_RNG_SEED=N cargo test --test properties NAME` tries the
//! same cases again. One case may take a second of CPU time, and all memory
//! together a GiB, whoever asks for it: Rust or C.

use std::any::type_name;
use std::env;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{self, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::time::ClockId;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestCaseResult, TestRunner};

/// Tells a process that it is the one that tries the cases, and where to note them.
const NOTES: &str = "KTALLY_CASE";

/// How long each property is tried; without it, as many cases as are usual.
const SECONDS: &str = "FUZZ_SECONDS";

/// In `/proc/self/statm`, and for `RLIMIT_DATA`.
const PAGE: u64 = 4096;
const MOST_MEMORY: u64 = 1 << 30;
const MOST_CPU: Duration = Duration::from_secs(1);
/// Of a case that waits for something; the machine may be busy.
const MOST_TIME: Duration = Duration::from_secs(120);

/// Fails where a case does not have this property, or takes too much.
pub fn hold<S, P>(usual: u32, cases: S, property: P)
where
    S: Strategy,
    P: Fn(S::Value) -> TestCaseResult,
{
    match env::var_os(NOTES) {
        Some(notes) => try_cases(usual, &cases, &property, notes.as_ref()),
        None => watch(type_name::<P>()),
    }
}

/// Has the property tried by a process of its own.
fn watch(closure: &str) {
    let name = closure.trim_end_matches("::{{closure}}");
    let (_, name) = name.split_once("::").unwrap();
    let notes = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    command
        .env(NOTES, notes.path())
        .env_remove("RUST_BACKTRACE");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let told = said.lines().find(|line| line.ends_with(" cases"));
    let case = fs::read(notes.path()).unwrap();
    let case = case.split(|byte| *byte == 0).next().unwrap_or_default();
    assert!(
        output.status.success() && told.is_some(),
        "{}\n{said}\n{}\nthe last case: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(case)
    );
    println!("{name}: {}", told.unwrap_or_default());
}

fn try_cases<S: Strategy>(
    usual: u32,
    cases: &S,
    property: &impl Fn(S::Value) -> TestCaseResult,
    notes: &Path,
) {
    let seconds = env::var(SECONDS).ok().map(|text| text.parse().unwrap());
    let time = seconds.map(Duration::from_secs_f64);
    let count = Arc::new(AtomicU64::new(0));
    let file = File::options().write(true).open(notes).unwrap();
    limit_memory();
    limit_time(Arc::clone(&count));
    let start = Instant::now();
    loop {
        let seed = match Config::default().rng_seed {
            RngSeed::Fixed(seed) => seed,
            RngSeed::Random => RandomState::new().build_hasher().finish(),
        };
        let config = Config {
            cases: if time.is_some() { 64 } else { usual },
            rng_seed: RngSeed::Fixed(seed),
            // A failure prints its case; a file of them would be one more to keep.
            failure_persistence: None,
            ..Config::default()
        };
        let result = TestRunner::new(config).run(cases, |case| {
            let note = format!("{case:?} of PROPTEST_RNG_SEED={seed}\0");
            file.write_all_at(note.as_bytes(), 0).unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            property(case)
        });
        if let Err(error) = result {
            panic!("{error}");
        }
        if time.is_none_or(|time| start.elapsed() >= time) {
            break;
        }
    }
    println!("\n{} cases", count.load(Ordering::Relaxed));
}

/// What is over it is refused: Rust ends the process then, and libbpf says so.
fn limit_memory() {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    let data: u64 = pages.split(' ').nth(5).unwrap().parse().unwrap();
    let most = data * PAGE + MOST_MEMORY;
    let limit = libc::rlimit {
        rlim_cur: most,
        rlim_max: most,
    };
    // SAFETY: the kernel reads the limit.
    let ret = unsafe { libc::setrlimit(libc::RLIMIT_DATA, &raw const limit) };
    assert_eq!(ret, 0);
}

/// Ends the process when the count of cases stays the same for too long.
fn limit_time(count: Arc<AtomicU64>) {
    let cpu = || Duration::from(ClockId::CLOCK_PROCESS_CPUTIME_ID.now().unwrap());
    thread::spawn(move || {
        let mut last = (0, cpu(), Instant::now());
        loop {
            thread::sleep(Duration::from_millis(20));
            let now = count.load(Ordering::Relaxed);
            if now != last.0 {
                last = (now, cpu(), Instant::now());
            } else if cpu() - last.1 > MOST_CPU || last.2.elapsed() > MOST_TIME {
                eprintln!("case {now} takes too long");
                process::abort();
            }
        }
    });
}
