// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Every map of the host, without opening any. One record of binary each.
 */
#include "kernel.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct seen {
	__u32 id;
	__u32 type;
	__s64 users;
	__u64 max_entries;
	char name[16];
};

SEC("iter/bpf_map")
int maps(struct bpf_iter__bpf_map *ctx)
{
	struct bpf_map *map = ctx->map;
	struct seen seen = {};

	if (!map)
		return 0;
	seen.id = map->id;
	seen.type = map->map_type;
	seen.users = map->usercnt.counter;
	seen.max_entries = map->max_entries;
	__builtin_memcpy(seen.name, map->name, sizeof(seen.name));
	bpf_seq_write(ctx->meta->seq, &seen, sizeof(seen));
	return 0;
}
