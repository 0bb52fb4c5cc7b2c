// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Adds to a number inside a value of any map, in place: what user space, which
 * only gets copies, cannot do by itself.
 */
#include "kernel.h"

#define MAX_KEY 512 /* the kernel's own limit, MAX_BPF_STACK */

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Stands for the map to add to, whatever its type and sizes. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} add_target SEC(".maps");

/* Constants, so that the verifier can check the access. */
const volatile struct {
	__u32 offset;
	__u32 width;
	__u8 key[MAX_KEY];
} number;

/* One call's: both ways. */
struct addition {
	__u64 delta;
	__u64 before;
};

SEC("syscall")
int add(struct addition *addition)
{
	char *value = bpf_map_lookup_elem(&add_target, (void *)number.key);

	if (!value)
		return ENOENT;
	value += number.offset;
	if (number.width == 8)
		addition->before =
			__sync_fetch_and_add((__u64 *)value, addition->delta);
	else
		addition->before =
			__sync_fetch_and_add((__u32 *)value, addition->delta);
	return 0;
}
