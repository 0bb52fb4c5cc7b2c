// shows: .bss hits 23
long hits;

EVENT(count)
{
	__sync_fetch_and_add(&hits, 1);
	return 0;
}
