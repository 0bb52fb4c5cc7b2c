// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * How many entries each map has, as far as the kernel counts them. One line of
 * binary for each such map.
 */
#include "kernel.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/*
 * Hash maps have it since 6.6: 25954730461a ("bpf: add percpu stats for bpf_map
 * elements insertions/deletions").
 */
struct bpf_map___since_6_6 {
	__s64 *elem_count;
} __attribute__((preserve_access_index));

extern __s64 bpf_map_sum_elem_count(const struct bpf_map *map) __ksym;

struct usage {
	__u64 map;
	__s64 entries;
};

SEC("iter/bpf_map")
int usage(struct bpf_iter__bpf_map *ctx)
{
	struct bpf_map *map = ctx->map;
	struct bpf_map___since_6_6 *since_6_6 = (void *)map;
	struct usage usage = {};

	if (!map || !since_6_6->elem_count)
		return 0;
	usage.map = map->id;
	usage.entries = bpf_map_sum_elem_count(map);
	bpf_seq_write(ctx->meta->seq, &usage, sizeof(usage));
	return 0;
}
