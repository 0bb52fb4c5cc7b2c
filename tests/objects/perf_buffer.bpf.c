// says: sends events through `events`; nothing to count there
// shows: .bss hits 23
struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} events SEC(".maps");

long hits;

EVENT(count)
{
	__sync_fetch_and_add(&hits, 1);
	return 0;
}
