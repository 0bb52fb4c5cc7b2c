//! Ten scrapes a second, pages and instances that come and go, for as long as
//! `make soak MINUTES=n` says: nothing grows.

use std::time::{Duration, Instant};

use super::attacks::Usage;
use super::client::Events;
use super::{Exporter, Host, samples};
use crate::support::{Child, fail_to_open};

#[test]
#[ignore = "takes minutes: make soak"]
fn ten_scrapes_a_second() {
    const EACH: u64 = 1000;
    /// Caches fill, and the allocator keeps some of what it had.
    const GROWTH: u64 = 8 << 20;
    let minutes = std::env::var("MINUTES").map_or(1.0, |text| text.parse().unwrap());
    let time = Duration::from_secs_f64(60.0 * minutes);
    let host = Host::new();
    let child = Child::new("kt-scrapes", || fail_to_open(EACH));
    host.good(&format!("attach failures --as exact --pid {}", child.pid()));
    // Rows of other processes would make it grow.
    let exporter = Exporter::start(
        &host,
        "--attached syscalls:comm=kt-scrapes softirqs runqlat",
    );
    let calls = "ktally_failures_calls_total{comm=\"kt-scrapes\",call=\"openat\",error=\"ENOENT\",tally=\"exact\"}";
    let (start, mut before, mut issued) = (Instant::now(), None, 0_u64);
    for round in 0_u64.. {
        let due = start + Duration::from_millis(100 * round);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let headers: &[&str] = match round % 3 {
            0 => &["Accept-Encoding: gzip"],
            1 => &["Accept: application/openmetrics-text"],
            _ => &[],
        };
        let now = samples(&exporter.get("/metrics", headers).text());
        let counted = now.get(calls).map_or(0, |text| text.parse().unwrap());
        assert!(counted <= issued, "{counted} {issued}");
        match round % 50 {
            10 => {
                child.work();
                issued += EACH;
            }
            20 => _ = host.good("attach failures --as guest --comm kt-scrapes"),
            30 => _ = host.good("detach guest"),
            40 => {
                let mut page = Events::open(&exporter.socket, "/api/v1/stream?tally=syscalls");
                assert_eq!(page.next().0, "reading");
            }
            _ => {}
        }
        let passed = start.elapsed();
        match before {
            None if passed > time / 4 => before = Some(Usage::of(&exporter)),
            Some(_) if passed > time => break,
            _ => {}
        }
    }
    let (before, now) = (before.unwrap(), Usage::of(&exporter));
    println!("{before:?}, then {now:?}");
    assert!(
        now.descriptors <= before.descriptors + 1,
        "{before:?} {now:?}"
    );
    assert!(now.memory < before.memory + GROWTH, "{before:?} {now:?}");
    assert_eq!(exporter.scrape()[calls], issued.to_string());
}
