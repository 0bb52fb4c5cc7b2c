//! `read` for 0: system calls of the architecture that this binary is for, and
//! `i386:exit` or `arm:exit` for those that a 32-bit program makes by numbers of
//! its own.

use syscalls::Sysno;
#[cfg(target_arch = "aarch64")]
use syscalls::arm as compat;
#[cfg(target_arch = "x86_64")]
use syscalls::x86 as compat;

/// `COMPAT_SYSCALL` of `syscalls.h`.
const COMPAT: usize = 0x8000_0000;
/// `NEGATIVE_SYSCALL`.
const NEGATIVE: usize = 0x7fff_ffff;
const NEGATIVE_NAME: &str = "negative";
const COMPAT_PREFIX: &str = match cfg!(target_arch = "aarch64") {
    true => "arm:",
    false => "i386:",
};

/// The name of a system call's number.
pub(super) fn name(number: u128) -> Option<String> {
    let number = usize::try_from(number).ok()?;
    let (call, is_compat) = (number & !COMPAT, number & COMPAT != 0);
    let name = match (call, is_compat) {
        (NEGATIVE, _) => Some(NEGATIVE_NAME),
        (_, false) => Some(Sysno::new(call)?.name()),
        (_, true) => compat::Sysno::new(call).map(|call| call.name()),
    };
    let name = name.map_or_else(|| call.to_string(), str::to_owned);
    Some(match is_compat {
        false => name,
        true => format!("{COMPAT_PREFIX}{name}"),
    })
}

/// The other way round.
pub(super) fn number(name: &str) -> Option<i128> {
    let number = match name.strip_prefix(COMPAT_PREFIX) {
        Some(NEGATIVE_NAME) => COMPAT | NEGATIVE,
        Some(name) => COMPAT | compat_number(name)?,
        None if name == NEGATIVE_NAME => NEGATIVE,
        None => name.parse::<Sysno>().ok()? as usize,
    };
    i128::try_from(number).ok()
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
        assert_eq!(name(number).as_deref(), Some("openat"));
        assert_eq!(super::number("openat"), Some(libc::SYS_openat.into()));
        assert_eq!(super::number("open_sesame"), None);
        assert_eq!(name(9_999), None);
        assert_eq!(name(0x7fff_ffff).as_deref(), Some("negative"));
        assert_eq!(super::number("negative"), Some(0x7fff_ffff));
        assert_eq!(name(1 << 40), None);
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
            assert_eq!(name(0x8000_0000 | raw), Some(shown(call)));
            assert_eq!(number(&shown(call)), Some(0x8000_0000 | raw as i128));
        }
    }
}
