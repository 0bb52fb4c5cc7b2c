// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What a map of local storage holds: a record for each owner that has a value,
 * an id of 8 bytes and the value. Of the programs one is loaded, with the map
 * in the place of its target.
 */
#include "kernel.h"
#include "compat.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Since 6.1: d4ccaf58a847 ("bpf: Introduce cgroup iter"). */
struct bpf_iter__cgroup___since_6_1 {
	struct bpf_iter_meta *meta;
	struct cgroup *cgroup;
};

#define TARGET(name, map_type)                        \
	struct {                                      \
		__uint(type, map_type);               \
		__uint(map_flags, BPF_F_NO_PREALLOC); \
		__type(key, int);                     \
		__type(value, __u64);                 \
	} name SEC(".maps")

TARGET(task_storage_target, BPF_MAP_TYPE_TASK_STORAGE);
TARGET(cgrp_storage_target, BPF_MAP_TYPE_CGRP_STORAGE);

/* Constants, so that the verifier can check the access. */
const volatile struct {
	__u32 value_size;
	__u32 alive_only; /* tasks that have not exited */
} wanted;

static __always_inline int tell(struct bpf_iter_meta *meta, __u64 id,
				void *value)
{
	if (!value)
		return 0;
	bpf_seq_write(meta->seq, &id, sizeof(id));
	bpf_seq_write(meta->seq, value, wanted.value_size);
	return 0;
}

/* A thread's number. */
SEC("iter/task")
int task_storage(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	if (!task || (wanted.alive_only && task->exit_state))
		return 0;
	return tell(ctx->meta, task->pid,
		    bpf_task_storage_get(&task_storage_target, task, 0, 0));
}

/* A cgroup's id. */
SEC("iter/cgroup")
int cgrp_storage(struct bpf_iter__cgroup___since_6_1 *ctx)
{
	struct cgroup *cgroup = ctx->cgroup;

	if (!cgroup)
		return 0;
	return tell(ctx->meta, cgroup->kn->id,
		    bpf_cgrp_storage_get(&cgrp_storage_target, cgroup, 0, 0));
}

/* The inode of a socket, as /proc/PID/fd shows it; 0 where it is closed. */
SEC("iter/bpf_sk_storage_map")
int sk_storage(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sock *sk = ctx->sk;

	if (!sk)
		return 0;
	return tell(ctx->meta, sk->sk_socket->file->f_inode->i_ino, ctx->value);
}
