//! What holds for every type, every run of bytes and every text: `make fuzz`
//! runs these with a million cases and more.

#![allow(clippy::unwrap_used)] // In tests, panics are what tells.

mod btf;
mod shape;
mod text;
mod values;

use proptest::test_runner::Config;

/// As many as `PROPTEST_CASES` says, or so many.
fn cases(usual: u32) -> Config {
    let usual = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => Config::default(),
        None => Config::with_cases(usual),
    };
    // A failure prints its case; a file of them would be one more to keep.
    Config {
        failure_persistence: None,
        ..usual
    }
}

/// The same of cases that take ten times as long: libbpf reads whole objects.
fn slow_cases(usual: u32) -> Config {
    let cases = cases(10 * usual);
    Config {
        cases: cases.cases / 10,
        ..cases
    }
}
