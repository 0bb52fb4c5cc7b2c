// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: sleeps from one sched_switch to another, so with the wait on the run
 * queue after the wakeup.
 * Not seen: preempted tasks, and sleeps that began before counting.
 * Cost: about 0.5 us a switch.
 */
#include "ktally.bpf.h"

TALLY("time that tasks are blocked, by what kind of sleep");

TASK_FILTERS;
CPU_FILTER;

struct sleeper {
	char comm[TASK_COMM_LEN] AS(comm);
	__u32 state AS(state);
};

struct sleeps {
	__u64 blocked COUNTER("times a task began to wait");
	__u64 time COUNTER("time until it ran again") UNIT(ns);
	struct tally_histogram latency HISTOGRAM("time off the CPU") UNIT(ns);
};

TABLE(offcpu, struct sleeper, struct sleeps, 8192, "sleeps");

/* How a task fell asleep. */
struct asleep {
	__u64 since;
	struct sleeper as;
};

TASK_STATE(sleeping, struct asleep);

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
	task_comm(key.comm, task);
	sleeps = tally_entry(offcpu, &key);
	if (!sleeps)
		return;
	__sync_fetch_and_add(&sleeps->blocked, 1);

	asleep = tally_state(sleeping, task, offcpu);
	if (!asleep)
		return;
	asleep->as = key;
	asleep->since = bpf_ktime_get_ns();
}

static __always_inline void wake_up(struct task_struct *task)
{
	struct asleep *asleep = bpf_task_storage_get(&sleeping, task, NULL, 0);
	struct sleeps *sleeps;
	struct sleeper key;
	__u64 time;

	if (!asleep || !tally_elapsed(&asleep->since, &time))
		return;
	key = asleep->as;
	/* The row is there since it fell asleep. */
	sleeps = bpf_map_lookup_elem(&offcpu, &key);
	if (!sleeps)
		return;
	__sync_fetch_and_add(&sleeps->time, time);
	tally_observe(&sleeps->latency, time);
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
