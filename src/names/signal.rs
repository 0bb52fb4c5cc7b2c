//! `SIGTERM` for 15, and `SIGRTMIN+1` for 35: signals as libc numbers them.

use std::str::FromStr;

use nix::sys::signal::Signal;

/// libc keeps 32 and 33, the kernel's first real-time signals, to itself.
const SIGRTMIN: i32 = 34;
const SIGRTMAX: i32 = 64;

/// The name of a signal; 0 is none.
pub(super) fn name(number: u128) -> Option<String> {
    let number = i32::try_from(number).ok()?;
    match number {
        SIGRTMIN => Some("SIGRTMIN".to_owned()),
        _ if (SIGRTMIN..=SIGRTMAX).contains(&number) => {
            Some(format!("SIGRTMIN+{}", number - SIGRTMIN))
        }
        _ => Some(Signal::try_from(number).ok()?.as_str().to_owned()),
    }
}

/// The other way round.
pub(super) fn number(name: &str) -> Option<i128> {
    let number = match name.strip_prefix("SIGRTMIN") {
        Some("") => SIGRTMIN,
        Some(beyond) => beyond.strip_prefix('+')?.parse::<i32>().ok()? + SIGRTMIN,
        None => Signal::from_str(name).ok()? as i32,
    };
    self::name(u128::try_from(number).ok()?)?;
    Some(number.into())
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
            assert_eq!(name(known).as_deref(), Some(text));
            assert_eq!(number(text), Some(known as i128));
        }
        for unknown in [0, 32, 33, 65, 1 << 40] {
            assert_eq!(name(unknown), None);
        }
        for stranger in ["SIGRTMIN+31", "SIGRTMIN-1", "SIGRTMIN1", "KILL", ""] {
            assert_eq!(number(stranger), None, "{stranger}");
        }
    }
}
