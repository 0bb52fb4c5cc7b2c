// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: the time from one event to another of the same task, here from the
 * start of a system call to its return, by process.
 */
#include "ktally.bpf.h"

TALLY("time in system calls, by process");

TASK_FILTERS;

struct who {
	char comm[TASK_COMM_LEN] AS(comm);
};

struct calls {
	__u64 calls COUNTER("calls that returned");
	__u64 time COUNTER("time in calls") UNIT(ns);
	struct tally_histogram latency HISTOGRAM("time of one call") UNIT(ns);
};

TABLE(by_process, struct who, struct calls, 8192, "system calls");

/*
 * What is kept from the first event to the second, for each task: when it was,
 * and the row to add the time to. UNDER_WAY() makes readings include the time
 * of what has not ended.
 */
struct entry {
	__u64 since;
	struct who key;
};
TASK_STATE(entered, struct entry) UNDER_WAY(by_process, time);

/*
 * The program of the second event comes first, as ktally attaches programs in
 * the order of the file: each start that is counted has its end counted too.
 */
SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit, struct pt_regs *regs, long ret)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct entry *entry = bpf_task_storage_get(&entered, task, NULL, 0);
	struct calls *calls;
	__u64 time;

	if (!tally_elapsed(entry, &time))
		return 0;
	calls = tally_entry(by_process, &entry->key);
	__sync_fetch_and_add(&calls->calls, 1);
	__sync_fetch_and_add(&calls->time, time);
	tally_observe(&calls->latency, time);
	tally_end(entry);
	return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(sys_enter, struct pt_regs *regs, long id)
{
	struct who key = {};
	struct entry *entry;

	/* exit() never returns. */
	if (ends_task(syscall_number(regs)) || !wanted_task())
		return 0;
	bpf_get_current_comm(key.comm, sizeof(key.comm));
	entry = tally_state(entered, bpf_get_current_task_btf(), by_process);
	if (entry)
		tally_begin(entry, &key);
	return 0;
}
