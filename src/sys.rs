//! System calls that no library wraps well: the unsafe code of the program, as
//! safe functions. Errors are `io::Error`, with the kernel's own errno.

pub(crate) mod btf;
pub(crate) mod log;
pub mod map;
pub mod program;

use std::ffi::{CString, c_char, c_void};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::ptr;

use libbpf_rs::{AsRawLibbpf, Btf, libbpf_sys};

/// Runs before the standard library. That opens /dev/null if standard output is
/// closed, and then no error says that all output is lost.
#[used]
// SAFETY: the C library calls the functions of this section with arguments that
// this one ignores.
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = let_writes_fail;

/// Makes writes fail with EBADF if standard output is closed, and with EFBIG
/// instead of SIGXFSZ if a file may not grow.
extern "C" fn let_writes_fail() {
    // SAFETY: system calls on integers and a static C string.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        if libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) == -1 {
            let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY);
            if null != libc::STDOUT_FILENO {
                libc::dup2(null, libc::STDOUT_FILENO);
                libc::close(null);
            }
        }
    }
}

/// Waits until every BPF program that was running has come to its end: a
/// program runs with preemption or at least RCU readers held, and
/// `MEMBARRIER_CMD_GLOBAL` waits for an RCU grace period. Kernels with `nohz_full`
/// CPUs refuse it. There an update of a map of maps waits for the programs, since
/// 1ae80cf31938 ("bpf: wait for running BPF programs when updating map-in-map").
pub(crate) fn wait_for_programs() -> io::Result<()> {
    const GLOBAL: libc::c_int = libc::MEMBARRIER_CMD_GLOBAL;
    // SAFETY: membarrier takes three integers and touches no memory.
    let ret = unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) };
    if ret == 0 {
        return Ok(());
    }
    map::update_map_of_maps()
}

/// The raw BTF with this id, and whether it is split BTF: that of a kernel module,
/// whose type ids continue those of the kernel.
pub(crate) fn btf_by_id(id: u32) -> io::Result<(Vec<u8>, bool)> {
    // SAFETY: takes an integer.
    let fd = descriptor(unsafe { libbpf_sys::bpf_btf_get_fd_by_id(id) })?;
    // The kernel wants no address with a length of 0.
    let address = |bytes: &mut [u8]| {
        if bytes.is_empty() {
            0
        } else {
            bytes.as_mut_ptr() as u64
        }
    };
    let info = |bytes: &mut [u8], name: &mut [u8]| {
        let mut info = libbpf_sys::bpf_btf_info {
            btf: address(bytes),
            btf_size: bytes.len() as u32,
            name: address(name),
            name_len: name.len() as u32,
            ..Default::default()
        };
        let mut size = size_of::<libbpf_sys::bpf_btf_info>() as u32;
        // SAFETY: the kernel writes at most `size` bytes of `info`, and at most the
        // given lengths into both buffers.
        let ret = unsafe {
            libbpf_sys::bpf_btf_get_info_by_fd(fd.as_raw_fd(), &raw mut info, &raw mut size)
        };
        check(ret).map(|()| info)
    };
    let known = info(&mut [], &mut [])?;
    let (mut bytes, mut name) = (vec![0; known.btf_size as usize], [0; 64]);
    // Before Linux 5.11 BTF has no name, and the kernel refuses a buffer for one;
    // modules have no BTF there.
    let of_kernel = known.kernel_btf != 0;
    info(&mut bytes, if of_kernel { &mut name } else { &mut [] })?;
    let is_module = of_kernel && !name.starts_with(b"vmlinux\0");
    Ok((bytes, is_module))
}

/// Whether an open file is a network namespace.
pub(crate) fn is_network_namespace(file: BorrowedFd<'_>) -> bool {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703; // include/uapi/linux/nsfs.h
    // SAFETY: takes no argument; files of other kinds refuse it.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
    kind == libc::CLONE_NEWNET
}

/// A software event of `PERF_TYPE_SOFTWARE` on one CPU: `hz` times a second, or each
/// time.
pub(crate) fn software_event(config: u32, hz: Option<u64>, cpu: i32) -> io::Result<OwnedFd> {
    let mut attr = libbpf_sys::perf_event_attr {
        type_: libbpf_sys::PERF_TYPE_SOFTWARE,
        size: size_of::<libbpf_sys::perf_event_attr>() as u32,
        config: config.into(),
        ..Default::default()
    };
    match hz {
        Some(hz) => attr.__bindgen_anon_1.sample_freq = hz,
        None => attr.__bindgen_anon_1.sample_period = 1,
    }
    attr.set_freq(hz.is_some().into());
    // SAFETY: the kernel reads `size` bytes of the attribute.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            ptr::from_ref(&attr),
            -1,
            cpu,
            -1,
            libbpf_sys::PERF_FLAG_FD_CLOEXEC,
        )
    };
    descriptor(fd as i32)
}

/// A descriptor of a process; since Linux 6.9 of any thread.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    const THREAD: libc::c_int = libc::O_EXCL; // include/uapi/linux/pidfd.h
    match pidfd(pid, THREAD) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => pidfd(pid, 0),
        opened => opened,
    }
}

fn pidfd(pid: i32, flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers.
    descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, flags) } as i32)
}

/// A duplicate of a descriptor of another process.
pub(crate) fn pidfd_getfd(process: BorrowedFd<'_>, fd: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes three integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) };
    descriptor(fd as i32)
}

/// A forked process that waits before it executes its program.
#[derive(Debug)]
pub(crate) struct StoppedChild {
    pid: i32,
    pidfd: OwnedFd,
    go: Option<PipeWriter>,
    failure: PipeReader,
}

impl StoppedChild {
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Is readable when the process has ended; also the key of its task storage.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Waits for the end of the process, and reaps it: call it once.
    pub(crate) fn wait(&self) -> io::Result<ExitStatus> {
        reap(self.pid)
    }

    /// Lets the process execute its program; an error says why it cannot.
    pub(crate) fn release(&mut self) -> io::Result<()> {
        if let Some(mut go) = self.go.take() {
            go.write_all(b"g")?;
        }
        let mut errno = Vec::new();
        self.failure.read_to_end(&mut errno)?;
        match errno.first_chunk() {
            Some(errno) => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(*errno))),
            None => Ok(()),
        }
    }
}

/// Forks a process that waits to execute `words`, with the program found in
/// `PATH`. It ends if the `StoppedChild` is dropped before it is released.
pub(crate) fn fork_stopped(words: Vec<CString>) -> io::Result<StoppedChild> {
    let mut argv: Vec<*const c_char> = words.iter().map(|word| word.as_ptr()).collect();
    argv.push(ptr::null());
    let ((go_out, go_in), (failure_out, failure_in)) = (io::pipe()?, io::pipe()?);
    // SAFETY: the child continues in `become_program`, which makes system calls
    // and allocates nothing.
    let pid = unsafe { libc::fork() };
    check(pid)?;
    if pid == 0 {
        drop(go_in);
        become_program(&argv, go_out.as_raw_fd(), failure_in.as_raw_fd());
    }
    let mut go = Some(go_in);
    let pidfd = pidfd(pid, 0).inspect_err(|_| {
        // A child whose pipe is closed ends.
        go.take();
        let _ = reap(pid);
    })?;
    Ok(StoppedChild {
        pid,
        pidfd,
        go,
        failure: failure_out,
    })
}

/// Waits for a child process.
fn reap(pid: i32) -> io::Result<ExitStatus> {
    let mut status = 0;
    loop {
        // SAFETY: the kernel writes one integer.
        if unsafe { libc::waitpid(pid, &raw mut status, 0) } == pid {
            return Ok(ExitStatus::from_raw(status));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Runs in the child: resets signals as a shell does, waits for the release, and
/// executes the program.
fn become_program(argv: &[*const c_char], go: i32, failure: i32) -> ! {
    let mut byte = 0u8;
    // SAFETY: system calls on our own descriptors and memory that lives; `argv`
    // ends with a null pointer.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
        // ktally ignores both, and exec(3) would keep that.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::signal(libc::SIGXFSZ, libc::SIG_DFL);
        if libc::read(go, ptr::from_mut(&mut byte).cast(), 1) == 1 {
            libc::execvp(argv[0], argv.as_ptr());
            let errno = *libc::__errno_location();
            libc::write(failure, ptr::from_ref(&errno).cast(), size_of::<i32>());
        }
        libc::_exit(127)
    }
}

/// Every type of this BTF, as C declares it.
pub(crate) fn btf_as_c(btf: &Btf<'_>) -> io::Result<String> {
    unsafe extern "C" fn append(out: *mut c_void, format: *const c_char, args: *mut c_void) {
        // SAFETY: libbpf passes the context given below, which nothing else uses
        // meanwhile.
        let out = unsafe { &mut *out.cast::<Vec<u8>>() };
        // SAFETY: libbpf passes a format and the arguments for it.
        let text = unsafe { vsprintf::vsprintf_raw(format, args) };
        out.extend(text.unwrap_or_default());
    }
    let append: unsafe extern "C" fn(*mut c_void, *const c_char, *mut c_void) = append;
    // SAFETY: bindgen names the type of a va_list differently on each
    // architecture, but all of those that ktally is built for pass a pointer.
    let append: libbpf_sys::btf_dump_printf_fn_t = unsafe { std::mem::transmute(append) };
    let mut out: Vec<u8> = Vec::new();
    let context = ptr::from_mut(&mut out).cast();
    // SAFETY: both pointers are valid until the dump is freed, below.
    let dump = unsafe {
        libbpf_sys::btf_dump__new(
            btf.as_libbpf_object().as_ptr(),
            append,
            context,
            ptr::null(),
        )
    };
    if dump.is_null() {
        return Err(io::Error::last_os_error());
    }
    let result = (1..btf.len() as u32)
        // SAFETY: the dump is valid, and unknown ids are refused.
        .try_for_each(|id| check(unsafe { libbpf_sys::btf_dump__dump_type(dump, id) }));
    // SAFETY: nothing uses the dump any more.
    unsafe { libbpf_sys::btf_dump__free(dump) };
    result.map(|()| String::from_utf8_lossy(&out).into_owned())
}

/// `None` where the kernel says that there is no such thing.
pub(crate) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        result => result.map(Some),
    }
}

/// A descriptor that the kernel has just returned, or the error.
fn descriptor(fd: i32) -> io::Result<OwnedFd> {
    check(fd)?;
    // SAFETY: it is open, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// libbpf returns `-errno`, or -1 with errno set; both end up in errno.
fn check(ret: i32) -> io::Result<()> {
    match ret {
        0.. => Ok(()),
        -1 => Err(io::Error::last_os_error()),
        errno => Err(io::Error::from_raw_os_error(-errno)),
    }
}
