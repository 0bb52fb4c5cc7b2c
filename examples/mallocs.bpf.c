// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: sizes that programs ask malloc(3) for, by process.
 * Cost: a trap for each call: some us.
 */
#include "ktally.bpf.h"

TALLY("sizes of malloc, by process");

TASK_FILTERS;

typedef char path_name[256];
OPTION(path_name, library, "libc.so.6", "the library that has malloc");

struct who {
	char comm[TASK_COMM_LEN] AS(comm);
};

struct sizes {
	struct tally_histogram size HISTOGRAM("bytes of one call") UNIT(bytes);
};

TABLE(mallocs, struct who, struct sizes, 8192, "calls of malloc");

SEC("uprobe")
ATTACH("uprobe:$library:malloc")
int BPF_UPROBE(called, unsigned long size)
{
	struct who who = {};
	struct sizes *sizes;

	if (!wanted_task())
		return 0;
	bpf_get_current_comm(who.comm, sizeof(who.comm));
	sizes = tally_entry(mallocs, &who);
	tally_observe(&sizes->size, size);
	return 0;
}
