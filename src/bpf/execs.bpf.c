// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: sched_process_exec, when an exec succeeds; a script has its own name.
 * The parent is the one at that time.
 * Not seen: an exec that fails, and a process that only forks.
 * Cost: about 0.6 us an exec.
 */
#include "ktally.bpf.h"

TALLY("programs that are started, by who starts them", "execsnoop");

TASK_FILTERS;
CPU_FILTER;
WHO_OPTIONS;
OPTION(bool, by_filename, false, "one row per program file, not only per name");
OPTION(bool, by_args, false,
       "one row per argument list as well, cut to 191 bytes");

/* A key has at most 512 bytes on 5.10. */
#define FILENAME_LEN 256
#define ARGS_LEN 192
typedef char filename[FILENAME_LEN];
typedef char arguments[ARGS_LEN];

struct program {
	struct tally_who;
	char parent[TASK_COMM_LEN] AS(comm);
	pid_t parent_pid AS(pid) WITH(by_pid);
	filename filename WITH(by_filename);
	arguments args WITH(by_args);
};

struct starts {
	__u64 execs COUNTER("programs that were started");
};

TABLE(execs, struct program, struct starts, 8192, "started programs")
OVERVIEW(60, "programs", execs);

/* The key that is being built: too large for the BPF stack. */
CPU_STATE(scratch, struct program);

/* The new program finds them in its memory, with a NUL behind each. */
static __always_inline void read_args(char args[ARGS_LEN],
				      struct task_struct *task)
{
	unsigned long start = BPF_CORE_READ(task, mm, arg_start);
	unsigned long len = BPF_CORE_READ(task, mm, arg_end) - start;
	bool is_cut = len > ARGS_LEN;

	if (is_cut)
		len = ARGS_LEN;
	if (bpf_probe_read_user(args, len, (const void *)start))
		return;
	for (int i = 0; i < ARGS_LEN - 1; i++)
		if (i + 1 < len && !args[i])
			args[i] = ' ';
	args[ARGS_LEN - 1] = 0;
	tally_ellipsis(args + ARGS_LEN, is_cut);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(sched_process_exec, struct task_struct *task, pid_t old_pid,
	     struct linux_binprm *program)
{
	struct program *key = tally_cpu_state(scratch);
	struct task_struct *parent = task->real_parent;
	struct starts *starts;

	if (!key || !wanted_cpu() || !wanted_task())
		return 0;
	__builtin_memset(key, 0, sizeof(*key));
	current_who(key);
	task_name(key->parent, parent);
	if (by_pid)
		key->parent_pid = tally_pid(parent);
	if (by_filename)
		tally_text(key->filename, sizeof(key->filename),
			   program->filename);
	if (by_args)
		read_args(key->args, task);

	starts = tally_entry(execs, key);
	__sync_fetch_and_add(&starts->execs, 1);
	return 0;
}
