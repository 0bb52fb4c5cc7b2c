//! `ENOENT` for 2: the kernel's error numbers, which programs store positive.

use std::borrow::Cow;
use std::ops::Range;

use nix::errno;

use super::registry::Decode;

/// `MAX_ERRNO`.
const MOST: u128 = 4095;

/// Not for user space, and so in no libc: include/linux/errno.h.
const INTERNAL: [(i32, &str); 14] = [
    (512, "ERESTARTSYS"),
    (513, "ERESTARTNOINTR"),
    (514, "ERESTARTNOHAND"),
    (515, "ENOIOCTLCMD"),
    (516, "ERESTART_RESTARTBLOCK"),
    (517, "EPROBE_DEFER"),
    (518, "EOPENSTALE"),
    (519, "ENOPARAM"),
    (521, "EBADHANDLE"),
    (522, "ENOTSYNC"),
    (523, "EBADCOOKIE"),
    (524, "ENOTSUPP"),
    (525, "ETOOSMALL"),
    (529, "EIOCBQUEUED"),
];

#[derive(Default)]
pub(super) struct Errno;

impl Decode for Errno {
    fn name(&self, number: u128) -> Option<Cow<'static, str>> {
        let number = i32::try_from(number).ok()?;
        match errno::Errno::from_raw(number) {
            errno::Errno::UnknownErrno => {
                let known = INTERNAL.iter().find(|(internal, _)| *internal == number);
                known.map(|(_, name)| (*name).into())
            }
            known => Some(format!("{known:?}").into()),
        }
    }

    /// A call that a signal interrupts: user space sees EINTR, or the call goes on.
    fn described(&self, number: u128, raw: bool) -> Option<String> {
        let name = self
            .name(number)
            .filter(|name| name.starts_with("ERESTART"))?;
        (!raw).then(|| format!("interrupted ({name})"))
    }

    fn numbers(&self) -> Range<u128> {
        1..MOST + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_internal_and_unknown() {
        assert_eq!(Errno.name(11).as_deref(), Some("EAGAIN"));
        assert_eq!(Errno.name(512).as_deref(), Some("ERESTARTSYS"));
        assert_eq!(Errno.number("ENOENT"), Some(2));
        assert_eq!(Errno.number("ENOTSUPP"), Some(524));
        let described = |number, raw| Errno.described(number, raw);
        assert_eq!(
            described(514, false).as_deref(),
            Some("interrupted (ERESTARTNOHAND)")
        );
        assert!(
            [(4, false), (515, false), (514, true)].map(|(it, raw)| described(it, raw))
                == [None, None, None]
        );
        assert_eq!(Errno.number("EPERHAPS"), None);
        assert_eq!(Errno.name(0), None);
        assert_eq!(Errno.name(1 << 40), None);
    }
}
