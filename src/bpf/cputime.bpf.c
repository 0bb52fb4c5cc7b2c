// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: time at sched_switch, when a task leaves its CPU. Interrupts and the
 * time that a hypervisor takes are part of it; sched_yield is an involuntary
 * switch.
 * Not seen: the idle task.
 * Cost: about 0.4 us a switch.
 */
#include "ktally.bpf.h"

TALLY("time that tasks spend on a CPU, and how they leave it");

TASK_FILTERS;
CPU_FILTER;
OPTION(bool, by_pid, false, "a row a process, not only a name");
OPTION(bool, by_cgroup, false, "a row a cgroup as well");

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

/* When this CPU last switched from one task to another. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} switched SEC(".maps");

SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, bool preempt, struct task_struct *prev)
{
	struct runner key = {};
	struct runs *runs;
	__u32 zero = 0;
	__u64 now = bpf_ktime_get_ns(), *since, time;

	since = bpf_map_lookup_elem(&switched, &zero);
	if (!since)
		return 0;
	/* Who was running when counting began has no start. */
	time = *since ? now - *since : 0;
	*since = now;

	/* Process 0 is the CPU's own, for when there is nothing to run. */
	if (!prev->pid || !wanted_cpu() || !wanted(prev))
		return 0;
	task_comm(key.comm, prev);
	if (by_pid)
		key.pid = prev->tgid;
	if (by_cgroup)
		key.cgroup = task_cgroup(prev);

	runs = tally_entry(cputime, &key);
	if (!runs)
		return 0;
	__sync_fetch_and_add(&runs->time, time);
	if (preempt || task_state(prev) == TASK_RUNNING)
		__sync_fetch_and_add(&runs->involuntary, 1);
	else
		__sync_fetch_and_add(&runs->voluntary, 1);
	return 0;
}
