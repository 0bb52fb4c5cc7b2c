// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: requests at block_rq_complete. Bios that the kernel merges are one
 * request, for the task whose bio came first. A request counts for the task
 * that hands it to the kernel's queues, and for the cgroup that wrote the data,
 * where its io controller is on. A flush counts for a kworker, as it may serve
 * several tasks; written pages count for the task that writes them back. A
 * request that was under way when counting began has no task. Filters of tasks
 * and `-- COMMAND` are about the same task, and --cgroup about that cgroup.
 * Not seen: devices that take bios only (zram, md, most of dm), and the wait
 * before a request exists (cgroup limits, no free tag).
 * Cost: about 1 us a request.
 */
#include "ktally.bpf.h"
#include "blocks.h"

TALLY("requests to block devices, by device and operation",
      "biolatency biosnoop biotop iostat iotop");

OPTION(__u32 AS(dev), device, 0, "count only this disk (a name or a path)");
TASK_FILTERS;
COMM_OPTION;
WHO_OPTIONS;

/* enum req_op: those whose numbers are the same on every kernel. */
enum operation {
	read,
	write,
	flush,
	discard,
	secure_erase = 5,
	write_zeroes = 9,
	driver_in = 34,
	driver_out = 35,
};

struct target {
	struct tally_who;
	__u32 device AS(dev);
	enum operation operation;
};

struct requests {
	__u64 requests COUNTER("requests completed");
	__u64 bytes COUNTER("bytes that they moved") UNIT(bytes);
	__u64 errors COUNTER("of these requests, those that failed");
	__u64 queued COUNTER("time in the scheduler's queue") UNIT(ns);
	struct tally_histogram latency HISTOGRAM(
		"time at the device, from issue to completion") UNIT(ns);
	__u64 max MAXIMUM("the longest time at the device") UNIT(ns);
};

TABLE(blkio, struct target, struct requests, 4096, "requests")
OVERVIEW(70, "disks", bytes) OVERVIEW(71, "disk latency", latency.p99);

/* Requests under way, by address: since when they are at the device. */
struct times {
	__u64 since;
	struct target key;
	__u64 inserted; /* when it was queued, if it was */
	__u64 unwanted; /* another task may issue what this one queued */
};

HASH_STATE(under_way, __u64, struct times, 65536) UNDER_WAY(blkio, latency);

static __always_inline __u32 device_of(struct request *request)
{
	struct gendisk *disk = request_disk(request);

	return disk ? disk->major << 20 | disk->first_minor : 0;
}

static __always_inline struct target target_of(struct request *request)
{
	return (struct target){
		.device = device_of(request),
		.operation = request->cmd_flags & REQ_OP_MASK,
	};
}

/*
 * Whether it is wanted, and then its key: by the current task; what is written
 * back has the cgroup that wrote it.
 */
static __always_inline bool issued_target(struct request *request,
					  struct target *key)
{
	struct cgroup *group = NULL;

	*key = target_of(request);
	if (device && key->device != device)
		return false;
	if (by_cgroup || cgroup)
		group = bio_cgroup(request->bio);
	if (!wanted_task_for(group))
		return false;
	current_who(key);
	if (by_cgroup && group)
		key->cgroup = group->kn->id;
	return true;
}

/* Attached first: what has begun has its end in sight. */
SEC("tp_btf/block_rq_complete")
int BPF_PROG(block_rq_complete, struct request *request, int error,
	     unsigned int bytes)
{
	__u64 start, time, address = (__u64)request;
	struct target key = target_of(request);
	struct requests *requests;
	struct times *times;

	if (device && key.device != device)
		return 0;
	/* What is left of a write whose flush is a request of its own. */
	if (key.operation == write && !request->__data_len)
		goto out;

	times = bpf_map_lookup_elem(&under_way, &address);
	if (times ? times->unwanted : tasks_are_filtered())
		goto out;
	if (times)
		key = times->key;
	requests = tally_entry(blkio, &key);
	if (!error)
		__sync_fetch_and_add(&requests->bytes, bytes);
	/* A device may complete a request bit by bit. */
	if (bytes < request->__data_len)
		return 0;
	__sync_fetch_and_add(&requests->requests, 1);
	if (error)
		__sync_fetch_and_add(&requests->errors, 1);
	/* Requests that were under way when counting began have no times. */
	start = times ? times->since : 0;
	if (!tally_elapsed(times, &time))
		goto out;
	tally_observe(&requests->latency, time);
	tally_maximum(&requests->max, time);
	if (times->inserted)
		__sync_fetch_and_add(&requests->queued,
				     start - times->inserted);
out:
	bpf_map_delete_elem(&under_way, &address);
	return 0;
}

SEC("tp_btf/block_rq_insert")
int block_rq_insert(__u64 *ctx)
{
	struct request *request =
		block_argument(ctx, block_rq_insert, struct request);
	__u64 address = (__u64)request;
	struct times times = {};

	if (device && device_of(request) != device)
		return 0;
	times.unwanted = !issued_target(request, &times.key);
	times.inserted = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&under_way, &address, &times, BPF_ANY))
		tally_dropped(blkio); /* its time; the request is counted */
	return 0;
}

/* Into another request, which is the one that completes. */
SEC("tp_btf/block_rq_merge")
int block_rq_merge(__u64 *ctx)
{
	__u64 address =
		(__u64)block_argument(ctx, block_rq_merge, struct request);

	bpf_map_delete_elem(&under_way, &address);
	return 0;
}

/* Keeps the task that queued it: kworkers issue what waits in a queue. */
SEC("tp_btf/block_rq_issue")
int block_rq_issue(__u64 *ctx)
{
	struct request *request =
		block_argument(ctx, block_rq_issue, struct request);
	__u64 address = (__u64)request;
	struct times *known, times = {};

	known = bpf_map_lookup_elem(&under_way, &address);
	if (known) {
		if (!known->unwanted)
			tally_begin_prepared(known);
		return 0;
	}
	if (!issued_target(request, &times.key))
		return 0;
	times.since = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&under_way, &address, &times, BPF_ANY))
		tally_dropped(blkio);
	return 0;
}
