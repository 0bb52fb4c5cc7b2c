//! `interruptible` for 1: how a task sleeps, by the kernel's names.

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

/// The name of a state.
pub(super) fn name(number: u128) -> Option<String> {
    let known = NAMES.iter().find(|(state, _)| u128::from(*state) == number);
    known.map(|(_, name)| (*name).to_owned())
}

/// The other way round.
pub(super) fn number(name: &str) -> Option<i128> {
    let known = NAMES.iter().find(|(_, known)| *known == name);
    known.map(|(state, _)| (*state).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(name(0x402).as_deref(), Some("idle"));
        assert_eq!(number("killable"), Some(0x102));
        assert_eq!(name(0), None);
        assert_eq!(name(0x1_0000_0001), None);
        assert_eq!(number("asleep"), None);
    }
}
