// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: signals at signal_generate, when they are sent, not when they arrive.
 * Not seen: the SIGKILL of a process to its own threads (exit_group, exec), and
 * kill(pid, 0), which sends nothing.
 * Cost: up to 1 us a signal.
 */
#include "ktally.bpf.h"

TALLY("signals, by who sends them to whom", "killsnoop sigsnoop");

TASK_FILTERS;
CPU_FILTER;
WHO_OPTIONS;

/* The target, which the filters are about, and the sender. */
struct signal {
	struct tally_who;
	char sender[TASK_COMM_LEN] AS(comm);
	pid_t sender_pid AS(pid) WITH(by_pid);
	__u32 signal AS(signal);
};

struct sent {
	__u64 signals COUNTER("signals that were sent");
	__u64 lost COUNTER("of these, ignored or already pending");
};

TABLE(signals, struct signal, struct sent, 8192, "signals");

/* include/linux/sched/signal.h, asm-generic/siginfo.h */
#define SEND_SIG_PRIV 1
#define SI_TIMER (-2)

/* No task sent it: the current one has nothing to do with it. */
static __always_inline bool from_kernel(struct kernel_siginfo *info)
{
	if ((unsigned long)info <= SEND_SIG_PRIV)
		return (unsigned long)info == SEND_SIG_PRIV;
	return BPF_CORE_READ(info, si_code) == SI_TIMER;
}

SEC("tp_btf/signal_generate")
int BPF_PROG(signal_generate, int number, struct kernel_siginfo *info,
	     struct task_struct *task, int group, int result)
{
	struct signal key = {.signal = number, .sender = "[kernel]"};
	struct sent *sent;

	if (!wanted_cpu() || !wanted(task))
		return 0;
	task_who(&key, task);
	if (!from_kernel(info)) {
		current_name(key.sender);
		if (by_pid)
			key.sender_pid = tally_current_pid();
	}

	sent = tally_entry(signals, &key);
	__sync_fetch_and_add(&sent->signals, 1);
	if (result)
		__sync_fetch_and_add(&sent->lost, 1);
	return 0;
}
