//! `interruptible` for 1: how a task sleeps, by the kernel's names.

use std::borrow::Cow;
use std::ops::Range;

use super::registry::Decode;

/// include/linux/sched.h, the same since Linux 4.14 as far as they go; the
/// last is of 5.15. Only these bits reach us: `TASK_STATES` of `kernel.h`.
const NAMES: [(u32, &str); 8] = [
    (0x1, "interruptible"),
    (0x2, "uninterruptible"),
    (0x102, "killable"),
    (0x402, "idle"),
    (0x104, "stopped"),
    (0x108, "traced"),
    (0x40, "parked"),
    (0x1000, "rtlock"),
];

#[derive(Default)]
pub(super) struct State;

impl Decode for State {
    fn name(&self, number: u128) -> Option<Cow<'static, str>> {
        let known = NAMES.iter().find(|(state, _)| u128::from(*state) == number);
        known.map(|(_, name)| (*name).into())
    }

    fn numbers(&self) -> Range<u128> {
        0..1 << 13
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(State.name(0x402).as_deref(), Some("idle"));
        assert_eq!(State.number("killable"), Some(0x102));
        assert_eq!(State.name(0), None);
        assert_eq!(State.name(0x1_0000_0001), None);
        assert_eq!(State.number("asleep"), None);
    }
}
