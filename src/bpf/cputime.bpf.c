// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: time from one sched_switch of a CPU to the next, divided where a task
 * gets another name (task_rename).
 * Interrupts and the time that a hypervisor takes are part of it; sched_yield
 * is an involuntary switch.
 * Not seen: the idle task.
 * Cost: about 0.2 us a switch.
 */
#include "ktally.bpf.h"

TALLY("time that tasks spend on a CPU, and how they leave it",
      "pidstat cpudist");

TASK_FILTERS;
CPU_FILTER;
WHO_OPTIONS;

struct runs {
	__u64 time COUNTER("time on a CPU") UNIT(ns);
	__u64 voluntary COUNTER("switches because the task had to wait");
	__u64 involuntary COUNTER("switches because its turn was over");
};

TABLE(cputime, struct tally_who, struct runs, 8192, "time on a CPU")
OVERVIEW(10, "CPU", time);

/* The task that runs on a CPU. */
struct slice {
	__u64 since; /* 0 where it was not wanted then */
	struct tally_who key;
	__u64 start; /* the same, wanted or not */
	__u32 task;  /* for tally_switched() */
};

CPU_STATE(running, struct slice) UNDER_WAY(cputime, time);

/* Process 0 is the CPU's own, for when there is nothing to run. */
static __always_inline bool may_count(struct task_struct *task)
{
	return task->pid && wanted_cpu();
}

/*
 * The row of the task that runs here, with its time since it got there. That of
 * the next one begins at the same instant.
 */
static __always_inline struct runs *charge(struct slice *slice,
					   struct task_struct *task)
{
	struct tally_who key = {};
	__u64 time, start = slice->start;
	struct runs *runs;

	if (tally_elapsed(slice, &time)) {
		slice->start += time;
		key = slice->key;
	} else {
		slice->start = bpf_ktime_get_ns();
		/* It was not wanted then, or ran when counting began. */
		if (!may_count(task) || !wanted(task))
			return NULL;
		task_who(&key, task);
		time = start ? slice->start - start : 0;
	}
	runs = tally_entry(cputime, &key);
	__sync_fetch_and_add(&runs->time, time);
	tally_end(slice);
	return runs;
}

static __always_inline void begin(struct slice *slice, struct task_struct *task,
				  const char *name, bool is_wanted)
{
	struct tally_who key = {};

	if (!is_wanted)
		return;
	task_who_as(&key, task, name);
	tally_begin_at(slice, &key, slice->start);
}

SEC("raw_tp")
AT_START
int running_now(void *ctx)
{
	struct task_struct *task = current_task();
	struct slice *slice = tally_cpu_state(running);

	if (!task || !slice || slice->start)
		return 0;
	slice->start = bpf_ktime_get_ns();
	begin(slice, task, NULL, may_count(task) && wanted(task));
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, bool preempt, struct task_struct *prev,
	     struct task_struct *next)
{
	struct slice *slice = tally_cpu_state(running);
	struct runs *runs;

	if (!slice)
		return 0;
	tally_switched(&slice->task, prev, next);
	runs = charge(slice, prev);
	if (runs && (preempt || task_state(prev) == TASK_RUNNING))
		__sync_fetch_and_add(&runs->involuntary, 1);
	else if (runs)
		__sync_fetch_and_add(&runs->voluntary, 1);
	begin(slice, next, NULL, may_count(next) && wanted(next));
	return 0;
}

/* By an exec or a prctl: the time of the old name ends here. */
SEC("tp_btf/task_rename")
int BPF_PROG(task_rename, struct task_struct *task, const char *name)
{
	struct slice *slice = tally_cpu_state(running);

	if (!slice || !is_current(task))
		return 0;
	charge(slice, task);
	begin(slice, task, name, may_count(task) && wanted_as(task, name));
	return 0;
}
