//! The same question, asked of bpftrace at the same time: the same answer. Where it is not
//! installed there is nothing to compare.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::kinds::{calls_libc, mount_tracefs};
use super::open_written_path;
use crate::common::json_lines;
use crate::support::{Child, ask_for_parent, run};

/// Six kinds of events, several times each.
fn work() {
    for _ in 0..7 {
        nix::sys::signal::raise(Signal::SIGCONT).unwrap();
    }
    // So large that its pages are new ones.
    black_box(vec![1u8; 64 << 20]);
    ask_for_parent(23);
    calls_libc();
    open_written_path(37);
    crate::support::nap(5);
}

/// What bpftrace counts in `@` until this is done.
fn bpftrace(script: &str, work: impl FnOnce()) -> BTreeMap<String, u64> {
    let script = format!("{script} interval:ms:100 {{ printf(\"ready\\n\"); }}");
    let mut peer = Command::new("bpftrace")
        .args(["-f", "json", "-e", &script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(peer.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "{script}");
    }
    work();
    kill(Pid::from_raw(peer.id() as i32), Signal::SIGINT).unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    peer.wait().unwrap();
    let lines = rest.lines().filter(|line| line.starts_with('{'));
    let lines = json_lines(&lines.collect::<Vec<_>>().join("\n"));
    let map = lines.into_iter().find_map(|line| {
        let map = line["data"]["@"].as_object()?.clone();
        Some(
            map.into_iter()
                .map(|(key, count)| (key, count.as_u64().unwrap())),
        )
    });
    map.map_or_else(BTreeMap::new, Iterator::collect)
}

#[test]
fn bpftrace_counts_the_same() {
    if Command::new("bpftrace").arg("--version").output().is_err() {
        return;
    }
    mount_tracefs();
    let child = Child::new("kt-peer", work);
    let pid = child.pid();
    for (query, column, probe, key) in [
        (
            "sys_enter --by id",
            "events",
            "tracepoint:raw_syscalls:sys_enter",
            "[args->id] = count()",
        ),
        (
            "sys_enter --by id,arg0",
            "events",
            "tracepoint:raw_syscalls:sys_enter",
            "[args->id, args->args[0]] = count()",
        ),
        (
            "sys_exit --by call,ret",
            "events",
            "tracepoint:raw_syscalls:sys_exit",
            "[args->id, args->ret] = count()",
        ),
        (
            "sys_exit --by ret",
            "events",
            "tracepoint:raw_syscalls:sys_exit",
            "[args->ret] = count()",
        ),
        (
            "tracepoint:raw_syscalls:sys_enter --by id",
            "events",
            "tracepoint:raw_syscalls:sys_enter",
            "[args->id] = count()",
        ),
        (
            "sys_enter --by arg1 --as arg1=text --where call=openat",
            "events",
            "tracepoint:syscalls:sys_enter_openat",
            "[str(args->filename)] = count()",
        ),
        (
            "sys_enter --by id --sum arg2 --where call=openat",
            "arg2.sum",
            "tracepoint:syscalls:sys_enter_openat",
            "[257] = sum(args->flags)",
        ),
        (
            "sys_enter --by comm --max id",
            "id.max",
            "tracepoint:raw_syscalls:sys_enter",
            "[comm] = max(args->id)",
        ),
        (
            "sys_enter --by uid,cpu",
            "events",
            "tracepoint:raw_syscalls:sys_enter",
            "[uid, cpu] = count()",
        ),
        (
            "sched_switch --by prev.comm,prev.pid",
            "events",
            "tracepoint:sched:sched_switch",
            "[args->prev_comm, args->prev_pid] = count()",
        ),
        (
            "sched_switch --by prev.prio",
            "events",
            "tracepoint:sched:sched_switch",
            "[args->prev_prio] = count()",
        ),
        (
            "uprobe:libc.so.6:atoi --by arg0 --as arg0=text",
            "events",
            "uprobe:/lib/x86_64-linux-gnu/libc.so.6:atoi",
            "[str(arg0)] = count()",
        ),
        (
            "uprobe:libc.so.6:atoi --return --by retval",
            "events",
            "uretprobe:/lib/x86_64-linux-gnu/libc.so.6:atoi",
            "[retval] = count()",
        ),
        (
            "tracepoint:raw_syscalls:sys_enter --by id,args[1]",
            "events",
            "tracepoint:raw_syscalls:sys_enter",
            "[args->id, args->args[1]] = count()",
        ),
        (
            "sys_enter --by comm --min id --where id>1",
            "id.min",
            "tracepoint:raw_syscalls:sys_enter",
            "[comm] = min(args->id > 1 ? args->id : 999)",
        ),
        (
            "sys_enter --by current.real_parent.tgid,current.group_leader.comm",
            "events",
            "tracepoint:raw_syscalls:sys_enter",
            "[((struct task_struct *)curtask)->real_parent->tgid, \
              ((struct task_struct *)curtask)->group_leader->comm] = count()",
        ),
        (
            "sys_enter --by cgroup,tid",
            "events",
            "tracepoint:raw_syscalls:sys_enter",
            "[cgroup, tid] = count()",
        ),
        (
            "signal_generate --by sig,result",
            "events",
            "tracepoint:signal:signal_generate",
            "[args->sig, args->result] = count()",
        ),
        (
            "mm_page_alloc --by order,migratetype --sum order",
            "events",
            "tracepoint:kmem:mm_page_alloc",
            "[args->order, args->migratetype] = count()",
        ),
        (
            "tracepoint:sched:sched_waking --by comm,pid,prio",
            "events",
            "tracepoint:sched:sched_waking",
            "[args->comm, args->pid, args->prio] = count()",
        ),
    ] {
        let mut theirs = BTreeMap::new();
        let query = format!("count {query}");
        let script = format!("{probe} /pid == {pid}/ {{ @{key}; }}");
        let counted = run(&query, &[("pid", &pid)], || {
            theirs = bpftrace(&script, || child.work());
        });
        // A cell of a minimum is its complement.
        let is_least = column.ends_with(".min");
        let number = |cell: u64| if is_least { !cell } else { cell };
        let mut ours: Vec<(String, u64)> = counted
            .rows()
            .iter()
            .map(|row| (row.labels.join(","), number(row.number(column))))
            .collect();
        ours.sort_unstable();
        let counts = |rows: &[(String, u64)]| {
            let mut counts: Vec<u64> = rows.iter().map(|it| it.1).collect();
            counts.sort_unstable();
            counts
        };
        let theirs: Vec<(String, u64)> = theirs.into_iter().collect();
        assert_eq!(
            counts(&ours),
            counts(&theirs),
            "{query}: {ours:?} {theirs:?}"
        );
        assert!(!ours.is_empty(), "{query}");
        // What bpftrace has no names for.
        let has_names = ["uid", "--by call", "cgroup", "--sum arg2"];
        if !has_names.iter().any(|it| query.contains(it)) {
            assert_eq!(ours, theirs, "{query}");
        }
    }
}
