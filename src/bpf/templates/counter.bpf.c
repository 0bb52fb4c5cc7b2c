// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: each time that a task leaves a CPU, by its process.
 *
 * `ktally run FILE` counts; `ktally list FILE` shows what the file declares;
 * `ktally lint FILE` looks for what authors often forget.
 */
#include "ktally.bpf.h"

/* The line that `ktally list` shows, and the licence. Each file has one. */
TALLY("context switches, by process");

/* --pid, --comm, --uid and --cgroup; wanted_task() asks for them. */
TASK_FILTERS;

/* The table has one row per key. AS(comm) says how to show the member. */
struct who {
	char comm[TASK_COMM_LEN] AS(comm);
};

/* The value: one column for each member. */
struct counts {
	__u64 switches COUNTER("times that a task left a CPU");
};

/* The table, with room for 8192 rows. */
TABLE(by_process, struct who, struct counts, 8192, "context switches");

/*
 * What the program runs at: a tracepoint, whose arguments follow in the order
 * of the kernel.
 */
SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, bool preempt, struct task_struct *prev,
	     struct task_struct *next)
{
	/* Zero the key first: its padding is compared as well. */
	struct who who = {};
	struct counts *counts;

	if (!wanted_task())
		return 0;
	bpf_get_current_comm(who.comm, sizeof(who.comm));

	/* Finds the row or makes it; it is never NULL. */
	counts = tally_entry(by_process, &who);
	/* Atomic, as other CPUs add to the same row. */
	__sync_fetch_and_add(&counts->switches, 1);
	return 0;
}
