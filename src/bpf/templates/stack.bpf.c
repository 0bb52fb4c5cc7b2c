// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: kernel stacks at which tasks leave a CPU, by process. Try
 * `ktally run FILE --for 5s -o svg >flame.svg`.
 */
#include "ktally.bpf.h"
#include "stacks.h"

TALLY("where tasks leave their CPU: kernel stacks, by process");

TASK_FILTERS;

struct where {
	char comm[TASK_COMM_LEN] AS(comm);
	struct tally_kstack kernel AS(kstack);
};

struct counts {
	__u64 switches COUNTER("times that a task left a CPU here");
};

TABLE(stacks, struct where, struct counts, 8192, "stacks");

/* The key that is being built: too large for the BPF stack of 512 bytes. */
CPU_STATE(scratch, struct where);

SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, bool preempt, struct task_struct *prev,
	     struct task_struct *next)
{
	struct where *key = tally_cpu_state(scratch);
	struct counts *counts;

	if (!key || !wanted_task())
		return 0;
	bpf_get_current_comm(key->comm, sizeof(key->comm));
	tally_kernel_stack(ctx, &key->kernel);
	counts = tally_entry(stacks, key);
	__sync_fetch_and_add(&counts->switches, 1);
	return 0;
}
