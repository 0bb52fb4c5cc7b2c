// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: time at sched_switch, when a task leaves its CPU, and at task_rename.
 * Interrupts and the time that a hypervisor takes are part of it; sched_yield
 * is an involuntary switch.
 * Not seen: the idle task, and time since the last switch.
 * Cost: about 0.4 us a switch.
 */
#include "ktally.bpf.h"

TALLY("time that tasks spend on a CPU, and how they leave it");

TASK_FILTERS;
CPU_FILTER;
OPTION(bool, by_pid, false, "one row per process, not only per name");
OPTION(bool, by_cgroup, false, "one row per cgroup as well");

struct runner {
	char comm[TASK_COMM_LEN] AS(comm);
	pid_t pid AS(pid) WITH(by_pid);
	__u64 cgroup AS(cgroup) WITH(by_cgroup);
};

struct runs {
	__u64 time COUNTER("time on a CPU, up to the last switch") UNIT(ns);
	__u64 voluntary COUNTER("switches because the task had to wait");
	__u64 involuntary COUNTER("switches because its turn was over");
};

TABLE(cputime, struct runner, struct runs, 8192, "time on a CPU");

CPU_STATE(running, struct tally_slice);

/* The row of the task that runs here, with its time since it got there. */
static __always_inline struct runs *charge(struct tally_slice *slice,
					   struct task_struct *task)
{
	__u64 time = tally_slice_end(slice);
	struct runner key = {};
	struct runs *runs;

	/* Process 0 is the CPU's own, for when there is nothing to run. */
	if (!task->pid || !wanted_cpu() || !wanted(task))
		return NULL;
	task_comm(key.comm, task);
	if (by_pid)
		key.pid = tally_pid(task);
	if (by_cgroup)
		key.cgroup = task_cgroup(task);

	runs = tally_entry(cputime, &key);
	if (runs)
		__sync_fetch_and_add(&runs->time, time);
	return runs;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, bool preempt, struct task_struct *prev,
	     struct task_struct *next)
{
	struct tally_slice *slice = tally_cpu_state(running);
	struct runs *runs;

	if (!slice)
		return 0;
	tally_switched(&slice->task, prev, next);
	runs = charge(slice, prev);
	if (!runs)
		return 0;
	if (preempt || task_state(prev) == TASK_RUNNING)
		__sync_fetch_and_add(&runs->involuntary, 1);
	else
		__sync_fetch_and_add(&runs->voluntary, 1);
	return 0;
}

/* By an exec or a prctl: it still has the old name, whose time ends here. */
SEC("tp_btf/task_rename")
int BPF_PROG(task_rename, struct task_struct *task)
{
	struct tally_slice *slice = tally_cpu_state(running);

	if (slice && task == bpf_get_current_task_btf())
		charge(slice, task);
	return 0;
}
