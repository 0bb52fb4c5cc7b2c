// run: --attach count=raw_tp:sys_enter
// shows: .bss hits 23
long hits;

SEC("mine")
int count(unsigned long long *ctx)
{
	if (is_event(ctx))
		__sync_fetch_and_add(&hits, 1);
	return 0;
}
