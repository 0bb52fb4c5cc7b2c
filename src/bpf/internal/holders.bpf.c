// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Who holds which map. One line of binary for each descriptor of a map in any
 * process.
 */
#include "kernel.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

extern const void bpf_map_fops __ksym;

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
	struct holder holder = {};

	if (!file || !task || file->f_op != &bpf_map_fops)
		return 0;
	holder.map = BPF_CORE_READ((struct bpf_map *)file->private_data, id);
	holder.pid = task->tgid;
	BPF_CORE_READ_STR_INTO(&holder.comm, task, group_leader, comm);
	bpf_seq_write(ctx->meta->seq, &holder, sizeof(holder));
	return 0;
}
