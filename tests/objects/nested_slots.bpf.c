// shows: hists latency.slots 23
// shows: hists hits 23
struct hist {
	__u64 hits;
	struct {
		__u32 slots[20];
		char comm[TASK_COMM_LEN];
	} latency;
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
		{
		__sync_fetch_and_add(&value->hits, 1);
		__sync_fetch_and_add(&value->latency.slots[1], 1);
	}
	return 0;
}
