// run: --attach count=kernel:sys_enter
// shows: .bss hits 23
long hits;

SEC("tp_btf")
int count(unsigned long long *ctx)
{
	if (is_event(ctx))
		__sync_fetch_and_add(&hits, 1);
	return 0;
}
