// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Who holds which map: a record for each descriptor of a map in any process but
 * the reader.
 *
 * What makes a file a map is its operations, whose address no symbol tells on
 * many kernels. So the iterator is read twice: the first time it comes by a
 * descriptor of the reader, which is known to be a map.
 */
#include "kernel.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

__u32 known_map_fd;
__u64 map_operations;

struct holder {
	__u32 map;
	__u32 pid;
	char comm[TASK_COMM_LEN];
};

SEC("iter/task_file")
int holders(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct task_struct *reader = (void *)bpf_get_current_task();
	struct holder holder = {};
	struct upid *number;

	if (!file || !task)
		return 0;
	if (task->tgid == bpf_get_current_pid_tgid() >> 32) {
		if (ctx->fd == known_map_fd)
			map_operations = (__u64)file->f_op;
		return 0;
	}
	if (!map_operations || (__u64)file->f_op != map_operations)
		return 0;
	holder.map = BPF_CORE_READ((struct bpf_map *)file->private_data, id);
	/* The iterator shows the reader's PID namespace, by its numbers. */
	number = process_number(task, BPF_CORE_READ(reader, thread_pid, level));
	if (number)
		holder.pid = BPF_CORE_READ(number, nr);
	BPF_CORE_READ_STR_INTO(&holder.comm, task, group_leader, comm);
	bpf_seq_write(ctx->meta->seq, &holder, sizeof(holder));
	return 0;
}
