// run: --as bucket=log2
// shows: latency value 23
// rows: latency 1
// bucket: latency value 7 22
// bucket: latency value 15 1
struct key {
	__u32 device;
	__u64 bucket;
};

MAP(latency, HASH, struct key, __u64, 64);

static int events;

EVENT(count)
{
	static const __u64 zero;
	struct key key = {};
	__u64 *n;

	key.device = 8;
	key.bucket = events++ ? 2 : 3;
	n = find_or_make(&latency, &key, &zero);
	if (n)
		__sync_fetch_and_add(n, 1);
	return 0;
}
