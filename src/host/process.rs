//! Privileges of this process, and what /proc says about processes.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::sys::prctl::set_no_new_privs;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::kill;
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::{Pid, User, initgroups, setresgid, setresuid};

use super::{UNPRIVILEGED_READING, kernel_release, kernel_version};

/// The time that CPUs spent on this process.
pub(crate) fn own_cpu_time() -> Duration {
    let time = |time: TimeVal| Duration::from_micros(time.num_microseconds() as u64);
    getrusage(UsageWho::RUSAGE_SELF).map_or(Duration::ZERO, |usage| {
        time(usage.user_time()) + time(usage.system_time())
    })
}

/// The memory of this process that is resident, in bytes.
pub(crate) fn own_memory() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
    kib.unwrap_or(0_u64) << 10
}

/// Why this process may load nothing: the capabilities that it lacks.
pub(crate) fn lacks_capabilities() -> Option<String> {
    let missing = missing_capabilities().join(" and ");
    (!missing.is_empty()).then(|| format!("needs {missing}; run it as root"))
}

/// The capabilities that loading needs and this process lacks.
pub(super) fn missing_capabilities() -> Vec<&'static str> {
    // For bpf(2) only those of the host count.
    if is_in_user_namespace() {
        return lacking(&CapsHashSet::new());
    }
    caps::read(None, CapSet::Effective).map_or(Vec::new(), |held| lacking(&held))
}

/// Whether this process is in another user namespace than the kernel's first one,
/// which has the same number everywhere (include/linux/proc_ns.h).
pub(super) fn is_in_user_namespace() -> bool {
    const PROC_USER_INIT_INO: u64 = 0xefff_fffd;
    fs::metadata("/proc/self/ns/user").is_ok_and(|it| it.ino() != PROC_USER_INIT_INO)
}

/// Gives up every capability but these, and what executing a program could add.
/// What is open already stays usable.
pub(crate) fn keep_capabilities(needed: &[Capability]) -> Result<()> {
    let held = caps::read(None, CapSet::Permitted)?;
    let mut kept: CapsHashSet = needed.iter().copied().collect();
    if kernel_version(&kernel_release()) < UNPRIVILEGED_READING {
        kept.insert(match held.contains(&Capability::CAP_BPF) {
            true => Capability::CAP_BPF,
            false => Capability::CAP_SYS_ADMIN,
        });
    }
    kept.retain(|capability| held.contains(capability));
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    caps::clear(None, CapSet::Inheritable)?;
    Ok(set_no_new_privs()?)
}

/// Runs all threads of this process as another user, with that user's groups.
pub(crate) fn become_user(user: &User) -> Result<()> {
    let become_them = || -> nix::Result<()> {
        let name = CString::new(&*user.name).map_err(|_| Errno::EINVAL)?;
        initgroups(&name, user.gid)?;
        setresgid(user.gid, user.gid, user.gid)?;
        setresuid(user.uid, user.uid, user.uid)
    };
    become_them().with_context(|| format!("failed to become user `{}`", user.name))
}

/// Tells of each signal whether this process ignores it.
pub(crate) fn ignores() -> impl Fn(i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    move |signal| ignored(&status, signal)
}

fn ignored(status: &str, signal: i32) -> bool {
    let mask = field(status, "SigIgn:").and_then(|hex| u64::from_str_radix(hex, 16).ok());
    // Signals are counted from 1.
    mask.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}

/// Whether this process is in the kernel's own PID namespace, which has the same
/// number everywhere (include/linux/proc_ns.h). False where /proc does not say.
pub(crate) fn is_in_first_pid_namespace() -> bool {
    const PROC_PID_INIT_INO: u64 = 0xefff_fffc;
    fs::metadata("/proc/self/ns/pid").is_ok_and(|it| it.ino() == PROC_PID_INIT_INO)
}

/// The folder of a process in /proc; `None` where /proc is that of another PID
/// namespace than this process's, and has other numbers.
pub(crate) fn process_folder(pid: u32) -> Option<PathBuf> {
    let own = fs::read_link("/proc/self").ok()?;
    let is_ours = own.as_os_str() == process::id().to_string().as_str();
    is_ours.then(|| format!("/proc/{pid}").into())
}

/// The numbers of all processes that this one sees.
pub(crate) fn processes() -> Vec<u32> {
    let numbers = entries("/proc").into_iter();
    numbers.filter_map(|name| name.parse().ok()).collect()
}

/// The names of what is in a folder; none where it cannot be read.
pub(crate) fn entries(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.collect()
}

/// The name of a process that lives.
pub(crate) fn process_name(pid: u32) -> Option<String> {
    let name = fs::read_to_string(process_folder(pid)?.join("comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// Refuses a number that is neither 0 nor that of a process.
pub(crate) fn check_process(number: &str) -> Result<()> {
    if number == "0" {
        return Ok(());
    }
    // A negative number is a group's.
    let pid = number.parse().ok().filter(|pid: &i32| *pid > 0);
    let lives = pid.is_some_and(|pid| kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH));
    ensure!(lives, "there is no process {number}");
    let folder = number.parse().ok().and_then(process_folder);
    let status = folder.and_then(|folder| fs::read_to_string(folder.join("status")).ok());
    let leader = status.as_deref().and_then(|status| field(status, "Tgid:"));
    if let Some(leader) = leader.filter(|leader| *leader != number) {
        let name = leader.parse().ok().and_then(process_name);
        let name = name.unwrap_or_default();
        bail!("{number} is a thread of process {leader} (`{name}`); write {leader}");
    }
    Ok(())
}

/// A line of `/proc/PID/status`, by its name.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim())
}

/// CAP_SYS_ADMIN includes the other two, which are younger (Linux 5.8).
fn lacking(held: &CapsHashSet) -> Vec<&'static str> {
    if held.contains(&Capability::CAP_SYS_ADMIN) {
        return Vec::new();
    }
    let needed = [
        (Capability::CAP_BPF, "CAP_BPF"),
        (Capability::CAP_PERFMON, "CAP_PERFMON"),
    ];
    let lacking = needed.iter().filter(|(it, _)| !held.contains(it));
    lacking.map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_from_status() {
        let status = "Name:\tx\nSigIgn:\t0000000000001001\n";
        assert!(ignored(status, libc::SIGHUP));
        assert!(!ignored(status, libc::SIGINT));
    }

    #[test]
    fn lacking_capabilities_are_named() {
        use Capability::{CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN};
        let lacking = |held: &[Capability]| lacking(&held.iter().copied().collect());
        assert!(lacking(&[CAP_SYS_ADMIN]).is_empty());
        assert!(lacking(&[CAP_BPF, CAP_PERFMON]).is_empty());
        assert_eq!(lacking(&[CAP_BPF]), ["CAP_PERFMON"]);
        assert_eq!(lacking(&[]), ["CAP_BPF", "CAP_PERFMON"]);
    }

    #[test]
    fn a_number_that_is_no_process_is_refused() {
        let own = process::id();
        for number in [own, 1, 0] {
            assert!(check_process(&number.to_string()).is_ok(), "{number}");
        }
        for number in ["2147483647", "4294967295", "-1"] {
            let error = check_process(number).unwrap_err().to_string();
            assert_eq!(error, format!("there is no process {number}"));
        }
        let thread = std::thread::spawn(|| {
            let thread = nix::unistd::gettid().to_string();
            (check_process(&thread).unwrap_err().to_string(), thread)
        });
        let (error, thread) = thread.join().unwrap();
        let start = format!("{thread} is a thread of process {own} (`");
        assert!(error.starts_with(&start), "{error}");
        assert!(error.ends_with(&format!("`); write {own}")), "{error}");
    }
}
