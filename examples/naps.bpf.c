// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: how long clock_nanosleep(2) really sleeps, by process.
 */
#include "ktally.bpf.h"

TALLY("sleeps of clock_nanosleep, by process");

TASK_FILTERS;

#if defined(__TARGET_ARCH_x86)
#define NR_clock_nanosleep 230
#else
#define NR_clock_nanosleep 115
#endif

struct who {
	char comm[TASK_COMM_LEN] AS(comm);
};

struct sleeps {
	__u64 sleeps COUNTER("sleeps that ended");
	__u64 time COUNTER("time asleep") UNIT(ns);
	struct tally_histogram length HISTOGRAM("time of a sleep") UNIT(ns);
};

TABLE(naps, struct who, struct sleeps, 8192, "sleeps");

struct asleep {
	__u64 since;
	struct who key;
};
TASK_STATE(asleep, struct asleep) UNDER_WAY(naps, time);

SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit, struct pt_regs *regs, long ret)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct asleep *state = bpf_task_storage_get(&asleep, task, NULL, 0);
	struct sleeps *sleeps;
	__u64 time;

	if (!tally_elapsed(state, &time))
		return 0;
	sleeps = tally_entry(naps, &state->key);
	__sync_fetch_and_add(&sleeps->sleeps, 1);
	__sync_fetch_and_add(&sleeps->time, time);
	tally_observe(&sleeps->length, time);
	tally_end(state);
	return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(sys_enter, struct pt_regs *regs, long id)
{
	struct asleep *state;
	struct who key = {};

	if (syscall_number(regs) != NR_clock_nanosleep || !wanted_task())
		return 0;
	bpf_get_current_comm(key.comm, sizeof(key.comm));
	state = tally_state(asleep, bpf_get_current_task_btf(), naps);
	if (state)
		tally_begin(state, &key);
	return 0;
}
