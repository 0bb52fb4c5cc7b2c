// shows: calls value.pid 23
// shows: calls pid 9
struct who {
	__u32 pid;
};
MAP(calls, HASH, struct who, struct who, 64);

EVENT(count)
{
	static const struct who zero;
	struct who key = {};
	struct who *value;

	key.pid = 9;
	value = find_or_make(&calls, &key, &zero);
	if (value)
		__sync_fetch_and_add(&value->pid, 1);
	return 0;
}
