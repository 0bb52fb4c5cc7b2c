// shows: calls value 23
MAP(calls, HASH, __u32, __u64, 64);

static __noinline int add(__u32 number)
{
	__u64 zero = 0, *n = find_or_make(&calls, &number, &zero);

	if (n)
		__sync_fetch_and_add(n, 1);
	return 0;
}

EVENT(count)
{
	return add(7);
}
