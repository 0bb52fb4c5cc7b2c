// shows: calls hits 23
// field: calls comm kt-object
struct counts {
	__u64 hits;
	char comm[TASK_COMM_LEN];
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
		{
		__sync_fetch_and_add(&value->hits, 1);
		bpf_get_current_comm(value->comm, sizeof(value->comm));
	}
	return 0;
}
