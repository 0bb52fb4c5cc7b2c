// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: who wakes whom. A task that an interrupt wakes has the task that was
 * interrupted as its waker.
 */
#include "ktally.bpf.h"

TALLY("wake-ups, by waker and by who is woken");

TASK_FILTERS;

struct pair {
	char waker[TASK_COMM_LEN] AS(comm);
	char woken[TASK_COMM_LEN] AS(comm);
};

struct counts {
	__u64 wakeups COUNTER("times that it was woken");
};

TABLE(wakeups, struct pair, struct counts, 16384, "wake-ups");

SEC("tp_btf/sched_wakeup")
int BPF_PROG(sched_wakeup, struct task_struct *task)
{
	struct pair pair = {};
	struct counts *counts;

	if (!wanted_task())
		return 0;
	bpf_get_current_comm(pair.waker, sizeof(pair.waker));
	task_comm(pair.woken, task);
	counts = tally_entry(wakeups, &pair);
	__sync_fetch_and_add(&counts->wakeups, 1);
	return 0;
}
