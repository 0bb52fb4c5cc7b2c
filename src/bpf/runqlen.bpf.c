// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: ticks of the perf event cpu-clock, which look at the queue of their
 * CPU.
 * Not seen: what queues between ticks, and the queue of a CPU whose interrupts
 * are off.
 * Cost: about 1 us a sample, which at 99 Hz is 0.01 % of a CPU.
 */
#include "ktally.bpf.h"

TALLY("tasks that wait for a CPU, by CPU: samples of its queue",
      "vmstat uptime");

CPU_FILTER;
OPTION(__u32, hz, 99, "samples a second and CPU");

struct queue {
	__u32 cpu AS(cpu);
};

struct lengths {
	LINEAR_HISTOGRAM("tasks that were ready and did not run", 1) waiting;
	__u64 max MAXIMUM("the most of them");
};

TABLE(runqlen, struct queue, struct lengths, 1024, "samples of run queues");

SEC("perf_event")
ATTACH("cpu-clock@$hz")
int clock(void *ctx)
{
	struct queue key = {.cpu = bpf_get_smp_processor_id()};
	struct task_struct *task = (void *)bpf_get_current_task();
	struct lengths *lengths;
	__u64 waiting;

	if (!wanted_cpu())
		return 0;
	/* The one that runs is in the queue as well; an idle CPU has none. */
	waiting = BPF_CORE_READ(task, se.cfs_rq, rq, nr_running);
	if (waiting)
		waiting--;

	lengths = tally_entry(runqlen, &key);
	tally_observe_linear(&lengths->waiting, waiting);
	tally_maximum(&lengths->max, waiting);
	return 0;
}
