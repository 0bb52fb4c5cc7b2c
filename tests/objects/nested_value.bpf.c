// shows: calls in.hits 23
struct counts {
	struct {
		__u64 hits;
	} in;
};
MAP(calls, HASH, __u32, struct counts, 64);

EVENT(count)
{
	static const struct counts zero;
	__u32 key = 0;
	struct counts *value;

	key = 1;
	value = find_or_make(&calls, &key, &zero);
	if (value)
		__sync_fetch_and_add(&value->in.hits, 1);
	return 0;
}
