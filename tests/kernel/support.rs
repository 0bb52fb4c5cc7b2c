//! What the tests share: children whose every system call is known, and tallies
//! that count inside this process.

use std::ffi::{CStr, CString, OsStr, c_int, c_void};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ktally::names::HostNames;
use ktally::schema::{Names, Table};
use ktally::snapshot::{Reading, count};
use ktally::tally::{RawOption, Session, Tally, resolve};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

pub use crate::common::impossible::{Impossible, kernel_has, kernel_series, needs};
use crate::common::source::FIRST_EVENT;
pub use crate::common::source::{CALLS, Source};

/// Nothing that a test waits for takes this long, on a busy or an emulated machine neither.
const PATIENCE: Duration = Duration::from_secs(120);

/// Loading BPF programs needs it; a test that cannot run must not pass.
pub fn require_root() {
    // SAFETY: geteuid has no arguments and cannot fail.
    let uid = unsafe { libc::geteuid() };
    assert_eq!(uid, 0, "tests on the kernel load BPF programs: run as root");
}

/// Asks until it is so; panics when it never is.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}: not in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// From here on, this task's mounts are its own.
pub fn own_mounts() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
}

/// Mounts a filesystem of this kind that no device holds.
pub fn mount_new(kind: &str, at: &Path, options: Option<&str>) -> nix::Result<()> {
    mount(Some(kind), at, Some(kind), MsFlags::empty(), options)
}

// ---- children ---------------------------------------------------------------

/// A forked process that sleeps in `read` until it is told to work, and again
/// when it is done. Killed and reaped when dropped.
pub struct Child {
    pid: libc::pid_t,
    go: OwnedFd,
    done: fs::File,
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
        let ((go_out, go_in), (done_out, done_in)) = (pipe(), pipe());
        // SAFETY: the child goes on in `serve`, which only makes system calls.
        let pid = unsafe { libc::fork() };
        match pid {
            -1 => panic!("fork: {}", std::io::Error::last_os_error()),
            0 => serve(&comm, uid, go_out.as_raw_fd(), done_in.as_raw_fd(), work),
            _ => {}
        }
        let child = Self {
            pid,
            go: go_in,
            done: fs::File::from(done_out),
        };
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
        // SAFETY: writes one byte of a static.
        let written = unsafe { libc::write(self.go.as_raw_fd(), b"g".as_ptr().cast(), 1) };
        assert_eq!(written, 1);
        self.wait();
    }

    fn wait(&self) {
        (&self.done).read_exact(&mut [0]).expect("the child died");
        // Its state alone would not do: it says "sleeping" a moment before the
        // task has left its CPU. This file says "running" until then.
        let asleep = format!("{} ", libc::SYS_read);
        let path = format!("/proc/{}/syscall", self.pid);
        wait_until("the child sleeps", || {
            fs::read_to_string(&path).is_ok_and(|call| call.starts_with(&asleep))
        });
    }

    /// How often it has left a CPU.
    pub fn switches(&self) -> u64 {
        self.switch_counts().iter().sum()
    }

    /// The same, first to wait, then because its turn was over.
    pub fn switch_counts(&self) -> [u64; 2] {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        [
            "\nvoluntary_ctxt_switches:",
            "\nnonvoluntary_ctxt_switches:",
        ]
        .map(|name| {
            let (_, rest) = status.split_once(name).expect(name);
            rest.lines().next().unwrap().trim().parse().unwrap()
        })
    }
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

/// The read end, the write end.
fn pipe() -> (OwnedFd, OwnedFd) {
    let mut fds = [0; 2];
    // SAFETY: the kernel writes two descriptors, or fails.
    let ret = unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) };
    assert_eq!(ret, 0, "pipe: {}", std::io::Error::last_os_error());
    // SAFETY: fresh descriptors that nobody else owns.
    unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) }
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

/// `ENOENT`, so often.
pub fn fail_to_open(times: u64) {
    let path = c"/no/such/file".as_ptr();
    for _ in 0..times {
        // SAFETY: a static path; there is no such file to leak.
        unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, libc::O_RDONLY) };
    }
}

/// `getppid`, so often.
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

/// Sleeps of 1 ms, so many: in an emulated machine less is over before it sleeps.
pub fn nap(times: u64) {
    let nap = libc::timespec {
        tv_sec: 0,
        tv_nsec: 1_000_000,
    };
    for _ in 0..times {
        // SAFETY: the kernel reads `nap`, and writes nothing.
        unsafe { libc::syscall(libc::SYS_nanosleep, &raw const nap, 0) };
    }
}

/// The event of the tests' own tallies: a call of no effect (there is no such
/// kind of priority: `EINVAL`) that carries a number.
pub fn event(number: u64) {
    // SAFETY: two integers; the kernel refuses the first.
    unsafe { libc::syscall(libc::SYS_getpriority, number + FIRST_EVENT, 0) };
}

/// Calls `event(thread, round)` on two CPUs at the same moment, so many rounds.
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
    // both use but errno, which nobody reads.
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

// ---- other kernels ----------------------------------------------------------

/// Whether this machine is emulated.
pub fn is_slow() -> bool {
    std::env::var_os("KTALLY_SLOW").is_some()
}

/// A large amount; less of it on a slow machine.
pub fn amount(large: u64) -> u64 {
    if is_slow() { large / 20 } else { large }
}

/// All of these; each `nth` of them on a slow machine.
pub fn cases<T>(all: impl IntoIterator<Item = T>, nth: usize) -> impl Iterator<Item = T> {
    all.into_iter().step_by(if is_slow() { nth } else { 1 })
}

/// So many runs that were missed, where the kernel tells.
pub fn missed(runs: u64) -> Option<u64> {
    (kernel_series() >= (5, 12)).then_some(runs)
}

/// For the table of what was counted on which kernel.
fn note_counting(name: &str) {
    if let Some(path) = std::env::var_os("KTALLY_COUNTED") {
        let file = fs::File::options().append(true).create(true).open(path);
        writeln!(file.unwrap(), "{name}").unwrap();
    }
}

// ---- tallies ----------------------------------------------------------------

/// Counts while `work` runs; the reading is final.
pub fn run(name: impl AsRef<OsStr>, options: &[(&str, &str)], work: impl FnMut()) -> Counted {
    run_with(name, options, None, work)
}

/// The same, with tables of so many rows.
pub fn run_with(
    name: impl AsRef<OsStr>,
    options: &[(&str, &str)],
    max_rows: Option<u32>,
    mut work: impl FnMut(),
) -> Counted {
    // Since 6.13 a kernel may preempt the probes of system calls. A task that
    // comes there meanwhile is missed, and every reading says so: another one is
    // taken.
    let attempts = if kernel_series() >= (6, 13) { 10 } else { 1 };
    let mut runs = (0..attempts).map(|_| run_once(name.as_ref(), options, max_rows, &mut work));
    let first = runs.next().unwrap();
    match first.reading.missed {
        Some(1..) => runs
            .find(|it| it.reading.missed == Some(0))
            .unwrap_or(first),
        _ => first,
    }
}

pub fn run_once(
    name: &OsStr,
    options: &[(&str, &str)],
    max_rows: Option<u32>,
    work: &mut impl FnMut(),
) -> Counted {
    require_root();
    let tally = Tally::find(name).unwrap();
    let given: Vec<RawOption> = options
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect();
    let options = resolve(&tally.schema.options, &given).unwrap();
    let mut session = Session::start(&tally, &options, max_rows)
        .unwrap_or_else(|error| Impossible::of(&tally, &error).end());
    note_counting(&tally.name);
    let is_lack = |warning: &String| warning.contains("this kernel has no tracepoint");
    assert!(
        session.warnings().iter().all(is_lack),
        "{:?}",
        session.warnings()
    );
    work();
    session.detach();
    let reading = session.read().unwrap();
    drop(session);
    Counted { tally, reading }
}

/// A tally of one table, and its final reading.
pub struct Counted {
    tally: Tally,
    pub reading: Reading,
}

impl Counted {
    /// What the table declares.
    pub fn table(&self) -> &Table {
        assert_eq!(self.tally.schema.tables.len(), 1);
        &self.tally.schema.tables[0]
    }

    /// Every row, with its labels as a user sees them.
    pub fn rows(&self) -> Vec<Row<'_>> {
        let (table, labels) = (self.table(), HostNames::new());
        let rows = self.reading.tables[0].rows.iter();
        rows.map(|(key, cells)| {
            let text = |label| labels.of(label, key).to_string();
            let labels = table.labels.iter().map(text).collect();
            Row {
                table,
                labels,
                cells,
            }
        })
        .collect()
    }

    /// The one row with these labels.
    pub fn row(&self, labels: &[&str]) -> Row<'_> {
        let mut rows = self.rows();
        let seen: Vec<_> = rows.iter().map(|row| row.labels.clone()).collect();
        rows.retain(|row| row.labels == labels);
        assert_eq!(rows.len(), 1, "rows of {labels:?} among {seen:?}");
        rows.remove(0)
    }

    /// The sum of a counter over all rows.
    pub fn sum(&self, metric: &str) -> u64 {
        self.rows().iter().map(|row| row.number(metric)).sum()
    }

    /// Rows that found no room.
    pub fn dropped(&self) -> u64 {
        self.reading.tables[0].dropped.unwrap()
    }

    /// Every event was counted, and every row read.
    pub fn assert_whole(&self) {
        assert_eq!(self.dropped(), 0);
        assert_eq!(self.reading.missed, missed(0));
        assert_eq!(self.reading.incomplete, None);
    }
}

/// A row of [`Counted`].
#[derive(Debug)]
pub struct Row<'a> {
    table: &'a Table,
    pub labels: Vec<String>,
    cells: &'a [u64],
}

impl Row<'_> {
    fn cells(&self, metric: &str) -> &[u64] {
        let mut metrics = self.table.metrics.iter();
        let metric = metrics.find(|it| it.name == metric).expect(metric);
        &self.cells[metric.cell..][..metric.cells()]
    }

    /// A counter, or a gauge.
    pub fn number(&self, metric: &str) -> u64 {
        let [number] = *self.cells(metric) else {
            panic!("`{metric}` is a histogram");
        };
        number
    }

    /// How many observations, and their sum.
    pub fn histogram(&self, metric: &str) -> (u64, u64) {
        let cells = self.cells(metric);
        (count(cells), cells[0])
    }

    /// How many observations each bucket holds.
    pub fn buckets(&self, metric: &str) -> &[u64] {
        &self.cells(metric)[1..]
    }
}
