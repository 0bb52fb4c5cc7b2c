// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Every map of the host, without opening any; and who holds which map or
 * program. Each program writes records of binary, one after the other.
 */
#include "kernel.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/*
 * Hash maps count their entries since 6.6: 25954730461a ("bpf: add percpu stats
 * for bpf_map elements insertions/deletions").
 */
struct bpf_map___since_6_6 {
	__s64 *elem_count;
} __attribute__((preserve_access_index));

extern __s64 bpf_map_sum_elem_count(const struct bpf_map *map) __ksym __weak;

struct seen {
	__u32 id;
	__u32 type;
	__s64 users;
	__u64 max_entries;
	__s64 entries; /* less than 0 where the kernel does not count them */
	char name[16];
};

SEC("iter/bpf_map")
int maps(struct bpf_iter__bpf_map *ctx)
{
	struct bpf_map *map = ctx->map;
	struct bpf_map___since_6_6 *since_6_6 = (void *)map;
	struct seen seen = {.entries = -1};

	if (!map)
		return 0;
	seen.id = map->id;
	seen.type = map->map_type;
	seen.users = map->usercnt.counter;
	seen.max_entries = map->max_entries;
	if (bpf_core_field_exists(since_6_6->elem_count) &&
	    since_6_6->elem_count && bpf_map_sum_elem_count)
		seen.entries = bpf_map_sum_elem_count(map);
	__builtin_memcpy(seen.name, map->name, sizeof(seen.name));
	bpf_seq_write(ctx->meta->seq, &seen, sizeof(seen));
	return 0;
}

/*
 * Holders: a record for each descriptor of a map, a program or a link in any
 * process but the reader.
 *
 * A file is a map if it has the file operations of maps. On many kernels no
 * symbol has their address, so the iterator is read twice at first: it meets
 * descriptors of the reader, which are known to be a map, a program and a link.
 */
enum kind { A_MAP, A_PROGRAM, A_LINK, KINDS };

__u32 known_fds[KINDS];
__u64 operations[KINDS];

struct holder {
	__u32 kind;
	__u32 id;
	__u32 pid;
	char comm[TASK_COMM_LEN];
};

/* A link holds its program. */
static __always_inline __u32 id_of(__u32 kind, void *object)
{
	struct bpf_prog *program = object;

	if (kind == A_MAP)
		return BPF_CORE_READ((struct bpf_map *)object, id);
	if (kind == A_LINK)
		program = BPF_CORE_READ((struct bpf_link *)object, prog);
	return BPF_CORE_READ(program, aux, id);
}

SEC("iter/task_file")
int holders(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct task_struct *reader = (void *)bpf_get_current_task();
	struct holder holder = {};
	struct upid *number;
	__u32 kind;

	if (!file || !task)
		return 0;
	if (task->tgid == bpf_get_current_pid_tgid() >> 32) {
		for (kind = 0; kind < KINDS; kind++)
			if (known_fds[kind] && ctx->fd == known_fds[kind])
				operations[kind] = (__u64)file->f_op;
		return 0;
	}
	for (kind = 0; kind < KINDS; kind++)
		if ((__u64)file->f_op == operations[kind])
			break;
	if (kind == KINDS)
		return 0;
	holder.kind = kind;
	holder.id = id_of(kind, file->private_data);
	/* The iterator shows the reader's PID namespace, by its numbers. */
	number = process_number(task, BPF_CORE_READ(reader, thread_pid, level));
	if (number)
		holder.pid = BPF_CORE_READ(number, nr);
	BPF_CORE_READ_STR_INTO(&holder.comm, task, group_leader, comm);
	bpf_seq_write(ctx->meta->seq, &holder, sizeof(holder));
	return 0;
}
