//! How a property is held: for so many cases, or for as long as `make fuzz` says,
//! in a process of its own.
//!
//! If a process dies, even in the C of libbpf, the failure names the case and its
//! seed: `PROPTEST_RNG_SEED=N cargo test --test properties NAME` tries the
//! same cases again. One case may take a second of CPU time, and all memory
//! together a GiB, in Rust and in C.

use std::any::type_name;
use std::env;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::fs::FileExt;
use std::panic;
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

/// Where these notes are: the case, and the last panic. Each ends with a NUL.
const CASE: u64 = 0;
const PANIC: u64 = 1 << 20;

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
    let notes = fs::read(notes.path()).unwrap();
    let note = |at: u64| {
        let note = notes.get(at as usize..).unwrap_or_default();
        let note = note.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(note).into_owned()
    };
    assert!(
        output.status.success() && told.is_some(),
        "{}\n{}\n{}\nthe last case: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        note(PANIC),
        note(CASE)
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
    let panics = file.try_clone().unwrap();
    // One is enough, of all that are seen on the way to the smallest case.
    panic::set_hook(Box::new(move |panic| {
        let _ = panics.write_all_at(format!("{panic}\0").as_bytes(), PANIC);
    }));
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
            file.write_all_at(note.as_bytes(), CASE).unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            property(case)
        });
        if let Err(error) = result {
            eprintln!("{error}");
            process::exit(1);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told where 7 has not a property.
    fn told(hold: impl FnOnce() + panic::UnwindSafe, words: &[&str]) {
        let told = panic::catch_unwind(hold).unwrap_err();
        let told = told.downcast::<String>().unwrap();
        assert!(told.contains(" of PROPTEST_RNG_SEED="), "{told}");
        for word in words {
            assert!(told.contains(word), "{word}: {told}");
        }
    }

    #[test]
    fn a_mistake_is_told() {
        let property = || {
            hold(1000, 0..10u8, |number| {
                prop_assert!(number != 7, "it is seven");
                Ok(())
            });
        };
        told(property, &["it is seven", "minimal failing input: 7"]);
    }

    #[test]
    fn a_panic_is_told() {
        let property = || {
            hold(1000, 0..10u8, |number| {
                assert!(number != 7, "it is seven");
                Ok(())
            });
        };
        told(
            property,
            &["hold.rs:", "it is seven", "minimal failing input: 7"],
        );
    }

    #[test]
    fn a_crash_is_told() {
        let property = || {
            hold(1000, 0..10u8, |number| {
                if number == 7 {
                    // SAFETY: it ends the process.
                    unsafe { libc::raise(libc::SIGSEGV) };
                }
                Ok(())
            });
        };
        told(property, &["SIGSEGV", "the last case: 7"]);
    }

    #[test]
    fn too_much_memory_is_told() {
        let property = || {
            hold(1000, 0..10u8, |number| {
                let bytes = if number == 7 { MOST_MEMORY } else { 1 };
                let bytes = vec![1u8; bytes as usize];
                prop_assert!(bytes.ends_with(&[1]));
                Ok(())
            });
        };
        told(
            property,
            &["memory allocation of 1073741824", "the last case: 7"],
        );
    }

    #[test]
    fn too_much_time_is_told() {
        let property = || {
            hold(1000, 0..10u8, |number| {
                if number == 7 {
                    loop {
                        std::hint::spin_loop();
                    }
                }
                Ok(())
            });
        };
        told(property, &["case ", " takes too long", "the last case: 7"]);
    }
}
