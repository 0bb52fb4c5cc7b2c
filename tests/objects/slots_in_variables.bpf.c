// shows: .bss slots 23
__u32 slots[10];

EVENT(count)
{
	__sync_fetch_and_add(&slots[4], 1);
	return 0;
}
