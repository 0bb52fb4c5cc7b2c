/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * System calls at sys_enter and sys_exit: their numbers, and what a return from
 * one means.
 */
#ifndef KTALLY_SYSCALLS_H
#define KTALLY_SYSCALLS_H

#include "kernel.h"
#include "compat.h"

/* A call by the numbers of the 32-bit architecture, which differ. */
#define COMPAT_SYSCALL 0x80000000
/* Stands for every number below 0: no call has one. */
#define NEGATIVE_SYSCALL 0x7fffffff
#define TS_COMPAT 2  /* arch/x86/include/asm/thread_info.h */
#define TIF_32BIT 22 /* arch/arm64/include/asm/thread_info.h */

/*
 * Whether a system call ends by going back from a signal's handler. It has lost
 * its number by then, and "returns" what the interrupted code had in that
 * register: often an error that a call before the signal returned. A call of
 * number -1 returns ENOSYS. So a return to code that had just got an ENOSYS
 * looks like one, but for programs that keep the number that sys_enter tells.
 */
static __always_inline bool is_sigreturn(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return (int)regs->orig_ax == -1 && (int)regs->ax != -ENOSYS;
#elif defined(__TARGET_ARCH_arm64)
	return regs->syscallno == -1 && (int)regs->regs[0] != -ENOSYS;
#endif
}

#if defined(__TARGET_ARCH_x86)
#define CALL_FLAGS thread_info.status
#define COMPAT_FLAG TS_COMPAT
#elif defined(__TARGET_ARCH_arm64)
#define CALL_FLAGS thread_info.flags
#define COMPAT_FLAG (1UL << TIF_32BIT)
#else
#error "system calls are not known for this architecture yet"
#endif

static __always_inline bool is_compat_task(struct task_struct *task)
{
	return task->CALL_FLAGS & COMPAT_FLAG;
}

/* Whether the current task's system call has a 32-bit number. */
static __always_inline bool is_compat_call(void)
{
	struct task_struct *task = current_task();

	if (task)
		return is_compat_task(task);
	task = (void *)bpf_get_current_task(); /* before 5.11 */
	return BPF_CORE_READ(task, CALL_FLAGS) & COMPAT_FLAG;
}

static __always_inline __u32 __syscall_number(struct pt_regs *regs, bool compat)
{
#if defined(__TARGET_ARCH_x86)
	__u32 number = regs->orig_ax, sigreturn = 15;
#elif defined(__TARGET_ARCH_arm64)
	__u32 number = regs->syscallno, sigreturn = 139;
#endif

	if (is_sigreturn(regs))
		number = compat ? 173 : sigreturn;
	if (number > NEGATIVE_SYSCALL)
		number = NEGATIVE_SYSCALL;
	return compat ? number | COMPAT_SYSCALL : number;
}

/*
 * The number of the current task's system call, for AS(syscall), where that
 * task is at hand: bpf_get_current_task_btf() once costs less than twice.
 */
static __always_inline __u32 task_syscall_number(struct task_struct *task,
						 struct pt_regs *regs)
{
	return __syscall_number(regs, is_compat_task(task));
}

/* The same, on any kernel. */
static __always_inline __u32 syscall_number(struct pt_regs *regs)
{
	return __syscall_number(regs, is_compat_call());
}

/* As syscall_arg(), of a call whose kind is known. */
static __always_inline __u64 __syscall_arg(struct pt_regs *regs, bool compat,
					   int n)
{
	__u64 argument;

#if defined(__TARGET_ARCH_x86)
	if (n == 0)
		argument = compat ? regs->bx : regs->di;
	else if (n == 1)
		argument = compat ? regs->cx : regs->si;
	else if (n == 2)
		argument = regs->dx;
	else if (n == 3)
		argument = compat ? regs->si : regs->r10;
	else if (n == 4)
		argument = compat ? regs->di : regs->r8;
	else
		argument = compat ? regs->bp : regs->r9;
#elif defined(__TARGET_ARCH_arm64)
	/* The result stands in the place of the first one. */
	argument = n ? regs->regs[n] : regs->orig_x0;
#endif
	return compat ? (__u32)argument : argument;
}

/*
 * Argument n of the current task's system call, from 0 to 5, at sys_enter and
 * at sys_exit; n is a constant.
 */
static __always_inline __u64 syscall_arg(struct pt_regs *regs, int n)
{
	return __syscall_arg(regs, is_compat_call(), n);
}

/*
 * What programs of tracepoint/syscalls/sys_enter_NAME and sys_exit_NAME get:
 * such as int open(struct sys_enter_context *ctx), with the path in
 * ctx->args[1] of openat.
 */
struct sys_enter_context {
	__u64 common;
	long id;
	unsigned long args[6];
};

struct sys_exit_context {
	__u64 common;
	long id;
	long ret;
};

/*
 * Whether this is a new task on its way to user space: it goes through the exit
 * of the call that made it, with 0, though only its parent made that call.
 */
static __always_inline bool is_new_task(struct pt_regs *regs, long ret)
{
	if (ret)
		return false;
	switch (syscall_number(regs)) {
#if defined(__TARGET_ARCH_x86)
	case 56:  /* clone */
	case 57:  /* fork */
	case 58:  /* vfork */
	case 435: /* clone3 */
#elif defined(__TARGET_ARCH_arm64)
	case 220:		   /* clone */
	case 435:		   /* clone3 */
#endif
	case COMPAT_SYSCALL | 2:   /* fork */
	case COMPAT_SYSCALL | 120: /* clone */
	case COMPAT_SYSCALL | 190: /* vfork */
	case COMPAT_SYSCALL | 435: /* clone3 */
		return true;
	default:
		return false;
	}
}

/* Whether a call of this number never returns. */
static __always_inline bool ends_task(__u32 call)
{
	switch (call) {
#if defined(__TARGET_ARCH_x86)
	case 60:		   /* exit */
	case 231:		   /* exit_group */
	case COMPAT_SYSCALL | 252: /* exit_group */
#elif defined(__TARGET_ARCH_arm64)
	case 93:		   /* exit */
	case 94:		   /* exit_group */
	case COMPAT_SYSCALL | 248: /* exit_group */
#endif
	case COMPAT_SYSCALL | 1: /* exit */
		return true;
	default:
		return false;
	}
}

/* Whether it returned an error. */
static __always_inline bool syscall_failed(struct pt_regs *regs, long ret)
{
	return ret < 0 && ret >= -MAX_ERRNO && !is_sigreturn(regs);
}

#endif /* KTALLY_SYSCALLS_H */
