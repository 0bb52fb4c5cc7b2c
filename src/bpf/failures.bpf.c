// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: sys_exit with an error. It comes before the kernel handles signals,
 * so a call that a signal interrupts counts as ERESTARTSYS.
 * Not seen: errors of the vDSO and of io_uring requests.
 * Cost: about 0.1 us for every system call of the host.
 */
#include "ktally.bpf.h"

TALLY("system calls that fail, by process and error");

TASK_FILTERS;
CPU_FILTER;

struct failure {
	char comm[TASK_COMM_LEN] AS(comm);
	__u32 error AS(errno);
};

struct seen {
	__u64 calls COUNTER("system calls that returned an error");
};

TABLE(failures, struct failure, struct seen, 8192, "failed system calls");

SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit, struct pt_regs *regs, long ret)
{
	struct failure key = {};
	struct seen *seen;

	if (!syscall_failed(regs, ret) || !wanted_cpu() || !wanted_task())
		return 0;
	key.error = -ret;
	bpf_get_current_comm(key.comm, sizeof(key.comm));

	seen = tally_entry(failures, &key);
	__sync_fetch_and_add(&seen->calls, 1);
	return 0;
}
