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
	__u64 max MAXIMUM("the longest run") UNIT(ns);
};

TABLE(hardirqs, struct interrupt, struct runs, 1024, "interrupts");

/* The handler that is running on this CPU: they do not nest. */
struct run {
	__u64 since;
	struct interrupt key;
};

CPU_STATE(running, struct run) UNDER_WAY(hardirqs, time);

/* Attached first: what has begun has its end in sight. */
SEC("tp_btf/irq_handler_exit")
int BPF_PROG(irq_handler_exit, int irq, struct irqaction *action)
{
	struct run *run = tally_cpu_state(running);
	__u64 time;
	bool timed = tally_elapsed(run, &time);
	struct interrupt unseen = {}, *key = &unseen;
	struct runs *runs;

	if (!wanted_cpu())
		return 0;
	if (timed)
		key = &run->key;
	else
		tally_text(unseen.name, sizeof(unseen.name), action->name);
	runs = tally_entry(hardirqs, key);
	__sync_fetch_and_add(&runs->count, 1);
	if (timed) {
		__sync_fetch_and_add(&runs->time, time);
		tally_observe(&runs->latency, time);
		tally_maximum(&runs->max, time);
	}
	tally_end(run);
	return 0;
}

SEC("tp_btf/irq_handler_entry")
int BPF_PROG(irq_handler_entry, int irq, struct irqaction *action)
{
	struct run *run = tally_cpu_state(running);
	struct interrupt key = {};

	if (!run || !wanted_cpu())
		return 0;
	tally_text(key.name, sizeof(key.name), action->name);
	tally_begin(run, &key);
	return 0;
}
