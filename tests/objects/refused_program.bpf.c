// says: goes on without program `wrong`: the verifier refuses it: R
// shows: .bss hits 23
long hits;

SEC("tp_btf/sched_switch")
int wrong(unsigned long long *ctx)
{
	return *(int *)ctx[0];
}

EVENT(count)
{
	__sync_fetch_and_add(&hits, 1);
	return 0;
}
