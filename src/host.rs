//! What this kernel and these privileges allow, and errno turned into advice.

mod facts;
mod folders;
mod mounts;
mod process;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use nix::sys::utsname::{self, UtsName};

pub use facts::Fact;
pub(crate) use facts::facts;
pub(crate) use folders::{cache_folder, is_ours, kernel_build_id};
pub(crate) use mounts::cgroup1_gap;
pub use mounts::cgroup2_mounts;
pub(crate) use mounts::{BPFFS, TRACEFS, mount_bpffs_for, mount_point, mounts_of, tracefs_path};
pub(crate) use process::{
    become_user, check_process, entries, ignores, is_in_first_pid_namespace, keep_capabilities,
    lacks_capabilities, own_cpu_time, own_memory, process_folder, process_name, processes,
};

/// The running kernel's BTF.
pub(crate) const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// It has one folder per CPU.
const CPUS: &str = "/sys/devices/system/cpu";

/// What to do about a kernel without BTF.
pub(crate) const BTF_FIX: &str =
    "run one built with CONFIG_DEBUG_INFO_BTF=y, as distributions do since 2021";

/// What `uname -n` prints.
pub(crate) fn name() -> String {
    uname(UtsName::nodename)
}

/// What `uname -r` prints.
pub fn kernel_release() -> String {
    uname(UtsName::release)
}

fn uname(part: fn(&UtsName) -> &OsStr) -> String {
    let name = utsname::uname();
    name.map(|name| part(&name).to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The release's first two numbers.
pub fn kernel_version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Programs get the current task as a pointer: 3ca1032ab7ab ("bpf: Implement
/// get_current_task_btf and RET_PTR_TO_BTF_ID").
pub(crate) const CURRENT_TASK: (u32, u32) = (5, 11);

/// Since when a system call can run programs, which add and drain in place.
pub(crate) const SYSCALL_PROGRAMS: (u32, u32) = (5, 14);

/// Since when open maps can be read without capabilities.
const UNPRIVILEGED_READING: (u32, u32) = (5, 19);

/// Whether the locale's characters are UTF-8; without a locale they are ASCII.
pub(crate) fn is_utf8() -> bool {
    let mut locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(std::env::var_os)
        .filter(|value| !value.is_empty());
    locale.next().is_some_and(|locale| {
        let locale = locale.to_string_lossy().to_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// Whether the running kernel describes its types.
pub(crate) fn has_btf() -> bool {
    Path::new(VMLINUX_BTF).exists()
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

/// Why a system call of bpf(2) was refused, and what helps.
pub(crate) fn advice(errno: i32) -> String {
    match errno {
        libc::EPERM | libc::EACCES => lacks_capabilities().unwrap_or_else(refused),
        libc::ENOMEM => {
            "out of memory; lower --max-rows, or raise the memory cgroup's limit".to_owned()
        }
        libc::E2BIG => "too large for the kernel; lower --max-rows".to_owned(),
        libc::EMFILE | libc::ENFILE => "too many open files; raise `ulimit -n`".to_owned(),
        _ => io::Error::from_raw_os_error(errno).to_string(),
    }
}

/// What may forbid BPF to a process with all capabilities, as far as it can be asked.
fn refused() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let lockdown = read("/sys/kernel/security/lockdown");
    let lockdown = lockdown.split(['[', ']']).nth(1).unwrap_or("none");
    let status = read("/proc/self/status");
    let has_filter = status
        .lines()
        .any(|it| it.starts_with("Seccomp:") && it.ends_with('2'));
    let modules = read("/sys/kernel/security/lsm");
    let found = match (lockdown, has_filter) {
        ("none", false) => format!(
            "why is not known: lockdown is off and no seccomp filter is set; security modules: {}",
            if modules.is_empty() { "not known" } else { modules.trim() }
        ),
        ("none", true) => "this process has a seccomp filter, as in a container: allow bpf(2) and perf_event_open(2) in it".to_owned(),
        (level, _) => format!("the kernel is locked down (`{level}` in /sys/kernel/security/lockdown)"),
    };
    format!("the kernel refused it: {found}")
}

/// The number of CPUs that are online; this process may be bound to fewer.
pub fn cpus() -> usize {
    let online = fs::read_to_string(Path::new(CPUS).join("online"));
    online.map_or(1, |online| count_of(&online))
}

/// The length of a list like `0-3,5`.
fn count_of(list: &str) -> usize {
    let count = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.trim().parse::<usize>().ok();
        Some(number(last)?.saturating_sub(number(first)?) + 1)
    };
    list.split(',').filter_map(count).sum()
}

/// The highest frequency, in Hz, that the kernel allows a perf event to sample at.
pub(crate) fn max_sample_rate() -> u64 {
    let most = fs::read_to_string("/proc/sys/kernel/perf_event_max_sample_rate");
    let most = most.ok().and_then(|most| most.trim().parse().ok());
    most.unwrap_or(u64::MAX)
}

/// Whether there is a CPU of this number, which may be offline.
pub(crate) fn has_cpu(number: &str) -> bool {
    Path::new(CPUS).join(format!("cpu{number}")).exists()
}

/// The CPUs that are present: `0-3`.
pub(crate) fn present_cpus() -> String {
    let present = fs::read_to_string(Path::new(CPUS).join("present"));
    present.unwrap_or_default().trim_end().to_owned()
}

/// The compiler for C files: `CLANG`, or `clang`. Other users could replace one in a
/// folder that they can write to.
pub fn clang() -> Result<Command> {
    let name = std::env::var_os("CLANG").filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| "clang".into());
    if let Some(path) = folders::in_path(&name)
        && path.exists()
        && path.parent().is_some_and(folders::is_open_to_all)
    {
        bail!(
            "`{}` is in a folder that other users can write to; point CLANG at a compiler that only root can change",
            path.display()
        );
    }
    Ok(Command::new(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_counted() {
        for (list, count) in [("0\n", 1), ("0-3\n", 4), ("0-3,5,8-127\n", 125), ("\n", 0)] {
            assert_eq!(count_of(list), count, "{list:?}");
        }
    }
}
