// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: calls of a function of a program or library, by process, and
 * the sum of the sizes that are its first argument.
 */
#include "ktally.bpf.h"

TALLY("calls of a function with a size, by process");

TASK_FILTERS;

/* A text option is a char array behind a typedef. */
typedef char path_name[256];
typedef char function_name[128];
OPTION(path_name, path, "libc.so.6", "the program or library");
OPTION(function_name, function, "malloc", "the function");

struct who {
	char comm[TASK_COMM_LEN] AS(comm);
};

struct calls {
	__u64 calls COUNTER("times that the function was called");
	__u64 bytes COUNTER("the sizes of all calls") UNIT(bytes);
};

TABLE(by_process, struct who, struct calls, 8192, "calls of the function")
SORT_BY(bytes);

/* ATTACH() says what the section cannot; $NAME is an option's value. */
SEC("uprobe")
ATTACH("uprobe:$path:$function")
int BPF_UPROBE(called, unsigned long size)
{
	struct who who = {};
	struct calls *calls;

	if (!wanted_task())
		return 0;
	bpf_get_current_comm(who.comm, sizeof(who.comm));
	calls = tally_entry(by_process, &who);
	__sync_fetch_and_add(&calls->calls, 1);
	__sync_fetch_and_add(&calls->bytes, size);
	return 0;
}
