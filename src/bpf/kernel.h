/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel's types and constants, as far as tallies use them: a CO-RE subset
 * written by hand. A struct here names only the members that a tally reads;
 * libbpf finds their real offsets in the running kernel's BTF when the program
 * is loaded. Add a member when you need it; order, padding and missing
 * neighbours do not matter. A file that wants every type includes "vmlinux.h"
 * before "ktally.bpf.h", and these types step aside. So a member that only some
 * kernels have does not belong here: see compat.h.
 */
#ifndef KTALLY_KERNEL_H
#define KTALLY_KERNEL_H

#ifndef __VMLINUX_H__

typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;

typedef __s8 s8;
typedef __u8 u8;
typedef __s16 s16;
typedef __u16 u16;
typedef __s32 s32;
typedef __u32 u32;
typedef __s64 s64;
typedef __u64 u64;

typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u32 __wsum;

typedef _Bool bool;
typedef __u32 uid_t;
typedef __s32 pid_t;
typedef unsigned long size_t;
typedef __u32 dev_t;

enum {
	false = 0,
	true = 1,
};

/* include/uapi/linux/bpf.h: these numbers are ABI. */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_HASH = 5,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_STACK_TRACE = 7,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_EXIST = 2,
};

enum {
	BPF_F_NO_PREALLOC = 1,
};

/* include/net/tcp_states.h: user space knows these numbers too. */
enum {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT = 2,
	TCP_SYN_RECV = 3,
	TCP_CLOSE = 7,
	TCP_LISTEN = 10,
};

enum {
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1,
};

enum {
	BPF_F_USER_STACK = 256,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), \
			     apply_to = record)

/* A CPU's registers where it entered the kernel (per architecture). */
struct pt_regs {
#if defined(__TARGET_ARCH_x86)
	unsigned long r10;
	unsigned long r9;
	unsigned long r8;
	unsigned long bp;
	unsigned long bx;
	unsigned long di;
	unsigned long si;
	unsigned long dx;
	unsigned long cx;
	unsigned long ax;
	unsigned long orig_ax;
	unsigned long ip;
	unsigned long sp;
#elif defined(__TARGET_ARCH_arm64)
	unsigned long regs[31];
	unsigned long sp;
	unsigned long pc;
	unsigned long orig_x0;
	int syscallno;
#endif
};

/* What PT_REGS_PARM1() and the like read on arm64. */
struct user_pt_regs {
	unsigned long regs[31];
	unsigned long sp;
	unsigned long pc;
};

struct thread_info {
#if defined(__TARGET_ARCH_x86)
	__u32 status;
#elif defined(__TARGET_ARCH_arm64)
	unsigned long flags;
#endif
};

typedef struct {
	uid_t val;
} kuid_t;

struct cred {
	kuid_t uid;
};

struct cgroup;

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct mm_struct {
	unsigned long arg_start;
	unsigned long arg_end;
};

struct signal_struct {
	unsigned int flags;
	int group_exit_code;
	struct mm_struct *oom_mm;
};

struct ns_common {
	unsigned int inum;
};

struct pid_namespace {
	struct ns_common ns;
};

/* The number of a task in one PID namespace. */
struct upid {
	int nr;
	struct pid_namespace *ns;
};

/* Its numbers: from the kernel's own namespace to the innermost one. */
struct pid {
	unsigned int level;
	struct upid numbers[1];
};

struct mnt_namespace {
	struct ns_common ns;
};

struct cgroup_namespace {
	struct ns_common ns;
};

struct net;

struct nsproxy {
	struct mnt_namespace *mnt_ns;
	struct net *net_ns;
	struct cgroup_namespace *cgroup_ns;
};

/* The tasks of a CPU that are ready, with the one that runs. */
struct rq {
	unsigned int nr_running;
};

/* With CONFIG_FAIR_GROUP_SCHED. */
struct cfs_rq {
	struct rq *rq;
};

struct sched_entity {
	struct cfs_rq *cfs_rq;
};

struct task_struct {
	struct thread_info thread_info;
	int exit_state;
	int exit_code;
	pid_t pid;
	pid_t tgid;
	struct sched_entity se;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	const struct cred *cred;
	char comm[16];
	struct signal_struct *signal;
	struct files_struct *files;
	struct nsproxy *nsproxy;
	struct css_set *cgroups;
	struct mm_struct *mm;
};

struct fdtable;

struct files_struct {
	struct fdtable *fdt;
};

struct linux_binprm {
	const char *filename;
};

struct kernel_siginfo {
	int si_code;
};

struct irqaction {
	const char *name;
};

struct work_struct;
typedef void (*work_func_t)(struct work_struct *work);

struct work_struct {
	work_func_t func;
};

struct file_system_type {
	const char *name;
};

struct super_block {
	dev_t s_dev;
	unsigned long s_flags;
	unsigned long s_magic;
	struct file_system_type *s_type;
};

struct inode {
	__u16 i_mode;
	unsigned long i_ino;
	dev_t i_rdev;
	struct super_block *i_sb;
};

struct address_space {
	struct inode *host;
};

struct page {
	struct address_space *mapping;
};

struct file {
	const void *f_op;
	struct inode *f_inode;
	void *private_data;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

typedef struct {
	__s64 counter;
} atomic64_t;

struct bpf_map {
	enum bpf_map_type map_type;
	__u32 id;
	__u32 max_entries;
	char name[16];
	atomic64_t usercnt; /* descriptors and pins */
};

struct bpf_prog_aux {
	__u32 id;
};

struct bpf_prog {
	struct bpf_prog_aux *aux;
};

struct bpf_link {
	struct bpf_prog *prog;
};

/* ---- control groups ---- */

struct kernfs_node {
	__u64 id;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

/* ---- block devices ---- */

struct gendisk {
	int major;
	int first_minor;
};

struct request_queue;

struct blkcg {
	struct cgroup_subsys_state css;
};

struct blkcg_gq {
	struct blkcg *blkcg;
};

struct bvec_iter {
	unsigned int bi_size;
};

struct bio {
	unsigned int bi_opf;
	struct bvec_iter bi_iter;
	struct blkcg_gq *bi_blkg;
};

struct request {
	struct request_queue *q;
	unsigned int cmd_flags;
	unsigned int __data_len;
	struct bio *bio;
};

/* ---- the network ---- */

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	possible_net_t nd_net;
	char name[16];
};

struct in6_addr {
	union {
		__u8 u6_addr8[16];
		__be32 u6_addr32[4];
	} in6_u;
};

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	unsigned long skc_flags;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct socket {
	struct file *file;
};

struct sock {
	struct sock_common __sk_common;
	struct socket *sk_socket;
	__u16 sk_protocol;
};

struct inet_sock {
	__be16 inet_sport;
};

struct tcp_sock {
	__u32 srtt_us;
	__u64 bytes_received;
	__u64 bytes_sent;
	__u64 bytes_retrans;
};

struct request_sock {
	struct sock_common __req_common;
};

struct sk_buff {
	struct net_device *dev;
	struct sock *sk;
	unsigned int len;
	__be16 protocol;
	__u16 transport_header;
	__u16 network_header;
	__u16 mac_header;
	unsigned char *head;
	unsigned char *data;
};

#pragma clang attribute pop

/*
 * What iterators are handed. On every kernel each member takes 8 bytes, so
 * these have no CO-RE: for each struct that has, libbpf searches all of the
 * kernel's BTF.
 */
struct seq_file;
struct sock;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__bpf_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	struct sock *sk;
	void *value;
};

enum pageflags {
	PG_head = 6,
};

#endif /* __VMLINUX_H__ */

/* Without it bpf_tracing.h wants the registers' names of user space. */
#ifndef __VMLINUX_H__
#define __VMLINUX_H__
#include <bpf/bpf_tracing.h>
#undef __VMLINUX_H__
#endif
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

/* Macros of the kernel, which no BTF carries. */
#ifndef TASK_COMM_LEN
#define TASK_COMM_LEN 16
#endif
#ifndef MAX_ERRNO
#define MAX_ERRNO 4095
#endif
#define TASK_RUNNING 0
#define ENOENT 2
#define ENOSPC 28
#define ENOSYS 38
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define SOCK_DONE 1 /* enum sock_flags: the other end has no more to say */
#define REQ_OP_MASK 0xff
#define REQ_OP_WRITE 1
#define MSG_PEEK 2
#define TASK_DEAD 0x80
#define S_IFMT 0170000
#define S_IFDIR 0040000
#define S_IFREG 0100000
#define SB_KERNMOUNT (1 << 22) /* include/linux/fs.h */
#define TMPFS_MAGIC 0x01021994 /* include/uapi/linux/magic.h */
/* The states that AS(state) names, without what only qualifies them. */
#define TASK_STATES 0x154f
#define SIGNAL_GROUP_EXIT 4 /* include/linux/sched/signal.h */

/* A text without what stands behind its NUL: zeroes, as in a key. */
static __always_inline __u64 __until_nul(__u64 text)
{
	__u64 nul = (text - 0x0101010101010101) & ~text & 0x8080808080808080;

	return text & ((nul & -nul) - 1);
}

/*
 * A name of 16 bytes in a struct of the kernel's: two loads, as a helper costs
 * more than the rest of a short program.
 */
static __always_inline void __short_name(char to[16], const char from[16])
{
	const __u64 *text = (const __u64 *)from;
	__u64 first = __until_nul(text[0]);
	__u64 name[] = {first, first >> 56 ? __until_nul(text[1]) : 0};

	__builtin_memcpy(to, name, sizeof(name));
}

/*
 * That of a task. Before 5.17 remains of an earlier one stand behind the NUL:
 * 06c5088aeedf ("fs/exec: replace strlcpy with strscpy_pad in
 * __set_task_comm").
 */
static __always_inline void task_comm(char to[TASK_COMM_LEN],
				      struct task_struct *task)
{
	__short_name(to, task->comm);
}

/*
 * The number of a task in the PID namespace at this level of nesting. NULL
 * where it has none: it is not nested as deeply, or is being removed.
 */
static __always_inline struct upid *task_number(struct task_struct *task,
						__u32 level)
{
	struct pid *pid = BPF_CORE_READ(task, thread_pid);

	if (!pid || BPF_CORE_READ(pid, level) < level)
		return NULL;
	return (void *)pid + bpf_core_field_offset(struct pid, numbers) +
	       level * bpf_core_type_size(struct upid);
}

/* The same of its process. */
static __always_inline struct upid *process_number(struct task_struct *task,
						   __u32 level)
{
	return task_number(BPF_CORE_READ(task, group_leader), level);
}

/* Its cgroup of the unified hierarchy, for AS(cgroup). */
static __always_inline __u64 task_cgroup(struct task_struct *task)
{
	return task->cgroups->dfl_cgrp->kn->id;
}

#endif /* KTALLY_KERNEL_H */
