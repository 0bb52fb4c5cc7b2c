// shows: calls value 23
// field: calls kind WRITE
enum kind { READ, WRITE };
struct what {
	enum kind kind;
};
MAP(calls, HASH, struct what, __u64, 64);

EVENT(count)
{
	static const __u64 zero;
	struct what key = {};
	__u64 *value;

	key.kind = WRITE;
	value = find_or_make(&calls, &key, &zero);
	if (value)
		__sync_fetch_and_add(value, 1);
	return 0;
}
