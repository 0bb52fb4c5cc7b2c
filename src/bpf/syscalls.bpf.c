// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: calls at sys_exit. One that is restarted after a signal counts twice;
 * one that seccomp refuses has no time.
 * Not seen: exit and exit_group, which do not return, calls of the vDSO, and
 * io_uring requests.
 * Cost: about 0.4 us for every system call of the host.
 */
#include "ktally.bpf.h"

TALLY("system calls, by process and call", "syscount strace");

TASK_FILTERS;
CPU_FILTER;
WHO_OPTIONS;
OPTION(bool, by_error, false, "one row per error as well");

struct call {
	struct tally_who;
	__u32 call AS(syscall);
	__u32 error AS(errno) WITH(by_error);
};

struct calls {
	__u64 calls COUNTER("system calls that returned");
	__u64 errors COUNTER("of these, calls that returned an error");
	__u64 time COUNTER("time spent inside the calls") UNIT(ns);
	struct tally_histogram latency HISTOGRAM("time of one call") UNIT(ns);
	__u64 max MAXIMUM("the longest call") UNIT(ns);
};

TABLE(syscalls, struct call, struct calls, 8192, "system calls");

/* The call that a task is in: its number may be lost at the end. */
struct entry {
	__u64 since;
	struct call key;
	__u64 start; /* instead of `since`, with --by-error */
};

TASK_STATE(entered, struct entry) UNDER_WAY(syscalls, time);

/* Attached first: what has begun has its end in sight. */
SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit, struct pt_regs *regs, long ret)
{
	struct call key = {};
	struct calls *calls;
	struct entry *entry;
	__u64 time;
	bool timed, failed;

	entry = bpf_task_storage_get(&entered, bpf_get_current_task_btf(), NULL,
				     0);
	timed = by_error ? tally_elapsed_hidden(entry, &time)
			 : tally_elapsed(entry, &time);
	if (is_new_task(regs, ret) || !wanted_cpu() ||
	    (!timed && !wanted_task()))
		goto out;
	if (timed) {
		key = entry->key;
	} else {
		key.call = syscall_number(regs);
		current_who(&key);
	}
	/* What has lost its number goes back from a handler: see there. */
	failed = syscall_failed(regs, ret) && key.call == syscall_number(regs);
	if (by_error && failed)
		key.error = -ret;

	calls = tally_entry(syscalls, &key);
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
int BPF_PROG(sys_enter, struct pt_regs *regs, long id)
{
	struct call key = {.call = syscall_number(regs)};
	struct entry *entry;

	if (ends_task(key.call) || !wanted_task())
		return 0;
	current_who(&key);
	/* Without it the call is counted all the same, but not its time. */
	entry = tally_state(entered, bpf_get_current_task_btf(), syscalls);
	if (entry && by_error)
		tally_begin_hidden(entry, &key);
	else if (entry)
		tally_begin(entry, &key);
	return 0;
}
