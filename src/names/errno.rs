//! `ENOENT` for 2: the kernel's error numbers, which programs store positive.

use nix::errno::Errno;

/// `MAX_ERRNO`.
const MOST: u128 = 4095;

/// The kernel's name of an error number.
pub(super) fn name(number: u128) -> Option<String> {
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
    let number = i32::try_from(number).ok()?;
    match Errno::from_raw(number) {
        Errno::UnknownErrno => INTERNAL
            .iter()
            .find(|(internal, _)| *internal == number)
            .map(|(_, name)| (*name).to_owned()),
        errno => Some(format!("{errno:?}")),
    }
}

/// The other way round.
pub(super) fn number(name: &str) -> Option<i128> {
    (1..=MOST)
        .find(|number| self::name(*number).as_deref() == Some(name))
        .map(|number| number as i128)
}

#[cfg(test)]
mod tests {
    use super::{name, number};

    #[test]
    fn known_internal_and_unknown() {
        assert_eq!(name(11).as_deref(), Some("EAGAIN"));
        assert_eq!(name(512).as_deref(), Some("ERESTARTSYS"));
        assert_eq!(number("ENOENT"), Some(2));
        assert_eq!(number("ENOTSUPP"), Some(524));
        assert_eq!(number("EPERHAPS"), None);
        assert_eq!(name(0), None);
        assert_eq!(name(1 << 40), None);
    }
}
