// run: --as value=log2
// shows: hists value 23
// bucket: hists value 511 23
typedef __u64 buckets[32];

MAP(hists, ARRAY, __u32, buckets, 1);

EVENT(count)
{
	__u32 key = 0;
	__u64 *slots = bpf_map_lookup_elem(&hists, &key);

	if (slots)
		__sync_fetch_and_add(&slots[8], 1);
	return 0;
}
