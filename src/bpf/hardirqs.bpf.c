// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: runs from irq_handler_entry to irq_handler_exit, one for each handler
 * of a shared line.
 * Not seen: NMIs, the threads of threaded handlers and, on x86, the local timer
 * and interrupts between CPUs.
 * Cost: about 0.5 us a run.
 */
#include "ktally.bpf.h"

TALLY("interrupts of devices, by name");

CPU_FILTER;

#define NAME_LEN 32

struct interrupt {
	char name[NAME_LEN];
};

struct runs {
	__u64 count COUNTER("times the interrupt's handler ran");
	__u64 time COUNTER("time spent in the handler") UNIT(ns);
	struct tally_histogram latency HISTOGRAM("time of one run") UNIT(ns);
};

TABLE(hardirqs, struct interrupt, struct runs, 1024, "interrupts");

/* When the handler that is running on this CPU began: they do not nest. */
CPU_STATE(began, __u64);

SEC("tp_btf/irq_handler_entry")
int BPF_PROG(irq_handler_entry)
{
	__u64 *start = tally_cpu_state(began);

	if (start)
		*start = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/irq_handler_exit")
int BPF_PROG(irq_handler_exit, int irq, struct irqaction *action)
{
	__u64 time;
	bool timed = tally_elapsed(tally_cpu_state(began), &time);
	struct interrupt key = {};
	struct runs *runs;

	if (!wanted_cpu())
		return 0;
	tally_text(key.name, sizeof(key.name), action->name);
	runs = tally_entry(hardirqs, &key);
	if (!runs)
		return 0;
	__sync_fetch_and_add(&runs->count, 1);
	if (timed) {
		__sync_fetch_and_add(&runs->time, time);
		tally_observe(&runs->latency, time);
	}
	return 0;
}
