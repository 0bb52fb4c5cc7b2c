// shows: calls level -23
struct counts {
	__s32 level;
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
		__sync_fetch_and_add(&value->level, -1);
	return 0;
}
