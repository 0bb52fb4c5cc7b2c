// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: exceptions at page_fault_user and page_fault_kernel, which only x86
 * has, with or without I/O, valid or not.
 * Not seen: pages that the kernel maps without an exception (MAP_POPULATE,
 * get_user_pages), and which faults are major. The kernel knows that when an
 * exception ends, where it has no event; a task's own counters include
 * get_user_pages.
 * Cost: 0.2 to 0.3 us a fault.
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
