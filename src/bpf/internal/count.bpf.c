// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * `ktally count`: counts any event by what it carries, without a compiler. One
 * program for each kind of event, and a plan of what to read; or two, for the
 * time from one event to another. Before this object is opened the frontend
 * changes it (src/tally/count.rs): it writes the plan, gives a program its
 * event in place of EVENT, and the table the types of its key and value.
 */
#include "ktally.bpf.h"
#include "stacks.h"

TALLY("events");

TASK_FILTERS;
CPU_FILTER;

/* ---- the plan: src/query/plan.rs writes it by these names -----------------
 */

#define COUNT_FIELDS 8	/* parts of a key */
#define COUNT_FILTERS 4 /* conditions */
#define COUNT_VALUES 4	/* columns beside the number of events */
#define COUNT_HOPS 6	/* pointers to follow to a value */
#define COUNT_TEXT 64	/* bytes of a text that is compared */
#define COUNT_KEY 256	/* bytes of a key, without stacks */

/* Where the path to a value begins. */
enum count_base {
	COUNT_ARGUMENT, /* and 11 more */
	COUNT_LAST_ARGUMENT = 11,
	COUNT_CONTEXT, /* the record of a tracepoint */
	COUNT_TASK,    /* the current task */
	COUNT_RETURN,  /* what a probed function returns */
	COUNT_PID,
	COUNT_TID,
	COUNT_PPID,
	COUNT_UID,
	COUNT_CGROUP,
	COUNT_CPU,
	COUNT_CALL, /* the number of a system call */
	COUNT_TIME, /* at an end: since its start, in ns */
	COUNT_BASES,
};

enum count_kind {
	COUNT_WORD = 1, /* the base itself */
	COUNT_NUMBER,	/* of at most 8 bytes, in memory */
	COUNT_BYTES,
	COUNT_STRING,	     /* up to its NUL */
	COUNT_RECORD_STRING, /* a __data_loc of a record */
	COUNT_COMM,
	COUNT_KSTACK,
	COUNT_USTACK,
};

/* A value: pointers are read at all offsets but the last one. */
struct count_field {
	__u8 kind;
	__u8 base;
	__u8 hops; /* how many pointers */
	__u8 is_signed;
	__u16 size; /* in bytes, of a number in memory */
	__u8 shift; /* of a bitfield in that number */
	__u8 bits;  /* 0 for all of it */
	/* of a stack: how many frames are those of BPF */
	__u32 offsets[COUNT_HOPS + 1];
	__u16 at;    /* in the key or the value of the table */
	__u16 width; /* in bytes, there */
};

enum count_test {
	COUNT_RANGE = 1, /* low to high */
	COUNT_BITS,	 /* any bit of low */
	COUNT_TEXT_IS,
};

struct count_filter {
	struct count_field field;
	__u8 test;
	__u8 is_not;
	__u8 unused[6];
	__u64 low;
	__u64 high;
	char text[COUNT_TEXT];
};

enum count_measure {
	COUNT_SUM = 1,
	COUNT_MAX,
	COUNT_MIN,
	COUNT_LOG2,
	COUNT_LINEAR,
};

struct count_value_plan {
	struct count_field field;
	__u64 measure;
	__u64 step; /* of a linear histogram */
};

struct count_plan {
	__u32 key_size;
	__u32 bases;  /* a bit for each that is used */
	__u32 opaque; /* a bit for each argument that may only be copied */
	__u32 field_count;
	__u32 filter_count;
	__u32 value_count;
	__u32 has_stacks;
	/* of the program of the end; no bases: there is none */
	__u32 end_bases;
	__u32 end_opaque;
	__u32 end_field_count; /* behind those of the start */
	__u32 end_filter_count;
	/* which start an end belongs to: at the start, and at the end */
	struct count_field pairs[2];
	struct count_field fields[COUNT_FIELDS];
	struct count_filter filters[COUNT_FILTERS];
	struct count_value_plan values[COUNT_VALUES];
};

const volatile struct count_plan count_plan __ktally_tag("plan", "") = {};

/* ---- the table ----------------------------------------------------------- */

struct count_key {
	__u64 words[COUNT_KEY / 8];
	struct tally_kstack kstack;
	struct tally_ustack ustack;
};

struct count_value {
	__u64 events;
	struct tally_histogram columns[COUNT_VALUES];
};

TABLE(events, struct count_key, struct count_value, 8192, "events");

/* An event that has begun, until it ends. */
struct count_start {
	__u64 since;
	struct count_key key;
};

HASH_STATE(count_starts, __u64, struct count_start, 16384)
WITH(end_bases);

/* Of starts, and of keys with stacks: too large for the BPF stack. */
CPU_STATE(count_scratch, struct count_start);

/*
 * Whether the plan uses a base. Callers load *bases* once: the verifier removes
 * code that it rules out, but it does not remove loads.
 */
static __always_inline bool count_uses(__u32 bases, __u32 base)
{
	return bases & 1 << base;
}

/* Where values begin: by enum count_base. */
struct count_bases {
	__u64 of[COUNT_BASES];
};

/*
 * Memory of the kernel has the upper half of the addresses. What cannot be read
 * is left as it is: zeroes.
 */
static __always_inline void count_read(void *to, __u32 size, __u64 address)
{
	if ((__s64)address < 0)
		bpf_probe_read_kernel(to, size, (void *)address);
	else
		bpf_probe_read_user(to, size, (void *)address);
}

static __always_inline void count_read_text(void *to, __u32 size, __u64 address)
{
	if ((__s64)address < 0)
		bpf_probe_read_kernel_str(to, size, (void *)address);
	else
		bpf_probe_read_user_str(to, size, (void *)address);
}

/*
 * Where a value is in memory, 0 behind a pointer that is NULL or unreadable; or
 * the base itself.
 */
static __always_inline __u64
count_find(const volatile struct count_field *field,
	   const struct count_bases *bases)
{
	__u64 address = bases->of[field->base];

	if (field->kind == COUNT_WORD || !address)
		return address;
	address += field->offsets[0];
	if (field->kind == COUNT_RECORD_STRING) {
		__u32 place = 0;

		count_read(&place, sizeof(place), address);
		return bases->of[field->base] + (place & 0xffff);
	}
#pragma clang loop unroll(disable)
	for (int i = 0; i < COUNT_HOPS; i++) {
		__u64 next = 0;

		if (i >= field->hops)
			break;
		count_read(&next, sizeof(next), address);
		if (!next)
			return 0;
		address = next + field->offsets[i + 1];
	}
	return address;
}

static __always_inline pid_t count_parent(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct task_struct *parent = BPF_CORE_READ(task, real_parent);

	return tally_pids.level ? tally_pid(parent)
				: BPF_CORE_READ(parent, tgid);
}

/* What every event has. */
static __always_inline void count_take_current(__u32 uses,
					       struct count_bases *bases)
{
	if (count_uses(uses, COUNT_TASK))
		bases->of[COUNT_TASK] = bpf_get_current_task();
	if (count_uses(uses, COUNT_PID))
		bases->of[COUNT_PID] = tally_current_pid();
	if (count_uses(uses, COUNT_TID))
		bases->of[COUNT_TID] = tally_current_tid();
	if (count_uses(uses, COUNT_PPID))
		bases->of[COUNT_PPID] = count_parent();
	if (count_uses(uses, COUNT_UID))
		bases->of[COUNT_UID] = (__u32)bpf_get_current_uid_gid();
	if (count_uses(uses, COUNT_CGROUP))
		bases->of[COUNT_CGROUP] = bpf_get_current_cgroup_id();
	if (count_uses(uses, COUNT_CPU))
		bases->of[COUNT_CPU] = bpf_get_smp_processor_id();
}

/* A base, or what is in memory there: 64 bits, with the sign of its type. */
static __always_inline __u64
count_number(const volatile struct count_field *field, __u64 found)
{
	__u64 number = 0;
	__u32 bits = field->bits;

	if (field->kind == COUNT_NUMBER)
		count_read(&number, field->size, found);
	else
		number = found;
	if (bits) {
		number <<= 64 - bits - field->shift;
		if (field->is_signed)
			number = (__s64)number >> (64 - bits);
		else
			number >>= 64 - bits;
	}
	return number;
}

static __always_inline void count_text(void *to, __u32 size,
				       const volatile struct count_field *field,
				       __u64 found)
{
	if (field->kind == COUNT_COMM)
		current_name(to);
	else if (field->kind == COUNT_BYTES)
		count_read(to, size, found);
	else
		count_read_text(to, size, found);
}

static __always_inline bool count_is_text(__u32 kind)
{
	return kind >= COUNT_BYTES && kind <= COUNT_COMM;
}

/* ---- filters ------------------------------------------------------------- */

static __always_inline bool
count_is_this_text(const volatile struct count_filter *filter, __u64 *text,
		   __u64 found)
{
	const volatile __u64 *wanted = (const volatile __u64 *)filter->text;

#pragma unroll
	for (int i = 0; i < COUNT_TEXT / 8; i++)
		text[i] = 0;
	count_text(text, filter->field.width, &filter->field, found);
#pragma unroll
	for (int i = 0; i < COUNT_TEXT / 8; i++)
		if (text[i] != wanted[i])
			return false;
	return true;
}

static __always_inline bool
count_is_met(const volatile struct count_filter *filter,
	     const struct count_bases *bases, __u64 *text)
{
	__u64 found = count_find(&filter->field, bases), number;

	if (filter->test == COUNT_TEXT_IS)
		return count_is_this_text(filter, text, found);
	number = count_number(&filter->field, found);
	if (filter->test == COUNT_BITS)
		return number & filter->low;
	/* One comparison: of numbers with a sign, too. */
	return number - filter->low <= filter->high - filter->low;
}

/* *text* is memory for a text that is compared. */
static __always_inline bool count_wants(const struct count_bases *bases,
					__u64 *text, __u32 first, __u32 count)
{
#pragma unroll
	for (int i = 0; i < COUNT_FILTERS; i++) {
		const volatile struct count_filter *filter =
			&count_plan.filters[i];

		if (i < first)
			continue;
		if (i >= first + count)
			break;
		if (count_is_met(filter, bases, text) == filter->is_not)
			return false;
	}
	return true;
}

/* ---- keys and values ----------------------------------------------------- */

static __always_inline void count_write(void *to, __u32 width, __u64 number)
{
	if (width == 1)
		*(__u8 *)to = number;
	else if (width == 2)
		*(__u16 *)to = number;
	else if (width == 4)
		*(__u32 *)to = number;
	else
		*(__u64 *)to = number;
}

static __always_inline void count_fill(void *key,
				       const volatile struct count_field *field,
				       void *ctx,
				       const struct count_bases *bases)
{
	void *to = key + field->at;
	__u64 found;

	/* Zeroes behind the last frame. */
	if (field->kind == COUNT_KSTACK) {
		bpf_get_stack(ctx, to, sizeof(struct tally_kstack),
			      field->offsets[0]);
		return;
	}
	if (field->kind == COUNT_USTACK)
		return tally_user_stack(ctx, to);
	found = count_find(field, bases);
	if (count_is_text(field->kind))
		count_text(to, field->width, field, found);
	else
		count_write(to, field->width, count_number(field, found));
}

static __always_inline void
count_add(void *value, const volatile struct count_value_plan *plan,
	  const struct count_bases *bases)
{
	__u64 *to = value + plan->field.at;
	__u64 number =
		count_number(&plan->field, count_find(&plan->field, bases));

	if (plan->measure == COUNT_SUM)
		__sync_fetch_and_add(to, number);
	else if (plan->field.is_signed && (__s64)number < 0)
		number = 0; /* the others have no sign */
	if (plan->measure == COUNT_MAX)
		tally_maximum(to, number);
	else if (plan->measure == COUNT_MIN)
		tally_minimum(to, number);
	else if (plan->measure == COUNT_LOG2)
		__tally_observe(to, to + 1, __tally_bucket(number), number);
	else if (plan->measure == COUNT_LINEAR)
		__tally_observe(to, to + 1,
				number ? (number - 1) / plan->step + 1 : 0,
				number);
}

/* *text* is memory for a text that is compared. */
static __always_inline bool
count_is_wanted(void *ctx, __u32 uses, struct count_bases *bases, __u64 *text)
{
	if (!wanted_cpu() || !wanted_task())
		return false;
	bases->of[COUNT_CONTEXT] = (__u64)ctx;
	count_take_current(uses, bases);
	return count_wants(bases, text, 0, count_plan.filter_count);
}

static __always_inline void count_fill_fields(void *key, void *ctx,
					      const struct count_bases *bases,
					      __u32 first, __u32 count)
{
#pragma unroll
	for (int i = 0; i < COUNT_FIELDS; i++)
		if (i >= first && i < first + count)
			count_fill(key, &count_plan.fields[i], ctx, bases);
}

static __always_inline void count_fill_key(__u64 *key, void *ctx,
					   const struct count_bases *bases)
{
	__u32 key_size = count_plan.key_size;

#pragma unroll
	for (int i = 0; i < COUNT_KEY / 8; i++)
		if (i * 8 < key_size)
			key[i] = 0;
	count_fill_fields(key, ctx, bases, 0, count_plan.field_count);
}

static __always_inline void count_event(const void *key,
					const struct count_bases *bases)
{
	__u32 values = count_plan.value_count;
	struct count_value *value;

	value = __tally_entry(&events, key, &events_zero, &events_other);
	__sync_fetch_and_add(&value->events, 1);
#pragma unroll
	for (int i = 0; i < COUNT_VALUES; i++)
		if (i < values)
			count_add(value, &count_plan.values[i], bases);
}

static __always_inline int count(void *ctx, __u32 uses,
				 struct count_bases *bases)
{
	__u64 small[COUNT_KEY / 8];
	__u64 *key = small;

	if (!count_is_wanted(ctx, uses, bases, key))
		return 0;
	if (count_plan.has_stacks) {
		struct count_start *large = tally_cpu_state(count_scratch);

		if (!large)
			return 0;
		/* Linux 6.1 and 6.12 want the test before the addition. */
		barrier_var(large);
		key = large->key.words;
	}
	count_fill_key(key, ctx, bases);
	count_event(key, bases);
	return 0;
}

/* ---- from one event to another ------------------------------------------- */

static __always_inline __u64 count_pair(int end,
					const struct count_bases *bases)
{
	const volatile struct count_field *field = &count_plan.pairs[end];

	return count_number(field, count_find(field, bases));
}

/* A later start of the same pair takes the place of an earlier one. */
static __always_inline int count_from(void *ctx, __u32 uses,
				      struct count_bases *bases)
{
	struct count_start *start = tally_cpu_state(count_scratch);
	__u64 text[COUNT_TEXT / 8], pair;

	if (!start || !count_is_wanted(ctx, uses, bases, text))
		return 0;
	count_fill_key(start->key.words, ctx, bases);
	pair = count_pair(0, bases);
	start->since = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&count_starts, &pair, start, BPF_ANY))
		tally_dropped(events);
	return 0;
}

/* What is read at the end takes its place in the key of the start. */
static __always_inline int count_to(void *ctx, __u32 uses,
				    struct count_bases *bases)
{
	struct count_start *start;
	__u64 text[COUNT_TEXT / 8], pair;

	bases->of[COUNT_CONTEXT] = (__u64)ctx;
	count_take_current(uses, bases);
	pair = count_pair(1, bases);
	start = bpf_map_lookup_elem(&count_starts, &pair);
	if (!start)
		return 0;
	bases->of[COUNT_TIME] = bpf_ktime_get_ns() - start->since;
	if (count_wants(bases, text, count_plan.filter_count,
			count_plan.end_filter_count)) {
		count_fill_fields(&start->key, ctx, bases,
				  count_plan.field_count,
				  count_plan.end_field_count);
		count_event(&start->key, bases);
	}
	bpf_map_delete_elem(&count_starts, &pair);
	return 0;
}

/* An event that ends an interval, and then begins one. */
static __always_inline int count_both(void *ctx, __u32 uses,
				      struct count_bases *bases)
{
	count_to(ctx, uses, bases);
	return count_from(ctx, uses, bases);
}

/* ---- programs ------------------------------------------------------------ */

/*
 * One for each way to get at arguments. The frontend writes the kind of the
 * program and its event over this name, which has room for them.
 */
#define EVENT                                                \
	"EVENT_____________________________________________" \
	"__________________________________________________" \
	"____________________________"

/* tp_btf, fentry; fexit has what the function returns behind its arguments. */
static __always_inline void take_traced(void *ctx, __u32 uses, __u32 opaque,
					struct count_bases *bases)
{
#pragma unroll
	for (int i = 0; i <= COUNT_LAST_ARGUMENT; i++) {
		if (!count_uses(uses, i))
			continue;
		if (count_uses(opaque, i))
			bpf_probe_read_kernel(&bases->of[i], 8, ctx + i * 8);
		else
			bases->of[i] = (__u64)tracepoint_argument(ctx, i);
	}
	if (count_uses(uses, COUNT_CALL))
		bases->of[COUNT_CALL] = syscall_number((void *)bases->of[0]);
}

/* kprobe, kretprobe, uprobe, uretprobe */
static __always_inline void take_probed(struct pt_regs *ctx, __u32 uses,
					__u32 opaque, struct count_bases *bases)
{
	if (count_uses(uses, 0))
		bases->of[0] = PT_REGS_PARM1(ctx);
	if (count_uses(uses, 1))
		bases->of[1] = PT_REGS_PARM2(ctx);
	if (count_uses(uses, 2))
		bases->of[2] = PT_REGS_PARM3(ctx);
	if (count_uses(uses, 3))
		bases->of[3] = PT_REGS_PARM4(ctx);
	if (count_uses(uses, 4))
		bases->of[4] = PT_REGS_PARM5(ctx);
	if (count_uses(uses, 5))
		bases->of[5] = PT_REGS_PARM6(ctx);
	if (count_uses(uses, COUNT_RETURN))
		bases->of[COUNT_RETURN] = PT_REGS_RC(ctx);
}

/* tracepoint, perf_event: nothing but what every event has */
static __always_inline void take_plain(void *ctx, __u32 uses, __u32 opaque,
				       struct count_bases *bases)
{
}

#define PROGRAM(name, kind, context, part, plan_bases, plan_opaque)     \
	SEC("?" #name "/" EVENT)                                        \
	int name(context *ctx)                                          \
	{                                                               \
		__u32 uses = count_plan.plan_bases;                     \
		struct count_bases bases;                               \
                                                                        \
		take_##kind(ctx, uses, count_plan.plan_opaque, &bases); \
		return part(ctx, uses, &bases);                         \
	}

/* Of an end before that of its start: programs are attached in this order. */
#define PROGRAMS(kind, context)                                            \
	PROGRAM(kind##_to, kind, context, count_to, end_bases, end_opaque) \
	PROGRAM(kind##_from, kind, context, count_from, bases, opaque)     \
	PROGRAM(kind##_both, kind, context, count_both, bases, opaque)     \
	PROGRAM(kind, kind, context, count, bases, opaque)

PROGRAMS(traced, void)
PROGRAMS(probed, struct pt_regs)
PROGRAMS(plain, void)
