//! `ktally run` as a process: how it ends, and that nothing outlives it.

use std::fs;
use std::io::BufRead;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use crate::common::{Args, PROGRAM, assert_has, command, end, full, items, json, program};
use crate::instances::Host;
use crate::objects::Objects;
use crate::run::{ENOENT, GETPPID, Run, sum};
use crate::support::{
    Child, Source, ask_for_parent, fail_to_open, mount_new, needs, own_mounts, require_root,
    wait_until,
};

/// Those of `syscalls`: two programs, and the iterator over what is under way; the
/// table, the task storage, .rodata and .bss.ktally.
fn assert_those_of_syscalls(objects: &Objects) {
    assert_eq!(objects.programs.len(), 3, "{objects:?}");
    objects.assert_alive();
}

#[test]
fn nothing_is_left_when_it_is_killed() {
    let child = Child::new("kt-kill", || ask_for_parent(23));
    let mut run = Run::counting(["syscalls", "--pid", &child.pid()]);
    child.work();
    let objects = run.objects();
    assert_those_of_syscalls(&objects);
    run.signal(libc::SIGKILL);
    run.end().refused(-libc::SIGKILL, &[]);
    objects.wait_until_gone();
}

#[test]
fn signals_end_it_with_a_last_reading() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let child = Child::new("kt-signal", || ask_for_parent(23));
        let mut run = Run::counting(["syscalls", "-o", "json", "--pid", &child.pid()]);
        let objects = run.objects();
        assert_those_of_syscalls(&objects);
        child.work();
        run.signal(signal);
        let reading = run.end().json();
        assert_eq!(reading["tally"], "syscalls");
        assert_eq!(reading["missed"], 0);
        assert_eq!(reading["incomplete"], false);
        assert_eq!(reading["tables"][0]["dropped"], 0);
        assert_eq!(sum(&reading, GETPPID, "calls"), 23);
        assert_eq!(sum(&reading, ("comm", "kt-signal"), "calls"), 23 + 2);
        objects.wait_until_gone();
    }
}

/// Eight programs, and the verifier takes half a second for each.
const LONG_TO_VERIFY: &str = r#"
TALLY("much work for the verifier");
struct seen { __u64 calls COUNTER("calls"); };
TABLE(calls, __u32, struct seen, 8, "calls");
#define LONG(name)						\
SEC("tp_btf/sys_exit")						\
int BPF_PROG(name, struct pt_regs *regs, long ret)		\
{								\
	__u32 key = 0;						\
	struct seen *seen;					\
	for (__u64 i = 0; i < 150000; i++) {			\
		ret += i;					\
		asm volatile("" : "+r"(ret));			\
	}							\
	seen = tally_entry(calls, &key);			\
	if (seen && wanted_task())				\
		__sync_fetch_and_add(&seen->calls, ret);	\
	return 0;						\
}
LONG(a) LONG(b) LONG(c) LONG(d) LONG(e) LONG(f) LONG(g) LONG(h)
"#;

/// Nothing counts before all of it is loaded, so there is nothing to wait for.
#[test]
fn a_signal_ends_a_load_at_once() {
    let source = Source::new(LONG_TO_VERIFY);
    let path = source.arg();
    let host = Host::new();
    for (verb, signal) in [
        ("run", libc::SIGINT),
        ("run", libc::SIGTERM),
        ("attach", libc::SIGINT),
        ("attach", libc::SIGTERM),
    ] {
        let mut run = host.start([verb, &path]);
        let mut objects = Objects::default();
        wait_until("one program is loaded", || {
            objects = run.objects();
            !objects.programs.is_empty()
        });
        run.signal(signal);
        run.end().refused(-signal, &[]);
        objects.wait_until_gone();
        // At most the folder of instances, which is made before.
        host.good("detach --all");
        assert_eq!(host.pins(), [""; 0], "{verb}");
    }
}

#[test]
fn two_runs_do_not_disturb_each_other() {
    let child = Child::new("kt-two", || fail_to_open(23));
    let pid = child.pid();
    let args = format!("failures -o json --pid {pid}");
    let (mut first, mut second) = (Run::counting(&args), Run::counting(&args));
    child.work();
    assert_eq!(sum(&first.stop().json(), ENOENT, "calls"), 23);
    // The other goes on.
    child.work();
    assert_eq!(sum(&second.stop().json(), ENOENT, "calls"), 46);
}

#[test]
fn it_ends_in_silence_when_nobody_reads() {
    needs((5, 13), "task storage");
    let child = Child::new("kt-pipe", || ask_for_parent(23));
    let args = format!("syscalls --every 50ms -o jsonl --pid {}", child.pid());
    let mut run = Run::start(&args);
    run.next();
    let objects = run.objects();
    run.stdout = None;
    assert_eq!(run.end().good().stderr, "");
    objects.wait_until_gone();
}

impl Run {
    /// Waits until it has filled its output and can write no more.
    fn wait_until_stalled(&self) {
        // Ours is the other end of the pipe.
        let end = format!("/proc/{}/fd/1", self.process.id());
        let end = fs::File::options().write(true).open(end).unwrap();
        // As small as a pipe can be, unless it holds more already: slow machines
        // have few readings in a second.
        // SAFETY: takes no address.
        unsafe { libc::fcntl(end.as_raw_fd(), libc::F_SETPIPE_SZ, libc::PIPE_BUF) };
        let mut room = libc::pollfd {
            fd: end.as_raw_fd(),
            events: libc::POLLOUT,
            revents: 0,
        };
        // SAFETY: one descriptor, as it says.
        wait_until("the output is full", || unsafe {
            libc::poll(&raw mut room, 1, 0) == 0
        });
    }

    /// How many programs it has attached, beside iterators.
    fn links(&self) -> usize {
        let folder = format!("/proc/{}/fdinfo", self.process.id());
        let files = fs::read_dir(folder).unwrap();
        let infos = files.filter_map(|file| fs::read_to_string(file.unwrap().path()).ok());
        let is_link =
            |info: &String| info.contains("link_type:") && !info.contains("link_type:\titer");
        infos.filter(is_link).count()
    }
}

/// Every interval more than a page.
const CHATTY: &str = "syscalls --every 1ms -o jsonl";

#[test]
fn signals_end_it_though_nobody_reads_on() {
    needs((5, 13), "task storage");
    for signals in [&[libc::SIGTERM][..], &[libc::SIGINT, libc::SIGTERM]] {
        let mut run = Run::start(CHATTY);
        run.wait_until_stalled();
        let objects = run.objects();
        assert_those_of_syscalls(&objects);
        signals.iter().for_each(|signal| run.signal(*signal));
        wait_until("it ends", || run.process.try_wait().unwrap().is_some());
        run.end().failed(4, &["the output is incomplete"]);
        objects.wait_until_gone();
    }
}

/// The reader may take its time; what counts is over when it should be.
#[test]
fn a_stalled_output_does_not_count_on() {
    needs((5, 13), "task storage");
    let mut run = Run::start(&format!("{CHATTY} --for 700ms"));
    run.wait_until_stalled();
    wait_until("it detaches", || run.links() == 0);
    assert_eq!(run.process.try_wait().unwrap(), None);
    let last = run.stdout.take().unwrap().lines().last().unwrap().unwrap();
    assert_eq!(json(&last)["incomplete"], false);
    run.end().good().told(&["left out: a reading takes longer"]);
}

/// As under `nohup`, or in the background of a script.
#[test]
fn signals_that_were_ignored_stay_so() {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "trap '' HUP INT; exec \"$@\"", "sh"])
        .args([PROGRAM, "run"]);
    let child = Child::new("kt-nohup", || ask_for_parent(23));
    let args = ["syscalls", "-v", "-o", "json", "--pid", &child.pid()];
    let mut run = Run::of(shell.args(args));
    run.wait_until_counting();
    run.signal(libc::SIGHUP);
    run.signal(libc::SIGINT);
    child.work();
    run.signal(libc::SIGTERM);
    assert_eq!(sum(&run.end().json(), GETPPID, "calls"), 23);
}

/// In a mount namespace of its own, where the kernel's BTF is out of sight.
#[test]
fn a_kernel_without_btf_is_told() {
    let mut command = "run failures".pass_to(program());
    let hide = || {
        own_mounts()?;
        Ok(mount_new("tmpfs", Path::new("/sys/kernel/btf"), None)?)
    };
    // SAFETY: only system calls, on strings of ours.
    unsafe { command.pre_exec(hide) };
    end(&mut command).refused(1, &["`failures`", "no BTF", "CONFIG_DEBUG_INFO_BTF"]);
}

/// Its root has every capability, but none that counts.
#[test]
fn check_tells_of_a_user_namespace() {
    let mut command = "check -o json".pass_to(program());
    let enter = || {
        unshare(CloneFlags::CLONE_NEWUSER)?;
        // SAFETY: system calls alone, on static text.
        unsafe {
            let map = libc::open(c"/proc/self/uid_map".as_ptr(), libc::O_WRONLY);
            match libc::write(map, c"0 0 1".as_ptr().cast(), 5) {
                5 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        }
    };
    // SAFETY: only system calls.
    unsafe { command.pre_exec(enter) };
    let checked = end(&mut command).json();
    let facts = items(&checked["facts"]);
    let fact = facts.iter().find(|fact| fact["name"] == "capabilities");
    let fact = fact.unwrap();
    assert_eq!(fact["ok"], false, "{fact}");
    assert!(fact["found"].as_str().unwrap().contains("user namespace"));
    let obstacle = checked["tallies"][0]["obstacles"][0].as_str();
    assert_has(obstacle.unwrap(), &["CAP_BPF"]);
}

#[test]
fn an_error_leaves_nothing() {
    needs((5, 13), "task storage");
    let mut run = Run::with_output(&mut "run syscalls -v".pass_to(program()), full());
    run.wait_until_counting();
    let objects = run.objects();
    assert_those_of_syscalls(&objects);
    run.stop().failed(1, &["No space left"]);
    objects.wait_until_gone();
}

/// With fewer file descriptors than it needs, whichever it lacks.
#[test]
fn a_lack_of_file_descriptors_is_named() {
    require_root();
    for (refused, limit) in (10..=40).enumerate() {
        let script = format!("ulimit -n {limit}; exec \"$0\" run syscalls --for 0");
        let ended = end(command("sh").args(["-c", &script, PROGRAM]));
        if ended.code == 0 {
            assert!(refused > 3, "{refused}");
            return;
        }
        let code = ended.code;
        let ended = ended.failed(code, &["oo many open files"]);
        assert!(!ended.stderr.contains("no BTF"), "{limit}: {ended:?}");
    }
    panic!("40 descriptors are not enough");
}
