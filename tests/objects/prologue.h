// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Before each fixture: what an author without ktally's headers writes. The events are
 * system calls of one process: 23 of them in each test.
 */
#ifdef FULL_TYPES
#include <vmlinux.h>
#else
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#endif
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#if defined(__TARGET_ARCH_x86)
#define NR_EVENT 140
#else
#define NR_EVENT 141
#endif

#define TASK_COMM_LEN 16

const volatile int targ_pid = 0;

/* ctx[1] of sys_enter is the number of the call. */
static __always_inline int is_event(const unsigned long long *ctx)
{
	int pid = bpf_get_current_pid_tgid() >> 32;

	return ctx[1] == NR_EVENT && pid == targ_pid;
}

#define MAP(name_, type_, key_, value_, entries_)    \
	struct {                                     \
		__uint(type, BPF_MAP_TYPE_##type_);  \
		__uint(max_entries, entries_);       \
		__type(key, key_);                   \
		__type(value, value_);               \
	} name_ SEC(".maps")

/* A program that runs for each event. */
#define EVENT(name)                                                       \
	static __always_inline int on_##name(unsigned long long *ctx);    \
	SEC("raw_tp/sys_enter") int name(unsigned long long *ctx)         \
	{                                                                 \
		return is_event(ctx) ? on_##name(ctx) : 0;                \
	}                                                                 \
	static __always_inline int on_##name(unsigned long long *ctx)

/* How others find or make an element. */
static __always_inline void *find_or_make(void *map, const void *key, const void *zero)
{
	void *value = bpf_map_lookup_elem(map, key);

	if (!value) {
		bpf_map_update_elem(map, key, zero, BPF_NOEXIST);
		value = bpf_map_lookup_elem(map, key);
	}
	return value;
}

char LICENSE[] SEC("license") = "GPL";

