//! The system calls on programs: what the kernel knows of them, and dispatchers.

use std::ffi::{CString, c_int};
use std::fs;
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use libbpf_rs::{AsRawLibbpf, Link, OpenProgramMut, ProgramInput, ProgramMut, libbpf_sys};

use super::map::Access;
use super::{check, descriptor};

/// What the kernel knows of a program; `None` where it is too old to say.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ProgramInfo {
    /// As `bpftool` and the kernel number them.
    pub(crate) id: u32,
    /// In nanoseconds, while statistics are on.
    pub(crate) run_time_ns: u64,
    /// How often it ran, while statistics are on.
    pub(crate) run_cnt: u64,
    /// How many the verifier looked at, since Linux 5.16.
    pub(crate) verified_instructions: u32,
    /// How often the kernel skipped it, since Linux 5.12.
    pub(crate) recursion_misses: Option<u64>,
    /// A number of `enum bpf_prog_type`.
    kind: u32,
    /// The BTF and the type that it attaches to, since Linux 5.18.
    target: Option<(u32, u32)>,
}

pub(crate) fn info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut size = size_of::<libbpf_sys::bpf_prog_info>() as u32;
    // SAFETY: the kernel writes at most `size` bytes of plain integers, and
    // follows no pointer, as all of them are zero.
    check(unsafe {
        libbpf_sys::bpf_obj_get_info_by_fd(
            program.as_raw_fd(),
            ptr::from_mut(&mut info).cast(),
            &raw mut size,
        )
    })?;
    let tells = |end: usize| size as usize >= end;
    let misses_end = offset_of!(libbpf_sys::bpf_prog_info, recursion_misses) + size_of::<u64>();
    let target_end = offset_of!(libbpf_sys::bpf_prog_info, attach_btf_id) + size_of::<u32>();
    Ok(ProgramInfo {
        id: info.id,
        run_time_ns: info.run_time_ns,
        run_cnt: info.run_cnt,
        verified_instructions: info.verified_insns,
        recursion_misses: tells(misses_end).then_some(info.recursion_misses),
        kind: info.type_,
        target: tells(target_end)
            .then_some((info.attach_btf_obj_id, info.attach_btf_id))
            .filter(|(btf, id)| *btf != 0 && *id != 0),
    })
}

/// Opens a program that is pinned at a path of bpffs. The kernel answers questions
/// about anything that is pinned, so its kind is checked.
pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let fd = super::map::open_pin(path, Access::Write)?;
    program_of(fd.as_fd())?;
    Ok(fd)
}

/// The program that is pinned at a path of bpffs, or whose link is.
pub(crate) fn pinned(path: &Path) -> io::Result<u32> {
    program_of(super::map::open_pin(path, Access::Write)?.as_fd())
}

/// The id of a program, or of that of a link.
fn program_of(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let what = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))
        .map_err(|error| io::Error::other(format!("failed to read /proc/self/fdinfo: {error}")))?;
    let id = what.lines().find_map(|line| line.strip_prefix("prog_id:"));
    let id = id.and_then(|id| id.trim().parse().ok());
    id.ok_or_else(|| io::Error::other("it is not a program"))
}

/// What an iterator program is run for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum IterateOver<'a> {
    /// All that its kind knows.
    All,
    /// The elements of a map.
    Map(BorrowedFd<'a>),
    /// Every cgroup of the second version, parents first.
    Cgroups,
}

/// Runs a raw_tp program once on each CPU, whatever runs there. Some of the possible
/// CPUs may be offline.
pub(crate) fn run_on_each_cpu(program: &ProgramMut<'_>) -> io::Result<()> {
    let run = |cpu| {
        program.test_run(ProgramInput {
            cpu,
            flags: libbpf_sys::BPF_F_TEST_RUN_ON_CPU,
            ..Default::default()
        })
    };
    let cpus = libbpf_rs::num_possible_cpus().map_err(io::Error::other)?;
    let (ran, failed): (Vec<_>, Vec<_>) = (0..cpus as u32).map(run).partition(Result::is_ok);
    match failed.into_iter().next() {
        Some(Err(error)) if ran.is_empty() => Err(io::Error::other(error)),
        _ => Ok(()),
    }
}

/// What an iterator program writes can be read from this descriptor.
pub(crate) fn iterate(program: BorrowedFd<'_>, over: IterateOver<'_>) -> io::Result<OwnedFd> {
    walk(iterator(program, over)?.as_fd())
}

/// Starts an iterator: what it writes can be read from this descriptor.
pub(crate) fn walk(iterator: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: takes a descriptor.
    descriptor(unsafe { libbpf_sys::bpf_iter_create(iterator.as_raw_fd()) })
}

/// The link of an iterator program, which can be pinned.
pub(crate) fn iterator(program: BorrowedFd<'_>, over: IterateOver<'_>) -> io::Result<OwnedFd> {
    let mut info = libbpf_sys::bpf_iter_link_info::default();
    match over {
        IterateOver::All => {}
        IterateOver::Map(map) => info.map.map_fd = map.as_raw_fd() as u32,
        IterateOver::Cgroups => info.cgroup.order = libbpf_sys::BPF_CGROUP_ITER_DESCENDANTS_PRE,
    }
    let mut opts = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    if !matches!(over, IterateOver::All) {
        opts.iter_info = &raw mut info;
        opts.iter_info_len = size_of_val(&info) as u32;
    }
    // SAFETY: libbpf reads `sz` bytes of the options, and the kernel as many of
    // what they point to as they say; both live across the call.
    descriptor(unsafe {
        libbpf_sys::bpf_link_create(
            program.as_raw_fd(),
            0,
            libbpf_sys::BPF_TRACE_ITER,
            &raw const opts,
        )
    })
}

/// Attaches a program to the traffic of a network interface, in the direction that it is
/// loaded for.
pub(crate) fn attach_tcx(program: &ProgramMut<'_>, interface: c_int) -> io::Result<Link> {
    let program = program.as_libbpf_object().as_ptr();
    // SAFETY: the program is borrowed, and no options are given.
    let link = unsafe { libbpf_sys::bpf_program__attach_tcx(program, interface, ptr::null()) };
    let link = NonNull::new(link).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: libbpf returned it, and nothing else has it.
    Ok(unsafe { Link::from_ptr(link) })
}

pub(crate) fn open_id(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes an integer.
    descriptor(unsafe { libbpf_sys::bpf_prog_get_fd_by_id(id) })
}

/// BPF_STX | BPF_ATOMIC | BPF_DW, and BPF_CMPXCHG of include/uapi/linux/bpf.h.
const ATOMIC: u8 = 0xdb;
const COMPARE_AND_EXCHANGE: i32 = 0xf1;

/// Whether the kernel has that instruction: since Linux 5.12, on arm64 since 5.18.
pub(crate) fn can_compare_and_exchange() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        const R0_IS_0: u64 = 0xb7;
        /// `*(u64 *)(r10 - 8) = r0`, and the same exchanged.
        const ON_STACK: u64 = 10 << 8 | 0xfff8 << 16;
        const STORE: u64 = 0x7b | ON_STACK;
        const EXCHANGE: u64 = ATOMIC as u64 | ON_STACK | (COMPARE_AND_EXCHANGE as u64) << 32;
        const EXIT: u64 = 0x95;
        let instructions = [R0_IS_0, STORE, EXCHANGE, EXIT];
        // SAFETY: libbpf reads two C strings and the instructions, which are 8 bytes
        // each, as the kernel's are.
        let loaded = descriptor(unsafe {
            libbpf_sys::bpf_prog_load(
                libbpf_sys::BPF_PROG_TYPE_SOCKET_FILTER,
                c"exchange".as_ptr(),
                c"Dual BSD/GPL".as_ptr(),
                instructions.as_ptr().cast(),
                instructions.len() as libbpf_sys::size_t,
                ptr::null_mut(),
            )
        });
        // Another error, such as EPERM, says nothing about it.
        !loaded.is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL))
    })
}

/// Takes that instruction out of a program that is not loaded yet: nothing happens in
/// its place.
pub(crate) fn take_out_compare_and_exchange(program: &OpenProgramMut<'_>) -> io::Result<()> {
    const GO_ON: u8 = 0x05;
    let mut instructions = program.insns().to_vec();
    for instruction in &mut instructions {
        if instruction.code == ATOMIC && instruction.imm == COMPARE_AND_EXCHANGE {
            *instruction = libbpf_sys::bpf_insn {
                code: GO_ON,
                ..Default::default()
            };
        }
    }
    // SAFETY: libbpf copies the instructions into the program, which is open.
    check(unsafe {
        libbpf_sys::bpf_program__set_insns(
            program.as_libbpf_object().as_ptr(),
            instructions.as_mut_ptr(),
            instructions.len() as libbpf_sys::size_t,
        )
    })
}

/// A dispatcher: a program of the same kind as another, for the same place, that
/// does nothing but go on in the program of the first slot of `slots` (a
/// `BPF_MAP_TYPE_PROG_ARRAY`). While that slot is empty it ends.
///
/// `target` names what it attaches to, for kernels that do not tell.
pub(crate) fn load_dispatcher(
    name: &str,
    like: &ProgramInfo,
    attach_type: u32,
    target: &str,
    slots: BorrowedFd<'_>,
) -> io::Result<OwnedFd> {
    /// include/uapi/linux/bpf.h and bpf_common.h: these numbers are ABI.
    const LOAD_MAP: u64 = 0x18 | 2 << 8 | (libbpf_sys::BPF_PSEUDO_MAP_FD as u64) << 12;
    const R3_IS_0: u64 = 0xb7 | 3 << 8;
    const TAIL_CALL: u64 = 0x85 | (libbpf_sys::BPF_FUNC_tail_call as u64) << 32;
    const R0_IS_0: u64 = 0xb7;
    const EXIT: u64 = 0x95;
    let map = LOAD_MAP | (slots.as_raw_fd() as u64) << 32;
    let instructions = [map, 0, R3_IS_0, TAIL_CALL, R0_IS_0, EXIT];

    let mut opts = libbpf_sys::bpf_prog_load_opts {
        sz: size_of::<libbpf_sys::bpf_prog_load_opts>() as libbpf_sys::size_t,
        expected_attach_type: attach_type,
        ..Default::default()
    };
    // Held until the program is loaded.
    let _btf = attach_to(&mut opts, like, attach_type, target)?;
    let name = CString::new(name)?;
    // SAFETY: libbpf reads `sz` bytes of the options, two C strings and the
    // instructions, which are 8 bytes each, as the kernel's are.
    descriptor(unsafe {
        libbpf_sys::bpf_prog_load(
            like.kind,
            name.as_ptr(),
            c"Dual BSD/GPL".as_ptr(),
            instructions.as_ptr().cast(),
            instructions.len() as libbpf_sys::size_t,
            &raw mut opts,
        )
    })
}

/// Tracing programs say when they are loaded what they attach to.
fn attach_to(
    opts: &mut libbpf_sys::bpf_prog_load_opts,
    like: &ProgramInfo,
    attach_type: u32,
    target: &str,
) -> io::Result<Option<OwnedFd>> {
    if ![
        libbpf_sys::BPF_PROG_TYPE_TRACING,
        libbpf_sys::BPF_PROG_TYPE_LSM,
    ]
    .contains(&like.kind)
    {
        return Ok(None);
    }
    let mut refused = None;
    if let Some((btf, id)) = like.target {
        // SAFETY: takes an integer.
        match descriptor(unsafe { libbpf_sys::bpf_btf_get_fd_by_id(btf) }) {
            // That takes CAP_SYS_ADMIN, but the kernel's own BTF needs no descriptor.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => refused = Some(error),
            btf => {
                let btf = btf?;
                opts.attach_btf_id = id;
                opts.attach_btf_obj_fd = btf.as_raw_fd() as u32;
                return Ok(Some(btf));
            }
        }
    }
    let target = CString::new(target)?;
    // SAFETY: libbpf reads a C string.
    let id = unsafe { libbpf_sys::libbpf_find_vmlinux_btf_id(target.as_ptr(), attach_type) };
    let is_other = like.target.is_some_and(|(_, own)| own as i32 != id);
    match refused {
        // It is of a module.
        Some(error) if is_other => return Err(error),
        _ => check(id)?,
    }
    opts.attach_btf_id = id as u32;
    Ok(None)
}

/// Puts another program in the place of one: a caller that goes on to use that
/// descriptor uses the other program.
pub(crate) fn replace_fd(program: BorrowedFd<'_>, other: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both are open; the first stays open, as something else.
    check(unsafe { libc::dup3(other.as_raw_fd(), program.as_raw_fd(), libc::O_CLOEXEC) })
}

/// The kernel measures the runs of all programs while this is open.
pub fn enable_stats() -> io::Result<OwnedFd> {
    // SAFETY: takes an integer.
    descriptor(unsafe { libbpf_sys::bpf_enable_stats(libbpf_sys::BPF_STATS_RUN_TIME) })
}

/// The raw BTF of an object or of the kernel.
pub(crate) fn raw_btf(btf: &libbpf_rs::Btf<'_>) -> Vec<u8> {
    let mut size = 0;
    // SAFETY: the pointer is valid while `btf` is borrowed; libbpf returns that
    // many bytes that it owns, or NULL.
    unsafe {
        let bytes = libbpf_sys::btf__raw_data(btf.as_libbpf_object().as_ptr(), &raw mut size);
        if bytes.is_null() {
            return Vec::new();
        }
        std::slice::from_raw_parts(bytes.cast::<u8>(), size as usize).to_vec()
    }
}
