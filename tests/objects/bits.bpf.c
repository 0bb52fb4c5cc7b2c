// shows: calls low 23
struct counts {
	__u32 high : 4;
	__u32 low : 28;
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
		value->low++;
	return 0;
}
