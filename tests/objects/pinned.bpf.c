// says: map `calls` is not pinned at
// shows: calls value 23
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u64);
} calls SEC(".maps");

EVENT(count)
{
	__u64 zero = 0, *n;
	__u32 key = 7;

	n = find_or_make(&calls, &key, &zero);
	if (n)
		__sync_fetch_and_add(n, 1);
	return 0;
}
