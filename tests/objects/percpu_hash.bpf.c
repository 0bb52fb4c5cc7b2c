// shows: calls value 23
MAP(calls, PERCPU_HASH, __u32, __u64, 64);

EVENT(count)
{
	__u64 zero = 0, *n;
	__u32 key = 7;

	n = find_or_make(&calls, &key, &zero);
	if (n)
		__sync_fetch_and_add(n, 1);
	return 0;
}
