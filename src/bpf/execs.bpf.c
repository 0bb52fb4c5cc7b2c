// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: sched_process_exec, when an exec succeeds; a script has its own name.
 * The parent is the one at that time.
 * Not seen: an exec that fails, and a process that only forks.
 * Cost: about 0.6 us an exec.
 */
#include "ktally.bpf.h"

TALLY("programs that are started, by who starts them");

TASK_FILTERS;
CPU_FILTER;
OPTION(bool, by_filename, false, "one row per program file, not only per name");

#define FILENAME_LEN 256
typedef char filename[FILENAME_LEN];

struct program {
	char comm[TASK_COMM_LEN] AS(comm);
	char parent[TASK_COMM_LEN] AS(comm);
	filename filename WITH(by_filename);
};

struct starts {
	__u64 execs COUNTER("programs that were started");
};

TABLE(execs, struct program, struct starts, 8192, "started programs");

SEC("tp_btf/sched_process_exec")
int BPF_PROG(sched_process_exec, struct task_struct *task, pid_t old_pid,
	     struct linux_binprm *program)
{
	struct program key = {};
	struct starts *starts;

	if (!wanted_cpu() || !wanted_task())
		return 0;
	bpf_get_current_comm(key.comm, sizeof(key.comm));
	task_comm(key.parent, task->real_parent);
	if (by_filename)
		tally_text(key.filename, sizeof(key.filename),
			   program->filename);

	starts = tally_entry(execs, &key);
	__sync_fetch_and_add(&starts->execs, 1);
	return 0;
}
