//! `SIGTERM` for 15, and `SIGRTMIN+1` for 35: signals as libc numbers them.

use std::borrow::Cow;
use std::ops::Range;

use nix::sys::signal;

use super::registry::Decode;

/// libc keeps 32 and 33, the kernel's first real-time signals, to itself.
const SIGRTMIN: i32 = 34;
const SIGRTMAX: i32 = 64;

#[derive(Default)]
pub(super) struct Signal;

impl Decode for Signal {
    /// 0 is none.
    fn name(&self, number: u128) -> Option<Cow<'static, str>> {
        match i32::try_from(number).ok()? {
            SIGRTMIN => Some("SIGRTMIN".into()),
            number @ SIGRTMIN..=SIGRTMAX => Some(format!("SIGRTMIN+{}", number - SIGRTMIN).into()),
            number => {
                let signal = signal::Signal::try_from(number).ok()?;
                Some(signal.as_str().into())
            }
        }
    }

    fn described(&self, number: u128, raw: bool) -> Option<String> {
        (number == 0 && !raw).then(|| "-".to_owned())
    }

    fn numbers(&self) -> Range<u128> {
        0..SIGRTMAX as u128 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (known, text) in [
            (9, "SIGKILL"),
            (17, "SIGCHLD"),
            (31, "SIGSYS"),
            (34, "SIGRTMIN"),
            (35, "SIGRTMIN+1"),
            (64, "SIGRTMIN+30"),
        ] {
            assert_eq!(Signal.name(known).as_deref(), Some(text));
            assert_eq!(Signal.number(text), Some(known as i128));
        }
        for unknown in [0, 32, 33, 65, 1 << 40] {
            assert_eq!(Signal.name(unknown), None);
        }
        assert_eq!(Signal.described(0, false).as_deref(), Some("-"));
        assert!(Signal.described(0, true).is_none() && Signal.described(9, false).is_none());
        for stranger in ["SIGRTMIN+31", "SIGRTMIN-1", "SIGRTMIN1", "KILL", ""] {
            assert_eq!(Signal.number(stranger), None, "{stranger}");
        }
    }
}
