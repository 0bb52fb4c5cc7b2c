// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: waits from contention_begin to contention_end.
 * Not seen: free locks, futexes, a writer that gets an rwsem while it spins
 * and, unless spinlocks are paravirtual, the first waiter of a spinlock.
 * Cost: several us a wait, most of it for the stack.
 */
#include "ktally.bpf.h"
#include "stacks.h"

TALLY("time spent waiting for the kernel's own locks, by who wants them",
      "klockstat");

TASK_FILTERS;
CPU_FILTER;
COMM_OPTION;
WHO_OPTIONS;
OPTION(bool, stacks, false, "one row per stack that waits");

enum kind {
	spinlock,
	rwlock_read,
	rwlock_write,
	rwsem_read,
	rwsem_write,
	percpu_rwsem_read,
	percpu_rwsem_write,
	rtmutex,
	mutex,
	semaphore,
};

struct wanting {
	struct tally_who;
	__u64 caller AS(ksym);
	enum kind kind;
	__u32 padding HIDDEN;
};

struct waits {
	__u64 contentions COUNTER("times that a lock was not free");
	__u64 time COUNTER("time until it was, or was given up") UNIT(ns);
	struct tally_histogram latency HISTOGRAM("time of one wait") UNIT(ns);
	__u64 max MAXIMUM("the longest wait") UNIT(ns);
};

TABLE(locks, struct wanting, struct waits, 8192, "waits for locks")
SORT_BY(time) WITHOUT(stacks);

struct wanting_at {
	struct tally_who;
	enum kind kind;
	__u32 padding HIDDEN;
	struct tally_kstack kernel AS(kstack);
};

struct waits_at {
	__u64 time COUNTER("time until the lock was free, or given up")
		UNIT(ns);
	__u64 contentions COUNTER("times that a lock was not free");
};

TABLE(locks_stacks, struct wanting_at, struct waits_at, 8192, "waiting stacks")
SORT_BY(time) WITH(stacks);

/* Who waits for which lock: interrupts wait while a task does. */
struct waiter {
	__u64 lock;
	__u64 who;
};

struct wait {
	__u64 since;
	struct wanting key;
};

HASH_STATE(waiting, struct waiter, struct wait, 16384)
UNDER_WAY(locks, time) WITHOUT(stacks);

struct wait_at {
	__u64 since;
	struct wanting_at key;
};

HASH_STATE(waiting_at, struct waiter, struct wait_at, 16384)
UNDER_WAY(locks_stacks, time) WITH(stacks);

/* What is being built: too large for the BPF stack. */
CPU_STATE(scratch, struct wait_at) WITH(stacks);

/* include/trace/events/lock.h */
#define LCB_F_SPIN 1
#define LCB_F_READ 2
#define LCB_F_WRITE 4
#define LCB_F_RT 8
#define LCB_F_PERCPU 16
#define LCB_F_MUTEX 32

static __always_inline enum kind kind_of(unsigned int flags)
{
	bool read = flags & LCB_F_READ;

	if (flags & LCB_F_MUTEX)
		return mutex;
	if (flags & LCB_F_RT)
		return rtmutex;
	if (flags & LCB_F_PERCPU)
		return read ? percpu_rwsem_read : percpu_rwsem_write;
	if (!(flags & (LCB_F_READ | LCB_F_WRITE)))
		return flags & LCB_F_SPIN ? spinlock : semaphore;
	if (flags & LCB_F_SPIN)
		return read ? rwlock_read : rwlock_write;
	return read ? rwsem_read : rwsem_write;
}

/* The idle tasks of all CPUs are number 0. */
static __always_inline struct waiter waiter(void *lock)
{
	__u64 who = (__u32)bpf_get_current_pid_tgid();

	return (struct waiter){
		.lock = (unsigned long)lock,
		.who = who
			       ?: (__u64)bpf_get_smp_processor_id() << 32 |
					  1ULL << 63,
	};
}

#define FRAMES 16

/* Who called the lock's functions, which are called by this program's. */
static __always_inline __u64 caller(void *ctx)
{
	__u64 frames[FRAMES] = {};
	bool inside = false;

	bpf_get_stack(ctx, frames, sizeof(frames), 0);
	for (int i = 0; i < FRAMES; i++) {
		bool lock = tally_waits_at(frames[i]);

		if (inside && !lock)
			return frames[i];
		inside |= lock;
	}
	return 0;
}

static __always_inline int end_at(struct waiter *key)
{
	struct wait_at *wait = bpf_map_lookup_elem(&waiting_at, key);
	struct waits_at *waits;
	__u64 time;

	if (!tally_elapsed(wait, &time))
		return 0;
	waits = tally_entry(locks_stacks, &wait->key);
	__sync_fetch_and_add(&waits->contentions, 1);
	__sync_fetch_and_add(&waits->time, time);
	bpf_map_delete_elem(&waiting_at, key);
	return 0;
}

static __always_inline int begin_at(void *ctx, struct waiter *key,
				    unsigned int flags)
{
	struct wait_at *wait = tally_cpu_state(scratch);

	if (!wait ||
	    (flags & LCB_F_MUTEX && bpf_map_lookup_elem(&waiting_at, key)))
		return 0;
	__builtin_memset(&wait->key, 0, sizeof(struct tally_who));
	current_who(&wait->key);
	wait->key.kind = kind_of(flags);
	tally_waiting_stack(ctx, &wait->key.kernel);
	wait->since = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&waiting_at, key, wait, BPF_ANY))
		tally_dropped(locks_stacks);
	return 0;
}

/* Attached first: what has begun has its end in sight. */
SEC("tp_btf/contention_end")
int BPF_PROG(contention_end, void *lock)
{
	struct waiter key = waiter(lock);
	struct waits *waits;
	struct wait *wait;
	__u64 time;

	if (stacks)
		return end_at(&key);
	wait = bpf_map_lookup_elem(&waiting, &key);
	if (!tally_elapsed(wait, &time))
		return 0;
	waits = tally_entry(locks, &wait->key);
	__sync_fetch_and_add(&waits->contentions, 1);
	__sync_fetch_and_add(&waits->time, time);
	tally_observe(&waits->latency, time);
	tally_maximum(&waits->max, time);
	bpf_map_delete_elem(&waiting, &key);
	return 0;
}

SEC("tp_btf/contention_begin")
int BPF_PROG(contention_begin, void *lock, unsigned int flags)
{
	struct waiter key;
	struct wait wait = {};

	if (!wanted_cpu() || !wanted_task())
		return 0;
	key = waiter(lock);
	if (stacks)
		return begin_at(ctx, &key, flags);
	/* A mutex begins again when it goes from spinning to sleeping. */
	if (flags & LCB_F_MUTEX && bpf_map_lookup_elem(&waiting, &key))
		return 0;
	current_who(&wait.key);
	wait.key.kind = kind_of(flags);
	wait.key.caller = caller(ctx);
	wait.since = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&waiting, &key, &wait, BPF_ANY))
		tally_dropped(locks);
	return 0;
}
