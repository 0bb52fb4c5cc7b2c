// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: sched_process_exit of a process's last thread; before 6.16 of its
 * first, which may end earlier, and also ends when another thread calls exec.
 * Not seen: the exits of other threads.
 * Cost: about 0.6 us a process.
 */
#include "ktally.bpf.h"

TALLY("processes that end, and what ended them", "exitsnoop");

TASK_FILTERS;
CPU_FILTER;
WHO_OPTIONS;

struct end {
	struct tally_who;
	__u32 code; /* as shells tell it: 128 and the signal */
	__u32 signal AS(signal);
};

struct ends {
	__u64 exits COUNTER("processes that ended");
};

TABLE(exits, struct end, struct ends, 8192, "ended processes");

/* As wait(2) would tell it, which asks for the thread that came first. */
static __always_inline __u32 wait_status(struct task_struct *leader)
{
	if (BPF_CORE_READ(leader, signal, flags) & SIGNAL_GROUP_EXIT)
		return BPF_CORE_READ(leader, signal, group_exit_code);
	return leader->exit_code;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(sched_process_exit, struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;
	bool last_thread;
	struct end key = {};
	struct ends *ends;
	__u32 status;

	/*
	 * Each thread comes here. Since 6.16 the event tells which is the last:
	 * 3e816361e94a ("sched/tracepoints: Move and extend the
	 * sched_process_exit() tracepoint").
	 */
	if (tracepoint_takes(sched_process_exit, with_last,
			     struct task_struct *, bool))
		last_thread = (bool)ctx[1];
	else
		last_thread = task->pid == task->tgid;
	if (!last_thread || !wanted_cpu() || !wanted_task())
		return 0;
	status = wait_status(leader);
	key.signal = status & 0x7f;
	key.code = key.signal ? 128 + key.signal : status >> 8 & 0xff;
	task_who(&key, leader);

	ends = tally_entry(exits, &key);
	__sync_fetch_and_add(&ends->exits, 1);
	return 0;
}
