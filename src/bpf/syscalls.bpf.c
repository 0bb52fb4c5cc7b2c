// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: calls at sys_exit. One that is restarted after a signal counts twice;
 * one that seccomp refuses has no time.
 * Not seen: exit and exit_group, which do not return, calls of the vDSO, and
 * io_uring requests.
 * Cost: about 0.3 us for every system call of the host, and 0.1 us without
 * --times.
 */
#include "ktally.bpf.h"

TALLY("system calls, by process and call", "syscount strace");

TASK_FILTERS;
CPU_FILTER;
WHO_OPTIONS;
OPTION(bool, by_error, false, "one row per error as well");
OPTION(bool, times, true,
       "how long calls take, which costs more than to count");

struct call {
	struct tally_who;
	__u32 call AS(syscall);
	__u32 error AS(errno) WITH(by_error);
};

struct calls {
	__u64 calls COUNTER("system calls that returned");
	__u64 errors COUNTER("of these, calls that returned an error");
	__u64 time COUNTER("time spent inside the calls") UNIT(ns) WITH(times);
	struct tally_histogram latency HISTOGRAM("time of one call") UNIT(ns)
		WITH(times);
	__u64 max MAXIMUM("the longest call") UNIT(ns) WITH(times);
};

TABLE(syscalls, struct call, struct calls, 8192, "system calls");

/* The call that a task is in: its number may be lost at the end. */
struct entry {
	__u64 since;
	struct call key;
	__u64 start; /* instead of `since`, with --by-error */
};

TASK_STATE(entered, struct entry) UNDER_WAY(syscalls, time) WITH(times);

/* Attached first: what has begun has its end in sight. */
SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit, struct pt_regs *regs, long ret)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct call unseen = {}, *key = &unseen;
	struct entry *entry = NULL;
	struct calls *calls;
	bool timed, failed;
	__u64 time;

	if (times)
		entry = bpf_task_storage_get(&entered, task, NULL, 0);
	timed = by_error ? tally_elapsed_hidden(entry, &time)
			 : tally_elapsed(entry, &time);
	if (!wanted_cpu())
		goto out;
	if (timed) {
		key = &entry->key;
	} else if (wanted_task() && !is_new_task(regs, ret)) {
		key->call = task_syscall_number(task, regs);
		current_task_who(key, task);
	} else {
		goto out;
	}
	/* What has lost its number goes back from a handler: see there. */
	failed = syscall_failed(regs, ret) &&
		 key->call == task_syscall_number(task, regs);
	if (by_error)
		key->error = failed ? -ret : 0;

	calls = tally_entry(syscalls, key);
	__sync_fetch_and_add(&calls->calls, 1);
	if (failed)
		__sync_fetch_and_add(&calls->errors, 1);
	if (timed) {
		__sync_fetch_and_add(&calls->time, time);
		tally_observe(&calls->latency, time);
		tally_maximum(&calls->max, time);
	}
out:
	tally_end(entry);
	return 0;
}

SEC("tp_btf/sys_enter")
WITH(times)
int BPF_PROG(sys_enter, struct pt_regs *regs, long id)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct call key = {.call = task_syscall_number(task, regs)};
	struct entry *entry;

	if (ends_task(key.call) || !wanted_task())
		return 0;
	current_task_who(&key, task);
	/* Without it the call is counted all the same, but not its time. */
	entry = tally_state(entered, task, syscalls);
	if (entry && by_error)
		tally_begin_hidden(entry, &key);
	else if (entry)
		tally_begin(entry, &key);
	return 0;
}
