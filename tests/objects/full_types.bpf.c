// run: -DFULL_TYPES
// shows: calls value 23
MAP(calls, HASH, pid_t, u64, 64);

EVENT(count)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	pid_t key = targ_pid;
	u64 zero = 0, *n;

	if (!task)
		return 0;
	n = find_or_make(&calls, &key, &zero);
	if (n)
		__sync_fetch_and_add(n, 1);
	return 0;
}
