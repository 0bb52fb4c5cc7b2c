// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: the results of system calls that return a number, such as the bytes
 * of a read, as a histogram by process.
 */
#include "ktally.bpf.h"

TALLY("what system calls return, by process and call");

TASK_FILTERS;

struct call {
	char comm[TASK_COMM_LEN] AS(comm);
	__u32 call AS(syscall);
	/* The kernel compares padding too; both sizes are multiples of 4. */
};

/* A histogram has its count, mean and quantiles; UNIT() scales them. */
struct results {
	struct tally_histogram result HISTOGRAM("what a call returned");
};

TABLE(by_call, struct call, struct results, 8192, "results of calls");

SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit, struct pt_regs *regs, long ret)
{
	struct call key = {};
	struct results *results;

	if (ret <= 0 || !wanted_task())
		return 0;
	key.call = syscall_number(regs);
	bpf_get_current_comm(key.comm, sizeof(key.comm));

	results = tally_entry(by_call, &key);
	/* Bucket i holds what is more than 2^(i-1), and at most 2^i. */
	tally_observe(&results->result, ret);
	return 0;
}
