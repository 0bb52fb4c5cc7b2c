/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What differs between kernels, each behind one name that serves all of them.
 * Each part cites the commit that made it necessary and the first release with
 * that commit: the part can go once no older kernel is supported.
 *
 * A member that some kernels lack belongs to a flavour of its struct, which is
 * called NAME___WORD: libbpf ignores the suffix, and no "vmlinux.h" has it.
 */
#ifndef KTALLY_COMPAT_H
#define KTALLY_COMPAT_H

#include "kernel.h"

/* ---- arguments of tracepoints -------------------------------------------- */

/*
 * Whether the running kernel hands these arguments to the tracepoint: its own
 * prototype is in its BTF as btf_trace_NAME, and libbpf compares the two. This
 * is how one program serves kernels whose tracepoints differ: the verifier
 * never looks at the branch that is not for its kernel. A program that asks
 * takes its arguments from the context itself, by index. VARIANT is any word,
 * another one for each prototype of a tracepoint that one file asks about. See
 * block_argument().
 */
#define tracepoint_takes(name, variant, ...)                                   \
	({                                                                     \
		typedef void (*btf_trace_##name##___##variant)(void *,         \
							       ##__VA_ARGS__); \
		bpf_core_type_exists(btf_trace_##name##___##variant);          \
	})

/*
 * An argument by its index. A plain ctx[index] in two branches would become
 * one load from a computed address, which the verifier refuses.
 */
#define tracepoint_argument(ctx, index)                   \
	({                                                \
		__u64 __argument;                         \
		asm volatile("%0 = *(u64 *)(%1 + %2)"     \
			     : "=r"(__argument)           \
			     : "r"(ctx), "i"((index)*8)); \
		(void *)__argument;                       \
	})

/*
 * The request or bio that an event of block devices is about. It came behind
 * its queue before 5.11: a54895fa057c ("block: remove the request_queue to
 * argument request based tracepoints"), and of bios e8a676d61c07 ("block:
 * simplify and extend the block_bio_merge tracepoint class").
 */
#define block_argument(ctx, name, type)                        \
	({                                                     \
		type *__about;                                 \
		if (tracepoint_takes(name, alone, type *))     \
			__about = tracepoint_argument(ctx, 0); \
		else                                           \
			__about = tracepoint_argument(ctx, 1); \
		__about;                                       \
	})

/* ---- tasks --------------------------------------------------------------- */

/*
 * A macro, as a "vmlinux.h" before 5.11 has no such enumerator: 4cf1bc1f1045
 * ("bpf: Implement task local storage").
 */
#define BPF_MAP_TYPE_TASK_STORAGE 29

/* Since 6.2: c4bcfb38a95e ("bpf: Implement cgroup storage ..."). */
#define BPF_MAP_TYPE_CGRP_STORAGE 32

/* Renamed in 5.14: 2f064a59a11f ("sched: Change task_struct::state"). */
struct task_struct___before_5_14 {
	long state;
} __attribute__((preserve_access_index));

struct task_struct___since_5_14 {
	unsigned int __state;
} __attribute__((preserve_access_index));

/* TASK_RUNNING, or why the task sleeps. */
static __always_inline long task_state(struct task_struct *task)
{
	struct task_struct___since_5_14 *since_5_14 = (void *)task;

	if (bpf_core_field_exists(since_5_14->__state))
		return since_5_14->__state;
	return BPF_CORE_READ((struct task_struct___before_5_14 *)task, state);
}

/* The values of flavours of an enum need names of their own, too. */
enum bpf_func_id___since_5_11 {
	BPF_FUNC_get_current_task_btf___since_5_11 = 158,
};

/*
 * The current task, as a pointer that takes no probes. NULL before 5.11, which
 * has no helper for it: 3ca1032ab7ab ("bpf: Implement get_current_task_btf and
 * RET_PTR_TO_BTF_ID").
 */
static __always_inline struct task_struct *current_task(void)
{
	if (!bpf_core_enum_value_exists(
		    enum bpf_func_id___since_5_11,
		    BPF_FUNC_get_current_task_btf___since_5_11))
		return NULL;
	return bpf_get_current_task_btf();
}

/* Whether this is the current task, on any kernel. */
static __always_inline bool is_current(struct task_struct *task)
{
	return (__u64)task == bpf_get_current_task();
}

/* ---- probed functions ---------------------------------------------------- */

/*
 * The helper exists since 5.15: 9ffd9f3ff719 ("bpf: Add bpf_get_func_ip helper
 * for kprobe programs").
 */
enum bpf_func_id___since_5_15 {
	BPF_FUNC_get_func_ip___since_5_15 = 173,
};

/* The kernel function that a kprobe stopped at the start of. */
static __always_inline __u64 probed_function(struct pt_regs *regs)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id___since_5_15,
				       BPF_FUNC_get_func_ip___since_5_15))
		return bpf_get_func_ip(regs);
#if defined(__TARGET_ARCH_x86)
	return regs->ip - 1; /* behind the breakpoint */
#else
	return regs->pc;
#endif
}

/* ---- block devices ------------------------------------------------------- */

/*
 * The disk moved from the request to its queue. The queue has it since 5.15:
 * d152c682f03c ("block: add an explicit ->disk backpointer to the
 * request_queue"). The request lost it in 5.17: f3fa33acca9f ("block: remove
 * the ->rq_disk field in struct request").
 */
struct request___before_5_17 {
	struct gendisk *rq_disk;
} __attribute__((preserve_access_index));

struct request_queue___since_5_15 {
	struct gendisk *disk;
} __attribute__((preserve_access_index));

/* The disk of a request, NULL for commands to other devices. */
static __always_inline struct gendisk *request_disk(struct request *request)
{
	struct request_queue___since_5_15 *queue = (void *)request->q;

	if (bpf_core_field_exists(queue->disk))
		return queue->disk;
	return ((struct request___before_5_17 *)request)->rq_disk;
}

/* ---- the page cache ------------------------------------------------------ */

/*
 * A run of pages, since 5.16: 7b230db3b8d3 ("mm: Introduce struct folio").
 * Before, events pass a struct page in its place.
 */
struct folio;

struct folio___since_5_16 {
	struct address_space *mapping;
	unsigned char _folio_order;
	unsigned long _flags_1;
} __attribute__((preserve_access_index));

struct page___before_6_1 {
	unsigned char compound_order;
} __attribute__((preserve_access_index));

/* NULL for pages that belong to no file. */
static __always_inline struct address_space *folio_mapping(struct folio *any)
{
	struct folio___since_5_16 *folio = (void *)any;

	if (bpf_core_type_exists(struct folio___since_5_16))
		return BPF_CORE_READ(folio, mapping);
	return BPF_CORE_READ((struct page *)any, mapping);
}

/*
 * How many pages a folio has: a power of two. Its order is in _folio_order
 * since 6.1: 379708ffde1b ("mm: add the first tail page to struct folio"), in
 * the low byte of _flags_1 since 6.6: ebc1baf5c9b4 ("mm: free up a word in the
 * first tail page"), and in the second struct page before both.
 */
static __always_inline __u64 folio_pages(struct folio *any)
{
	struct folio___since_5_16 *folio = (void *)any;
	struct page___before_6_1 *second;
	unsigned long flags = 0; /* the first member, of any type */

	bpf_probe_read_kernel(&flags, sizeof(flags), folio);
	if (!(flags >> bpf_core_enum_value(enum pageflags, PG_head) & 1))
		return 1;
	if (bpf_core_field_exists(folio->_folio_order))
		return 1UL << (BPF_CORE_READ(folio, _folio_order) & 63);
	if (bpf_core_field_exists(folio->_flags_1))
		return 1UL << (BPF_CORE_READ(folio, _flags_1) & 63);
	second = (void *)folio + bpf_core_type_size(struct page);
	return 1UL << (BPF_CORE_READ(second, compound_order) & 63);
}

#endif /* KTALLY_COMPAT_H */
