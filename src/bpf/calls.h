/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Calls of functions, from a probe at the start to a probe at the return: what
 * a task has called and not yet returned from. Include it behind ktally.bpf.h.
 */
#ifndef KTALLY_CALLS_H
#define KTALLY_CALLS_H

/* What a return takes off the stack, beyond what the call left there. */
#if defined(__TARGET_ARCH_x86)
#define RETURN_SLOT 8
#else
#define RETURN_SLOT 0
#endif

static __always_inline __u64 stack_pointer(struct pt_regs *regs)
{
	return regs->sp;
}

/* Calls of one task that have not returned; the outermost come first. */
#define TALLY_CALLS 16	  /* a power of 2; deeper recursion is not timed */
#define TALLY_CALL_KEY 40 /* at most: a struct tally_who and an address */

struct tally_call {
	__u64 sp;
	__u64 since;
	char key[TALLY_CALL_KEY]; /* of the row that counts it */
};

struct tally_calls {
	__u32 depth;
	struct tally_call call[TALLY_CALLS];
};

/*
 * Takes back the calls whose frames end at or below *sp*: their functions have
 * returned, or were left by a longjmp or an exception. The outermost of them,
 * or NULL.
 */
static __always_inline struct tally_call *
__tally_unwind(struct tally_calls *calls, __u64 sp)
{
	struct tally_call *outermost = NULL;

	for (int i = 0; i < TALLY_CALLS; i++) {
		__u32 top = calls->depth;

		if (!top)
			break;
		if (top > TALLY_CALLS)
			top = TALLY_CALLS;
		top = (top - 1) & (TALLY_CALLS - 1);
		if (calls->call[top].sp > sp)
			break;
		/* Left without a return of its own. */
		tally_end(outermost);
		outermost = &calls->call[top];
		calls->depth = top;
	}
	return outermost;
}

/* At the start of a function: its call, or NULL where it recurses too deep. */
static __always_inline struct tally_call *tally_call(struct tally_calls *calls,
						     struct pt_regs *regs)
{
	__u64 sp = stack_pointer(regs);
	__u32 depth;

	tally_end(__tally_unwind(calls, sp));
	depth = calls->depth;
	calls->depth = depth + 1;
	if (depth >= TALLY_CALLS)
		return NULL;
	calls->call[depth].sp = sp;
	return &calls->call[depth];
}

/*
 * At the return of a function: its call. NULL if its start was not seen, or
 * was too deep in a recursion.
 */
static __always_inline struct tally_call *
tally_return(struct tally_calls *calls, struct pt_regs *regs)
{
	if (calls->depth > TALLY_CALLS) {
		calls->depth--;
		return NULL;
	}
	return __tally_unwind(calls, stack_pointer(regs) - RETURN_SLOT);
}

#endif /* KTALLY_CALLS_H */
