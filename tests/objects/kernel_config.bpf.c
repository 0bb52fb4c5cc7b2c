// shows: .bss hits 23
extern int LINUX_KERNEL_VERSION __kconfig;

long hits;

EVENT(count)
{
	if (LINUX_KERNEL_VERSION > 1)
		__sync_fetch_and_add(&hits, 1);
	return 0;
}
