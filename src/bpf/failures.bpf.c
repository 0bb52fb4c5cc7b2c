// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: sys_exit with an error. It comes before the kernel handles signals,
 * so a call that a signal interrupts counts as ERESTARTSYS.
 * Not seen: errors of the vDSO and of io_uring requests.
 * Cost: about 0.1 us for every system call of the host.
 */
#include "ktally.bpf.h"

TALLY("system calls that fail, by process, call and error", "syscount");

TASK_FILTERS;
CPU_FILTER;
WHO_OPTIONS;

struct failure {
	struct tally_who;
	__u32 call AS(syscall);
	__u32 error AS(errno);
};

struct seen {
	__u64 calls COUNTER("system calls that returned an error");
};

TABLE(failures, struct failure, struct seen, 8192, "failed system calls")
OVERVIEW(30, "failed calls", calls) DEAR;

SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit, struct pt_regs *regs, long ret)
{
	struct failure key = {};
	struct seen *seen;

	if (!syscall_failed(regs, ret) || !wanted_cpu() || !wanted_task())
		return 0;
	key.call = syscall_number(regs);
	key.error = -ret;
	current_who(&key);

	seen = tally_entry(failures, &key);
	__sync_fetch_and_add(&seen->calls, 1);
	return 0;
}
