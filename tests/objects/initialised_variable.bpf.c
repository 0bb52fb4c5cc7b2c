// shows: .data hits 123
long hits = 100;

EVENT(count)
{
	__sync_fetch_and_add(&hits, 1);
	return 0;
}
