// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: sleeps from one sched_switch to another, so with the wait on the run
 * queue after the wakeup.
 * A sleep that began before counting has the time since, and is not one of
 * those blocked; with --stacks it is left out. Not seen: preempted tasks.
 * Cost: about 0.5 us a switch, and several us with --stacks.
 */
#include "ktally.bpf.h"
#include "stacks.h"

TALLY("time that tasks are blocked, by what kind of sleep",
      "offcputime offwaketime");

TASK_FILTERS;
CPU_FILTER;
WHO_OPTIONS;
OPTION(bool, stacks, false, "one row per stack that waits");

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

TABLE(offcpu, struct sleeper, struct sleeps, 8192, "sleeps")
SORT_BY(time) WITHOUT(stacks);

struct sleeper_at {
	struct sleeper;
	struct tally_ustack user AS(ustack);
	struct tally_kstack kernel AS(kstack);
};

struct sleeps_at {
	__u64 time COUNTER("time off the CPU") UNIT(ns);
	__u64 blocked COUNTER("times a task began to wait");
};

TABLE(offcpu_stacks, struct sleeper_at, struct sleeps_at, 8192,
      "waiting stacks")
SORT_BY(time) WITH(stacks);

struct asleep {
	__u64 since;
	struct sleeper key;
	bool is_partial; /* it began before counting did */
};

TASK_STATE(sleeping, struct asleep) UNDER_WAY(offcpu, time) WITHOUT(stacks);

struct asleep_at {
	__u64 since;
	struct sleeper_at key;
};

TASK_STATE(sleeping_at, struct asleep_at)
UNDER_WAY(offcpu_stacks, time) WITH(stacks);

/* The task that a CPU runs. */
CPU_STATE(running, __u32);

static __always_inline void fall_asleep_at(void *ctx, struct sleeper *who)
{
	struct sleeps_at *sleeps = &offcpu_stacks_other;
	struct asleep_at *asleep = tally_state(
		sleeping_at, bpf_get_current_task_btf(), offcpu_stacks);
	struct sleeper_at *key;

	if (asleep) {
		key = tally_prepare(asleep);
		__builtin_memcpy(key, who, sizeof(*who));
		tally_user_stack(ctx, &key->user);
		tally_waiting_stack(ctx, &key->kernel);
		sleeps = tally_entry(offcpu_stacks, key);
		tally_begin_prepared(asleep);
	}
	__sync_fetch_and_add(&sleeps->blocked, 1);
}

static __always_inline void fall_asleep(void *ctx, struct task_struct *task,
					__u32 state)
{
	struct sleeper key = {};
	struct sleeps *sleeps;
	struct asleep *asleep;

	if (!wanted_cpu() || !wanted(task))
		return;
	key.state = state & TASK_STATES;
	task_who(&key, task);
	if (stacks) {
		fall_asleep_at(ctx, &key);
		return;
	}
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

	if (!task || stacks || cpu_given || !wanted(task))
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

static __always_inline void wake_up_at(struct task_struct *task)
{
	struct asleep_at *asleep =
		bpf_task_storage_get(&sleeping_at, task, NULL, 0);
	struct sleeps_at *sleeps;
	__u64 time;

	if (!tally_elapsed(asleep, &time))
		return;
	sleeps = tally_entry(offcpu_stacks, &asleep->key);
	__sync_fetch_and_add(&sleeps->time, time);
	tally_end(asleep);
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
		fall_asleep(ctx, prev, state);
	if (stacks)
		wake_up_at(next);
	else
		wake_up(next);
	return 0;
}
