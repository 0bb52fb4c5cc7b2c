//! `NET_RX` for 3: softirq vectors, as /proc/softirqs calls them.

/// The numbers have been the same since Linux 2.6.35.
const NAMES: [&str; 10] = [
    "HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU",
];

/// The name of a vector.
pub(super) fn name(number: u128) -> Option<String> {
    let index = usize::try_from(number).ok()?;
    NAMES.get(index).map(|name| (*name).to_owned())
}

/// The other way round.
pub(super) fn number(name: &str) -> Option<i128> {
    (0..NAMES.len() as i128).find(|number| NAMES[*number as usize] == name)
}
