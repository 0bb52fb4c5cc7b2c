// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: ticks of the perf event cpu-clock, which are samples.
 * Not seen: what runs between ticks, and idle CPUs. Code with interrupts off
 * appears where it turns them on.
 * Cost: about 20 us a sample, which at 99 Hz is 0.2 % of a CPU.
 */
#include "ktally.bpf.h"
#include "stacks.h"

TALLY("what the CPUs run: samples of kernel and user stacks", "perf");

TASK_FILTERS;
CPU_FILTER;
WHO_OPTIONS;
OPTION(__u32, hz, 99, "samples a second and CPU");

struct running {
	struct tally_who;
	struct tally_ustack user AS(ustack);
	struct tally_kstack kernel AS(kstack);
};

struct samples {
	__u64 samples COUNTER("times that the clock found a CPU here");
};

TABLE(profile, struct running, struct samples, 8192, "samples");

/* The key that is being built: too large for the BPF stack. */
CPU_STATE(scratch, struct running);

SEC("perf_event")
ATTACH("cpu-clock@$hz")
int clock(void *ctx)
{
	struct running *key = tally_cpu_state(scratch);
	struct samples *samples;

	/* An idle CPU runs nothing. */
	if (!key || !(__u32)bpf_get_current_pid_tgid() || !wanted_cpu() ||
	    !wanted_task())
		return 0;
	current_who(key);
	tally_user_stack(ctx, &key->user);
	tally_kernel_stack(ctx, &key->kernel);

	samples = tally_entry(profile, key);
	__sync_fetch_and_add(&samples->samples, 1);
	return 0;
}
