// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: tasks that move to another CPU, by the CPU that they go to.
 */
#include "ktally.bpf.h"

TALLY("tasks that move between CPUs, by where they go");

struct moves {
	__u64 moves COUNTER("tasks that moved here");
};

/* A key that is a small number: an array is the cheapest table. */
ARRAY_TABLE(migrations, struct moves, 1024, "moves to a CPU") AS(cpu);

SEC("tp_btf/sched_migrate_task")
int BPF_PROG(sched_migrate_task, struct task_struct *task, int to)
{
	__u32 cpu = to;
	struct moves *moves = tally_entry(migrations, &cpu);

	__sync_fetch_and_add(&moves->moves, 1);
	return 0;
}
