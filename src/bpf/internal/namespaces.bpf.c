// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The namespaces of the process that runs this, and the kernel's own: those of
 * the task that all others descend from. /proc tells neither the latter nor a
 * level of nesting to a process that is in a namespace.
 */
#include "kernel.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define MOST_ANCESTORS 512

/* By the numbers of their files in /proc/PID/ns. */
struct namespaces {
	__u32 pid;
	__u32 mnt;
	__u32 net;
	__u32 cgroup;
};

struct namespaces here;
struct namespaces first;
/* How deep the PID namespace is nested: 0 for the kernel's own. */
__u32 pid_level;

static __always_inline void look(struct task_struct *task,
				 struct namespaces *found, __u32 level)
{
	struct upid *number = process_number(task, level);

	found->pid = BPF_CORE_READ(number, ns, ns.inum);
	found->mnt = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	found->net = BPF_CORE_READ(task, nsproxy, net_ns, ns.inum);
	found->cgroup = BPF_CORE_READ(task, nsproxy, cgroup_ns, ns.inum);
}

SEC("raw_tp")
int namespaces(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task(), *parent;

	pid_level = BPF_CORE_READ(task, thread_pid, level);
	look(task, &here, pid_level);
	for (int i = 0; i < MOST_ANCESTORS; i++) {
		parent = BPF_CORE_READ(task, real_parent);
		if (parent == task)
			break;
		task = parent;
	}
	look(task, &first, 0);
	return 0;
}
