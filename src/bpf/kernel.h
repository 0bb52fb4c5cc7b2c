/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel's types, as far as tallies use them: a CO-RE subset written by
 * hand. A struct here names only the members that a tally reads; libbpf finds
 * their real offsets in the running kernel's BTF when the program is loaded.
 * Add a member when you need it; order, padding and missing neighbours do not
 * matter. Whoever wants every type includes "vmlinux.h" before "ktally.bpf.h",
 * and this file steps aside.
 */
#ifndef KTALLY_KERNEL_H
#define KTALLY_KERNEL_H

#ifndef __VMLINUX_H__

typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;

typedef __s8 s8;
typedef __u8 u8;
typedef __s16 s16;
typedef __u16 u16;
typedef __s32 s32;
typedef __u32 u32;
typedef __s64 s64;
typedef __u64 u64;

typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u32 __wsum;

typedef _Bool bool;
typedef __u32 uid_t;
typedef __s32 pid_t;
typedef unsigned long size_t;

enum {
	false = 0,
	true = 1,
};

/* include/uapi/linux/bpf.h: these numbers are ABI. */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_HASH = 5,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_STACK_TRACE = 7,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_EXIST = 2,
};

enum {
	BPF_F_NO_PREALLOC = 1,
};

enum {
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), \
			     apply_to = record)

/* A CPU's registers where it entered the kernel (per architecture). */
struct pt_regs {
#if defined(__TARGET_ARCH_x86)
	unsigned long orig_ax;
	unsigned long di;
	unsigned long si;
	unsigned long dx;
	unsigned long ax;
	unsigned long ip;
#elif defined(__TARGET_ARCH_arm64)
	unsigned long regs[31];
	unsigned long pc;
	int syscallno;
#endif
};

struct thread_info {
	__u32 status;
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int __state;
	pid_t pid;
	pid_t tgid;
	struct task_struct *group_leader;
	char comm[16];
};

struct file {
	const void *f_op;
	void *private_data;
};

struct bpf_map {
	__u32 id;
	__s64 *elem_count; /* since 6.6 */
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

/* What iterators are handed. */
struct bpf_iter__bpf_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

#pragma clang attribute pop

#endif /* __VMLINUX_H__ */

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

/* Since 5.14 the state of a task is __state; before, it was state. */
struct task_struct___before_5_14 {
	long state;
} __attribute__((preserve_access_index));

/* Macros of the kernel, which no BTF carries. */
#ifndef TASK_COMM_LEN
#define TASK_COMM_LEN 16
#endif
#ifndef MAX_ERRNO
#define MAX_ERRNO 4095
#endif
#define TASK_RUNNING 0
#define ENOENT 2
#define ENOSPC 28

/* A call by the numbers of the 32-bit architecture, which differ. */
#define COMPAT_SYSCALL 0x80000000
#define TS_COMPAT 2 /* arch/x86/include/asm/thread_info.h */

/* The number of the current task's system call, for AS(syscall). */
static __always_inline __u32 syscall_number(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	struct task_struct *task = bpf_get_current_task_btf();

	if (task->thread_info.status & TS_COMPAT)
		return regs->orig_ax | COMPAT_SYSCALL;
	return regs->orig_ax;
#elif defined(__TARGET_ARCH_arm64)
	return regs->syscallno;
#else
#error "syscall_number() is not written for this architecture yet"
#endif
}

/* TASK_RUNNING, or why the task sleeps; the member was renamed in 5.14. */
static __always_inline long task_state(struct task_struct *task)
{
	if (bpf_core_field_exists(task->__state))
		return task->__state;
	return BPF_CORE_READ((struct task_struct___before_5_14 *)task, state);
}

#endif /* KTALLY_KERNEL_H */
