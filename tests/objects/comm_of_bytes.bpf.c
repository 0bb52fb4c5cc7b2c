// run: --as comm=comm
// shows: calls value 23
// field: calls comm kt-object
struct who {
	__u8 comm[TASK_COMM_LEN];
};
MAP(calls, HASH, struct who, __u64, 64);

EVENT(count)
{
	static const __u64 zero;
	struct who key = {};
	__u64 *value;

	bpf_get_current_comm(key.comm, sizeof(key.comm));
	value = find_or_make(&calls, &key, &zero);
	if (value)
		__sync_fetch_and_add(value, 1);
	return 0;
}
