// shows: calls hits 23
// field: calls handler 0x0
struct counts {
	__u64 hits;
	int (*handler)(void *);
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
		__sync_fetch_and_add(&value->hits, 1);
	return 0;
}
