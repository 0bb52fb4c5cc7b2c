// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: exceptions at page_fault_user and page_fault_kernel, which only x86
 * has, with or without I/O, valid or not; and in a table of their own those
 * that the kernel resolves, by perf's events minor-faults and major-faults. It
 * knows which they are at the end of the exception, so these have no access.
 * Not seen: pages that the kernel maps without an exception (MAP_POPULATE,
 * get_user_pages), and minor and major faults during a call of bpf(2), in which
 * the kernel skips programs of perf.
 * Cost: about 0.5 us a fault, half of it for the second table.
 */
#include "ktally.bpf.h"

TALLY("page faults, by process and what it was doing");

TASK_FILTERS;
CPU_FILTER;
WHO_OPTIONS;

enum mode {
	user,
	kernel,
};

enum access {
	read,
	write,
	execute,
};

struct fault {
	struct tally_who;
	enum mode mode;
	enum access access;
};

struct seen {
	__u64 faults COUNTER("page faults");
};

TABLE(faults, struct fault, struct seen, 8192, "page faults")
OVERVIEW(40, "page faults", faults) DEAR;

struct resolver {
	struct tally_who;
};

struct resolved {
	__u64 minor COUNTER("page faults without I/O");
	__u64 major COUNTER("page faults that waited for I/O");
};

TABLE(resolved, struct resolver, struct resolved, 8192,
      "page faults that were resolved")
SORT_BY(major);

/* Bits of the error code, for this event is x86's: asm/trap_pf.h. */
#define FAULT_WRITE 2
#define FAULT_FETCH 16

static __always_inline int count(enum mode mode, unsigned long error)
{
	struct fault key = {.mode = mode, .access = read};
	struct seen *seen;

	if (!wanted_cpu() || !wanted_task())
		return 0;
	if (error & FAULT_FETCH)
		key.access = execute;
	else if (error & FAULT_WRITE)
		key.access = write;
	current_who(&key);

	seen = tally_entry(faults, &key);
	__sync_fetch_and_add(&seen->faults, 1);
	return 0;
}

SEC("tp_btf/page_fault_user")
int BPF_PROG(page_fault_user, unsigned long address, struct pt_regs *regs,
	     unsigned long error)
{
	return count(user, error);
}

/* In the kernel's code, for the most part at a process's addresses. */
SEC("tp_btf/page_fault_kernel")
int BPF_PROG(page_fault_kernel, unsigned long address, struct pt_regs *regs,
	     unsigned long error)
{
	return count(kernel, error);
}

static __always_inline struct resolved *resolved_entry(void)
{
	struct resolver key = {};

	if (!wanted_cpu() || !wanted_task())
		return NULL;
	current_who(&key);
	return tally_entry(resolved, &key);
}

SEC("perf_event")
ATTACH("software:5") /* PERF_COUNT_SW_PAGE_FAULTS_MIN */
int minor_fault(void *ctx)
{
	struct resolved *resolved = resolved_entry();

	if (resolved)
		__sync_fetch_and_add(&resolved->minor, 1);
	return 0;
}

SEC("perf_event")
ATTACH("software:6") /* PERF_COUNT_SW_PAGE_FAULTS_MAJ */
int major_fault(void *ctx)
{
	struct resolved *resolved = resolved_entry();

	if (resolved)
		__sync_fetch_and_add(&resolved->major, 1);
	return 0;
}
