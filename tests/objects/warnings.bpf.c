// shows: .bss hits 23
long hits;

EVENT(count)
{
	int unused;

	__sync_fetch_and_add(&hits, 1);
	return 0;
}
