//! System calls that return twice, not at all, or because something interfered.

use std::ffi::{c_int, c_long};
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::{
    Child, Counted, Impossible, ask_for_parent, clone, count, event, exec, exit, fork, link_true,
    nap, on_two_cpus, raise, reap, rename, run, run_once, set_timer, wait_until,
};

// ---- what children do -------------------------------------------------------

/// Makes processes by this call, one after the other.
fn fork_and_reap(times: u64, call: impl Fn() -> c_long, life: impl Fn()) {
    for _ in 0..times {
        fork(1, &call, &life);
        reap(1);
    }
}

fn clone3() -> c_long {
    // SAFETY: a struct of integers that lives; without CLONE_VM this is fork.
    unsafe {
        let mut args: libc::clone_args = std::mem::zeroed();
        args.exit_signal = libc::SIGCHLD as u64;
        libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args))
    }
}

#[cfg(target_arch = "x86_64")]
fn fork_itself() -> c_long {
    // SAFETY: no arguments.
    unsafe { libc::syscall(libc::SYS_fork) }
}

/// The child ends at once: it has its parent's stack.
#[cfg(target_arch = "x86_64")]
fn vfork() -> c_long {
    let ret: c_long;
    // SAFETY: the child makes one system call and touches no memory.
    unsafe {
        std::arch::asm!(
            "syscall", "test rax, rax", "jnz 2f", "mov eax, {exit}", "xor edi, edi", "syscall", "2:",
            exit = const libc::SYS_exit_group,
            inlateout("rax") libc::SYS_vfork => ret,
            out("rdi") _, out("rcx") _, out("r11") _,
        );
    }
    ret
}

/// From now on the kernel refuses `getppid`, and looks at every other call.
fn refuse_getppid() {
    const NUMBER: u32 = 0; // the offset of `nr` in struct seccomp_data
    let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let step = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let mut steps = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, NUMBER),
        step(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            libc::SYS_getppid as u32,
        ),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, refused),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog {
        len: steps.len() as u16,
        filter: steps.as_mut_ptr(),
    };
    // SAFETY: the kernel copies a program that lives.
    let ret = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const filter,
        )
    };
    if ret != 0 {
        exit(6);
    }
}

/// Makes a child that asks to be traced, and stops it at the start and at the
/// return of each of its calls.
fn trace(life: impl Fn()) {
    let child = clone(0);
    // SAFETY: our own child, and a status that lives.
    unsafe {
        if child == 0 {
            libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
            libc::raise(libc::SIGSTOP);
            life();
            exit(0);
        }
        loop {
            let mut status = 0;
            libc::syscall(libc::SYS_wait4, child, &raw mut status, 0, 0);
            if !libc::WIFSTOPPED(status) {
                return;
            }
            libc::ptrace(libc::PTRACE_SYSCALL, child, 0, 0);
        }
    }
}

// ---- calls that make tasks --------------------------------------------------

/// This many calls returned, failed and were timed.
fn assert_calls(counted: &Counted, comm: &str, call: &str, numbers: [u64; 3]) {
    let row = counted.row(&[comm, call]);
    let [calls, errors] = row.numbers(["calls", "errors"]);
    let timed = row.histogram("latency").0;
    assert_eq!([calls, errors, timed], numbers, "{call}");
}

/// A new task comes out of the call that its parent made. By name, so that the
/// filter lets both through.
#[test]
fn a_fork_is_one_call() {
    let child = Child::new("kt-forks", || {
        #[cfg(target_arch = "x86_64")]
        {
            fork_and_reap(23, fork_itself, || ());
            fork_and_reap(23, vfork, || ());
        }
        fork_and_reap(23, || clone(0), || ask_for_parent(1));
        fork_and_reap(23, clone3, || ());
    });
    let counted = run("syscalls", &[("comm", "kt-forks")], || child.work());
    let x86: &[&str] = match cfg!(target_arch = "x86_64") {
        true => &["fork", "vfork"],
        false => &[],
    };
    for call in [x86, &["clone", "clone3", "getppid"]].concat() {
        assert_calls(&counted, "kt-forks", call, [23, 0, 23]);
    }
    let forks = 23 * (x86.len() as u64 + 2);
    assert_calls(&counted, "kt-forks", "wait4", [forks, 0, forks]);
}

#[test]
fn forks_of_a_filtered_process_are_one_call_each() {
    let child = Child::new("kt-seccomp", || {
        refuse_getppid();
        fork_and_reap(23, || clone(0), || ask_for_parent(1));
    });
    let counted = run("syscalls", &[("comm", "kt-seccomp")], || child.work());
    assert_calls(&counted, "kt-seccomp", "clone", [23, 0, 23]);
    // Refused ahead of the event that begins a call: not timed.
    assert_calls(&counted, "kt-seccomp", "getppid", [23, 23, 0]);
}

#[test]
fn forks_of_a_traced_process_are_one_call_each() {
    let child = Child::new("kt-ptrace", || {
        trace(|| {
            fork_and_reap(23, clone3, || ());
            ask_for_parent(23);
        });
    });
    let counted = run("syscalls", &[("comm", "kt-ptrace")], || child.work());
    assert_calls(&counted, "kt-ptrace", "clone", [1, 0, 1]);
    assert_calls(&counted, "kt-ptrace", "clone3", [23, 0, 23]);
    assert_calls(&counted, "kt-ptrace", "getppid", [23, 0, 23]);
}

// ---- calls by other numbers -------------------------------------------------

/// An ELF file that calls `getppid` 23 times and ends.
fn program_of_32_bits() -> Vec<u8> {
    const BASE: u32 = 0x10000;
    const HEADERS: u32 = 52 + 32;
    #[cfg(target_arch = "x86_64")]
    const FOR: (u32, u32, &[u8]) = (
        3, // EM_386
        0,
        &[
            0xbe, 23, 0, 0, 0, // mov esi, 23
            0xb8, 64, 0, 0, 0, // again: mov eax, 64
            0xcd, 0x80, // int 0x80
            0x4e, 0x75, 0xf6, // dec esi; jnz again
            0xb8, 1, 0, 0, 0, 0x31, 0xdb, // mov eax, 1; xor ebx, ebx
            0xcd, 0x80, // int 0x80
        ],
    );
    #[cfg(target_arch = "aarch64")]
    const FOR: (u32, u32, &[u8]) = (
        40,          // EM_ARM
        0x0500_0000, // EF_ARM_EABI_VER5
        &[
            23, 0x40, 0xa0, 0xe3, // mov r4, #23
            64, 0x70, 0xa0, 0xe3, // mov r7, #64
            0, 0, 0, 0xef, // again: svc 0
            1, 0x40, 0x54, 0xe2, // subs r4, r4, #1
            0xfc, 0xff, 0xff, 0x1a, // bne again
            1, 0x70, 0xa0, 0xe3, // mov r7, #1
            0, 0, 0xa0, 0xe3, // mov r0, #0
            0, 0, 0, 0xef, // svc 0
        ],
    );
    let (machine, flags, code) = FOR;
    let size = HEADERS + code.len() as u32;
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for word in [
        [2 | machine << 16, 1, BASE + HEADERS, 52].as_slice(), // ET_EXEC, at the code
        &[0, flags, 52 | 32 << 16, 1, 0],                      // one program header
        &[1, 0, BASE, BASE, size, size, 5, 0x1000], // PT_LOAD: all of the file, PF_R | PF_X
    ]
    .concat()
    {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

#[test]
fn calls_of_a_32_bit_program_have_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kt-32-bits");
    fs::write(&path, program_of_32_bits()).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    let counted = run("syscalls", &[("comm", "kt-32-bits")], || {
        // The fork of another test may have the file open for writing.
        wait_until("the program runs", || match Command::new(&path).status() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => false,
            Err(error) => match Impossible::to_execute("32-bit programs", &error) {
                Some(impossible) => impossible.end(),
                None => panic!("{error}"),
            },
            Ok(status) => status.success(),
        });
    });
    let call = match cfg!(target_arch = "aarch64") {
        true => "arm:getppid",
        false => "i386:getppid",
    };
    assert_calls(&counted, "kt-32-bits", call, [23, 0, 23]);
}

// ---- numbers that no call has -----------------------------------------------

/// How many signals this process has caught; children have one each.
static CAUGHT: AtomicU64 = AtomicU64::new(0);

extern "C" fn catch(_: c_int) {
    CAUGHT.fetch_add(1, Ordering::SeqCst);
}

fn catch_signals(signal: c_int) {
    let handler: extern "C" fn(c_int) = catch;
    // SAFETY: the handler touches an atomic alone.
    unsafe { libc::signal(signal, handler as libc::sighandler_t) };
}

/// Calls this number, this many times.
fn call(times: u64, number: c_long) {
    for _ in 0..times {
        // SAFETY: there is no such call.
        unsafe { libc::syscall(number) };
    }
}

#[test]
fn a_call_of_no_number_is_no_sigreturn() {
    let child = Child::new("kt-no-call", || {
        catch_signals(libc::SIGUSR1);
        call(33, -1);
        (0..5).for_each(|_| raise(libc::SIGUSR1));
        call(7, 0x8000_0006);
        call(3, -0x8000_0000);
        call(11, 9_999);
    });
    let counted = count("syscalls", &child, &[]);
    assert_calls(&counted, "kt-no-call", "negative", [43, 43, 43]);
    assert_calls(&counted, "kt-no-call", "9999", [11, 11, 11]);
    assert_calls(&counted, "kt-no-call", "rt_sigreturn", [5, 0, 5]);

    let counted = count("failures", &child, &[]);
    for (call, calls) in [("negative", 43), ("9999", 11)] {
        let row = counted.row(&["kt-no-call", call, "ENOSYS"]);
        assert_eq!(row.number("calls"), calls);
    }
    assert_eq!(counted.sum("calls"), 54);
}

/// A signal that comes as such a call returns: its handler goes back to code that
/// has the call's ENOSYS.
#[test]
fn a_sigreturn_to_a_call_of_no_number() {
    let child = Child::new("kt-no-call-sig", || {
        catch_signals(libc::SIGALRM);
        set_timer(500, 500);
        while CAUGHT.load(Ordering::SeqCst) < 50 {
            call(23, -1);
        }
        set_timer(0, 0);
        ask_for_parent(CAUGHT.load(Ordering::SeqCst));
    });
    // Once, as it counts its signals.
    let of_pid = [("pid", &*child.pid())];
    let counted = run_once("syscalls".as_ref(), &of_pid, None, &mut || child.work());
    let comm = "kt-no-call-sig";
    let signals = counted.row(&[comm, "getppid"]).number("calls");
    assert!(signals >= 50);
    assert_calls(&counted, comm, "rt_sigreturn", [signals, 0, signals]);
    let negative = counted.row(&[comm, "negative"]).number("calls");
    assert_eq!(negative % 23, 0);
}

/// By the door for 32-bit programs, which is open to all.
#[cfg(target_arch = "x86_64")]
#[test]
fn numbers_that_no_32_bit_call_has() {
    fn call_32(times: u64, number: u32) {
        for _ in 0..times {
            // SAFETY: there is no such call, or one of no effect.
            unsafe {
                std::arch::asm!(
                    "int 0x80",
                    inlateout("eax") number => _,
                    out("r8") _, out("r9") _, out("r10") _, out("r11") _,
                );
            }
        }
    }
    let child = Child::new("kt-no-call-32", || {
        call_32(33, u32::MAX);
        call_32(7, 0x8000_0006);
        call_32(11, 9_999);
        call_32(23, 64);
    });
    let counted = count("syscalls", &child, &[]);
    assert_calls(&counted, "kt-no-call-32", "i386:negative", [40, 40, 40]);
    assert_calls(&counted, "kt-no-call-32", "i386:9999", [11, 11, 11]);
    assert_calls(&counted, "kt-no-call-32", "i386:getppid", [23, 0, 23]);
}

// ---- who is wanted ----------------------------------------------------------

/// The calls that change it, which begin wanted and end unwanted, or the other
/// way round.
fn assert_turns(options: &[(&str, &str)], comm: &str, call: &str, turn: impl Fn(bool)) {
    let child = Child::new(comm, || {
        turn(false);
        nap(40);
        turn(true);
        ask_for_parent(23);
    });
    let counted = count("syscalls", &child, options);
    assert_calls(&counted, comm, "getppid", [23, 0, 23]);
    // The one that ends it begins while the filter leaves it out.
    assert_calls(&counted, comm, call, [2, 0, 1]);
    let (_, time) = counted.row(&[comm, call]).histogram("latency");
    assert!(time < 40_000_000, "{call} took {time} ns");
}

#[test]
fn a_call_that_renames_its_task_takes_its_start_along() {
    assert_turns(&[("comm", "kt-wanted")], "kt-wanted", "prctl", |back| {
        rename(if back { c"kt-wanted" } else { c"kt-unwanted" });
    });
}

#[test]
fn a_call_that_changes_its_user_takes_its_start_along() {
    assert_turns(&[("uid", "0")], "kt-user", "setresuid", |back| {
        let uid = if back { 0 } else { 1000 };
        // SAFETY: integers.
        unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, 0) };
    });
}

// ---- calls that replace or end a task ---------------------------------------

/// The return of `execve` is that of another program.
#[test]
fn an_exec_is_one_call() {
    let folder = tempfile::tempdir().unwrap();
    let file = link_true(&folder.path().join("kt-exec-call"));
    let child = Child::new("kt-exec-call", || {
        fork_and_reap(
            23,
            || clone(0),
            || {
                exec(&file);
                exit(7);
            },
        );
    });
    let counted = run("syscalls", &[("comm", "kt-exec-call")], || child.work());
    assert_calls(&counted, "kt-exec-call", "execve", [23, 0, 23]);
    assert_calls(&counted, "kt-exec-call", "clone", [23, 0, 23]);
}

/// `exit_group` does not return; the call in which a process is killed does, as
/// one that failed.
#[test]
fn the_last_call_of_a_process() {
    let mut children: Vec<Child> = (0..23).map(|_| Child::new("kt-killed", || ())).collect();
    let child = Child::new("kt-exits-call", || fork_and_reap(23, || clone(0), || ()));
    let counted = run("syscalls", &[("comm", "kt-killed")], || children.clear());
    counted.only_row(&["kt-killed", "read"]);
    assert_calls(&counted, "kt-killed", "read", [23, 23, 0]);

    let counted = run("syscalls", &[("comm", "kt-exits-call")], || child.work());
    let rows = counted.rows();
    let mut calls = rows.iter().map(|row| &*row.labels[1]);
    assert!(!calls.any(|call| call == "exit_group"), "{rows:?}");
}

// ---- one CPU ----------------------------------------------------------------

/// Two threads, each on a CPU of its own, whose calls fail.
#[test]
fn failures_of_one_cpu() {
    let options = [&[][..], &[("cpu", "0")], &[("cpu", "1")]];
    for (options, calls) in options.into_iter().zip([46, 23, 23]) {
        let child = Child::new("kt-cpu-failures", || {
            on_two_cpus(23, |_, round| event(round));
        });
        let counted = count("failures", &child, options);
        let row = counted.row(&["kt-cpu-failures", "getpriority", "EINVAL"]);
        assert_eq!(row.number("calls"), calls, "{options:?}");
    }
}
