// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: a uprobe at the start of a function, in every process that maps the
 * file; a uretprobe times the call.
 * Not seen: calls that the compiler inlined. A call beyond 16 open ones of its
 * thread, or left by longjmp, has no time.
 * Cost: two traps a call: some us, up to 20 us in a virtual machine.
 */
#include "ktally.bpf.h"
#include "calls.h"

TALLY("calls of a function of a program or library, by process",
      "ltrace funclatency funccount");

typedef char path_name[256];
typedef char function_name[128];

TASK_FILTERS;
CPU_FILTER;
WHO_OPTIONS;
OPTION(path_name, path, "libc.so.6",
       "the program or library: a path, or a name like libc.so.6");
OPTION(function_name SHORT(f), function, "",
       "the function, as its symbol table has it");

struct calls {
	__u64 calls COUNTER("times that the function was called");
	__u64 time COUNTER("time in calls") UNIT(ns);
	struct tally_histogram latency HISTOGRAM("time of one call") UNIT(ns);
	__u64 max MAXIMUM("the longest call") UNIT(ns);
};

TABLE(ufunc, struct tally_who, struct calls, 8192, "calls of the function")
SORT_BY(time);

/* The calls of a thread that have not returned, the outermost first. */
TASK_STATE(entered, struct tally_calls) UNDER_WAY(ufunc, time);

/* Attached first: a call that is counted has its return in sight. */
SEC("uprobe")
ATTACH("uretprobe:$path:$function")
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
	/* Where it was counted: the task may have got another name. */
	calls = tally_entry(ufunc, (struct tally_who *)call->key);
	__sync_fetch_and_add(&calls->time, time);
	tally_observe(&calls->latency, time);
	tally_maximum(&calls->max, time);
	tally_end(call);
	return 0;
}

SEC("uprobe")
ATTACH("uprobe:$path:$function")
int called(struct pt_regs *regs)
{
	struct tally_who key = {};
	struct tally_calls *open;
	struct tally_call *call;
	struct calls *calls;

	if (!wanted_cpu() || !wanted_task())
		return 0;
	current_who(&key);
	calls = tally_entry(ufunc, &key);
	__sync_fetch_and_add(&calls->calls, 1);
	/* Without it the call is counted all the same, but not its time. */
	open = tally_state(entered, bpf_get_current_task_btf(), ufunc);
	call = open ? tally_call(open, regs) : NULL;
	if (call)
		tally_begin(call, &key);
	return 0;
}
