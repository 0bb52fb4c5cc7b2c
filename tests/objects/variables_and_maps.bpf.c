// run: --tables .bss
// shows: .bss hits 23
long hits;

MAP(calls, HASH, __u32, __u64, 64);

EVENT(count)
{
	__u64 one = 1;
	__u32 key = 0;

	bpf_map_update_elem(&calls, &key, &one, BPF_ANY);
	__sync_fetch_and_add(&hits, 1);
	return 0;
}
