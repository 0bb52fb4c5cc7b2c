//! `read` for 0: system calls of the architecture that this binary is for, and
//! `i386:exit` or `arm:exit` for those that a 32-bit program makes by numbers of
//! its own.

use std::borrow::Cow;
use std::ops::Range;

use syscalls::Sysno;
#[cfg(target_arch = "aarch64")]
use syscalls::arm as compat;
#[cfg(target_arch = "x86_64")]
use syscalls::x86 as compat;

use super::registry::Decode;

/// `COMPAT_SYSCALL` of `syscalls.h`.
const COMPAT: usize = 0x8000_0000;
/// `NEGATIVE_SYSCALL`.
const NEGATIVE: usize = 0x7fff_ffff;
const NEGATIVE_NAME: &str = "negative";
const COMPAT_PREFIX: &str = if cfg!(target_arch = "aarch64") {
    "arm:"
} else {
    "i386:"
};

#[derive(Default)]
pub(super) struct Syscall;

impl Decode for Syscall {
    fn name(&self, number: u128) -> Option<Cow<'static, str>> {
        let number = usize::try_from(number).ok()?;
        let (call, is_compat) = (number & !COMPAT, number & COMPAT != 0);
        if !is_compat {
            return match call {
                NEGATIVE => Some(NEGATIVE_NAME.into()),
                call => Some(Sysno::new(call)?.name().into()),
            };
        }
        let name = match compat::Sysno::new(call) {
            _ if call == NEGATIVE => NEGATIVE_NAME,
            Some(call) => call.name(),
            None => return Some(format!("{COMPAT_PREFIX}{call}").into()),
        };
        Some(format!("{COMPAT_PREFIX}{name}").into())
    }

    fn numbers(&self) -> Range<u128> {
        0..1 << 10
    }

    fn number(&self, name: &str) -> Option<i128> {
        let number = match name.strip_prefix(COMPAT_PREFIX) {
            Some(NEGATIVE_NAME) => COMPAT | NEGATIVE,
            Some(name) => COMPAT | compat_number(name)?,
            None if name == NEGATIVE_NAME => NEGATIVE,
            None => name.parse::<Sysno>().ok()? as usize,
        };
        i128::try_from(number).ok()
    }
}

fn compat_number(name: &str) -> Option<usize> {
    let number = name.parse().ok();
    number.or_else(|| Some(name.parse::<compat::Sysno>().ok()? as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_this_architecture() {
        let number = libc::SYS_openat as u128;
        assert_eq!(Syscall.name(number).as_deref(), Some("openat"));
        assert_eq!(Syscall.number("openat"), Some(libc::SYS_openat.into()));
        assert_eq!(Syscall.number("open_sesame"), None);
        assert_eq!(Syscall.name(9_999), None);
        assert_eq!(Syscall.name(0x7fff_ffff).as_deref(), Some("negative"));
        assert_eq!(Syscall.number("negative"), Some(0x7fff_ffff));
        assert_eq!(Syscall.name(1 << 40), None);
    }

    #[test]
    fn numbers_of_32_bit_programs() {
        let shown = |call| format!("{COMPAT_PREFIX}{call}");
        for (raw, call) in [
            (1, "exit"),
            (64, "getppid"),
            (0xffff, "65535"),
            (0x7fff_ffff, "negative"),
        ] {
            assert_eq!(Syscall.name(0x8000_0000 | raw), Some(shown(call).into()));
            assert_eq!(
                Syscall.number(&shown(call)),
                Some(0x8000_0000 | raw as i128)
            );
        }
    }
}
