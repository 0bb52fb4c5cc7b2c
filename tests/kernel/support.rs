//! What the tests share: children, tallies that count inside this process, and
//! what a test needs of its host.

mod cgroup;
mod child;
mod counted;
mod disk;
pub mod maps;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

pub use self::cgroup::{Cgroup, Limited};
pub use self::child::{
    Child, ask_for_parent, clone, cpu_time, event, exec, exec_with, exit, fail_to_open, fork, kill,
    link_true, nap, on_two_cpus, pin, raise, reap, rename, resize, set_timer, sleep, spin,
    status_number, terminal, terminal_of, work,
};
pub use self::counted::{Counted, Row, count, options_of, run, run_once, run_with};
pub use self::disk::{Aligned, Disk};
pub use crate::common::impossible::{Impossible, kernel_has, kernel_series, needs};
pub use crate::common::source::{CALLS, Source};

/// Longer than anything here takes, on a busy or an emulated machine too.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Loading BPF programs needs it; a test that cannot run must not pass.
pub fn require_root() {
    let is_root = nix::unistd::geteuid().is_root();
    assert!(
        is_root,
        "tests on the kernel load BPF programs: run as root"
    );
}

/// Asks until it is true; panics when it never is.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}: not in {PATIENCE:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Runs `round` again and again on another thread while `work` runs. Returns the
/// number of rounds.
pub fn beside(mut round: impl FnMut() + Send, work: impl FnOnce()) -> u64 {
    /// A failed assertion must end the other thread too.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let rounds = scope.spawn(|| {
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                round();
                rounds += 1;
            }
            rounds
        });
        let stopped = Stop(&stop);
        work();
        drop(stopped);
        rounds.join().unwrap()
    })
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

/// This number of missed runs, where the kernel counts them.
pub fn missed(runs: u64) -> Option<u64> {
    (kernel_series() >= (5, 12)).then_some(runs)
}
