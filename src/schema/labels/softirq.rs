//! `NET_RX` for 3: softirq vectors, as /proc/softirqs calls them.

/// The name of a vector; the numbers have been the same since Linux 2.6.35.
pub(super) fn name(number: u128) -> Option<String> {
    const NAMES: [&str; 10] = [
        "HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER",
        "RCU",
    ];
    let index = usize::try_from(number).ok()?;
    NAMES.get(index).map(|name| (*name).to_owned())
}
