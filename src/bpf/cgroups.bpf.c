// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: CPU time at sched_switch, calls at sys_enter, bytes when a bio is
 * queued and when a socket sends or receives. A stacked device counts a bio
 * once a layer.
 * Not seen: calls that seccomp refuses, and splice from a socket.
 * Cost: about 0.2 us for every system call of the host, the same a switch.
 */
#include "ktally.bpf.h"
#include "blocks.h"

TALLY("what cgroups use: CPU, system calls, block devices, network",
      "systemd-cgtop");

/* No filters of tasks: what is written is its cgroup's, whoever writes. */
OPTION(__u64 AS(cgroup), cgroup, 0,
       "count only this cgroup and below it (unit, container, path)");
CPU_FILTER;

struct group {
	__u64 cgroup AS(cgroup);
};

struct usage {
	__u64 cpu_time COUNTER("time on a CPU") UNIT(ns);
	__u64 syscalls COUNTER("system calls made");
	__u64 block_bytes COUNTER("bytes handed to block devices, or asked for")
		UNIT(bytes);
	__u64 sent COUNTER("bytes sent through IP sockets") UNIT(bytes);
	__u64 received COUNTER("bytes received through IP sockets") UNIT(bytes);
};

PERCPU_TABLE(cgroups, struct group, struct usage, 4096, "cgroups");

/* The task that runs on a CPU, by its cgroup. */
struct slice {
	__u64 since; /* 0 where it was not wanted then */
	struct group key;
	__u64 start; /* the same, wanted or not */
	__u32 task;  /* for tally_switched() */
};

CPU_STATE(running, struct slice) UNDER_WAY(cgroups, cpu_time);

/* The current task's cgroup, in the unified hierarchy. */
static __always_inline struct usage *mine(void)
{
	struct group key = {.cgroup = bpf_get_current_cgroup_id()};

	if (!wanted_cpu() || !wanted_task())
		return NULL;
	return tally_entry(cgroups, &key);
}

/* Ends the time of the task that runs here, where that of the next begins. */
static __always_inline void charge(struct slice *slice,
				   struct task_struct *task)
{
	__u64 time, start = slice->start;
	struct usage *usage = NULL;

	if (tally_elapsed(slice, &time)) {
		slice->start += time;
		usage = tally_entry(cgroups, &slice->key);
	} else {
		slice->start = bpf_ktime_get_ns();
		time = slice->start - start;
		if (task->pid && start)
			usage = mine();
	}
	if (usage)
		__sync_fetch_and_add(&usage->cpu_time, time);
	tally_end(slice);
}

/* Begins that of a task. Not of the idle one. */
static __always_inline void begin(struct slice *slice, struct task_struct *task,
				  bool is_wanted)
{
	struct group key = {};

	if (!task->pid || !wanted_cpu() || !is_wanted)
		return;
	key.cgroup = task_cgroup(task);
	tally_begin_at(slice, &key, slice->start);
}

SEC("raw_tp")
AT_START
int running_now(void *ctx)
{
	struct task_struct *task = current_task();
	struct slice *slice = tally_cpu_state(running);

	if (!task || !slice || slice->start)
		return 0;
	slice->start = bpf_ktime_get_ns();
	begin(slice, task, wanted(task));
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, bool preempt, struct task_struct *prev,
	     struct task_struct *next)
{
	struct slice *slice = tally_cpu_state(running);

	if (!slice)
		return 0;
	tally_switched(&slice->task, prev, next);
	charge(slice, prev);
	begin(slice, next, wanted(next));
	return 0;
}

/* At an exec, after which a command may be followed. */
SEC("tp_btf/task_rename")
int BPF_PROG(task_rename, struct task_struct *task, const char *name)
{
	struct slice *slice = tally_cpu_state(running);

	if (!slice || !is_current(task))
		return 0;
	charge(slice, task);
	begin(slice, task, wanted_as(task, name));
	return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(sys_enter)
{
	struct usage *usage = mine();

	if (usage)
		__sync_fetch_and_add(&usage->syscalls, 1);
	return 0;
}

static __always_inline bool is_below(struct cgroup *group, __u64 id)
{
	for (int level = 0; level < TALLY_CGROUP_DEPTH; level++) {
		if (group->kn->id == id)
			return true;
		if (!group->self.parent)
			return false;
		group = group->self.parent->cgroup;
	}
	return false;
}

static __always_inline struct usage *owner(struct bio *bio)
{
	struct cgroup *group = bio_cgroup(bio);
	struct group key = {};

	if (!group)
		return mine();
	if (!wanted_cpu() || (cgroup && !is_below(group, cgroup)))
		return NULL;
	key.cgroup = group->kn->id;
	return tally_entry(cgroups, &key);
}

SEC("tp_btf/block_bio_queue")
int block_bio_queue(__u64 *ctx)
{
	struct bio *bio = block_argument(ctx, block_bio_queue, struct bio);
	struct usage *usage;

	if ((bio->bi_opf & REQ_OP_MASK) > REQ_OP_WRITE)
		return 0;
	usage = owner(bio);
	if (usage)
		__sync_fetch_and_add(&usage->block_bytes, bio->bi_iter.bi_size);
	return 0;
}

static __always_inline bool is_internet(struct sock *sk)
{
	return sk->__sk_common.skc_family == AF_INET ||
	       sk->__sk_common.skc_family == AF_INET6;
}

/*
 * These two exist since 6.3: 6e6eda44b939 ("sock: add tracepoint for send recv
 * length").
 */
SEC("tp_btf/sock_send_length")
OPTIONAL int BPF_PROG(sock_send_length, struct sock *sk, int bytes)
{
	struct usage *usage;

	if (bytes <= 0 || !is_internet(sk))
		return 0;
	usage = mine();
	if (usage)
		__sync_fetch_and_add(&usage->sent, bytes);
	return 0;
}

SEC("tp_btf/sock_recv_length")
OPTIONAL int BPF_PROG(sock_recv_length, struct sock *sk, int bytes, int flags)
{
	struct usage *usage;

	if (bytes <= 0 || flags & MSG_PEEK || !is_internet(sk))
		return 0;
	usage = mine();
	if (usage)
		__sync_fetch_and_add(&usage->received, bytes);
	return 0;
}
