//! Children whose every system call is known, and what they do.

use std::ffi::{CStr, CString, c_int, c_long, c_void};
use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::{require_root, wait_until};
use crate::common::source::FIRST_EVENT;

/// A forked process that sleeps in `read` until it is told to work, and again
/// when it is done. Killed and reaped when dropped.
pub struct Child {
    pid: libc::pid_t,
    go: PipeWriter,
    done: PipeReader,
}

impl Child {
    /// A child of this name. `work` runs in a copy of this process where other
    /// threads may have held any lock: it may make system calls, but must not
    /// allocate, print, or panic.
    pub fn new(comm: &str, work: impl Fn()) -> Self {
        Self::with_uid(comm, 0, work)
    }

    /// The same, as this user.
    pub fn with_uid(comm: &str, uid: u32, work: impl Fn()) -> Self {
        require_root();
        let comm = CString::new(comm).unwrap();
        let ((go_out, go), (done, done_in)) = (pipe().unwrap(), pipe().unwrap());
        // SAFETY: the child goes on in `serve`, which only makes system calls.
        let pid = unsafe { libc::fork() };
        match pid {
            -1 => panic!("fork: {}", std::io::Error::last_os_error()),
            0 => serve(&comm, uid, go_out.as_raw_fd(), done_in.as_raw_fd(), work),
            _ => {}
        }
        let child = Self { pid, go, done };
        child.wait();
        child
    }

    /// For `--pid`.
    pub fn pid(&self) -> String {
        self.pid.to_string()
    }

    /// Lets it work once. When this returns the child sleeps again, and all of
    /// its system calls but that last `read` have returned.
    pub fn work(&self) {
        self.start();
        self.wait();
    }

    /// Lets it work, however long that takes.
    pub fn start(&self) {
        (&self.go).write_all(b"g").expect("the child died");
    }

    /// Until it is done.
    pub fn wait(&self) {
        (&self.done).read_exact(&mut [0]).expect("the child died");
        // Its state alone would not do: it says "sleeping" a moment before the
        // task has left its CPU. This file says "running" until then.
        let asleep = format!("{} ", libc::SYS_read);
        let path = format!("/proc/{}/syscall", self.pid);
        wait_until("the child sleeps", || {
            fs::read_to_string(&path).is_ok_and(|call| call.starts_with(&asleep))
        });
    }

    /// The number of times it left a CPU.
    pub fn switches(&self) -> u64 {
        self.switch_counts().iter().sum()
    }

    /// The same, first to wait, then because its turn was over.
    pub fn switch_counts(&self) -> [u64; 2] {
        let names = ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"];
        names.map(|name| status_number(self.pid, name))
    }
}

/// Lets these work, one after the other.
pub fn work(children: &[&Child]) {
    children.iter().for_each(|child| child.work());
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: our own child, not reaped yet, so the id is still its.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
        }
    }
}

/// A number of /proc/PID/status; memory is in KiB.
pub fn status_number(pid: impl std::fmt::Display, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mut lines = status.lines().filter_map(|line| line.split_once(':'));
    let (_, number) = lines.find(|(found, _)| *found == name).expect(name);
    number.trim().trim_end_matches(" kB").parse().unwrap()
}

/// The life of a child.
fn serve(comm: &CStr, uid: u32, go: c_int, done: c_int, work: impl Fn()) -> ! {
    let (low, high) = (go.min(done) as u32, go.max(done) as u32);
    let mut byte = 0u8;
    // SAFETY: system calls on our own descriptors, a byte and a name that live.
    unsafe {
        // Copies of other tests' links and pipes would keep those alive.
        libc::syscall(libc::SYS_close_range, 3u32, low - 1, 0);
        libc::syscall(libc::SYS_close_range, low + 1, high - 1, 0);
        libc::syscall(libc::SYS_close_range, high + 1, u32::MAX, 0);
        libc::prctl(libc::PR_SET_NAME, comm.as_ptr());
        if uid != 0 {
            libc::syscall(libc::SYS_setresuid, uid, uid, uid);
        }
        // After the user, whose change would clear it.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        loop {
            libc::write(done, b"d".as_ptr().cast(), 1);
            if libc::read(go, (&raw mut byte).cast(), 1) != 1 {
                libc::_exit(1);
            }
            work();
        }
    }
}

// ---- what children do -------------------------------------------------------

/// Opens a file that does not exist: `ENOENT`.
pub fn fail_to_open(times: u64) {
    let path = c"/no/such/file".as_ptr();
    for _ in 0..times {
        // SAFETY: a static path; there is no such file to leak.
        unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, libc::O_RDONLY) };
    }
}

/// Calls `getppid`.
pub fn ask_for_parent(times: u64) {
    for _ in 0..times {
        // SAFETY: no arguments.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
}

/// Gives this task another name.
pub fn rename(name: &CStr) {
    // SAFETY: a text that lives.
    unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_NAME, name.as_ptr()) };
}

/// Sleeps of 1 ms: in an emulated machine less is over before it sleeps.
pub fn nap(times: u64) {
    sleep(times, Duration::from_millis(1));
}

/// Sleeps this number of times.
pub fn sleep(times: u64, time: Duration) {
    let time = libc::timespec {
        tv_sec: time.as_secs() as i64,
        tv_nsec: time.subsec_nanos().into(),
    };
    for _ in 0..times {
        // SAFETY: the kernel reads `time`, and writes nothing.
        unsafe { libc::syscall(libc::SYS_nanosleep, &raw const time, 0) };
    }
}

/// Computes until this thread has spent this time on a CPU.
pub fn spin(time: Duration) {
    let start = cpu_time();
    while cpu_time() - start < time {}
}

/// The time that this thread has spent on a CPU.
pub fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Ends the process.
pub fn exit(code: c_int) -> ! {
    // SAFETY: an integer.
    unsafe { libc::_exit(code) }
}

/// Makes a process, as fork(2) does.
pub fn clone(flags: c_int) -> c_long {
    // SAFETY: without CLONE_VM this is fork.
    unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0) }
}

/// Makes processes by this call, which run `life` and exit with 0.
pub fn fork(times: u64, call: impl Fn() -> c_long, life: impl Fn()) {
    for _ in 0..times {
        match call() {
            0 => {
                life();
                exit(0);
            }
            -1 => exit(5),
            _ => {}
        }
    }
}

/// Reaps this number of children.
pub fn reap(times: u64) {
    for _ in 0..times {
        // SAFETY: asks for no status.
        unsafe { libc::syscall(libc::SYS_wait4, -1, 0, 0, 0) };
    }
}

pub fn kill(pid: c_int, signal: c_int) {
    // SAFETY: integers.
    unsafe { libc::syscall(libc::SYS_kill, pid, signal) };
}

/// Sends a signal to this process.
pub fn raise(signal: c_int) {
    // SAFETY: no arguments.
    kill(unsafe { libc::getpid() }, signal);
}

/// Sends `SIGALRM` to this process after this number of microseconds, and each
/// time after `every` more.
pub fn set_timer(first: i64, every: i64) {
    let time = |tv_usec| libc::timeval { tv_sec: 0, tv_usec };
    let timer = libc::itimerval {
        it_interval: time(every),
        it_value: time(first),
    };
    // SAFETY: the kernel reads a timer, and writes nothing.
    unsafe { libc::syscall(libc::SYS_setitimer, libc::ITIMER_REAL, &raw const timer, 0) };
}

/// A program that does nothing, linked at this path.
pub fn link_true(path: &Path) -> CString {
    let programs = ["/bin/true", "/bin/busybox"].map(Path::new);
    let program = programs.into_iter().find(|path| path.exists()).unwrap();
    symlink(program, path).unwrap();
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// Runs a program that [`link_true`] has made in the place of this one.
pub fn exec(file: &CStr) {
    exec_with(file, [c"true"]);
}

/// The same with these arguments, at most three.
pub fn exec_with<const N: usize>(file: &CStr, args: [&CStr; N]) {
    let mut argv = [std::ptr::null(); 4];
    for (to, arg) in argv.iter_mut().zip(args) {
        *to = arg.as_ptr();
    }
    // SAFETY: texts and lists that end as they should.
    unsafe { libc::syscall(libc::SYS_execve, file.as_ptr(), argv.as_ptr(), &argv[3]) };
}

/// The two ends of a terminal of no size, which no program inherits.
pub fn terminal() -> [File; 2] {
    terminal_of(0)
}

fn size_of(columns: u16, rows: u16) -> nix::pty::Winsize {
    nix::pty::Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// Gives a terminal another size.
pub fn resize(terminal: &File, columns: u16, rows: u16) {
    let size = size_of(columns, rows);
    // SAFETY: it reads the size.
    let set = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    assert_eq!(set, 0);
}

/// Of so many columns.
pub fn terminal_of(columns: u16) -> [File; 2] {
    let size = size_of(columns, if columns > 0 { 24 } else { 0 });
    let ends = nix::pty::openpty(&size, None).unwrap();
    [ends.master, ends.slave].map(|end| {
        let flags = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC);
        nix::fcntl::fcntl(&end, flags).unwrap();
        File::from(end)
    })
}

/// The event of the tests' own tallies: a call of no effect (there is no such
/// kind of priority: `EINVAL`) that carries a number.
pub fn event(number: u64) {
    // SAFETY: two integers; the kernel refuses the first.
    unsafe { libc::syscall(libc::SYS_getpriority, number + FIRST_EVENT, 0) };
}

/// Calls `event(thread, round)` on two CPUs at the same moment, in each round.
/// For children, once: threads of the standard library would allocate.
pub fn on_two_cpus<F: Fn(u64, u64)>(rounds: u64, event: F) {
    const STACK: usize = 256 << 10;
    let pair = Pair {
        rounds,
        event,
        arrived: AtomicU64::new(0),
        left: AtomicU64::new(0),
    };
    let flags = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_SYSVSEM
        | libc::CLONE_THREAD;
    // SAFETY: the thread has a stack of its own, which stays, and `pair`
    // outlives it: we wait below. It shares our thread-local storage, of which
    // both use only errno, which is not read.
    unsafe {
        let stack = libc::mmap(
            std::ptr::null_mut(),
            STACK,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if stack == libc::MAP_FAILED {
            libc::_exit(2);
        }
        let data = (&raw const pair).cast_mut().cast();
        if libc::clone(second::<F>, stack.byte_add(STACK), flags, data) < 0 {
            libc::_exit(3);
        }
    }
    pair.run(0);
    wait_for(&pair.left, 2);
}

struct Pair<F> {
    rounds: u64,
    event: F,
    arrived: AtomicU64,
    left: AtomicU64,
}

impl<F: Fn(u64, u64)> Pair<F> {
    fn run(&self, thread: u64) {
        pin(thread as usize);
        for round in 0..self.rounds {
            self.arrived.fetch_add(1, Ordering::SeqCst);
            wait_for(&self.arrived, 2 * (round + 1));
            (self.event)(thread, round);
        }
        self.left.fetch_add(1, Ordering::SeqCst);
    }
}

extern "C" fn second<F: Fn(u64, u64)>(data: *mut c_void) -> c_int {
    // SAFETY: `on_two_cpus` passes a `Pair<F>` and keeps it until we have left.
    let pair = unsafe { &*data.cast::<Pair<F>>() };
    pair.run(1);
    0
}

/// Spins, and now and then lets others run, who may be who we wait for.
fn wait_for(number: &AtomicU64, least: u64) {
    let mut spins = 0u32;
    while number.load(Ordering::SeqCst) < least {
        // An emulator then lets its other CPU go on, as it does for x86's `pause`.
        #[cfg(target_arch = "aarch64")]
        // SAFETY: a hint.
        unsafe {
            std::arch::asm!("yield");
        }
        std::hint::spin_loop();
        spins += 1;
        if spins.is_multiple_of(10_000) {
            // SAFETY: no arguments.
            unsafe { libc::syscall(libc::SYS_sched_yield) };
        }
    }
}

/// This thread, to a CPU.
pub fn pin(cpu: usize) {
    let mut cpus = [0u64; 16];
    cpus[cpu / 64] |= 1 << (cpu % 64);
    // SAFETY: the kernel reads the mask.
    let ret = unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, 128, cpus.as_ptr()) };
    if ret != 0 {
        // SAFETY: ends the child; its parent then says so.
        unsafe { libc::_exit(4) };
    }
}
