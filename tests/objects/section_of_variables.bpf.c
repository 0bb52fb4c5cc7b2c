// shows: .data.counts hits 23
long hits SEC(".data.counts") = 0;

EVENT(count)
{
	__sync_fetch_and_add(&hits, 1);
	return 0;
}
