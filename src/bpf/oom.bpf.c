// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: processes that the OOM killer chooses, at mark_victim; before 6.9,
 * when they exit.
 * Not seen: processes that die because they share a victim's memory, and kills
 * by user space (systemd-oomd), which are signals.
 * Cost: about 0.1 us when a thread exits.
 */
#include "ktally.bpf.h"

TALLY("processes that the kernel kills for want of memory", "oomkill");

/* No filter of CPUs: which one ran out of memory says nothing. */
TASK_FILTERS;
RARE_WHO_OPTIONS;

struct kills {
	__u64 kills COUNTER("processes that were chosen to die");
};

TABLE(oom, struct tally_who, struct kills, 1024, "victims")
OVERVIEW(90, "OOM kills", kills);

static __always_inline int count(struct task_struct *task)
{
	struct tally_who key = {};
	struct kills *kills;

	if (!wanted(task))
		return 0;
	task_who(&key, task);

	kills = tally_entry(oom, &key);
	__sync_fetch_and_add(&kills->kills, 1);
	return 0;
}

/*
 * Since 6.9, and in some stable series, the event names the task: 72ba14deb40a
 * ("mm: update mark_victim tracepoints fields").
 */
#define NAMES_TASK \
	tracepoint_takes(mark_victim, with_task, struct task_struct *, uid_t)

SEC("tp_btf/mark_victim")
int BPF_PROG(mark_victim)
{
	return NAMES_TASK ? count((struct task_struct *)ctx[0]) : 0;
}

/* Where it names only a pid: victims are still marked when they die. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(sched_process_exit, struct task_struct *task)
{
	if (!NAMES_TASK && task->pid == task->tgid && task->signal->oom_mm)
		return count(task);
	return 0;
}
