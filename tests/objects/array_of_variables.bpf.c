// shows: .bss hits.2 23
// shows: .bss hits.1 0
static __u32 hits[3];

EVENT(count)
{
	__sync_fetch_and_add(&hits[2], 1);
	return 0;
}
