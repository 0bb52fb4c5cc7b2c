// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: direct reclaim from begin to end, of the machine and of cgroups, for
 * memory.high and memory.reclaim as well.
 * Not seen: kswapd, compaction, swapping in, and the delay that memory.high
 * adds.
 * Cost: small beside a reclaim.
 */
#include "ktally.bpf.h"

TALLY("time that tasks spend freeing memory before they get some", "drsnoop");

TASK_FILTERS;
CPU_FILTER;
WHO_OPTIONS;

/* Who was short of memory: the machine, or a cgroup at its limit. */
enum kind {
	machine,
	cgroup_limit,
};

struct reclaimer {
	struct tally_who;
	enum kind kind;
	__u32 padding HIDDEN;
};

struct reclaims {
	__u64 reclaims COUNTER("times a task had to free memory");
	__u64 pages COUNTER("pages that it freed");
	__u64 time COUNTER("time that it took") UNIT(ns);
	struct tally_histogram latency HISTOGRAM("time of one reclaim")
		UNIT(ns);
	__u64 max MAXIMUM("the longest reclaim") UNIT(ns);
};

TABLE(reclaim, struct reclaimer, struct reclaims, 8192, "direct reclaims")
SORT_BY(time);

/* When a task began to reclaim. */
struct effort {
	__u64 since;
	struct reclaimer key;
};

TASK_STATE(began, struct effort) UNDER_WAY(reclaim, time);

static __always_inline int begin(enum kind kind)
{
	struct reclaimer key = {.kind = kind};
	struct effort *effort;

	if (!wanted_task())
		return 0;
	current_who(&key);
	effort = tally_state(began, bpf_get_current_task_btf(), reclaim);
	if (effort)
		tally_begin(effort, &key);
	return 0;
}

static __always_inline int end(enum kind kind, unsigned long pages)
{
	struct reclaimer key = {.kind = kind};
	struct reclaims *reclaims;
	struct effort *effort;
	__u64 time;
	bool timed;

	effort = bpf_task_storage_get(&began, bpf_get_current_task_btf(), NULL,
				      0);
	timed = tally_elapsed(effort, &time);
	if (!wanted_cpu() || (!timed && !wanted_task()))
		goto out;
	if (timed)
		key = effort->key;
	else
		current_who(&key);
	reclaims = tally_entry(reclaim, &key);
	__sync_fetch_and_add(&reclaims->reclaims, 1);
	__sync_fetch_and_add(&reclaims->pages, pages);
	if (timed) {
		__sync_fetch_and_add(&reclaims->time, time);
		tally_observe(&reclaims->latency, time);
		tally_maximum(&reclaims->max, time);
	}
out:
	tally_end(effort);
	return 0;
}

/* Ends are attached first: what has begun has its end in sight. */
SEC("tp_btf/mm_vmscan_direct_reclaim_end")
int BPF_PROG(direct_end, unsigned long pages)
{
	return end(machine, pages);
}

SEC("tp_btf/mm_vmscan_direct_reclaim_begin")
int BPF_PROG(direct_begin)
{
	return begin(machine);
}

/* These are only where the kernel knows memory cgroups. */
SEC("tp_btf/mm_vmscan_memcg_reclaim_end")
OPTIONAL
int BPF_PROG(memcg_end, unsigned long pages)
{
	return end(cgroup_limit, pages);
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_begin")
OPTIONAL
int BPF_PROG(memcg_begin)
{
	return begin(cgroup_limit);
}
