//! Runs of the program that end, or fail, at a system call of our choice: each
//! one that changes something waits for our word (seccomp's user notification).

use std::io::{self, Read};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};

use crate::common::Ended;

/// What becomes of the call that was chosen.
#[derive(Debug, Clone, Copy)]
pub enum Fate {
    /// The program is killed before it.
    Kill,
    /// It fails, if it is bpf(2).
    Fail(i32),
}

/// What makes, changes, opens or removes something in the kernel or in bpffs.
const CALLS: &[libc::c_long] = &[
    libc::SYS_bpf,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_mkdirat,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_write,
];

/// Where the child keeps the descriptor that we answer by.
const LISTENER: i32 = 100;

/// Runs a command to its end; its `nth` call has this fate, from 0 on. Whether it
/// came so far.
pub fn run(command: &mut Command, nth: usize, fate: Fate) -> (Ended, bool) {
    // SAFETY: system calls alone.
    unsafe { command.pre_exec(listen) };
    let (stdout, stderr) = (Stdio::piped(), Stdio::piped());
    let mut child = command.stdout(stdout).stderr(stderr).spawn().unwrap();
    let listener = listener_of(&child);
    let mut seen = 0;
    let status = loop {
        let Some(call) = next(&listener) else {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None => continue,
            }
        };
        let is_chosen = match fate {
            Fate::Fail(_) => call.data.nr == libc::SYS_bpf as i32,
            Fate::Kill => true,
        };
        match fate {
            Fate::Kill if seen == nth => child.kill().unwrap(),
            Fate::Fail(errno) if is_chosen && seen == nth => answer(&listener, call.id, errno),
            _ => answer(&listener, call.id, 0),
        }
        seen += usize::from(is_chosen);
    };
    let bytes = |mut from: Box<dyn Read>| {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        bytes
    };
    let output = Output {
        status,
        stdout: bytes(Box::new(child.stdout.take().unwrap())),
        stderr: bytes(Box::new(child.stderr.take().unwrap())),
    };
    let ended = Ended::new(command.get_args(), output);
    (ended, seen > nth)
}

/// In the child: from here on those calls wait for an answer.
fn listen() -> io::Result<()> {
    let jump = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let mut filter = [jump(0, 0, 0, 0); CALLS.len() + 3];
    // The number of the call stands at 0.
    filter[0] = jump(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0);
    for (at, call) in CALLS.iter().enumerate() {
        let to_end = (CALLS.len() - at) as u8;
        filter[1 + at] = jump(libc::BPF_JMP | libc::BPF_JEQ, *call as u32, to_end, 0);
    }
    filter[CALLS.len() + 1] = jump(libc::BPF_RET, libc::SECCOMP_RET_ALLOW, 0, 0);
    filter[CALLS.len() + 2] = jump(libc::BPF_RET, libc::SECCOMP_RET_USER_NOTIF, 0, 0);
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the filter; the descriptors are ours.
    unsafe {
        let listener = libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        );
        if listener < 0 || libc::dup2(listener as i32, LISTENER) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn listener_of(child: &Child) -> OwnedFd {
    // SAFETY: the kernel gives us two descriptors, or fails.
    unsafe {
        let pidfd = libc::syscall(libc::SYS_pidfd_open, child.id(), 0);
        assert!(pidfd >= 0, "{}", io::Error::last_os_error());
        let pidfd = OwnedFd::from_raw_fd(pidfd as i32);
        let fd = libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), LISTENER, 0);
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd as i32)
    }
}

/// A call that waits; `None` where there is none for a moment.
fn next(listener: &OwnedFd) -> Option<libc::seccomp_notif> {
    const RECEIVE: u32 = request(0, size_of::<libc::seccomp_notif>());
    let mut ready = libc::pollfd {
        fd: listener.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one descriptor, as it says.
    let polled = unsafe { libc::poll(&raw mut ready, 1, 10) };
    if polled != 1 || ready.revents & libc::POLLIN == 0 {
        return None;
    }
    // SAFETY: integers; the kernel wants them zero, and writes one notification.
    unsafe {
        let mut call: libc::seccomp_notif = zeroed();
        let got = libc::ioctl(listener.as_raw_fd(), RECEIVE as _, &raw mut call);
        (got == 0).then_some(call)
    }
}

/// The call goes on, or fails.
fn answer(listener: &OwnedFd, id: u64, errno: i32) {
    const SEND: u32 = request(1, size_of::<libc::seccomp_notif_resp>());
    let mut answer = libc::seccomp_notif_resp {
        id,
        val: 0,
        error: -errno,
        flags: match errno {
            0 => libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
            _ => 0,
        },
    };
    // SAFETY: the kernel reads the answer. The child may be gone.
    unsafe { libc::ioctl(listener.as_raw_fd(), SEND as _, &raw mut answer) };
}

/// `SECCOMP_IOWR(number, size)`
const fn request(number: u32, size: usize) -> u32 {
    3 << 30 | (size as u32) << 16 | (b'!' as u32) << 8 | number
}
