//! `read` for 0: system calls of the architecture that this binary is for, and
//! `i386:exit` or `arm:exit` for those that a 32-bit program makes by numbers of
//! its own.

use syscalls::Sysno;
#[cfg(target_arch = "aarch64")]
use syscalls::arm as compat;
#[cfg(target_arch = "x86_64")]
use syscalls::x86 as compat;

/// `COMPAT_SYSCALL` of `kernel.h`.
const COMPAT: usize = 0x8000_0000;
const COMPAT_PREFIX: &str = match cfg!(target_arch = "aarch64") {
    true => "arm:",
    false => "i386:",
};

/// The name of a system call's number.
pub(super) fn name(number: u128) -> Option<String> {
    let number = usize::try_from(number).ok()?;
    match number & COMPAT {
        0 => Some(Sysno::new(number)?.name().to_owned()),
        _ => Some(compat_name(number & !COMPAT)),
    }
}

fn compat_name(number: usize) -> String {
    let name = compat::Sysno::new(number)
        .map_or_else(|| number.to_string(), |call| call.name().to_owned());
    format!("{COMPAT_PREFIX}{name}")
}

fn compat_number(name: &str) -> Option<usize> {
    let number = name.parse().ok();
    number.or_else(|| Some(name.parse::<compat::Sysno>().ok()? as usize))
}

/// The other way round.
pub(super) fn number(name: &str) -> Option<i128> {
    let number = match name.strip_prefix(COMPAT_PREFIX) {
        None => name.parse::<Sysno>().ok()? as usize,
        Some(name) => COMPAT | compat_number(name)?,
    };
    i128::try_from(number).ok()
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
        assert_eq!(name(1 << 40), None);
    }

    #[test]
    fn numbers_of_32_bit_programs() {
        let shown = |call| format!("{COMPAT_PREFIX}{call}");
        for (raw, call) in [(1, "exit"), (64, "getppid"), (0xffff, "65535")] {
            assert_eq!(name(0x8000_0000 | raw), Some(shown(call)));
            assert_eq!(number(&shown(call)), Some(0x8000_0000 | raw as i128));
        }
    }
}
