// run: --as calls.nr=syscall
// shows: calls value 23
// field: calls nr getpriority
struct what {
	__u32 nr;
};
MAP(calls, HASH, struct what, __u64, 64);

EVENT(count)
{
	static const __u64 zero;
	struct what key = {};
	__u64 *value;

	key.nr = NR_EVENT;
	value = find_or_make(&calls, &key, &zero);
	if (value)
		__sync_fetch_and_add(value, 1);
	return 0;
}
