/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ktally's C interface: everything that a tally needs, in one include.
 *
 * A tally is one C file. It says once, beside the data, what the data is: each
 * macro below leaves a BTF declaration tag "ktally:WHAT:TEXT" in the object,
 * and the frontend learns names, help, units, labels and options from there.
 *
 *	#include "ktally.bpf.h"
 *
 *	TALLY("system calls that failed, by process");     // what it counts
 *	OPTION(pid_t, pid, 0, "count only this process");  // --pid
 *
 *	struct who {                                       // a row's key
 *		char comm[TASK_COMM_LEN] AS(comm);
 *	};
 *	struct failed {                                    // a row's columns
 *		__u64 calls COUNTER("system calls that failed");
 *	};
 *	TABLE(failures, struct who, struct failed, 1024, "failed system calls");
 *
 * and then programs, which find their row with tally_entry() and add to it.
 * Included with it are kernel.h (types and constants), compat.h (what differs
 * between kernels) and syscalls.h. Some tallies include calls.h (functions that
 * are timed from start to return), files.h, stacks.h, net.h or blocks.h.
 */
#ifndef KTALLY_BPF_H
#define KTALLY_BPF_H

#include "kernel.h"
#include "compat.h"
#include "syscalls.h"

#define __ktally_tag(what, text) \
	__attribute__((btf_decl_tag("ktally:" what ":" text)))

/* ---- what a file declares ------------------------------------------------ */

/*
 * Once a file: the line that `ktally list` shows. It is also the licence that
 * the kernel wants to see before it lends out its GPL-only helpers. Behind it
 * may stand a text with the names of other tools that answer the same question:
 * `ktally list NAME` finds the tally by them, and so do errors about them.
 */
#define TALLY(summary, ...)                                          \
	char LICENSE[] SEC("license") __ktally_tag("tally", summary) \
		__ktally_tag("like", "" __VA_ARGS__) = "Dual BSD/GPL"

/*
 * A constant that the user sets: --name on the command line, checked against
 * its C type (integers, bool, enums, char arrays by a typedef). It is written
 * before the program is loaded, so the verifier knows its value and drops the
 * code that it rules out: an option that is off costs nothing.
 * A unit goes with the type: OPTION(__u64 UNIT(ns), longer_than, 0, "...")
 * takes 10ms on the command line. A time or size must be a whole number of the
 * unit, and fit the type.
 * A text is a char array behind a typedef, with room for its NUL:
 *
 *	typedef char path_name[64];
 *	OPTION(path_name, path, "/bin/sh", "the file to probe");
 */
#define OPTION(type, name, default_value, help) \
	const volatile type name __ktally_tag("option", help) = default_value
/* Behind its type: OPTION(pid_t SHORT(p), pid, ...) is -p as well as --pid. */
#define SHORT(letter) __ktally_tag("short", #letter)

/* ---- tables -------------------------------------------------------------- */

/* A table's health; see tally_dropped(). */
struct tally_health {
	__u64 dropped;
};

/*
 * Beside its map, a table has the zeroes of a new row (in .rodata, so that a
 * row may be larger than the BPF stack), its health, and the row `other`: that
 * of the events for whose key the map has no room.
 */
#define __ktally_table(map_type, name, key_type, value_type, max, help) \
	const value_type name##_zero = {0};                             \
	struct tally_health name##_health SEC(".bss.ktally") = {};      \
	value_type name##_other SEC(".bss.ktally") = {0};               \
	struct {                                                        \
		__uint(type, map_type);                                 \
		__uint(max_entries, max);                               \
		__type(key, key_type);                                  \
		__type(value, value_type);                              \
	} name SEC(".maps") __ktally_tag("table", help)

/*
 * One row per key. Zero the key before you fill it: its padding is compared
 * too.
 */
#define TABLE(name, key_type, value_type, max, help) \
	__ktally_table(BPF_MAP_TYPE_HASH, name, key_type, value_type, max, help)

/* Rows 0 to max - 1: the cheapest table, for small dense keys. */
#define ARRAY_TABLE(name, value_type, max, help) \
	__ktally_table(BPF_MAP_TYPE_ARRAY, name, __u32, value_type, max, help)

/*
 * Like TABLE, with a copy of each row for each CPU: for keys that many CPUs
 * hit at once. Readers add the copies up. Adding still has to be atomic, as an
 * interrupt on the same CPU may count into the same row.
 */
#define PERCPU_TABLE(name, key_type, value_type, max, help)                  \
	__ktally_table(BPF_MAP_TYPE_PERCPU_HASH, name, key_type, value_type, \
		       max, help)

/*
 * Behind a table: its rows come in the order of this column, the greatest
 * first, as with --sort. Without it that is the first column of numbers.
 */
#define SORT_BY(column) __ktally_tag("sort_by", #column)
/*
 * Behind a table: `ktally top` without a name shows a line with this word and
 * this column of all rows: OVERVIEW(10, "CPU", time), or of a histogram
 * OVERVIEW(20, "run queue", latency.p99). The lines are in the order of their
 * places. Where rows have a `comm`, the list of processes has this column too.
 */
#define OVERVIEW(place, what, column) \
	__ktally_tag("overview", #place ":" what ":" #column)
/*
 * Behind OVERVIEW: the tally costs time at each system call or page fault, so
 * --light leaves it out. All tallies of the overview together may add 150 ns to
 * a call.
 */
#define DEAR __ktally_tag("dear", "")

/* ---- columns: on members of a value -------------------------------------- */

/*
 * Columns are integers of any size, short arrays of them (one column per
 * element), and histograms; BPF has no floating point, and ktally refuses a
 * float that is marked as a column. Columns have names of their own: a member
 * of the value may not be called like one of the key.
 *
 * Rows that were grouped (--by, or as HIDDEN parts of their keys differ) add
 * up, and so do the copies of a PERCPU_TABLE: counters, histograms, and gauges
 * too, so let a gauge be something whose sum means something.
 *
 * A row whose counters and histograms are all zero (in an interval of --every:
 * have not changed) is not shown, whatever its gauges and maxima say. Where
 * these are all that a row has it is always shown, at 0 too; of an ARRAY_TABLE
 * that is every index.
 */
/* Only ever grows; shown as a rate. */
#define COUNTER(help) __ktally_tag("counter", help)
/* Goes up and down; shown as it is. */
#define GAUGE(help) __ktally_tag("gauge", help)
/*
 * The greatest number so far, a __u64 that tally_maximum() raises. Of several
 * rows, and of the copies of a PERCPU_TABLE, it is the greatest of theirs. An
 * interval has no greatest number: it is shown since the start in every
 * reading, and never as a rate. Right behind a histogram of the same unit it is
 * taken for the greatest of what that observes, so no quantile exceeds it.
 */
#define MAXIMUM(help) __ktally_tag("maximum", help)
/*
 * The least number so far, as MAXIMUM the greatest: a __u64 that has the
 * complement, as rows begin with zeroes; only tally_minimum() writes it. Where
 * it has seen none (or no number but 2^64 - 1) it is shown as empty.
 */
#define MINIMUM(help) __ktally_tag("minimum", help)
/*
 * On a struct tally_histogram; see tally_observe(). Columns of its mean and
 * quantiles, and where the table has nothing else one of how many were
 * observed.
 */
#define HISTOGRAM(help) __ktally_tag("histogram", help)
/*
 * For small numbers, such as the depth of a queue: a histogram with buckets of
 * the width *step*, a constant. It is the type and the tag of a member, as its
 * type has the step; see tally_observe_linear().
 *
 *	LINEAR_HISTOGRAM("requests that are at the device", 1) depth;
 */
#define LINEAR_HISTOGRAM(help, step_)         \
	HISTOGRAM(help) struct {              \
		__u64 sum;                    \
		__u64 buckets[TALLY_BUCKETS]; \
		char step[0][step_];          \
	}

/* ---- how to show things: on members, scalar tables, options ------------- */

/*
 * How a number is shown, and what may be typed for it. After a table whose key
 * is a plain number it describes that number. What has no name is shown as the
 * number; a decoder that this version of ktally lacks gets a warning.
 *
 *	AS(comm)	text up to its first NUL
 *	AS(pid)		a process or a thread, by its tally_pid() or tally_tid()
 *	AS(uid)		a user's login name
 *	AS(gid)		a group's name
 *	AS(cgroup)	a cgroup's id: its path; in tables what runs there
 *	AS(syscall)	a system call: what syscall_number() tells
 *	AS(errno)	a positive error number: ENOENT
 *	AS(signal)	a signal's number: SIGTERM
 *	AS(state)	how a task sleeps: interruptible
 *	AS(softirq)	a softirq's vector: NET_RX
 *	AS(cpu)		a CPU
 *	AS(id)		the id of a map, program or link: 1234, never 1,234
 *	AS(bool)	true unless 0
 *	AS(hex)		0x2a
 *	AS(enum:NAME)	the running kernel's own enum NAME, less its NAME_
 *	AS(flags:NAME)	the bits that are set, by the names of such an enum
 *	AS(gfp)		a gfp_t: IO|FS; before Linux 6.10 as AS(hex)
 *	AS(time)	bpf_ktime_get_ns(): a date and time
 *	AS(ipv4)	4 bytes in network order
 *	AS(ipv6)	16 bytes in network order
 *	AS(ip)		either: an IPv4 address is ::ffff:a.b.c.d
 *	AS(port)	2 bytes in network order
 *	AS(ifindex)	a network interface
 *	AS(netns)	a network namespace's inode number, or the path of one
 *	AS(dev)		a block device's dev_t
 *	AS(ksym)	an address of kernel code: vfs_read+0x1c
 *	AS(kstack)	a struct tally_kstack of stacks.h
 *	AS(ustack)	a struct tally_ustack of stacks.h
 */
#define AS(decoder) __ktally_tag("as", #decoder)
/*
 * What a number counts: UNIT(ns), UNIT(us), UNIT(ms) and UNIT(s) are times,
 * UNIT(bytes) are sizes, both scaled for people; any other word, as UNIT(hz),
 * is but named. JSON and CSV have the number itself.
 */
#define UNIT(unit) __ktally_tag("unit", #unit)
/*
 * On a member of a key or a value: not shown unless this option is given, or on
 * by default and not given as --option=false. On a table or a
 * state: not made, and its programs must not use it then; see offcpu.bpf.c. On
 * a program: not loaded.
 */
#define WITH(option) __ktally_tag("with", #option)
/* On a table or a state: not made if this option is given. */
#define WITHOUT(option) __ktally_tag("without", #option)
/*
 * On a member of a key: rows with one of these values, as --where takes them,
 * come last, unless --sort says otherwise. For waits that are expected.
 */
#define IDLE(...) __ktally_tag("idle", #__VA_ARGS__)
/*
 * Padding or private state: not shown. Rows whose keys differ in nothing else
 * are shown as one.
 */
#define HIDDEN __ktally_tag("hidden", "")

/* ---- programs: between SEC() and the function ---------------------------- */

/* This program may fail to attach; the tally goes on without it. */
#define OPTIONAL __ktally_tag("optional", "")
/*
 * Of several programs that say ALTERNATIVE(group), in the order of the file,
 * the first one whose event this kernel has is used: events get new names.
 */
#define ALTERNATIVE(group) __ktally_tag("alternative", #group)
/*
 * What the section's name cannot say; $NAME stands for an option's value, as it
 * is, and must be one of the tally's:
 * SEC("perf_event") ATTACH("cpu-clock@$hz"), or ATTACH("software:6") for each
 * event of this number in perf_sw_ids (linux/perf_event.h),
 * SEC("uprobe") ATTACH("uprobe:$path:$function"),
 * SEC("kprobe") ATTACH("kprobe:$function"), where * and ? match many functions.
 * A text option that stands in it has to be given.
 */
#define ATTACH(target) __ktally_tag("attach", target)

/*
 * This program runs once, when the others are attached, for what is under way
 * by then: SEC("raw_tp") on each CPU, SEC("iter/task") for each task.
 */
#define AT_START __ktally_tag("at_start", "")

/* ---- counting ------------------------------------------------------------ */

/*
 * A map's own update helper is no way to add: it swaps the whole element, and
 * of two CPUs that insert a new key at once one loses its count. So a new row
 * starts as zeroes, inserted only if there is none; whichever CPU won that
 * race, the row is then looked up again and added to in place.
 */
static __always_inline void *__tally_entry(void *map, const void *key,
					   const void *zero, void *other)
{
	void *value = bpf_map_lookup_elem(map, key);

	if (value)
		return value;
	bpf_map_update_elem(map, key, zero, BPF_NOEXIST);
	return bpf_map_lookup_elem(map, key) ?: other;
}

/*
 * The row of *key, made if it is new: a pointer into the map, to be added to
 * with __sync_fetch_and_add(). Where there is no room for it (table full, out
 * of memory, bucket busy) it is the table's row `other`: the event loses its
 * key, and nothing else. Never NULL.
 */
#define tally_entry(table, key_ptr)                                      \
	({                                                               \
		const typeof(*(table).key) *__key = (key_ptr);           \
		(typeof((table).value))__tally_entry(                    \
			&(table), __key, &table##_zero, &table##_other); \
	})

/*
 * Says that the start of an event could not be kept, for want of memory: the
 * event is counted when it ends, but its time is unknown. tally_state() does it
 * by itself; this is for other state beside the tables.
 *
 * What the counters say together, for each program: the events that the kernel
 * reported = what it added to all rows, `other` included, + its "missed",
 * exactly. "missed" is the number of its runs that the kernel skipped, as a
 * program was already running on that CPU. Columns of durations lack "dropped"
 * events, and those whose start was missed.
 *
 * What the kernel does not report is in neither: see tally_switched().
 */
#define tally_dropped(table) \
	((void)__sync_fetch_and_add(&table##_health.dropped, 1))

/* ---- state beside the tables: not shown ---------------------------------- */

#define __TASK_STORAGE(name, state)                      \
	struct tally_storage_##name {                    \
		__uint(type, BPF_MAP_TYPE_TASK_STORAGE); \
		__uint(map_flags, BPF_F_NO_PREALLOC);    \
		__type(key, int);                        \
		__type(value, state);                    \
	} name SEC(".maps")

/*
 * What a tally keeps about a task: gone with the task, never full. Its program
 * is loaded where the state is UNDER_WAY: it hands out the number of each
 * thread that has a value, and the value.
 */
#define TASK_STATE(name, state)                                             \
	__TASK_STORAGE(name, state);                                        \
	SEC("?iter/task") int tally_walk_##name(struct bpf_iter__task *ctx) \
	{                                                                   \
		return __tally_walk(ctx, &name, sizeof(state));             \
	}                                                                   \
	struct tally_storage_##name name SEC(".maps")

static __always_inline int __tally_walk(struct bpf_iter__task *ctx,
					void *storage, __u32 size)
{
	struct seq_file *seq = ctx->meta->seq;
	struct task_struct *task = ctx->task;
	void *value;
	__u64 id;

	if (!task || task->exit_state)
		return 0;
	value = bpf_task_storage_get(storage, task, NULL, 0);
	if (!value)
		return 0;
	id = task->pid;
	bpf_seq_write(seq, &id, sizeof(id));
	bpf_seq_write(seq, value, size);
	return 0;
}

/* What it keeps about each CPU. */
#define CPU_STATE(name, state)                           \
	struct {                                         \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); \
		__uint(max_entries, 1);                  \
		__type(key, __u32);                      \
		__type(value, state);                    \
	} name SEC(".maps")

/*
 * What it keeps by another key, such as a socket's address: at most *max* at
 * once. Its memory is allocated when it is made. Call tally_dropped() where an
 * update finds no room.
 */
#define HASH_STATE(name, key_type, state, max)   \
	struct {                                 \
		__uint(type, BPF_MAP_TYPE_HASH); \
		__uint(max_entries, max);        \
		__type(key, key_type);           \
		__type(value, state);            \
	} name SEC(".maps")

/* That of this CPU: zeroes at first. NULL only to the verifier. */
#define tally_cpu_state(name)                                                \
	({                                                                   \
		__u32 __zero = 0;                                            \
		(typeof((name).value))bpf_map_lookup_elem(&(name), &__zero); \
	})

/*
 * That of a task: zeroes if it is new. NULL for want of memory, or while the
 * kernel works on the storage of tasks on this CPU; then the table's dropped
 * counter has been increased.
 */
#define tally_state(storage, task, table)                                     \
	({                                                                    \
		typeof((storage).value) __state =                             \
			bpf_task_storage_get(&(storage), task, NULL,          \
					     BPF_LOCAL_STORAGE_GET_F_CREATE); \
		if (!__state)                                                 \
			tally_dropped(table);                                 \
		__state;                                                      \
	})

/* ---- what is under way --------------------------------------------------- */

/*
 * An event of two ends, such as a call and its return. The first end notes in a
 * state when it was, and the key of the row that the second end adds its time
 * to. Between the two the event is under way: each reading includes its time up
 * to then, in the column that UNDER_WAY names, and how many there are. A state
 * has the members `since` and `key`, and its map says what they are for:
 *
 *	struct entry {
 *		__u64 since;
 *		struct call key;
 *	};
 *	TASK_STATE(entered, struct entry) UNDER_WAY(syscalls, time);
 *
 *	tally_begin(entry, &key);
 *	...
 *	timed = tally_elapsed(entry, &time);
 *	calls = tally_entry(syscalls, timed ? &entry->key : &key);
 *	...
 *	tally_end(entry);
 *
 * The map may also be a CPU_STATE or a HASH_STATE, and a state may have several
 * such structs. Programs are attached in the order of the file: write that of
 * the second end first, so that no start waits for an end that came before it.
 *
 * The filters are asked at the first end. The second one asks them only where
 * the first one noted nothing: it came before counting began or was not wanted.
 */
#define UNDER_WAY(table, column) __ktally_tag("under_way", #table "." #column)

/*
 * Set in `since` while the rest of a state is written, and while its time is
 * added to a row: meanwhile a reading leaves it out. On x86 stores keep their
 * order; with weaker ones this is untested.
 */
#define TALLY_ENDING (1ULL << 63)

static __always_inline void __tally_set(__u64 *since, __u64 to)
{
	barrier();
	*(volatile __u64 *)since = to;
	barrier();
}

/* For a key that is too large to copy: fill that of the state in between. */
#define tally_prepare(state)                                   \
	({                                                     \
		typeof(state) __prepared = (state);            \
		__tally_set(&__prepared->since, TALLY_ENDING); \
		&__prepared->key;                              \
	})
#define tally_begin_prepared(state) \
	__tally_set(&(state)->since, bpf_ktime_get_ns())

#define tally_begin(state, key_ptr) \
	tally_begin_at(state, key_ptr, bpf_ktime_get_ns())

/* The same where the time is known, as that of the end of another event. */
#define tally_begin_at(state, key_ptr, now)                                   \
	({                                                                    \
		typeof(state) __state = (state);                              \
		__tally_set(&__state->since, TALLY_ENDING);                   \
		__builtin_memcpy(&__state->key, key_ptr, sizeof(*(key_ptr))); \
		__tally_set(&__state->since, now);                            \
	})

/*
 * The same AT_START, when events may begin and end meanwhile: what an event has
 * set stays as it is. Whether this set the state.
 */
#define tally_seed(state, key_ptr)                                \
	({                                                        \
		typeof(state) __state = (state);                  \
		bool __is_ours = __sync_bool_compare_and_swap(    \
			&__state->since, 0, TALLY_ENDING);        \
		if (__is_ours) {                                  \
			__builtin_memcpy(&__state->key, key_ptr,  \
					 sizeof(*(key_ptr)));     \
			__is_ours = __sync_bool_compare_and_swap( \
				&__state->since, TALLY_ENDING,    \
				bpf_ktime_get_ns());              \
		}                                                 \
		__is_ours;                                        \
	})

/*
 * Whether it has begun; then *time is what passed, until tally_end(). Else it
 * is 0: old verifiers refuse to read what may not be set.
 */
#define tally_elapsed(state, time)                                \
	({                                                        \
		typeof(state) __began = (state);                  \
		*(time) = 0;                                      \
		__began &&__tally_elapsed(&__began->since, time); \
	})

static __always_inline bool __tally_elapsed(__u64 *since, __u64 *time)
{
	__u64 start = *since;

	if (!start || start & TALLY_ENDING)
		return false;
	__tally_set(since, start | TALLY_ENDING);
	*time = bpf_ktime_get_ns() - start;
	return true;
}

/*
 * Instead of tally_begin() and tally_elapsed(), for an event whose row depends
 * on how it ends: no reading includes its time before that. These two use a
 * member `start` of the state in place of `since`.
 */
#define tally_begin_hidden(state, key_ptr)                                    \
	({                                                                    \
		typeof(state) __state = (state);                              \
		__builtin_memcpy(&__state->key, key_ptr, sizeof(*(key_ptr))); \
		__state->start = bpf_ktime_get_ns();                          \
	})

#define tally_elapsed_hidden(state, time)                                \
	({                                                               \
		typeof(state) __began = (state);                         \
		*(time) = 0;                                             \
		__began &&__tally_elapsed_hidden(&__began->start, time); \
	})

static __always_inline bool __tally_elapsed_hidden(__u64 *start, __u64 *time)
{
	if (!*start)
		return false;
	*time = bpf_ktime_get_ns() - *start;
	*start = 0;
	return true;
}

/* It is added to its row, or is not wanted. Nothing where there is no state. */
#define tally_end(state)                                 \
	({                                               \
		typeof(state) __ended = (state);         \
		if (__ended)                             \
			__tally_set(&__ended->since, 0); \
	})

/* Marks a text that was cut, NUL included; its memory ends at *end*. */
static __always_inline void tally_ellipsis(char *end, bool is_cut)
{
	const char ellipsis[] = "\xe2\x80\xa6";

	if (is_cut)
		__builtin_memcpy(end - sizeof(ellipsis), ellipsis,
				 sizeof(ellipsis));
}

/*
 * A text of the kernel's, for a key: into zeroed memory of this size, NUL
 * included. One that is too long ends in an ellipsis. A key has at most 512
 * bytes on 5.10, and the stack of a program as many.
 */
static __always_inline void tally_text(char *to, long size, const char *from)
{
	char rest = 0;

	if (bpf_probe_read_kernel_str(to, size, from) < size)
		return;
	bpf_probe_read_kernel(&rest, 1, from + size - 1);
	tally_ellipsis(to + size, rest);
}

/* The same of a text of the current process. */
static __always_inline void tally_user_text(char *to, long size,
					    const char *from)
{
	char rest = 0;

	if (bpf_probe_read_user_str(to, size, from) < size)
		return;
	bpf_probe_read_user(&rest, 1, from + size - 1);
	tally_ellipsis(to + size, rest);
}

/*
 * A log2 histogram. Bucket 0 holds 0 and 1; bucket i holds (2^(i-1), 2^i], so
 * its upper edge 2^i is an OpenMetrics "le", exactly; the last one holds the
 * rest. The number of observations is the sum of the buckets. The sum wraps at
 * 2^64, as counters do; a mean that this makes impossible is not shown.
 */
#define TALLY_BUCKETS 64

struct tally_histogram {
	__u64 sum;
	__u64 buckets[TALLY_BUCKETS];
};

/* ceil(log2(n)): BPF has no instruction that counts leading zeroes. */
static __always_inline __u32 __tally_bucket(__u64 n)
{
	__u32 bucket = 1, more;

	if (n <= 1)
		return 0;
	n--;
	more = (n > 0xffffffff) << 5;
	n >>= more;
	bucket += more;
	more = (n > 0xffff) << 4;
	n >>= more;
	bucket += more;
	more = (n > 0xff) << 3;
	n >>= more;
	bucket += more;
	more = (n > 0xf) << 2;
	n >>= more;
	bucket += more;
	more = (n > 0x3) << 1;
	n >>= more;
	bucket += more;
	return bucket + (n > 1);
}

static __always_inline void __tally_observe(__u64 *sum, __u64 *buckets,
					    __u64 bucket, __u64 n)
{
	/* Or clang tests what it comes from, and the verifier knows nothing. */
	barrier_var(bucket);
	if (bucket >= TALLY_BUCKETS)
		bucket = TALLY_BUCKETS - 1;
	__sync_fetch_and_add(&buckets[bucket], 1);
	__sync_fetch_and_add(sum, n);
}

static __always_inline void tally_observe(struct tally_histogram *histogram,
					  __u64 n)
{
	__tally_observe(&histogram->sum, histogram->buckets, __tally_bucket(n),
			n);
}

/*
 * The same of a LINEAR_HISTOGRAM. Bucket 0 holds 0; bucket i holds what is more
 * than (i - 1) * step and at most i * step, an exact "le" as well; the last one
 * holds the rest.
 */
#define tally_observe_linear(histogram, n)                                   \
	({                                                                   \
		typeof(histogram) __linear = (histogram);                    \
		__u64 __n = (n);                                             \
		__tally_observe(                                             \
			&__linear->sum, __linear->buckets,                   \
			__n ? (__n - 1) / sizeof(__linear->step[0]) + 1 : 0, \
			__n);                                                \
	})

/*
 * Whether the kernel has the instruction that tally_maximum() needs: since
 * 5.12, 5ffa25502b5a ("bpf: Add instructions for atomic_[cmp]xchg"). Where it
 * is lacking ktally clears this and takes the instruction out of the programs,
 * as the verifier refuses it even where it is never reached; columns of MAXIMUM
 * and MINIMUM are absent there. Like the counter below it is only in objects
 * that use it.
 */
static const volatile bool tally_maxima __ktally_tag("maxima", "") = true;

/* The number of times that tally_maximum() gave up. */
static volatile __u64 tally_unraised __attribute__((section(".bss.ktally")))
__ktally_tag("unraised", "");

/*
 * Raises a MAXIMUM to *n*, if that is more. If another CPU raises it meanwhile,
 * this tries again, TALLY_RAISES times at most; then it gives up and counts
 * that.
 */
#define TALLY_RAISES 16

static __always_inline void tally_maximum(__u64 *maximum, __u64 n)
{
	__u64 known, found;

	if (!tally_maxima)
		return;
	known = *(volatile __u64 *)maximum;
	for (int i = 0; i < TALLY_RAISES; i++) {
		if (n <= known)
			return;
		found = __sync_val_compare_and_swap(maximum, known, n);
		if (found == known)
			return;
		known = found;
	}
	__sync_fetch_and_add(&tally_unraised, 1);
}

/* Lowers a MINIMUM to *n*, if that is less. */
static __always_inline void tally_minimum(__u64 *minimum, __u64 n)
{
	tally_maximum(minimum, ~n);
}

/* ---- filters ------------------------------------------------------------- */

/*
 * The common filters: a tally offers one by declaring its OPTION, or all of
 * them with TASK_FILTERS. Below are their tentative definitions: a filter that
 * a tally does not offer stays a constant that is off, and the verifier
 * removes its code. NAME_given is set when the user gives --NAME at all (any
 * option may have one), for where no value can mean "not given". The others are
 * off at 0, or with an empty text: --pid 0 counts every process.
 */
typedef char tally_comm[TASK_COMM_LEN];

const volatile pid_t pid;
const volatile tally_comm comm;
const volatile uid_t uid;
const volatile bool uid_given;
const volatile __u64 cgroup;
const volatile __u32 cpu;
const volatile bool cpu_given;

/*
 * Whose name counts: the task's, or its process's, which is that of the thread
 * that came first. See WHO_OPTIONS.
 */
const volatile bool process_name;

#define TASK_FILTERS                                                       \
	OPTION(pid_t AS(pid) SHORT(p), pid, 0, "count only this process"); \
	OPTION(tally_comm AS(comm) SHORT(c), comm, "",                     \
	       "count only processes of this name");                       \
	OPTION(uid_t AS(uid), uid, 0, "count only this user's processes"); \
	OPTION(__u64 AS(cgroup), cgroup, 0,                                \
	       "count only this cgroup and below it (unit, container, path)")

/* For where a CPU means something: count only what this one does. */
#define CPU_FILTER OPTION(__u32 AS(cpu), cpu, 0, "count only on this CPU")

/* cgroups nest; a deeper one than this counts as outside. */
#define TALLY_CGROUP_DEPTH 32

static __always_inline bool __tally_within(struct cgroup *group, __u64 id)
{
	struct cgroup_subsys_state *css = &group->self;

	for (int level = 0; css && level < TALLY_CGROUP_DEPTH; level++) {
		if (BPF_CORE_READ(css, cgroup, kn, id) == id)
			return true;
		css = BPF_CORE_READ(css, parent);
	}
	return false;
}

static __always_inline bool __tally_task_in_cgroup(struct task_struct *task,
						   __u64 id)
{
	return __tally_within(BPF_CORE_READ(task, cgroups, dfl_cgrp), id);
}

/*
 * For the current task there is bpf_get_current_ancestor_cgroup_id(), but not
 * before 5.14: 95b861a7935b ("bpf: Allow bpf_get_current_ancestor_cgroup_id for
 * tracing").
 */
static __always_inline bool __tally_in_cgroup(__u64 id)
{
	return __tally_task_in_cgroup((void *)bpf_get_current_task(), id);
}

static __always_inline bool __tally_is_comm(const char *name)
{
	for (int i = 0; i < TASK_COMM_LEN; i++) {
		if (name[i] != comm[i])
			return false;
		if (!name[i])
			return true;
	}
	return true;
}

/* The name of a task that is called *name*, or is about to be. */
static __always_inline const char *__tally_name(struct task_struct *task,
						const char *name)
{
	struct task_struct *leader;

	if (!process_name)
		return name;
	leader = BPF_CORE_READ(task, group_leader);
	return leader == task ? name : leader->comm;
}

/* What a task is called, as AS(comm). */
static __always_inline void task_name(char to[TASK_COMM_LEN],
				      struct task_struct *task)
{
	task_comm(to, process_name ? task->group_leader : task);
}

/* The same of the current task, as current_task() has it. */
static __always_inline void __tally_current_name(char to[TASK_COMM_LEN],
						 struct task_struct *task)
{
	if (task)
		task_name(to, task);
	else if (process_name)
		bpf_probe_read_kernel_str(
			to, TASK_COMM_LEN,
			BPF_CORE_READ(
				(struct task_struct *)bpf_get_current_task(),
				group_leader)
				->comm);
	else
		bpf_get_current_comm(to, TASK_COMM_LEN);
}

/* The same of the current task. */
static __always_inline void current_name(char to[TASK_COMM_LEN])
{
	__tally_current_name(to, current_task());
}

static __always_inline bool __tally_has_comm(void)
{
	tally_comm current = {};

	current_name(current);
	return __tally_is_comm(current);
}

/*
 * `ktally run NAME -- COMMAND` counts only the command and its children: their
 * tasks have an element in this map, and pass it on when they fork. A tally
 * takes part by asking wanted_task() or wanted(); the frontend sees that from
 * tally_following, which no other object has. The programs below are loaded,
 * and the map is made, only where a command is followed.
 */
enum tally_state {
	TALLY_WAITS = 1, /* to become the command, at its exec */
	TALLY_FOLLOWED = 2,
};

__TASK_STORAGE(tally_followed, __u32);

/* Children that could not be followed, for want of memory. */
struct tally_health tally_followed_health SEC(".bss.ktally") = {};

static const volatile bool tally_following __ktally_tag("follow", "");

static __always_inline bool __tally_follows(struct task_struct *task)
{
	__u32 *state = bpf_task_storage_get(&tally_followed, task, NULL, 0);

	return state && *state == TALLY_FOLLOWED;
}

/* The child has not run yet; threads are children as well. */
SEC("?tp_btf/sched_process_fork")
int BPF_PROG(tally_follow_fork, struct task_struct *parent,
	     struct task_struct *child)
{
	__u32 *state = bpf_task_storage_get(&tally_followed, parent, NULL, 0);
	__u32 *inherited;

	if (!state)
		return 0;
	inherited = bpf_task_storage_get(&tally_followed, child, NULL,
					 BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (inherited)
		*inherited = *state;
	else
		__sync_fetch_and_add(&tally_followed_health.dropped, 1);
	return 0;
}

SEC("?tp_btf/sched_process_exec")
int BPF_PROG(tally_follow_exec, struct task_struct *task)
{
	__u32 *state = bpf_task_storage_get(&tally_followed, task, NULL, 0);

	if (state)
		*state = TALLY_FOLLOWED;
	return 0;
}

/*
 * Numbers of processes are those of the PID namespace that ktally runs in, as
 * its user knows them. The frontend writes which one that is, and its level of
 * nesting; all zeroes are the kernel's own, whose numbers cost nothing.
 */
struct tally_pid_namespace {
	__u32 level;
	__u32 inum;
};

static const volatile struct tally_pid_namespace tally_pids __ktally_tag("pids",
									 "");

static __always_inline pid_t __tally_number(struct upid *number)
{
	if (!number || BPF_CORE_READ(number, ns, ns.inum) != tally_pids.inum)
		return 0;
	return BPF_CORE_READ(number, nr);
}

/* A task's process, for AS(pid): 0 outside of ktally's PID namespace. */
static __always_inline pid_t tally_pid(struct task_struct *task)
{
	if (tally_pids.level)
		return __tally_number(process_number(task, tally_pids.level));
	return task->tgid;
}

/* The task itself, a thread of its process. */
static __always_inline pid_t tally_tid(struct task_struct *task)
{
	if (tally_pids.level)
		return __tally_number(task_number(task, tally_pids.level));
	return task->pid;
}

/* The same of the current task. */
static __always_inline pid_t tally_current_pid(void)
{
	if (tally_pids.level)
		return tally_pid((void *)bpf_get_current_task());
	return bpf_get_current_pid_tgid() >> 32;
}

static __always_inline pid_t tally_current_tid(void)
{
	if (tally_pids.level)
		return tally_tid((void *)bpf_get_current_task());
	return bpf_get_current_pid_tgid();
}

/* Does the current task pass the filters, but for that of cgroups? */
static __always_inline bool __tally_wanted_current(void)
{
	if (tally_following && !__tally_follows(bpf_get_current_task_btf()))
		return false;
	if (pid && tally_current_pid() != pid)
		return false;
	if (uid_given && (uid_t)bpf_get_current_uid_gid() != uid)
		return false;
	return !comm[0] || __tally_has_comm();
}

/* Does the current task pass the filters? */
static __always_inline bool wanted_task(void)
{
	return __tally_wanted_current() &&
	       (!cgroup || __tally_in_cgroup(cgroup));
}

/* The same, on behalf of a cgroup; where it is NULL, of the task's own. */
static __always_inline bool wanted_task_for(struct cgroup *group)
{
	if (!group)
		return wanted_task();
	return __tally_wanted_current() &&
	       (!cgroup || __tally_within(group, cgroup));
}

/* Is any of them on? Then what has no task is not wanted. */
static __always_inline bool tasks_are_filtered(void)
{
	return tally_following || pid || uid_given || comm[0] || cgroup;
}

static __always_inline bool __tally_wanted(struct task_struct *task,
					   const char *name)
{
	tally_comm copy = {};

	if (pid && tally_pid(task) != pid)
		return false;
	if (uid_given && BPF_CORE_READ(task, cred, uid.val) != uid)
		return false;
	if (comm[0]) {
		bpf_probe_read_kernel_str(copy, sizeof(copy),
					  __tally_name(task, name));
		if (!__tally_is_comm(copy))
			return false;
	}
	return !cgroup || __tally_task_in_cgroup(task, cgroup);
}

/* The same of another task, for events that are not about the current one. */
static __always_inline bool wanted(struct task_struct *task)
{
	if (tally_following && !__tally_follows(task))
		return false;
	return __tally_wanted(task, task->comm);
}

/*
 * The same at task_rename, of a task that is about to get this name. By an
 * exec, it may be about to become the command that is followed.
 */
static __always_inline bool wanted_as(struct task_struct *task,
				      const char *name)
{
	if (tally_following &&
	    !bpf_task_storage_get(&tally_followed, task, NULL, 0))
		return false;
	return __tally_wanted(task, name);
}

/* Does the current CPU pass the filter? */
static __always_inline bool wanted_cpu(void)
{
	return !cpu_given || bpf_get_smp_processor_id() == cpu;
}

/* ---- who did it ---------------------------------------------------------- */

/*
 * Who an event is about, as a part of a key without a name of its own, so that
 * its members are columns like the others:
 *
 *	struct call {
 *		struct tally_who;
 *		__u32 call AS(syscall);
 *	};
 *
 *	struct call key = {.call = number};
 *	current_who(&key);
 *
 * Each member but the name is filled only with its option; one that is off only
 * makes the key longer. WHO_OPTIONS declares these options. A tally that is not
 * about tasks adds COMM_OPTION: then the name, too, is filled only with
 * --by-comm.
 */
struct tally_who {
	char comm[TASK_COMM_LEN] AS(comm) WITH(by_comm);
	pid_t pid AS(pid) WITH(by_pid);
	pid_t tid AS(pid) WITH(by_tid);
	__u64 cgroup AS(cgroup) WITH(by_cgroup);
};

/* As the filters are: off, where a tally does not offer them. */
const volatile bool by_comm;
const volatile bool by_pid;
const volatile bool by_tid;
const volatile bool by_cgroup;
const volatile bool tally_comm_is_optional;

#define WHO_OPTIONS __ktally_who(false)
/* For rare events: by process and cgroup, unless these are switched off. */
#define RARE_WHO_OPTIONS __ktally_who(true)

#define __ktally_who(is_rare)                                           \
	OPTION(bool, by_pid, is_rare, "one row per process as well");   \
	OPTION(bool, by_tid, false, "one row per thread as well");      \
	OPTION(bool, by_cgroup, is_rare, "one row per cgroup as well"); \
	OPTION(bool, process_name, false,                               \
	       "a thread has the name of its process, in filters too")

#define COMM_OPTION                                                       \
	OPTION(bool, by_comm, false, "one row per process name as well"); \
	const volatile bool tally_comm_is_optional = true

static __always_inline bool __tally_by_comm(void)
{
	return by_comm || !tally_comm_is_optional;
}

/*
 * Who the current task is, which was wanted. With --comm its name is that one:
 * a task may have got another one since it was found to be wanted.
 */
static __always_inline void __tally_current_who(struct tally_who *who,
						struct task_struct *task)
{
	if (__tally_by_comm() && comm[0])
		bpf_probe_read_kernel(who->comm, TASK_COMM_LEN,
				      (const void *)comm);
	else if (__tally_by_comm())
		__tally_current_name(who->comm, task);
	if (by_pid)
		who->pid = tally_current_pid();
	if (by_tid)
		who->tid = tally_current_tid();
	if (by_cgroup)
		who->cgroup = bpf_get_current_cgroup_id();
}

static __always_inline void
__tally_who(struct tally_who *who, struct task_struct *task, const char *name)
{
	if (__tally_by_comm() && name)
		bpf_probe_read_kernel_str(who->comm, TASK_COMM_LEN,
					  __tally_name(task, name));
	else if (__tally_by_comm())
		task_name(who->comm, task);
	if (by_pid)
		who->pid = tally_pid(task);
	if (by_tid)
		who->tid = tally_tid(task);
	if (by_cgroup)
		who->cgroup = task_cgroup(task);
}

/* Into a zeroed key, or a part of it: the current task, which was wanted. */
#define current_who(key) \
	current_task_who(key, __tally_by_comm() ? current_task() : NULL)
/* The same with the current task, where it is at hand. */
#define current_task_who(key, task) \
	__tally_current_who((struct tally_who *)(key)->comm, task)
/* Another task. */
#define task_who(key, task) task_who_as(key, task, NULL)
/* The same at task_rename, where it gets this name; see wanted_as(). */
#define task_who_as(key, task, name) \
	__tally_who((struct tally_who *)(key)->comm, task, name)

/* ---- what the kernel does not report ------------------------------------- */

/*
 * How often a chain of events broke. Not by SEC(), which keeps what is not
 * used: only objects that look at a chain have it.
 */
static volatile __u64 tally_gaps __attribute__((section(".bss.ktally")))
__ktally_tag("gaps", "");

/*
 * For programs of sched_switch: the task that a CPU leaves is the one that it
 * went to before, or there is a gap, as events of this kind are missing. *last*
 * is a CPU_STATE, or a part of one, that this function keeps: the lower half of
 * a task's address, which tells it from others and says little about where the
 * kernel is.
 */
static __always_inline void
tally_switched(__u32 *last, struct task_struct *prev, struct task_struct *next)
{
	if (!last)
		return;
	if (*last && *last != (__u32)(unsigned long)prev && wanted_cpu())
		__sync_fetch_and_add(&tally_gaps, 1);
	*last = (unsigned long)next;
}

#endif /* KTALLY_BPF_H */
