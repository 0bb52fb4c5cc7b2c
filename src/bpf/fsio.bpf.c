// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: opens, reads, writes and syncs of regular files and folders, from
 * sys_enter to sys_exit. An open that fails has no filesystem. If another
 * thread replaces a descriptor during a call, it may count for the new file.
 * Not seen: mmap, sendfile, splice, copy_file_range, sync, syncfs, io_uring.
 * Cost: about 0.1 us for every system call of the host, 0.4 us for these.
 */
#include "ktally.bpf.h"
#include "files.h"

TALLY("time to open, read, write and sync files, by filesystem",
      "filetop fileslower ext4dist ext4slower xfsdist xfsslower vfsstat");

TASK_FILTERS;
CPU_FILTER;
COMM_OPTION;
WHO_OPTIONS;

enum operation {
	other,
	open,
	read,
	write,
	sync,
};

#define FILESYSTEM_LEN 16

struct target {
	struct tally_who;
	char filesystem[FILESYSTEM_LEN];
	enum operation operation;
	__u32 padding HIDDEN;
};

struct calls {
	__u64 calls COUNTER("system calls that returned");
	__u64 errors COUNTER("of these, calls that returned an error");
	__u64 bytes COUNTER("bytes that were read or written") UNIT(bytes);
	__u64 time COUNTER("time spent inside the calls") UNIT(ns);
	struct tally_histogram latency HISTOGRAM("time of one call") UNIT(ns);
	__u64 max MAXIMUM("the longest call") UNIT(ns);
};

TABLE(fsio, struct target, struct calls, 4096, "operations on files")
SORT_BY(time);

/* The call that a task is in. */
struct entry {
	__u64 since;
	struct target key;
	__u64 start; /* of an open, instead of `since` */
};

TASK_STATE(entered, struct entry) UNDER_WAY(fsio, time);

static __always_inline enum operation operation_of(__u32 call)
{
	if (is_read(call))
		return read;
	if (is_write(call))
		return write;
	if (is_open(call))
		return open;
	return is_sync(call) ? sync : other;
}

/* Into a zeroed key; false where it is a pipe, a socket or a device. */
static __always_inline bool set_filesystem(struct target *key, __u32 fd)
{
	struct inode *inode = BPF_CORE_READ(file_of(fd), f_inode);
	struct super_block *super = BPF_CORE_READ(inode, i_sb);
	__u16 type = BPF_CORE_READ(inode, i_mode) & S_IFMT;

	if (type != S_IFREG && type != S_IFDIR)
		return false;
	/* What the kernel mounts for itself has no paths: eventfd, memfd. */
	if (BPF_CORE_READ(super, s_flags) & SB_KERNMOUNT)
		return false;
	bpf_probe_read_kernel_str(key->filesystem, sizeof(key->filesystem),
				  BPF_CORE_READ(super, s_type, name));
	return true;
}

static __always_inline void begin(struct entry *entry, struct target *key)
{
	if (key->operation != open) {
		entry->start = 0;
		tally_begin(entry, key);
		return;
	}
	tally_end(entry);
	tally_begin_hidden(entry, key);
}

static __always_inline void count(struct target *key, bool failed, long ret,
				  bool timed, __u64 time)
{
	struct calls *calls = tally_entry(fsio, key);

	__sync_fetch_and_add(&calls->calls, 1);
	if (failed)
		__sync_fetch_and_add(&calls->errors, 1);
	else if (key->operation == read || key->operation == write)
		__sync_fetch_and_add(&calls->bytes, ret);
	if (timed) {
		__sync_fetch_and_add(&calls->time, time);
		tally_observe(&calls->latency, time);
		tally_maximum(&calls->max, time);
	}
}

/* Attached first: what has begun has its end in sight. */
SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit, struct pt_regs *regs, long ret)
{
	__u32 call = syscall_number(regs);
	struct target key = {.operation = operation_of(call)};
	bool timed, failed = syscall_failed(regs, ret);
	struct entry *entry;
	__u64 time;
	__u32 fd = ret;

	if (key.operation == other)
		return 0;
	entry = bpf_task_storage_get(&entered, bpf_get_current_task_btf(), NULL,
				     0);
	timed = tally_elapsed(entry, &time) ||
		tally_elapsed_hidden(entry, &time);
	if (!wanted_cpu() || (!timed && !wanted_task()))
		goto out;
	if (timed)
		key = entry->key;
	else
		current_who(&key);
	if (key.operation != open)
		fd = syscall_argument(regs, call, 0);
	if ((key.operation == open ? !failed : !timed) &&
	    !set_filesystem(&key, fd))
		goto out;
	count(&key, failed, ret, timed, time);
out:
	tally_end(entry);
	return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(sys_enter, struct pt_regs *regs, long id)
{
	__u32 call = syscall_number(regs);
	struct target key = {.operation = operation_of(call)};
	struct entry *entry;

	if (key.operation == other || !wanted_task())
		return 0;
	if (key.operation != open &&
	    !set_filesystem(&key, syscall_argument(regs, call, 0)))
		return 0;
	current_who(&key);
	entry = tally_state(entered, bpf_get_current_task_btf(), fsio);
	if (entry)
		begin(entry, &key);
	return 0;
}
