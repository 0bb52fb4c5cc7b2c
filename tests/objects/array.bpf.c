// shows: calls value 23
// rows: calls 1
MAP(calls, ARRAY, __u32, __u64, 64);

EVENT(count)
{
	__u32 key = 7;
	__u64 *n = bpf_map_lookup_elem(&calls, &key);

	if (n)
		__sync_fetch_and_add(n, 1);
	return 0;
}
