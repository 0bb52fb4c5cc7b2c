// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: sleeps from one sched_switch to another, so with the wait on the run
 * queue after the wakeup.
 * A sleep that began before counting has the time since, and is not one of
 * those blocked. Not seen: preempted tasks. Cost: about 0.5 us a switch.
 */
#include "ktally.bpf.h"

TALLY("time that tasks are blocked, by what kind of sleep");

TASK_FILTERS;
CPU_FILTER;
WHO_OPTIONS;

struct sleeper {
	struct tally_who;
	__u32 state AS(state) IDLE(interruptible, idle);
	__u32 padding HIDDEN;
};

struct sleeps {
	__u64 blocked COUNTER("times a task began to wait");
	__u64 time COUNTER("time off the CPU") UNIT(ns);
	struct tally_histogram latency HISTOGRAM("time off the CPU") UNIT(ns);
	__u64 max MAXIMUM("the longest time off the CPU") UNIT(ns);
};

TABLE(offcpu, struct sleeper, struct sleeps, 8192, "sleeps") SORT_BY(time);

struct asleep {
	__u64 since;
	struct sleeper key;
	bool is_partial; /* it began before counting did */
};

TASK_STATE(sleeping, struct asleep) UNDER_WAY(offcpu, time);

/* The task that a CPU runs. */
CPU_STATE(running, __u32);

static __always_inline void fall_asleep(struct task_struct *task, __u32 state)
{
	struct sleeper key = {};
	struct sleeps *sleeps;
	struct asleep *asleep;

	if (!wanted_cpu() || !wanted(task))
		return;
	key.state = state & TASK_STATES;
	task_who(&key, task);
	sleeps = tally_entry(offcpu, &key);
	__sync_fetch_and_add(&sleeps->blocked, 1);

	asleep = tally_state(sleeping, task, offcpu);
	if (!asleep)
		return;
	asleep->is_partial = false;
	tally_begin(asleep, &key);
}

SEC("iter/task")
AT_START
int asleep_now(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct sleeper key = {};
	struct asleep *asleep;
	long state;

	if (!task || cpu_given || !wanted(task))
		return 0;
	state = task_state(task);
	/* Nor one that is new or is being woken. */
	if (!(state & TASK_STATES) || state & TASK_DEAD)
		return 0;
	key.state = state & TASK_STATES;
	task_who(&key, task);
	asleep = tally_state(sleeping, task, offcpu);
	if (!asleep || !tally_seed(asleep, &key))
		return 0;
	asleep->is_partial = true;
	/* It woke up before its start was noted. */
	if (task_state(task) == TASK_RUNNING)
		tally_end(asleep);
	return 0;
}

static __always_inline void wake_up(struct task_struct *task)
{
	struct asleep *asleep = bpf_task_storage_get(&sleeping, task, NULL, 0);
	struct sleeps *sleeps;
	__u64 time;

	if (!tally_elapsed(asleep, &time))
		return;
	sleeps = tally_entry(offcpu, &asleep->key);
	__sync_fetch_and_add(&sleeps->time, time);
	if (!asleep->is_partial) {
		tally_observe(&sleeps->latency, time);
		tally_maximum(&sleeps->max, time);
	}
	tally_end(asleep);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, bool preempt, struct task_struct *prev,
	     struct task_struct *next)
{
	__u32 state = task_state(prev);

	tally_switched(tally_cpu_state(running), prev, next);
	/*
	 * What wakes the task may already have changed its state. The event has
	 * it since 5.18: fa2c3254d7cf ("sched/tracing: Don't re-read p->state
	 * when emitting sched_switch event"), as the last argument since
	 * 9c2136be0878 ("sched/tracing: Append prev_state to tp args instead").
	 */
	if (tracepoint_takes(sched_switch, with_state, bool,
			     struct task_struct *, struct task_struct *,
			     unsigned int))
		state = ctx[3];
	/* The dead do not wake up. */
	if (!preempt && state != TASK_RUNNING && !(state & TASK_DEAD))
		fall_asleep(prev, state);
	wake_up(next);
	return 0;
}
