// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: open, openat, openat2 and creat at sys_exit. The path is the one that
 * the caller passed: it may be relative, and links are not followed.
 * Not seen: io_uring, and what the kernel opens, as for an exec.
 * Cost: about 0.1 us for every system call of the host, 0.6 us more an open.
 */
#include "ktally.bpf.h"
#include "files.h"

TALLY("files that are opened, by process and path", "opensnoop");

TASK_FILTERS;
CPU_FILTER;
WHO_OPTIONS;
OPTION(bool, by_error, false, "one row per error as well");

#define PATH_LEN 256

struct opened {
	struct tally_who;
	char path[PATH_LEN];
	__u32 error AS(errno) WITH(by_error);
	__u32 padding HIDDEN;
};

struct calls {
	__u64 opens COUNTER("calls that opened the file, or failed");
	__u64 errors COUNTER("of these, calls that failed");
};

TABLE(opens, struct opened, struct calls, 8192, "opened files");

SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit, struct pt_regs *regs, long ret)
{
	__u32 call = syscall_number(regs);
	struct opened key = {};
	struct calls *calls;
	bool failed;

	if (!is_open(call) || !wanted_cpu() || !wanted_task())
		return 0;
	failed = syscall_failed(regs, ret);
	tally_user_text(key.path, sizeof(key.path), opened_path(regs, call));
	if (by_error && failed)
		key.error = -ret;
	current_who(&key);

	calls = tally_entry(opens, &key);
	__sync_fetch_and_add(&calls->opens, 1);
	if (failed)
		__sync_fetch_and_add(&calls->errors, 1);
	return 0;
}
