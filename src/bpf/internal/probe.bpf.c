// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What `ktally check` tries out: a program of a kind that some kernels refuse.
 */
#include "kernel.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("fentry/vfs_open")
int BPF_PROG(fentry)
{
	return 0;
}
