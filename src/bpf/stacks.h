/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Stacks as parts of a key: AS(kstack), AS(ustack). Include it behind
 * ktally.bpf.h.
 *
 * The instruction pointers themselves stand in the key, the innermost first
 * and zeroes behind the last. A key with an id into a BPF_MAP_TYPE_STACK_TRACE
 * would be smaller, but that map drops or overwrites stacks whose hashes
 * collide, and a table could not be read without it. Deeper stacks lose their
 * outermost frames. Such a key is larger than the BPF stack: build it in an
 * element of a BPF_MAP_TYPE_PERCPU_ARRAY.
 */
#ifndef KTALLY_STACKS_H
#define KTALLY_STACKS_H

#define TALLY_KERNEL_FRAMES 48
#define TALLY_USER_FRAMES 79

struct tally_kstack {
	__u64 ip[TALLY_KERNEL_FRAMES];
};

/* Addresses of user space mean something only together with their process. */
struct tally_ustack {
	__u32 pid;
	__u32 unused;
	__u64 ip[TALLY_USER_FRAMES];
};

/*
 * Whose stack was taken, and where it was running, for the reader to look at
 * what the process has mapped while it lives. No event depends on it: when the
 * ring is full, the reader is only late.
 */
struct tally_stack_process {
	__u64 ip;
	__u32 pid;
	__u32 unused;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 << 10);
} tally_processes SEC(".maps");

/* bpf_get_stack() zeroes what it does not fill, also when it fails. */
static __always_inline void tally_kernel_stack(void *ctx,
					       struct tally_kstack *stack)
{
	bpf_get_stack(ctx, stack->ip, sizeof(stack->ip), 0);
}

/* Where the kernel keeps the code of locks, and of what sleeps. */
extern const void __lock_text_start __ksym __weak;
extern const void __lock_text_end __ksym __weak;
extern const void __sched_text_start __ksym __weak;
extern const void __sched_text_end __ksym __weak;

static __always_inline bool tally_waits_at(__u64 address)
{
	return (address >= (__u64)&__lock_text_start &&
		address < (__u64)&__lock_text_end) ||
	       (address >= (__u64)&__sched_text_start &&
		address < (__u64)&__sched_text_end);
}

#define TALLY_OWN_FRAMES 8 /* at most, of this program and what called it */

/* The kernel stack of a task that begins to wait, starting in that code. */
static __always_inline void tally_waiting_stack(void *ctx,
						struct tally_kstack *stack)
{
	__u64 frames[TALLY_OWN_FRAMES] = {};
	__u32 own = 0;

	bpf_get_stack(ctx, frames, sizeof(frames), 0);
	for (int i = 0; i < TALLY_OWN_FRAMES; i++) {
		if (tally_waits_at(frames[i]))
			break;
		own = i + 1;
	}
	if (own == TALLY_OWN_FRAMES)
		own = 0;
	bpf_get_stack(ctx, stack->ip, sizeof(stack->ip), own);
}

static __always_inline void tally_user_stack(void *ctx,
					     struct tally_ustack *stack)
{
	struct tally_stack_process process = {};

	stack->pid = tally_current_pid();
	stack->unused = 0;
	bpf_get_stack(ctx, stack->ip, sizeof(stack->ip), BPF_F_USER_STACK);
	process.pid = stack->pid;
	process.ip = stack->ip[0];
	if (process.ip)
		bpf_ringbuf_output(&tally_processes, &process, sizeof(process),
				   0);
}

#endif /* KTALLY_STACKS_H */
