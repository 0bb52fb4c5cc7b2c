/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * System calls of the current task that open, read, write and sync files, and
 * the files behind its descriptors. Include it behind ktally.bpf.h.
 */
#ifndef KTALLY_FILES_H
#define KTALLY_FILES_H

/* An argument of a call, at sys_enter and at sys_exit. */
static __always_inline __u64 syscall_argument(struct pt_regs *regs, __u32 call,
					      int number)
{
	return __syscall_arg(regs, call & COMPAT_SYSCALL, number);
}

/* open and creat, which take a path first, where openat and openat2 do not. */
static __always_inline bool is_old_open(__u32 call)
{
	switch (call) {
#if defined(__TARGET_ARCH_x86)
	case 2:	 /* open */
	case 85: /* creat */
#endif
	case COMPAT_SYSCALL | 5: /* open */
	case COMPAT_SYSCALL | 8: /* creat */
		return true;
	default:
		return false;
	}
}

/* Whether a call of this number opens a file. */
static __always_inline bool is_open(__u32 call)
{
	switch (call) {
#if defined(__TARGET_ARCH_x86)
	case 257:		   /* openat */
	case COMPAT_SYSCALL | 295: /* openat */
#elif defined(__TARGET_ARCH_arm64)
	case 56:		   /* openat */
	case COMPAT_SYSCALL | 322: /* openat */
#endif
	case 437:		   /* openat2 */
	case COMPAT_SYSCALL | 437: /* openat2 */
		return true;
	default:
		return is_old_open(call);
	}
}

/* Where the path that it opens is in memory. */
static __always_inline const char *opened_path(struct pt_regs *regs, __u32 call)
{
	return (void *)syscall_argument(regs, call, !is_old_open(call));
}

static __always_inline bool is_read(__u32 call)
{
	switch (call) {
#if defined(__TARGET_ARCH_x86)
	case 0:			   /* read */
	case 17:		   /* pread64 */
	case 19:		   /* readv */
	case 295:		   /* preadv */
	case 327:		   /* preadv2 */
	case COMPAT_SYSCALL | 333: /* preadv */
	case COMPAT_SYSCALL | 378: /* preadv2 */
#elif defined(__TARGET_ARCH_arm64)
	case 63:		   /* read */
	case 65:		   /* readv */
	case 67:		   /* pread64 */
	case 69:		   /* preadv */
	case 286:		   /* preadv2 */
	case COMPAT_SYSCALL | 361: /* preadv */
	case COMPAT_SYSCALL | 392: /* preadv2 */
#endif
	case COMPAT_SYSCALL | 3:   /* read */
	case COMPAT_SYSCALL | 145: /* readv */
	case COMPAT_SYSCALL | 180: /* pread64 */
		return true;
	default:
		return false;
	}
}

static __always_inline bool is_write(__u32 call)
{
	switch (call) {
#if defined(__TARGET_ARCH_x86)
	case 1:			   /* write */
	case 18:		   /* pwrite64 */
	case 20:		   /* writev */
	case 296:		   /* pwritev */
	case 328:		   /* pwritev2 */
	case COMPAT_SYSCALL | 334: /* pwritev */
	case COMPAT_SYSCALL | 379: /* pwritev2 */
#elif defined(__TARGET_ARCH_arm64)
	case 64:		   /* write */
	case 66:		   /* writev */
	case 68:		   /* pwrite64 */
	case 70:		   /* pwritev */
	case 287:		   /* pwritev2 */
	case COMPAT_SYSCALL | 362: /* pwritev */
	case COMPAT_SYSCALL | 393: /* pwritev2 */
#endif
	case COMPAT_SYSCALL | 4:   /* write */
	case COMPAT_SYSCALL | 146: /* writev */
	case COMPAT_SYSCALL | 181: /* pwrite64 */
		return true;
	default:
		return false;
	}
}

static __always_inline bool is_sync(__u32 call)
{
	switch (call) {
#if defined(__TARGET_ARCH_x86)
	case 74: /* fsync */
	case 75: /* fdatasync */
#elif defined(__TARGET_ARCH_arm64)
	case 82:		   /* fsync */
	case 83:		   /* fdatasync */
#endif
	case COMPAT_SYSCALL | 118: /* fsync */
	case COMPAT_SYSCALL | 148: /* fdatasync */
		return true;
	default:
		return false;
	}
}

/* The file of a descriptor of the current task, or NULL. Since 5.11. */
static __always_inline struct file *file_of(__u32 fd)
{
	struct fdtable *table = bpf_get_current_task_btf()->files->fdt;
	struct file *file = NULL;

	if (fd < table->max_fds)
		bpf_probe_read_kernel(&file, sizeof(file),
				      (struct file **)table->fd + fd);
	return file;
}

#endif /* KTALLY_FILES_H */
