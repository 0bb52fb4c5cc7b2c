// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: the sizes that read(2) and write(2) ask for and get, by process.
 * Not seen: readv, pread and the like.
 */
#include "ktally.bpf.h"

TALLY("sizes of read and write, by process and call");

TASK_FILTERS;

#if defined(__TARGET_ARCH_x86)
#define NR_read 0
#define NR_write 1
#else
#define NR_read 63
#define NR_write 64
#endif

struct call {
	char comm[TASK_COMM_LEN] AS(comm);
	__u32 call AS(syscall);
};

struct sizes {
	struct tally_histogram asked HISTOGRAM("bytes asked for") UNIT(bytes);
	struct tally_histogram got HISTOGRAM("bytes that came") UNIT(bytes);
};

TABLE(reads, struct call, struct sizes, 8192, "reads and writes");

static __always_inline struct sizes *sizes_of(struct pt_regs *regs)
{
	struct call key = {.call = syscall_number(regs)};

	if ((key.call != NR_read && key.call != NR_write) || !wanted_task())
		return NULL;
	bpf_get_current_comm(key.comm, sizeof(key.comm));
	return tally_entry(reads, &key);
}

SEC("tp_btf/sys_enter")
int BPF_PROG(sys_enter, struct pt_regs *regs, long id)
{
	struct sizes *sizes = sizes_of(regs);

	if (sizes)
		tally_observe(&sizes->asked, syscall_arg(regs, 2));
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit, struct pt_regs *regs, long ret)
{
	struct sizes *sizes = ret >= 0 ? sizes_of(regs) : NULL;

	if (sizes)
		tally_observe(&sizes->got, ret);
	return 0;
}
