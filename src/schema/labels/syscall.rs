//! `read` for 0: system calls of the architecture that this binary is for.

use syscalls::Sysno;

/// The name of a system call's number.
pub(super) fn name(number: u128) -> Option<String> {
    let call = Sysno::new(usize::try_from(number).ok()?)?;
    Some(call.name().to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_of_this_architecture() {
        let number = libc::SYS_openat as u128;
        assert_eq!(super::name(number).as_deref(), Some("openat"));
        assert_eq!(super::name(9_999), None);
    }
}
