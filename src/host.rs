//! What this kernel and these privileges allow, and errno turned into advice.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use anyhow::{Context, Result, bail, ensure};
use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::prctl::set_no_new_privs;
use nix::sys::signal::kill;
use nix::sys::statfs::{BPF_FS_MAGIC, TRACEFS_MAGIC, statfs};
use nix::sys::statvfs::{FsFlags, Statvfs, statvfs};
use nix::unistd::Pid;

/// Where bpffs is mounted.
pub(crate) const BPFFS: &str = "/sys/fs/bpf";
/// Where tracefs is mounted; debugfs carries an old copy.
pub(crate) const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
/// The running kernel's BTF.
pub(crate) const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// A folder a CPU.
const CPUS: &str = "/sys/devices/system/cpu";

/// What to do about a kernel without.
pub(crate) const BTF_FIX: &str =
    "run one built with CONFIG_DEBUG_INFO_BTF=y, as distributions do since 2021";

/// One line of `ktally check`.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// What was looked at.
    pub name: Cow<'static, str>,
    /// What was found.
    pub found: String,
    /// What to do about it, where something is missing.
    pub fix: Option<String>,
}

impl Fact {
    /// All is well.
    pub(crate) fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            found: found.into(),
            fix: None,
        }
    }

    /// Something is missing.
    pub(crate) fn bad(
        name: &'static str,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            found: found.into(),
            fix: Some(fix.into()),
        }
    }
}

/// Everything about the host that needs no BPF program to find out.
pub(crate) fn facts() -> Vec<Fact> {
    vec![
        kernel(),
        btf(),
        capabilities(),
        bpffs(),
        tracefs(),
        jit(),
        kprobes(),
        cgroup2(),
    ]
}

/// As `uname -r` tells it.
pub fn kernel_release() -> String {
    nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The release's first two numbers.
pub fn kernel_version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Programs that a system call runs: they add and drain in place.
pub(crate) const SYSCALL_PROGRAMS: (u32, u32) = (5, 14);

/// Maps that are open are read without capabilities.
const UNPRIVILEGED_READING: (u32, u32) = (5, 19);

/// What is not to be had before; tallies that an old kernel has no events for are
/// told one by one.
const SINCE: [((u32, u32), &str); 6] = [
    ((5, 11), "tallies that show stacks"),
    ((5, 12), "how many runs were missed"),
    ((5, 13), "tallies that time calls"),
    (SYSCALL_PROGRAMS, "map add, map drain"),
    ((5, 16), "tags of other programs' maps"),
    (UNPRIVILEGED_READING, "reading without privileges"),
];

fn kernel() -> Fact {
    kernel_of(&kernel_release())
}

fn kernel_of(release: &str) -> Fact {
    let version = kernel_version(release);
    let lacking: Vec<String> = SINCE
        .iter()
        .filter(|(since, _)| version < *since)
        .map(|((major, minor), what)| format!("{what} (since {major}.{minor})"))
        .collect();
    match lacking.is_empty() {
        true => Fact::good("kernel", release),
        false => Fact::bad("kernel", release, format!("lacks {}", lacking.join(", "))),
    }
}

/// Whether the running kernel describes its types.
pub(crate) fn has_btf() -> bool {
    Path::new(VMLINUX_BTF).exists()
}

fn btf() -> Fact {
    if has_btf() {
        Fact::good("BTF", VMLINUX_BTF)
    } else {
        Fact::bad("BTF", "none", BTF_FIX)
    }
}

/// The capabilities that loading wants and this process lacks.
pub(crate) fn missing_capabilities() -> Vec<&'static str> {
    // For bpf(2) only those of the host count.
    if is_in_user_namespace() {
        return lacking(&CapsHashSet::new());
    }
    caps::read(None, CapSet::Effective).map_or(Vec::new(), |held| lacking(&held))
}

/// Whether this process is in another user namespace than the kernel's first one,
/// which has the same number everywhere (include/linux/proc_ns.h).
fn is_in_user_namespace() -> bool {
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

/// Whether this process ignores a signal.
pub(crate) fn ignores(signal: i32) -> bool {
    ignored(&status(), signal)
}

fn ignored(status: &str, signal: i32) -> bool {
    let mask = field(status, "SigIgn:").and_then(|hex| u64::from_str_radix(hex, 16).ok());
    // Signals are counted from 1.
    mask.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}

fn status() -> String {
    fs::read_to_string("/proc/self/status").unwrap_or_default()
}

/// Whether this process is in the kernel's own PID namespace, which has the same
/// number everywhere (include/linux/proc_ns.h). Where /proc does not tell, it may
/// be in another.
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

/// What a process is called, while it lives.
pub(crate) fn process_name(pid: u32) -> Option<String> {
    let name = fs::read_to_string(process_folder(pid)?.join("comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// Whether a number is that of a process, or 0: what is wrong, and what to write.
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
    [
        (Capability::CAP_BPF, "CAP_BPF"),
        (Capability::CAP_PERFMON, "CAP_PERFMON"),
    ]
    .into_iter()
    .filter(|(capability, _)| !held.contains(capability))
    .map(|(_, name)| name)
    .collect()
}

fn capabilities() -> Fact {
    if is_in_user_namespace() {
        return Fact::bad(
            "capabilities",
            "only those of a user namespace, which do not count for bpf(2)",
            "run ktally as root of the host, outside of the namespace or container",
        );
    }
    let missing = missing_capabilities();
    if missing.is_empty() {
        return Fact::good("capabilities", "CAP_BPF, CAP_PERFMON");
    }
    Fact::bad(
        "capabilities",
        format!("without {}", missing.join(", ")),
        "run ktally as root, or give it CAP_BPF and CAP_PERFMON",
    )
}

fn bpffs() -> Fact {
    match statfs(BPFFS) {
        Ok(fs) if fs.filesystem_type() == BPF_FS_MAGIC => Fact::good("bpffs", BPFFS),
        _ => Fact::bad(
            "bpffs",
            "not mounted",
            format!("only for pins: mount -t bpf -o mode=0700 bpf {BPFFS}"),
        ),
    }
}

/// Before pins are made or removed: mounts bpffs where they are kept, if the path
/// is below it and it is not mounted.
pub(crate) fn mount_bpffs_for(path: &Path) -> Result<()> {
    let is_mounted = || statfs(BPFFS).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC);
    if !path.starts_with(BPFFS) {
        return Ok(());
    }
    if is_mounted() {
        let is_read_only = |fs: Statvfs| fs.flags().contains(FsFlags::ST_RDONLY);
        if statvfs(BPFFS).is_ok_and(is_read_only) {
            bail!("{BPFFS} is mounted read-only: mount -o remount,rw {BPFFS}");
        }
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), BPFFS, Some("bpf"), flags, Some("mode=0700")).with_context(|| {
        format!("failed to mount bpffs at {BPFFS}: mount -t bpf -o mode=0700 bpf {BPFFS}")
    })
}

/// The mounted tracefs.
pub(crate) fn tracefs_path() -> Option<&'static str> {
    TRACEFS
        .into_iter()
        .find(|path| statfs(*path).is_ok_and(|fs| fs.filesystem_type() == TRACEFS_MAGIC))
}

fn tracefs() -> Fact {
    match tracefs_path() {
        Some(path) => Fact::good("tracefs", path),
        None => Fact::bad(
            "tracefs",
            "not mounted",
            format!(
                "only for tracepoint/ programs: mount -t tracefs tracefs {}",
                TRACEFS[0]
            ),
        ),
    }
}

fn jit() -> Fact {
    const SYSCTL: &str = "/proc/sys/net/core/bpf_jit_enable";
    match fs::read_to_string(SYSCTL).as_deref().map(str::trim) {
        Ok("0") => Fact::bad(
            "JIT",
            "off",
            "counting is slow: sysctl net.core.bpf_jit_enable=1",
        ),
        Ok(_) => Fact::good("JIT", "on"),
        // Only root of the first network namespace may read it.
        Err(error) => Fact::good("JIT", format!("unknown ({error})")),
    }
}

/// Whether programs can attach to kernel functions by kprobe.
pub fn has_kprobes() -> bool {
    Path::new("/sys/bus/event_source/devices/kprobe/type").exists()
}

/// The names of the running kernel's functions, sorted, each once; also those
/// that cannot be probed.
pub(crate) fn kernel_functions() -> io::Result<Vec<String>> {
    let kallsyms = fs::read_to_string("/proc/kallsyms")?;
    let mut functions: Vec<String> = kallsyms
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace().skip(1);
            let is_code = matches!(words.next()?, "t" | "T" | "w" | "W");
            is_code.then_some(words.next()?.to_owned())
        })
        .collect();
    functions.sort_unstable();
    functions.dedup();
    Ok(functions)
}

fn kprobes() -> Fact {
    if has_kprobes() {
        Fact::good("kprobes", "available")
    } else {
        Fact::bad(
            "kprobes",
            "none",
            "only for kprobe/ programs: a kernel built with CONFIG_KPROBES=y",
        )
    }
}

/// Where cgroups of version 2 are mounted.
pub fn cgroup2_mounts() -> impl Iterator<Item = PathBuf> {
    mounts_of("cgroup2").into_iter()
}

/// Where filesystems of this kind are mounted.
pub(crate) fn mounts_of(kind: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| mounted(line, kind))
        .collect()
}

/// One line of /proc/mounts.
fn mounted(line: &str, kind: &str) -> Option<PathBuf> {
    let mut words = line.split(' ').skip(1);
    let (path, of) = (words.next()?, words.next()?);
    (of == kind).then(|| mount_point(path).into())
}

/// A path as /proc/mounts and mountinfo write it: a blank is `\040`.
pub(crate) fn mount_point(text: &str) -> String {
    text.replace("\\040", " ").replace("\\134", "\\")
}

fn cgroup2() -> Fact {
    let Some(mount) = cgroup2_mounts().next() else {
        return Fact::bad(
            "cgroup2",
            "not mounted",
            "only for the paths of groups: mount -t cgroup2 cgroup2 /mnt",
        );
    };
    let mount = mount.display();
    match mounts_of("cgroup").is_empty() {
        true => Fact::good("cgroup2", mount.to_string()),
        false => Fact::bad(
            "cgroup2",
            format!("{mount}, beside version 1"),
            "what is in groups of version 1 alone is shown as `/`: boot with cgroup_no_v1=all",
        ),
    }
}

/// Why a system call of bpf(2) was refused, and what helps.
pub(crate) fn advice(errno: i32) -> String {
    match errno {
        libc::EPERM | libc::EACCES => {
            let missing = missing_capabilities();
            if missing.is_empty() {
                "the kernel refused it (lockdown, seccomp or a security module)".to_owned()
            } else {
                format!("needs {}; run it as root", missing.join(" and "))
            }
        }
        libc::ENOMEM => {
            "out of memory; lower --max-rows, or raise the memory cgroup's limit".to_owned()
        }
        libc::E2BIG => "too large for the kernel; lower --max-rows".to_owned(),
        libc::EMFILE | libc::ENFILE => "too many open files; raise `ulimit -n`".to_owned(),
        _ => std::io::Error::from_raw_os_error(errno).to_string(),
    }
}

/// How many CPUs of the host are online, whichever this process may run on.
pub fn cpus() -> usize {
    let online = fs::read_to_string(Path::new(CPUS).join("online"));
    online.map_or(1, |online| count_of(&online))
}

/// How many numbers a list like `0-3,5` has.
fn count_of(list: &str) -> usize {
    let count = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.trim().parse::<usize>().ok();
        Some(number(last)?.saturating_sub(number(first)?) + 1)
    };
    list.split(',').filter_map(count).sum()
}

/// How often a second a perf event may take a sample, at most.
pub(crate) fn max_sample_rate() -> u64 {
    let most = fs::read_to_string("/proc/sys/kernel/perf_event_max_sample_rate");
    let most = most.ok().and_then(|most| most.trim().parse().ok());
    most.unwrap_or(u64::MAX)
}

/// Whether there is a CPU of this number, which may be offline.
pub(crate) fn has_cpu(number: &str) -> bool {
    Path::new(CPUS).join(format!("cpu{number}")).exists()
}

/// The numbers of those that there are: `0-3`.
pub(crate) fn present_cpus() -> String {
    let present = fs::read_to_string(Path::new(CPUS).join("present"));
    present.unwrap_or_default().trim_end().to_owned()
}

/// The compiler for C files: `CLANG`, or `clang`.
pub fn clang() -> Command {
    Command::new(std::env::var_os("CLANG").unwrap_or_else(|| "clang".into()))
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

    #[test]
    fn lists_of_cpus_are_counted() {
        for (list, count) in [("0\n", 1), ("0-3\n", 4), ("0-3,5,8-127\n", 125), ("\n", 0)] {
            assert_eq!(count_of(list), count, "{list:?}");
        }
    }

    #[test]
    fn mounts_by_their_kind() {
        let line = "cgroup2 /my\\040cgroups cgroup2 rw 0 0";
        assert_eq!(mounted(line, "cgroup2"), Some("/my cgroups".into()));
        assert_eq!(mounted(line, "cgroup"), None);
        assert_eq!(mounted("", "cgroup2"), None);
    }

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(kernel_version("6.18.44-fc-v445"), (6, 18));
        assert_eq!(kernel_version("5.10.0-33-cloud-amd64"), (5, 10));
        assert_eq!(kernel_version("x"), (0, 0));
        assert_eq!(kernel_of("5.19.0-1").fix, None);
        let fix = kernel_of("5.15.0-91-generic").fix.unwrap();
        assert_eq!(
            fix,
            "lacks tags of other programs' maps (since 5.16), reading without privileges (since 5.19)"
        );
    }
}
