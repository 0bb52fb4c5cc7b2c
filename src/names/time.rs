//! Dates and times: of `bpf_ktime_get_ns()`, and of this host.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Local};
use nix::time::{ClockId, clock_gettime};

use super::registry::Decode;

/// By the time zone of the host, for people.
pub(crate) fn local(time: SystemTime) -> String {
    let time = DateTime::<Local>::from(time);
    time.format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

#[derive(Default)]
pub(super) struct Time;

impl Decode for Time {
    /// When the kernel's monotonic clock showed this many nanoseconds, if the
    /// clock of the host has not been set since.
    fn name(&self, ns: u128) -> Option<Cow<'static, str>> {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).ok()?;
        let then = Duration::from_nanos(u64::try_from(ns).ok()?);
        at(SystemTime::now(), Duration::from(now), then).map(Cow::Owned)
    }

    fn comes_and_goes(&self) -> bool {
        true
    }
}

fn at(now: SystemTime, monotonic: Duration, then: Duration) -> Option<String> {
    let time = match monotonic.checked_sub(then) {
        Some(ago) => now.checked_sub(ago)?,
        None => now.checked_add(then - monotonic)?,
    };
    // Later years than 9999 have no such form.
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    let is_written = time >= SystemTime::UNIX_EPOCH && time <= last;
    is_written.then(|| humantime::format_rfc3339_millis(time).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_by_the_clock_of_the_host() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let at = |then| at(now, Duration::from_secs(100), Duration::from_secs(then));
        assert_eq!(at(100).as_deref(), Some("1970-01-01T00:16:40.000Z"));
        assert_eq!(at(40).as_deref(), Some("1970-01-01T00:15:40.000Z"));
        assert_eq!(at(160).as_deref(), Some("1970-01-01T00:17:40.000Z"));
        assert_eq!(at(u64::MAX / 4), None);
        assert!(Time.name(0).is_some());
        assert_eq!(Time.name(u128::MAX), None);
    }
}
