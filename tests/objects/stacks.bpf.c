// shows: calls value 23
struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(key_size, sizeof(__u32));
} stacks SEC(".maps");

MAP(calls, HASH, __s32, __u64, 64);

EVENT(count)
{
	__s32 key = bpf_get_stackid(ctx, &stacks, 0);
	__u64 zero = 0, *n;

	n = find_or_make(&calls, &key, &zero);
	if (n)
		__sync_fetch_and_add(n, 1);
	return 0;
}
