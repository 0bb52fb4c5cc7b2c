//! What the threads of a server may still do: read what decoders read, and answer. Where
//! the kernel has landlock and seccomp, it holds them to that.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, Ruleset, RulesetAttr, RulesetCreatedAttr, Scope,
    path_beneath_rules,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

use crate::host;

/// The newest rules that are known here; an older kernel holds those that it has.
const RULES: ABI = ABI::V6;

/// Files of users, of system libraries that name them, and of the kernel.
const READ: [&str; 7] = ["/proc", "/sys", "/etc", "/usr", "/lib", "/lib64", "/run"];

/// What a thread needs beyond answers on sockets that are open.
pub(super) struct Needs {
    /// Files to read: those of decoders, or all of them.
    pub(super) reads: Vec<PathBuf>,
    /// Folders with a socket to remove at the end.
    pub(super) removes: Vec<PathBuf>,
}

impl Needs {
    /// Of the thread that reads. Stacks of processes take any file.
    pub(super) fn of_reader(reads_processes: bool) -> Self {
        let reads = match reads_processes {
            true => vec![PathBuf::from("/")],
            false => READ
                .iter()
                .map(PathBuf::from)
                .chain(host::cgroup2_mounts())
                .collect(),
        };
        Self {
            reads,
            removes: Vec::new(),
        }
    }

    /// Of the thread that serves.
    pub(super) fn of_server(sockets: &[PathBuf]) -> Self {
        let folders = sockets
            .iter()
            .filter_map(|it| it.parent().map(Path::to_owned));
        Self {
            reads: Vec::new(),
            removes: folders.collect(),
        }
    }
}

/// Confines this thread, and those that it starts later.
pub(super) fn confine(needs: &Needs) -> Result<()> {
    files_and_sockets(needs).context("failed to confine a thread with landlock")?;
    let filter = filter().context("failed to make a filter of system calls")?;
    match apply_filter(&filter) {
        // This kernel has none.
        Err(seccompiler::Error::Seccomp(error) | seccompiler::Error::Prctl(error))
            if is_lacking(&error) =>
        {
            Ok(())
        }
        applied => applied.context("failed to filter system calls"),
    }
}

fn is_lacking(error: &io::Error) -> bool {
    [libc::ENOSYS, libc::EINVAL]
        .map(Some)
        .contains(&error.raw_os_error())
}

/// Nothing is written, made or executed, and no connection leaves this host.
fn files_and_sockets(needs: &Needs) -> Result<()> {
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let remove: BitFlags<AccessFs> = AccessFs::RemoveFile.into();
    Ruleset::default()
        .handle_access(AccessFs::from_all(RULES))?
        .handle_access(AccessNet::from_all(RULES))?
        .scope(Scope::from_all(RULES))?
        .create()?
        .add_rules(path_beneath_rules(&needs.reads, read))?
        .add_rules(path_beneath_rules(&needs.removes, remove))?
        .restrict_self()?;
    Ok(())
}

/// The commands of bpf(2) that read what is open or pinned.
const BPF: [(&str, u64); 6] = [
    ("MAP_LOOKUP_ELEM", 1),
    ("MAP_GET_NEXT_KEY", 4),
    ("OBJ_GET", 7),
    ("OBJ_GET_INFO_BY_FD", 15),
    ("MAP_LOOKUP_BATCH", 24),
    ("ITER_CREATE", 33),
];

/// What a server has no use for, and an intruder has.
const REFUSED: [libc::c_long; 46] = [
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_io_uring_setup,
    libc::SYS_open_by_handle_at,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_personality,
];

fn filter() -> Result<BpfProgram> {
    let is_another = |(_, command): (_, u64)| {
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, command)
    };
    let others = BPF.into_iter().map(is_another).collect::<Result<_, _>>()?;
    let bpf = (libc::SYS_bpf, vec![SeccompRule::new(others)?]);
    let refused = REFUSED.into_iter().map(|call| (call, Vec::new()));
    let filter = SeccompFilter::new(
        refused.chain([bpf]).collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        std::env::consts::ARCH.try_into()?,
    );
    Ok(filter?.try_into()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::{self, File};
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;

    use libbpf_rs::libbpf_sys::bpf_map_create_opts;
    use libbpf_rs::{ErrorKind, MapHandle, MapType};

    use super::*;

    fn error<T>(result: io::Result<T>) -> Option<i32> {
        result.err().and_then(|error| error.raw_os_error())
    }

    /// A thread tries what an intruder would.
    #[test]
    fn what_is_not_needed_fails() {
        let folder = tempfile::tempdir().unwrap();
        let (kept, socket) = (folder.path().join("kept"), folder.path().join("sockets"));
        fs::write(&kept, "").unwrap();
        fs::create_dir(&socket).unwrap();
        fs::write(socket.join("socket"), "").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let needs = Needs {
            removes: vec![socket.clone()],
            ..Needs::of_reader(false)
        };
        let work = move || {
            confine(&needs).unwrap();
            let has_landlock = error(File::open(&kept)) == Some(libc::EACCES);
            if has_landlock {
                assert_eq!(error(fs::write(&kept, "x")), Some(libc::EACCES));
                assert_eq!(error(fs::remove_file(&kept)), Some(libc::EACCES));
                assert_eq!(error(fs::read_dir("/root")), Some(libc::EACCES));
                let connected = error(TcpStream::connect(address));
                assert!([None, Some(libc::EACCES)].contains(&connected));
            }
            fs::read_to_string("/etc/passwd").unwrap();
            fs::read_to_string("/proc/self/status").unwrap();
            fs::remove_file(socket.join("socket")).unwrap();
            assert_eq!(error(Command::new("/bin/true").spawn()), Some(libc::EPERM));
            assert_eq!(error(TcpListener::bind("127.0.0.1:0")), Some(libc::EPERM));
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            for line in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
                assert!(status.contains(line), "{status}");
            }
            has_landlock
        };
        let has_landlock = std::thread::spawn(work).join().unwrap();
        let lsm = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
        assert!(has_landlock || !lsm.contains("landlock"));
    }

    /// Commands of bpf(2) that change something are refused before the kernel looks.
    #[test]
    fn nothing_can_be_loaded_or_changed() {
        let work = || {
            confine(&Needs::of_reader(false)).unwrap();
            let options = bpf_map_create_opts {
                sz: size_of::<bpf_map_create_opts>() as u64,
                ..bpf_map_create_opts::default()
            };
            let made = MapHandle::create(MapType::Array, Some("x"), 4, 4, 1, &options);
            made.err().unwrap().kind()
        };
        let kind = std::thread::spawn(work).join().unwrap();
        assert_eq!(kind, ErrorKind::PermissionDenied);
    }
}
