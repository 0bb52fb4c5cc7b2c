// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Takes the numbers out of every value of any map and leaves zeroes, each by
 * one atomic exchange: an increment is either taken or stays, never lost.
 */
#include "kernel.h"

#define MAX_NUMBERS 1024
#define RECORDS (1 << 24)

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Stands for the map to drain, whatever its type and sizes. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} drain_target SEC(".maps");

/* What was taken: a key, padded to 8 bytes, and 8 bytes a number. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RECORDS);
} taken SEC(".maps");

struct number {
	__u32 offset;
	__u32 width;
};

/* Constants, so that the verifier can check every access. */
const volatile struct {
	__u32 key_size;
	__u32 padded_key_size;
	__u32 count;
	__u32 unused;
	struct number numbers[MAX_NUMBERS];
} layout;

static __always_inline bool holds_something(const char *value)
{
	for (__u32 i = 0; i < layout.count && i < MAX_NUMBERS; i++) {
		const char *at = value + layout.numbers[i].offset;

		if (layout.numbers[i].width == 8 ? *(const __u64 *)at
						 : *(const __u32 *)at)
			return true;
	}
	return false;
}

/* Stops the walk where there is no room to keep what would be taken. */
static long take(void *map, void *key, char *value, bool *is_full)
{
	char *record;
	__u64 *number;

	if (!holds_something(value))
		return 0;
	record = bpf_ringbuf_reserve(
		&taken, layout.padded_key_size + layout.count * 8, 0);
	if (!record) {
		*is_full = true;
		return 1;
	}
	bpf_probe_read_kernel(record, layout.key_size, key);
	number = (__u64 *)(record + layout.padded_key_size);
	for (__u32 i = 0; i < layout.count && i < MAX_NUMBERS; i++) {
		char *at = value + layout.numbers[i].offset;

		if (layout.numbers[i].width == 8)
			number[i] = __sync_lock_test_and_set((__u64 *)at, 0);
		else
			number[i] = __sync_lock_test_and_set((__u32 *)at, 0);
	}
	bpf_ringbuf_submit(record, 0);
	return 0;
}

/* 0 at the end of the map, ENOSPC where the records have to be read first. */
SEC("syscall")
int drain(void *ctx)
{
	bool is_full = false;

	bpf_for_each_map_elem(&drain_target, take, &is_full, 0);
	return is_full ? ENOSPC : 0;
}
