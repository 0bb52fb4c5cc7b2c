// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: runs from softirq_entry to softirq_exit, with the interrupts in
 * between. One run may handle many packets or timers.
 * Not seen: how long a softirq was pending.
 * Cost: about 0.4 us a run.
 */
#include "ktally.bpf.h"

TALLY("software interrupts, by vector", "mpstat");

CPU_FILTER;

#define VECTORS 10 /* NR_SOFTIRQS, since 2.6.35 */

struct runs {
	__u64 count COUNTER("times the vector's handler ran");
	__u64 time COUNTER("time spent in the handler") UNIT(ns);
	struct tally_histogram latency HISTOGRAM("time of one run") UNIT(ns);
	__u64 max MAXIMUM("the longest run") UNIT(ns);
};

ARRAY_TABLE(softirqs, struct runs, VECTORS, "software interrupts") AS(softirq);

/* The vector that is running on this CPU: they do not nest. */
struct run {
	__u64 since;
	__u32 key;
};

CPU_STATE(running, struct run) UNDER_WAY(softirqs, time);

/* Attached first: what has begun has its end in sight. */
SEC("tp_btf/softirq_exit")
int BPF_PROG(softirq_exit, unsigned int vector)
{
	struct run *run = tally_cpu_state(running);
	__u64 time;
	bool timed = tally_elapsed(run, &time);
	struct runs *runs;

	if (!wanted_cpu())
		return 0;
	runs = tally_entry(softirqs, &vector);
	__sync_fetch_and_add(&runs->count, 1);
	if (timed) {
		__sync_fetch_and_add(&runs->time, time);
		tally_observe(&runs->latency, time);
		tally_maximum(&runs->max, time);
	}
	tally_end(run);
	return 0;
}

SEC("tp_btf/softirq_entry")
int BPF_PROG(softirq_entry, unsigned int vector)
{
	struct run *run = tally_cpu_state(running);

	if (run && wanted_cpu())
		tally_begin(run, &vector);
	return 0;
}
