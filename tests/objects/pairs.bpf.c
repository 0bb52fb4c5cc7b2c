// says: `start` holds what is under way, as programs delete from it: --tables start shows it
// shows: done value 23
// tables: done
MAP(start, HASH, __u32, __u64, 64);
MAP(done, ARRAY, __u32, __u64, 1);

EVENT(enter)
{
	__u32 pid = targ_pid;
	__u64 now = bpf_ktime_get_ns();

	bpf_map_update_elem(&start, &pid, &now, BPF_ANY);
	return 0;
}

SEC("raw_tp/sys_exit")
int leave(void *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32, key = 0;
	__u64 *n;

	if (!bpf_map_lookup_elem(&start, &pid))
		return 0;
	bpf_map_delete_elem(&start, &pid);
	n = bpf_map_lookup_elem(&done, &key);
	if (n)
		__sync_fetch_and_add(n, 1);
	return 0;
}
