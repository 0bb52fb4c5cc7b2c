// shows: calls value 23
// shows: calls number 5
struct what {
	union {
		__u64 number;
		__u8 bytes[8];
	};
};
MAP(calls, HASH, struct what, __u64, 64);

EVENT(count)
{
	static const __u64 zero;
	struct what key = {};
	__u64 *value;

	key.number = 5;
	value = find_or_make(&calls, &key, &zero);
	if (value)
		__sync_fetch_and_add(value, 1);
	return 0;
}
