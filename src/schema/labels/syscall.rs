//! `read` for 0: system calls of the architecture that this binary is for, and
//! `i386:exit` for those that a 32-bit program makes by numbers of its own.

use syscalls::Sysno;

/// `COMPAT_SYSCALL` of `kernel.h`.
const COMPAT: usize = 0x8000_0000;
const COMPAT_PREFIX: &str = "i386:";

/// The name of a system call's number.
pub(super) fn name(number: u128) -> Option<String> {
    let number = usize::try_from(number).ok()?;
    match number & COMPAT {
        0 => Some(Sysno::new(number)?.name().to_owned()),
        _ => compat_name(number & !COMPAT),
    }
}

#[cfg(target_arch = "x86_64")]
fn compat_name(number: usize) -> Option<String> {
    let name = syscalls::x86::Sysno::new(number)
        .map_or_else(|| number.to_string(), |call| call.name().to_owned());
    Some(format!("{COMPAT_PREFIX}{name}"))
}

#[cfg(target_arch = "x86_64")]
fn compat_number(name: &str) -> Option<usize> {
    let number = name.parse().ok();
    number.or_else(|| Some(name.parse::<syscalls::x86::Sysno>().ok()? as usize))
}

#[cfg(not(target_arch = "x86_64"))]
fn compat_name(_: usize) -> Option<String> {
    None
}

#[cfg(not(target_arch = "x86_64"))]
fn compat_number(_: &str) -> Option<usize> {
    None
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

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn numbers_of_32_bit_programs() {
        assert_eq!(name(0x8000_0001).as_deref(), Some("i386:exit"));
        assert_eq!(number("i386:exit"), Some(0x8000_0001));
        assert_eq!(number("i386:65535"), Some(0x8000_ffff));
        assert_eq!(name(0x8000_ffff).as_deref(), Some("i386:65535"));
    }
}
