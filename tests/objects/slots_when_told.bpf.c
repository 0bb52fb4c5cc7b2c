// run: --as hists.latency=log2
// shows: hists latency 23
// bucket: hists latency 7 23
struct hist {
	__u32 latency[26];
};
MAP(hists, HASH, __u32, struct hist, 64);

EVENT(count)
{
	static const struct hist zero;
	__u32 key = 0;
	struct hist *value;

	key = 1;
	value = find_or_make(&hists, &key, &zero);
	if (value)
		__sync_fetch_and_add(&value->latency[2], 1);
	return 0;
}
