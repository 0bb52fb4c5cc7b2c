// shows: hists slots 23
// bucket: hists slots 15 23
struct hist {
	__u32 slots[27];
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
		__sync_fetch_and_add(&value->slots[3], 1);
	return 0;
}
