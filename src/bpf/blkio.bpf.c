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
 * Cost: about 0.6 us a request.
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

/* Whether a request is counted; its struct may serve none at the moment. */
enum use {
	IDLE,
	WANTED,
	UNWANTED, /* another task may issue what this one queued */
};

/* Requests under way, by address: since when they are at the device. */
struct times {
	__u64 since;
	struct target key;
	__u64 inserted; /* when it was queued, if it was */
	__u32 use;
	__u32 kept; /* after its end, for the next request at this address */
};

#define MAX_UNDER_WAY 65536
HASH_STATE(under_way, __u64, struct times, MAX_UNDER_WAY)
UNDER_WAY(blkio, latency);

/*
 * Elements that are kept: most requests have the address of an earlier one, and
 * to find its element costs less than to make and to delete one. At most half
 * of all are, as a device may go and leave addresses that do not come back.
 */
static __u32 kept;

static __always_inline __u32 device_of(struct request *request)
{
	struct gendisk *disk = request_disk(request);

	return disk ? disk->major << 20 | disk->first_minor : 0;
}

static __always_inline bool wanted_device(struct request *request)
{
	return !device || device_of(request) == device;
}

static __always_inline struct target target_of(struct request *request)
{
	return (struct target){
		.device = device_of(request),
		.operation = request->cmd_flags & REQ_OP_MASK,
	};
}

/*
 * Who hands a request over: the current task; what is written back has the
 * cgroup that wrote it. Nothing reads a key while `since` is 0.
 */
static __always_inline void take(struct request *request, struct times *times)
{
	struct cgroup *group = NULL;

	times->key = target_of(request);
	if (by_cgroup || cgroup)
		group = bio_cgroup(request->bio);
	times->use = wanted_task_for(group) ? WANTED : UNWANTED;
	if (times->use == UNWANTED)
		return;
	current_who(&times->key);
	if (by_cgroup && group)
		times->key.cgroup = group->kn->id;
}

/* NULL where there is no room: its time is dropped; the request is counted. */
static __always_inline struct times *times_of(struct request *request)
{
	__u64 address = (__u64)request;
	struct times *times, new = {};

	times = bpf_map_lookup_elem(&under_way, &address);
	if (times)
		return times;
	new.kept = kept < MAX_UNDER_WAY / 2;
	if (bpf_map_update_elem(&under_way, &address, &new, BPF_ANY))
		tally_dropped(blkio);
	else if (new.kept)
		__sync_fetch_and_add(&kept, 1);
	return bpf_map_lookup_elem(&under_way, &address);
}

static __always_inline void release(__u64 address, struct times *times)
{
	if (!times)
		return;
	tally_end(times);
	times->inserted = 0;
	times->use = IDLE;
	if (!times->kept)
		bpf_map_delete_elem(&under_way, &address);
}

/* Attached first: what has begun has its end in sight. */
SEC("tp_btf/block_rq_complete")
int BPF_PROG(block_rq_complete, struct request *request, int error,
	     unsigned int bytes)
{
	__u64 time, address = (__u64)request;
	struct target unseen, *key = &unseen;
	struct requests *requests;
	struct times *times;

	if (!wanted_device(request))
		return 0;
	times = bpf_map_lookup_elem(&under_way, &address);
	/* What is left of a write whose flush is a request of its own. */
	if (!request->__data_len && (request->cmd_flags & REQ_OP_MASK) == write)
		goto out;
	if (times && times->use == UNWANTED)
		goto out;
	if (times && times->use == WANTED) {
		key = &times->key;
	} else {
		if (tasks_are_filtered())
			return 0;
		unseen = target_of(request);
	}
	requests = tally_entry(blkio, key);
	if (!error)
		__sync_fetch_and_add(&requests->bytes, bytes);
	/* A device may complete a request bit by bit. */
	if (bytes < request->__data_len)
		return 0;
	__sync_fetch_and_add(&requests->requests, 1);
	if (error)
		__sync_fetch_and_add(&requests->errors, 1);
	/* Requests that were under way when counting began have no times. */
	if (!tally_elapsed(times, &time))
		goto out;
	tally_observe(&requests->latency, time);
	tally_maximum(&requests->max, time);
	if (times->inserted)
		__sync_fetch_and_add(&requests->queued,
				     (times->since & ~TALLY_ENDING) -
					     times->inserted);
out:
	release(address, times);
	return 0;
}

SEC("tp_btf/block_rq_insert")
int block_rq_insert(__u64 *ctx)
{
	struct request *request =
		block_argument(ctx, block_rq_insert, struct request);
	struct times *times;

	if (!wanted_device(request))
		return 0;
	times = times_of(request);
	if (!times)
		return 0;
	tally_end(times);
	take(request, times);
	times->inserted = bpf_ktime_get_ns();
	return 0;
}

/* Into another request, which is the one that completes. */
SEC("tp_btf/block_rq_merge")
int block_rq_merge(__u64 *ctx)
{
	__u64 address =
		(__u64)block_argument(ctx, block_rq_merge, struct request);

	release(address, bpf_map_lookup_elem(&under_way, &address));
	return 0;
}

/* Keeps the task that queued it: kworkers issue what waits in a queue. */
SEC("tp_btf/block_rq_issue")
int block_rq_issue(__u64 *ctx)
{
	struct request *request =
		block_argument(ctx, block_rq_issue, struct request);
	struct times *times;

	if (!wanted_device(request))
		return 0;
	times = times_of(request);
	if (!times)
		return 0;
	if (times->use == IDLE)
		take(request, times);
	if (times->use == WANTED)
		tally_begin_prepared(times);
	return 0;
}
