//! `NET_RX` for 3: softirq vectors, as /proc/softirqs calls them.

use std::borrow::Cow;
use std::ops::Range;

use super::registry::Decode;

/// The numbers have been the same since Linux 2.6.35.
const NAMES: [&str; 10] = [
    "HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU",
];

#[derive(Default)]
pub(super) struct Softirq;

impl Decode for Softirq {
    fn name(&self, number: u128) -> Option<Cow<'static, str>> {
        let index = usize::try_from(number).ok()?;
        NAMES.get(index).map(|name| (*name).into())
    }

    fn numbers(&self) -> Range<u128> {
        0..NAMES.len() as u128
    }
}
