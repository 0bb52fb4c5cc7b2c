// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: waits from sched_wakeup, or a switch from a task that can run, to the
 * switch to it; also while its cgroup has no CPU quota left.
 * Not seen: how long a wakeup takes to reach another CPU (from sched_waking).
 * Cost: about 0.25 us a wakeup, the same a switch.
 */
#include "ktally.bpf.h"

TALLY("time that tasks wait for a CPU, ready to run", "runqslower");

TASK_FILTERS;
CPU_FILTER;
COMM_OPTION;
WHO_OPTIONS;

struct waits {
	struct tally_histogram latency HISTOGRAM("time on the run queue")
		UNIT(ns);
	__u64 max MAXIMUM("the longest wait") UNIT(ns);
};

TABLE(runqlat, struct tally_who, struct waits, 8192, "waits for a CPU")
OVERVIEW(20, "run queue", latency.p99);

/* When a task became ready to run. */
struct wait {
	__u64 since;
	struct tally_who key;
};

TASK_STATE(ready, struct wait) UNDER_WAY(runqlat, latency);

/* The task that a CPU runs. */
CPU_STATE(running, __u32);

static __always_inline int enqueued(struct task_struct *task)
{
	struct tally_who key = {};
	struct wait *wait;

	if (!task->pid)
		return 0;
	if (!wanted(task)) {
		/* It was wanted when it was woken, and had not left its CPU. */
		wait = bpf_task_storage_get(&ready, task, NULL, 0);
		tally_end(wait);
		return 0;
	}
	task_who(&key, task);
	wait = tally_state(ready, task, runqlat);
	if (wait)
		tally_begin(wait, &key);
	return 0;
}

/* Attached first: what has begun has its end in sight. */
SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, bool preempt, struct task_struct *prev,
	     struct task_struct *next)
{
	struct wait *wait;
	struct waits *waits;
	__u64 time;

	tally_switched(tally_cpu_state(running), prev, next);
	/* A task that leaves its CPU but can run waits for another turn. */
	if (preempt || task_state(prev) == TASK_RUNNING)
		enqueued(prev);

	wait = bpf_task_storage_get(&ready, next, NULL, 0);
	if (!tally_elapsed(wait, &time))
		return 0;
	if (wanted_cpu()) {
		waits = tally_entry(runqlat, &wait->key);
		tally_observe(&waits->latency, time);
		tally_maximum(&waits->max, time);
	}
	tally_end(wait);
	return 0;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(sched_wakeup, struct task_struct *task)
{
	return enqueued(task);
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(sched_wakeup_new, struct task_struct *task)
{
	return enqueued(task);
}
