//! ktally in namespaces of its own: numbers are those that are seen there.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use crate::common::{PROGRAM, assert_has, command, end};
use crate::support::{mount_new, own_mounts, require_root};

/// A program as the first process of a PID namespace, this many levels down, with
/// its /proc. Its status comes back; its parents end with the test.
fn nested(levels: usize, program: &str, args: &[&str]) -> Command {
    require_root();
    let mut command = command(program);
    command.args(args);
    // SAFETY: system calls alone, which need no lock.
    unsafe {
        command.pre_exec(move || {
            for _ in 0..levels {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                unshare(CloneFlags::CLONE_NEWPID)?;
                if let ForkResult::Parent { child } = fork()? {
                    // `spawn` waits for these to be closed.
                    libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0);
                    let code = match waitpid(child, None) {
                        Ok(WaitStatus::Exited(_, code)) => code,
                        _ => 99,
                    };
                    libc::_exit(code);
                }
            }
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            own_mounts()?;
            Ok(mount_new("proc", Path::new("/proc"), None)?)
        });
    }
    command
}

/// Processes of another namespace, which have the numbers from 2 on and fail to
/// find a file again and again. Gone when dropped.
struct Strangers(Child);

impl Strangers {
    fn new(levels: usize) -> Self {
        let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do \
                      while :; do cd /no/such/file; sleep 0.2; done 2>/dev/null & done; wait";
        Self(nested(levels, "sh", &["-c", script]).spawn().unwrap())
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// These count by `--pid`, show rows by it, and look up stacks by it. There are
/// strangers by the same numbers in the namespaces above and beside.
#[test]
fn processes_have_the_numbers_of_ktallys_own_namespace() {
    let own = std::env::current_exe().unwrap();
    let _strangers = [1, 2].map(Strangers::new);
    for levels in [1, 2] {
        let tests = [
            "exact::failures_are_counted_by_name_and_error",
            "tasks::time_on_a_cpu_by_name_process_and_cgroup",
            "tasks::signals_by_sender_and_target",
            "stacks::a_spinning_function_is_at_the_top_of_a_profile",
            "command::a_command_and_its_children_are_counted",
            "map::list::all_that_is_known_is_listed",
        ];
        let args = [&tests[..], &["--test-threads", "1"]].concat();
        let said = end(&mut nested(levels, own.to_str().unwrap(), &args)).done();
        let passed = format!("test result: ok. {} passed", tests.len());
        assert_has(&said, &[&passed]);
    }
}

#[test]
fn check_tells_what_a_namespace_changes() {
    let said = end(&mut nested(1, PROGRAM, &["check"])).stdout;
    for (name, change) in [
        ("PID namespace", "--pid and rows have its numbers"),
        ("mount namespace", "`attach` pins where its bpffs"),
    ] {
        let line = said.lines().find(|line| line.starts_with(name));
        let words: Vec<&str> = line.unwrap()[name.len()..].split_whitespace().collect();
        assert_eq!(words[0], "no", "{said}");
        assert_has(line.unwrap(), &[change]);
    }
}
