// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: runs from workqueue_execute_start to workqueue_execute_end, with the
 * sleeps in between.
 * Not seen: how long work was queued, kthread workers, and io_uring's threads.
 * Cost: about 1.5 us a run.
 */
#include "ktally.bpf.h"

TALLY("work that the kernel puts off to its worker threads, by function",
      "wqlat");

CPU_FILTER;

struct work {
	__u64 function AS(ksym);
};

struct runs {
	__u64 runs COUNTER("times the function ran");
	__u64 time COUNTER("time that it took") UNIT(ns);
	struct tally_histogram latency HISTOGRAM("time of one run") UNIT(ns);
	__u64 max MAXIMUM("the longest run") UNIT(ns);
};

TABLE(workqueue, struct work, struct runs, 8192, "work items") SORT_BY(time);

/* When a worker began its work. */
struct run {
	__u64 since;
	struct work key;
};

TASK_STATE(began, struct run) UNDER_WAY(workqueue, time);

/*
 * By now the work itself may be freed, but its function is told; pointers to
 * functions are out of bounds for tp_btf programs. Attached first: what has
 * begun has its end in sight.
 */
SEC("raw_tp/workqueue_execute_end")
int BPF_PROG(execute_end, struct work_struct *work, work_func_t function)
{
	struct work key = {.function = (unsigned long)function};
	struct runs *runs;
	struct run *run;
	__u64 time;
	bool timed;

	run = bpf_task_storage_get(&began, bpf_get_current_task_btf(), NULL, 0);
	timed = tally_elapsed(run, &time);
	if (!wanted_cpu())
		goto out;
	runs = tally_entry(workqueue, &key);
	__sync_fetch_and_add(&runs->runs, 1);
	if (timed) {
		__sync_fetch_and_add(&runs->time, time);
		tally_observe(&runs->latency, time);
		tally_maximum(&runs->max, time);
	}
out:
	tally_end(run);
	return 0;
}

SEC("tp_btf/workqueue_execute_start")
int BPF_PROG(execute_start, struct work_struct *work)
{
	struct work key = {.function = (unsigned long)work->func};
	struct run *run;

	if (!wanted_cpu())
		return 0;
	run = tally_state(began, bpf_get_current_task_btf(), workqueue);
	if (run)
		tally_begin(run, &key);
	return 0;
}
