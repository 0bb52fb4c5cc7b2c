//! What `ktally check` reports about the host.

use std::borrow::Cow;
use std::fs;

use super::mounts::{BPFFS, TRACEFS, cgroup1_gap, cgroup2_mounts, is_bpffs_mounted, tracefs_path};
use super::process::{is_in_user_namespace, missing_capabilities};
use super::{
    BTF_FIX, CURRENT_TASK, SYSCALL_PROGRAMS, UNPRIVILEGED_READING, VMLINUX_BTF, has_btf,
    has_kprobes, kernel_release, kernel_version,
};

/// One line of `ktally check`.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// The part of the host.
    pub name: Cow<'static, str>,
    /// What was found.
    pub found: String,
    /// What to do about it, where something is missing.
    pub fix: Option<String>,
}

impl Fact {
    pub(crate) fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            found: found.into(),
            fix: None,
        }
    }

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

/// What can be found out without a BPF program.
pub(crate) fn facts() -> Vec<Fact> {
    vec![
        kernel(&kernel_release()),
        btf(),
        capabilities(),
        bpffs(),
        tracefs(),
        jit(),
        kprobes(),
        cgroup2(),
    ]
}

/// What older kernels lack, beside the tallies whose events they lack: `check` lists
/// those one by one.
const SINCE: [((u32, u32), &str); 7] = [
    (
        CURRENT_TASK,
        "time under way of what runs when counting begins",
    ),
    ((5, 11), "tallies that show stacks"),
    ((5, 12), "how many runs were missed"),
    ((5, 13), "tallies that time calls"),
    (SYSCALL_PROGRAMS, "map add, map drain"),
    ((5, 16), "tags of other programs' maps"),
    (UNPRIVILEGED_READING, "reading without privileges"),
];

fn kernel(release: &str) -> Fact {
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

fn btf() -> Fact {
    match has_btf() {
        true => Fact::good("BTF", VMLINUX_BTF),
        false => Fact::bad("BTF", "none", BTF_FIX),
    }
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
    if is_bpffs_mounted() {
        return Fact::good("bpffs", BPFFS);
    }
    let fix = format!("only for pins: mount -t bpf -o mode=0700 bpf {BPFFS}");
    Fact::bad("bpffs", "not mounted", fix)
}

fn tracefs() -> Fact {
    if let Some(path) = tracefs_path() {
        return Fact::good("tracefs", path);
    }
    let mount = format!("mount -t tracefs tracefs {}", TRACEFS[0]);
    let fix = format!("only for tracepoint/ programs: {mount}");
    Fact::bad("tracefs", "not mounted", fix)
}

fn jit() -> Fact {
    const SYSCTL: &str = "/proc/sys/net/core/bpf_jit_enable";
    match fs::read_to_string(SYSCTL).as_deref().map(str::trim) {
        Ok("0") => {
            let fix = "counting is slow: sysctl net.core.bpf_jit_enable=1";
            Fact::bad("JIT", "off", fix)
        }
        Ok(_) => Fact::good("JIT", "on"),
        // Only root of the first network namespace may read it.
        Err(error) => Fact::good("JIT", format!("unknown ({error})")),
    }
}

fn kprobes() -> Fact {
    let fix = "only for kprobe/ programs: a kernel built with CONFIG_KPROBES=y";
    match has_kprobes() {
        true => Fact::good("kprobes", "available"),
        false => Fact::bad("kprobes", "none", fix),
    }
}

fn cgroup2() -> Fact {
    let mount = cgroup2_mounts()
        .next()
        .map(|mount| mount.display().to_string());
    let (found, fix) = match (mount, cgroup1_gap()) {
        (Some(mount), None) => return Fact::good("cgroup2", mount),
        (Some(mount), Some(gap)) => (format!("{mount}, beside version 1"), gap),
        (None, Some(gap)) => ("not mounted, version 1 alone".to_owned(), gap),
        (None, None) => (
            "not mounted".to_owned(),
            "only for the names of groups: mount -t cgroup2 cgroup2 /mnt",
        ),
    };
    Fact::bad("cgroup2", found, fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(kernel_version("6.18.44-fc-v445"), (6, 18));
        assert_eq!(kernel_version("5.10.0-33-cloud-amd64"), (5, 10));
        assert_eq!(kernel_version("x"), (0, 0));
        assert_eq!(kernel("5.19.0-1").fix, None);
        let fix = kernel("5.15.0-91-generic").fix.unwrap();
        assert_eq!(
            fix,
            "lacks tags of other programs' maps (since 5.16), reading without privileges (since 5.19)"
        );
    }
}
