//! Stacks, symbols, and probes of functions.

use std::arch::naked_asm;
use std::time::Duration;

use ktally::host;
use ktally::tally::{Session, Support, Tally};

use crate::common::{end, items, ktally, program, rows};
use crate::instances::Host;
use crate::run::{Run, rows_of};
use crate::support::{
    Child, Counted, ask_for_parent, count, cpu_time, is_slow, nap, needs, on_two_cpus, options_of,
    rename, require_root, run, run_with, work,
};

// ---- functions that are looked for ------------------------------------------

/// Nothing but this function's own code, for about a millisecond.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn kt_spins(rounds: u64) -> u64 {
    let mut left = rounds;
    while left > 0 {
        left -= 1;
        // SAFETY: no instruction; the compiler must have the number ready.
        unsafe { std::arch::asm!("/* {0} */", in(reg) left) };
    }
    left + rounds
}

/// Calls a function from a frame that frame pointers find: optimized code has
/// none on x86.
#[unsafe(naked)]
extern "C" fn from_a_frame(call: extern "C" fn(u64) -> u64, with: u64) -> u64 {
    #[cfg(target_arch = "x86_64")]
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "mov rax, rdi",
        "mov rdi, rsi",
        "call rax",
        "pop rbp",
        "ret"
    );
    #[cfg(target_arch = "aarch64")]
    naked_asm!(
        "stp x29, x30, [sp, #-16]!",
        "mov x29, sp",
        "mov x9, x0",
        "mov x0, x1",
        "blr x9",
        "ldp x29, x30, [sp], #16",
        "ret"
    );
}

/// Spins until this thread has had this much time on a CPU.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn kt_spins_for(millis: u64) -> u64 {
    let start = cpu_time();
    let mut sum = 0;
    while cpu_time() - start < Duration::from_millis(millis) {
        sum += from_a_frame(kt_spins, 1_000_000);
    }
    sum
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn kt_sleeps() -> u64 {
    nap(10);
    1
}

/// Has another name when it returns.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn kt_renames() -> u64 {
    rename(c"kt-ufunc-after");
    nap(1);
    1
}

/// Calls itself this many times.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn kt_recurses(depth: u64) -> u64 {
    if depth == 0 {
        nap(1);
        return 0;
    }
    kt_recurses(depth - 1) + 1
}

/// The path of this program.
pub fn this_program() -> String {
    let path = std::env::current_exe().unwrap();
    path.to_str().unwrap().to_owned()
}

// ---- profile ----------------------------------------------------------------

/// The row with the most samples.
fn top(counted: &Counted) -> Vec<String> {
    let rows = counted.rows();
    let top = rows.iter().max_by_key(|row| row.number("samples"));
    top.expect("no samples").labels.clone()
}

#[test]
fn a_spinning_function_is_at_the_top_of_a_profile() {
    const HZ: u64 = 499;
    const MILLIS: u64 = 600;
    let spin = || {
        kt_spins_for(MILLIS);
    };
    let (child, twin) = (Child::new("kt-spin", spin), Child::new("kt-spin", spin));
    let options = [("pid", &*child.pid()), ("hz", &*HZ.to_string())];
    let counted = run("profile", &options, || work(&[&child, &twin]));
    let [comm, user, _] = &top(&counted)[..] else {
        panic!("not three labels");
    };
    assert_eq!(comm, "kt-spin");
    // Not all code keeps frame pointers, so not every caller is there.
    assert!(user.ends_with(";kt_spins"), "{user}");
    let callers = user.split(';').rev().skip(1);
    assert!(callers.into_iter().any(|it| !it.starts_with('[')), "{user}");
    // All of it is this child's, at its rate: the clock of an emulated CPU loses
    // ticks where its host is busy.
    let mut rows = counted.rows();
    rows.retain(|row| row.labels[1].ends_with("kt_spins"));
    let spinning: u64 = rows.iter().map(|row| row.number("samples")).sum();
    let due = HZ * MILLIS / 1000;
    let all = counted.sum("samples");
    assert!(spinning > all / 2, "{spinning} of {all}");
    let least = due / if is_slow() { 4 } else { 2 };
    assert!((least..=due * 11 / 10).contains(&all), "{all} of {due}");
}

/// One thread spins on the first CPU, and one waits on the second.
#[test]
fn a_profile_of_one_cpu() {
    for (cpu, is_seen) in [("0", true), ("1", false)] {
        // Threads are made once.
        let child = Child::new("kt-spin-cpu", || {
            on_two_cpus(1, |thread, _| {
                if thread == 0 {
                    kt_spins_for(200);
                }
            });
        });
        let counted = count("profile", &child, &[("hz", "499"), ("cpu", cpu)]);
        let rows = counted.rows();
        let seen = rows.iter().any(|row| row.labels[1].contains("kt_spins"));
        assert_eq!(seen, is_seen, "{cpu}: {rows:?}");
    }
}

#[test]
fn kernel_stacks_have_names() {
    let child = Child::new("kt-kernel", || {
        let start = cpu_time();
        while cpu_time() - start < Duration::from_millis(300) {
            ask_for_parent(1000);
        }
    });
    let counted = count("profile", &child, &[("hz", "499")]);
    let entry = if cfg!(target_arch = "x86_64") {
        "do_syscall_64"
    } else {
        "el0_svc"
    };
    let rows = counted.rows();
    let stacks: Vec<&str> = rows.iter().map(|row| &*row.labels[2]).collect();
    let inside = stacks.iter().filter(|stack| stack.contains(entry)).count();
    assert!(inside > 0, "{stacks:?}");
    let nameless: Vec<_> = stacks.iter().filter(|it| it.contains("0x")).collect();
    assert!(nameless.is_empty(), "{nameless:?}");
}

/// The workload works; and what the next test profiles is this test, of this
/// program started once more.
#[test]
fn workload() {
    assert!(kt_spins_for(60) > 0);
}

/// Of a command's children that have ended long before their stacks are shown:
/// lines for flame-graph tools, and the picture.
#[test]
fn flame_graphs_of_a_command_that_has_ended() {
    needs((5, 11), "a key of more than 512 bytes");
    require_root();
    let own = this_program();
    let script = "for i in 1 2 3 4 5 6 7 8; do \"$0\" --exact stacks::workload; done >/dev/null";
    let command = ["--", "sh", "-c", script, &own];
    let run = |format: &str| {
        let mut ktally = program();
        ktally.args(["run", "profile", "--hz", "499", "-o", format]);
        end(ktally.args(command)).done()
    };

    let folded = run("folded");
    let folded: Vec<&str> = folded.lines().collect();
    let mut spinning = 0;
    for line in folded.iter().copied() {
        let (stack, count) = line.rsplit_once(' ').expect(line);
        let count: u64 = count.parse().expect(line);
        assert!(count > 0 && !stack.is_empty(), "{line}");
        assert!(stack.split(';').all(|frame| !frame.is_empty()), "{line}");
        if stack.ends_with(";kt_spins") {
            spinning += count;
        }
    }
    let mut stacks = folded
        .iter()
        .map(|line| line.rsplit_once(' ').expect(line).0);
    assert!(stacks.by_ref().is_sorted_by(|a, b| a < b), "{folded:#?}");
    // Half of what is due: 499 a second, of 60 ms in each of eight processes.
    assert!(
        spinning > if is_slow() { 60 } else { 120 },
        "{spinning}: {folded:#?}"
    );

    let svg = run("svg");
    assert!(svg.starts_with("<?xml"), "{svg}");
    assert!(svg.trim_end().ends_with("</svg>"), "{svg}");
    assert!(svg.contains("<title>kt_spins ("), "{svg}");
    assert_eq!(svg.matches("<g").count(), svg.matches("</g>").count());
}

#[test]
fn raw_stacks_are_numbers() {
    let child = Child::new("kt-raw", || {
        kt_spins_for(300);
    });
    let mut run = Run::counting(&format!("profile --raw -o json --pid {}", child.pid()));
    child.work();
    let reading = run.stop().json();
    let rows = rows_of(&reading);
    assert!(!rows.is_empty());
    for row in rows {
        assert_eq!(row["comm"], "kt-raw");
        for label in ["user", "kernel"] {
            let stack = row[label].as_str().unwrap();
            let frames = stack.split(';').filter(|frame| !frame.is_empty());
            for frame in frames {
                let number = frame.strip_prefix("0x").expect(frame);
                assert!(u64::from_str_radix(number, 16).is_ok(), "{frame}");
            }
        }
    }
}

#[test]
fn flame_graphs_are_of_stacks() {
    for (line, words) in rows(
        "
run syscalls -o folded => counts no stacks
run syscalls -o svg => counts no stacks
run profile -o svg --by comm => without their stack
run profile -o svg --every 1s => one picture",
    ) {
        ktally(line).refused(2, &words);
    }
}

// ---- what waits --------------------------------------------------------------

/// From the scheduler outwards, without the frames of the program itself. Sleeps that
/// began before counting are left out.
#[test]
fn sleeps_by_stack() {
    needs((5, 13), "task storage");
    let sleep = || assert_eq!((0..23).map(|_| kt_sleeps()).sum::<u64>(), 23);
    let (child, twin) = (
        Child::new("kt-offcpu", sleep),
        Child::new("kt-offcpu", sleep),
    );
    let options = [("pid", &*child.pid()), ("stacks", "true")];
    let is_exact = |_| {
        let counted = run_with("offcpu", &options, None, || work(&[&child, &twin]));
        let rows = counted.rows();
        let mut naps = [0; 2];
        for row in &rows {
            let [comm, _, user, kernel] = &row.labels[..] else {
                panic!("{row:?}");
            };
            assert_eq!(comm, "kt-offcpu");
            assert!(kernel.ends_with(";__schedule"), "{row:?}");
            assert!(!user.is_empty(), "{row:?}");
            if kernel.contains(";hrtimer_nanosleep;") {
                naps[0] += row.number("blocked");
                naps[1] += row.number("time");
            }
        }
        // A kernel may switch to or from a task without its tracepoint.
        naps[0] == 230 && naps[1] >= 230_000_000
    };
    assert!((0..5).any(is_exact), "never, 5 times");
}

/// The field of a stack asks for the table that has it, and pictures are of time.
#[test]
fn flame_graphs_of_sleeps() {
    needs((5, 13), "task storage");
    let child = Child::new("kt-flames", || nap(23));
    let args = format!("offcpu --pid {} --by comm,kernel", child.pid());
    let mut run = Run::counting(&format!("{args} -o folded"));
    child.work();
    let folded = run.stop().good().stdout;
    let nap = folded
        .lines()
        .find(|line| line.contains(";hrtimer_nanosleep_[k];"));
    let nap = nap.unwrap_or_else(|| panic!("{folded}"));
    assert!(nap.starts_with("kt-flames;"), "{nap}");
    let time: u64 = nap.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(time >= 23_000_000, "{nap}");
}

#[test]
fn instances_with_and_without_stacks() {
    needs((5, 13), "task storage");
    let host = Host::new();
    let child = Child::new("kt-both", || nap(23));
    let attach = format!("attach offcpu --pid {}", child.pid());
    host.good(&format!("{attach} --as plain"));
    host.good(&format!("{attach} --as stacks --stacks --rotatable"));
    child.work();
    let blocked = |line: &str| -> u64 {
        let reading = host.json(line);
        let [table] = items(&reading["tables"]) else {
            panic!("{reading}");
        };
        let rows = items(&table["rows"]).iter();
        rows.map(|row| row["blocked"].as_u64().unwrap()).sum()
    };
    assert!(blocked("read plain -o json") >= 24);
    assert!(blocked("read stacks -o json --by kernel") >= 24);
    assert!(blocked("rotate stacks -o json") >= 24);
    assert_eq!(blocked("read stacks -o json"), 0);
    let advice = "`ktally attach offcpu --as NAME --stacks`";
    host.ktally("read plain --by kernel")
        .refused(2, &["attached without `--stacks`", advice]);
    let replaced = host.ktally(&format!("{attach} --as plain --replace --stacks"));
    replaced.refused(1, &["table `offcpu` would be lost"]);
    host.good("detach --all");
    assert_eq!(host.pins(), [""; 0]);
}

// ---- functions of programs --------------------------------------------------

/// Counts a child's calls of a function of this program.
fn count_calls(child: &Child, function: &str, options: &[(&str, &str)]) -> Counted {
    let path = this_program();
    let function = [("path", &*path), ("function", function)];
    count("ufunc", child, &[&function, options].concat())
}

#[test]
fn calls_of_a_function_of_a_program() {
    let sleep = || assert_eq!((0..23).map(|_| kt_sleeps()).sum::<u64>(), 23);
    let (child, twin) = (Child::new("kt-ufunc", sleep), Child::new("kt-ufunc", sleep));
    let (pid, path) = (child.pid(), this_program());
    let options = [("pid", &*pid), ("path", &*path), ("function", "kt_sleeps")];
    let counted = run("ufunc", &options, || work(&[&child, &twin]));
    let row = counted.only_row(&["kt-ufunc"]);
    assert_eq!(row.number("calls"), 23);
    let time = row.number("time");
    // Ten naps of 1 ms each.
    assert!(time >= 23 * 10_000_000, "{time}");
    assert_eq!(row.histogram("latency"), (23, time));
    assert!(row.buckets("latency")[..24].iter().all(|count| *count == 0));
}

/// Its time is with its call, also where the new name is not wanted.
#[test]
fn calls_of_a_function_that_renames_its_task() {
    for filter in [&[][..], &[("comm", "kt-ufunc-before")]] {
        let child = Child::new("kt-ufunc-before", || {
            for _ in 0..23 {
                rename(c"kt-ufunc-before");
                kt_renames();
            }
        });
        let counted = count_calls(&child, "kt_renames", filter);
        let row = counted.row(&["kt-ufunc-before"]);
        assert_eq!(row.number("calls"), 23);
        assert_eq!(row.histogram("latency"), (23, row.number("time")));
        assert!(row.number("time") >= 23_000_000);
    }
}

/// Two threads, each on a CPU of its own.
#[test]
fn calls_of_a_function_on_one_cpu() {
    let child = Child::new("kt-ufunc-cpu", || {
        on_two_cpus(23, |_, _| {
            kt_sleeps();
        });
    });
    let counted = count_calls(&child, "kt_sleeps", &[("cpu", "1")]);
    let row = counted.row(&["kt-ufunc-cpu"]);
    assert_eq!(row.number("calls"), 23);
    assert_eq!(row.histogram("latency").0, 23);
}

/// Each call is timed, the outer ones with the inner; what is too deep is
/// counted, and not timed.
#[test]
fn recursive_calls_are_told_apart() {
    for (depth, timed) in [(4, 5), (15, 16), (19, 16)] {
        let child = Child::new("kt-recurse", move || {
            (0..3).map(|_| kt_recurses(depth)).sum::<u64>();
        });
        let counted = count_calls(&child, "kt_recurses", &[]);
        let row = counted.row(&["kt-recurse"]);
        assert_eq!(row.number("calls"), 3 * (depth + 1));
        let (count, sum) = row.histogram("latency");
        assert_eq!(count, 3 * timed);
        // Every one of them contains the nap.
        assert!(sum >= count * 1_000_000, "{sum}");
        assert_eq!(sum, row.number("time"));
    }
}

#[test]
fn what_cannot_be_probed_is_told() {
    let program = this_program();
    let table = format!(
        "
run ufunc => needs --function
run ufunc --path {program} => needs --function
run ufunc --path {program} --function no_such => has no function named `no_such`
run ufunc --path /no/such --function main => failed to open `/no/such`"
    );
    for (line, words) in rows(&table) {
        ktally(line).failed(2, &words);
    }
}

// ---- functions of the kernel ------------------------------------------------

/// A nap is one call of `hrtimer_nanosleep`. Where there are no kprobes, the
/// tally loads, and says why it cannot attach.
#[test]
fn calls_of_a_function_of_the_kernel() {
    needs((5, 13), "task storage");
    let tally = Tally::find("kfunc".as_ref()).unwrap();
    let obstacles = Support::probe().obstacles(&tally);
    if !host::has_kprobes() {
        assert_eq!(obstacles[0], "this kernel has no kprobes (CONFIG_KPROBES)");
        let options = options_of(&tally, &[("function", "hrtimer_nanosleep")]).unwrap();
        let error = Session::start(&tally, &options, None).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.starts_with("failed to attach program"), "{error}");
        assert!(error.ends_with(&obstacles[0]), "{error}");
        return;
    }
    assert_eq!(obstacles, [""; 0]);
    let child = Child::new("kt-kfunc", || nap(23));
    let twin = Child::new("kt-kfunc", || nap(23));
    for function in ["hrtimer_nanosleep", "hrtimer_nanoslee?"] {
        let options = [("pid", &*child.pid()), ("function", function)];
        let counted = run("kfunc", &options, || work(&[&child, &twin]));
        let row = counted.row(&["hrtimer_nanosleep"]);
        assert_eq!(row.number("calls"), 23);
        let time = row.number("time");
        assert!(time >= 23 * 1_000_000, "{time}");
        assert_eq!(row.histogram("latency"), (23, time));
    }
}
