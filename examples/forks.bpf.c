// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: processes and threads that are made, by who makes them.
 */
#include "ktally.bpf.h"

TALLY("new processes and threads, by their maker");

TASK_FILTERS;

struct maker {
	char comm[TASK_COMM_LEN] AS(comm);
};

struct made {
	__u64 processes COUNTER("processes that it made");
	__u64 threads COUNTER("threads that it made");
};

TABLE(forks, struct maker, struct made, 8192, "new processes and threads");

SEC("tp_btf/sched_process_fork")
int BPF_PROG(sched_process_fork, struct task_struct *parent,
	     struct task_struct *child)
{
	struct maker maker = {};
	struct made *made;

	if (!wanted_task())
		return 0;
	bpf_get_current_comm(maker.comm, sizeof(maker.comm));
	made = tally_entry(forks, &maker);
	if (child->pid == child->tgid)
		__sync_fetch_and_add(&made->processes, 1);
	else
		__sync_fetch_and_add(&made->threads, 1);
	return 0;
}
