// says: program `filter` does not say what it attaches to: run with --attach filter=xdp:INTERFACE
// says: program `walk` (iter/task) is left out, as it runs only on request
// shows: .bss hits 23
long hits;

SEC("xdp")
int filter(void *ctx)
{
	return XDP_PASS;
}

SEC("iter/task")
int walk(void *ctx)
{
	return 0;
}

EVENT(count)
{
	__sync_fetch_and_add(&hits, 1);
	return 0;
}
