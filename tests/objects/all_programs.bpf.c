// run: --all-programs
// shows: .bss hits 46
long hits;

EVENT(by_name)
{
	__sync_fetch_and_add(&hits, 1);
	return 0;
}

SEC("tp_btf/sys_enter")
int by_btf(unsigned long long *ctx)
{
	if (is_event(ctx))
		__sync_fetch_and_add(&hits, 1);
	return 0;
}
