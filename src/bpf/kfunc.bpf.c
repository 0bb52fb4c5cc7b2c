// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: a kprobe at the start of a function; a kretprobe times the call.
 * Not seen: calls that the compiler inlined, and functions that the kernel does
 * not let probe. A call beyond 16 open ones of its task, or beyond what a
 * kretprobe holds, has no time.
 * Cost: two probes a call, each dearer than a tracepoint.
 */
#include "ktally.bpf.h"
#include "calls.h"

TALLY("calls of kernel functions", "funccount funclatency funcslower");

typedef char function_pattern[128];

TASK_FILTERS;
CPU_FILTER;
COMM_OPTION;
WHO_OPTIONS;
OPTION(function_pattern SHORT(f), function, "",
       "the function, or many by * and ?");

struct callee {
	struct tally_who;
	__u64 function AS(ksym);
};

struct calls {
	__u64 calls COUNTER("times that it was called");
	__u64 time COUNTER("time in calls") UNIT(ns);
	struct tally_histogram latency HISTOGRAM("time of one call") UNIT(ns);
	__u64 max MAXIMUM("the longest call") UNIT(ns);
};

TABLE(kfunc, struct callee, struct calls, 1024, "calls of the functions")
SORT_BY(time);

/* The calls of a thread that have not returned, the outermost first. */
TASK_STATE(entered, struct tally_calls) UNDER_WAY(kfunc, time);

/* Attached first: a call that is counted has its return in sight. */
SEC("kretprobe")
ATTACH("kretprobe:$function")
int returned(struct pt_regs *regs)
{
	struct tally_calls *open;
	struct tally_call *call;
	struct calls *calls;
	__u64 time;

	open = bpf_task_storage_get(&entered, bpf_get_current_task_btf(), NULL,
				    0);
	call = open ? tally_return(open, regs) : NULL;
	if (!tally_elapsed(call, &time))
		return 0;
	calls = tally_entry(kfunc, (struct callee *)call->key);
	__sync_fetch_and_add(&calls->time, time);
	tally_observe(&calls->latency, time);
	tally_maximum(&calls->max, time);
	tally_end(call);
	return 0;
}

SEC("kprobe")
ATTACH("kprobe:$function")
int called(struct pt_regs *regs)
{
	struct callee key = {.function = probed_function(regs)};
	struct tally_calls *open;
	struct tally_call *call;
	struct calls *calls;

	if (!wanted_cpu() || !wanted_task())
		return 0;
	current_who(&key);
	calls = tally_entry(kfunc, &key);
	__sync_fetch_and_add(&calls->calls, 1);
	/* Without it the call is counted all the same, but not its time. */
	open = tally_state(entered, bpf_get_current_task_btf(), kfunc);
	call = open ? tally_call(open, regs) : NULL;
	if (call)
		tally_begin(call, &key);
	return 0;
}
