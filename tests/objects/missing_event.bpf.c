// says: goes on without program `gone`: this kernel has no tracepoint `no_such_event`
// shows: .bss hits 23
long hits;

SEC("raw_tp/no_such_event")
int gone(void *ctx)
{
	return 0;
}

EVENT(count)
{
	__sync_fetch_and_add(&hits, 1);
	return 0;
}
