// shows: .bss hits 46
long hits;

EVENT(first)
{
	__sync_fetch_and_add(&hits, 1);
	return 0;
}

EVENT(second)
{
	__sync_fetch_and_add(&hits, 1);
	return 0;
}
