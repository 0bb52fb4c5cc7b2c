// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: changes of a socket's state (inet_sock_set_state), retransmits and
 * resets. A retransmit of several segments counts once. Bytes are added when a
 * connection ends, from the socket's own counters; with --live also when an
 * answer comes (tcp_probe) and when a process reads (tcp_rcv_space_adjust), and
 * then without those from before counting began. --by-comm, --pid and the
 * like, and `-- COMMAND`, are about the task that connects. They find no task
 * for an accepted connection, as no event says who takes it, for one that began
 * before counting, and for a packet without a socket, which has no local
 * address either.
 * Not seen: handshakes that a listening socket has not completed and, before
 * 6.10, resets that belong to no socket.
 * Cost: about 0.2 us a change of state; ordinary segments cost nothing but with
 * --live, which adds about 0.2 us to each.
 */
#include "ktally.bpf.h"
#include "net.h"

TALLY("TCP connections, by remote address and port of the service",
      "tcptop tcplife tcpretrans tcpstates tcpaccept ss");

NETNS_FILTER;
OPTION(__u16 AS(port), port, 0, "count only this service");
OPTION(bool, by_connection, false,
       "one row per connection: the local address and both ports");
OPTION(bool, live, false,
       "bytes of open connections as well, at each segment; costs more");
TASK_FILTERS;
COMM_OPTION;
WHO_OPTIONS;

/* What travels: an IPv6 socket may well speak IPv4. */
enum family {
	ipv4 = AF_INET,
	ipv6 = AF_INET6,
};

struct service {
	struct tally_who;
	struct address local AS(ip) WITH(by_connection);
	__be16 local_port AS(port) WITH(by_connection);
	struct address remote AS(ip);
	__be16 remote_port AS(port) WITH(by_connection);
	__be16 port AS(port);
	enum family family;
	__u32 padding HIDDEN;
};

struct connections {
	__u64 opened COUNTER("connections opened from here");
	__u64 accepted COUNTER("connections opened from there");
	__u64 closed COUNTER("connections that ended");
	__u64 failed COUNTER("connections that never came about");
	__u64 retransmits COUNTER("segments sent again");
	__u64 resets_sent COUNTER("resets sent");
	__u64 resets_received COUNTER("resets received");
	__u64 sent COUNTER("bytes that connections sent until they ended")
		UNIT(bytes);
	__u64 received COUNTER("bytes that they received") UNIT(bytes);
};

TABLE(tcp, struct service, struct connections, 8192, "TCP connections")
OVERVIEW(85, "TCP resent", retransmits);

struct bytes {
	__u64 sent;
	__u64 received;
};

/* Who connects, if that is known, and the bytes that a row has already. */
struct connection {
	struct tally_who who;
	__u64 is_known;
	struct bytes bytes;
};

/*
 * By their socket, until it is closed. Too many to allocate them all at the
 * start, as a HASH_STATE does.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, __u64);
	__type(value, struct connection);
} known SEC(".maps");

static __always_inline bool by_who(void)
{
	return by_comm || by_pid || by_tid || by_cgroup || tasks_are_filtered();
}

static __always_inline struct connections *entry(struct service *key)
{
	if (port && key->port != port)
		return NULL;
	key->family = is_ipv4(&key->remote) ? ipv4 : ipv6;
	return tally_entry(tcp, key);
}

static __always_inline struct connections *
socket_entry(const struct sock_common *sk)
{
	__u64 address = (__u64)sk;
	struct service key = {};
	struct connection *connection = NULL;

	if (!wanted_net(sk->skc_net.net) || !remote_address(sk, &key.remote))
		return NULL;
	key.port = socket_port(sk);
	if (by_connection) {
		local_address(sk, &key.local);
		key.local_port = local_port_of(sk);
		key.remote_port = sk->skc_dport;
	}
	if (by_who())
		connection = bpf_map_lookup_elem(&known, &address);
	if (connection && connection->is_known)
		__builtin_memcpy(key.comm, &connection->who,
				 sizeof(connection->who));
	else if (tasks_are_filtered())
		return NULL;
	return entry(&key);
}

/* By a packet that was received, for want of a socket. */
static __always_inline struct connections *
packet_entry(const struct sk_buff *skb)
{
	struct service key = {};

	if (tasks_are_filtered() || !wanted_net(skb->dev->nd_net.net))
		return NULL;
	source_address(skb, &key.remote);
	key.port = packet_port(skb);
	return entry(&key);
}

static __always_inline void begin(const struct sock *sk)
{
	__u64 address = (__u64)sk;
	struct connection connection = {.is_known = true};

	if (!by_who() || !wanted_task() ||
	    !wanted_net(sk->__sk_common.skc_net.net))
		return;
	current_who(&connection.who);
	if (bpf_map_update_elem(&known, &address, &connection, BPF_ANY))
		tally_dropped(tcp);
}

/* With --live, that of a connection that is accepted, or began earlier. */
static __always_inline struct connection *
connection_of(const struct sock *sk, const struct connection *first)
{
	__u64 address = (__u64)sk;

	if (live)
		bpf_map_update_elem(&known, &address, first, BPF_NOEXIST);
	return bpf_map_lookup_elem(&known, &address);
}

/* What was sent again counts once; a FIN that was received is no byte. */
static __always_inline struct bytes bytes_of(const struct sock *sk)
{
	const struct tcp_sock *tcp = (const void *)sk;
	bool is_done = sk->__sk_common.skc_flags >> SOCK_DONE & 1;

	return (struct bytes){
		.sent = BPF_CORE_READ(tcp, bytes_sent) -
			BPF_CORE_READ(tcp, bytes_retrans),
		.received = BPF_CORE_READ(tcp, bytes_received) - is_done,
	};
}

/* What its row does not have yet. The socket is locked. */
static __always_inline void add_bytes(struct connections *connections,
				      struct bytes now,
				      struct connection *connection)
{
	struct bytes before = {};

	if (connection) {
		before = connection->bytes;
		connection->bytes = now;
	}
	__sync_fetch_and_add(&connections->sent, now.sent - before.sent);
	__sync_fetch_and_add(&connections->received,
			     now.received - before.received);
}

static __always_inline void count(const struct sock *sk, int old, int state)
{
	struct connections *connections = socket_entry(&sk->__sk_common);
	struct connection accepted = {};
	__u64 address = (__u64)sk;

	if (!connections)
		return;
	if (state == TCP_ESTABLISHED)
		connection_of(sk, &accepted);
	if (state == TCP_ESTABLISHED && old == TCP_SYN_SENT) {
		__sync_fetch_and_add(&connections->opened, 1);
	} else if (state == TCP_ESTABLISHED) {
		__sync_fetch_and_add(&connections->accepted, 1);
	} else if (old == TCP_SYN_SENT || old == TCP_SYN_RECV) {
		__sync_fetch_and_add(&connections->failed, 1);
	} else {
		__sync_fetch_and_add(&connections->closed, 1);
		add_bytes(connections, bytes_of(sk),
			  bpf_map_lookup_elem(&known, &address));
	}
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(inet_sock_set_state, const struct sock *sk, int old, int state)
{
	__u64 address = (__u64)sk;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (state == TCP_SYN_SENT)
		begin(sk);
	if (state == TCP_ESTABLISHED ||
	    (state == TCP_CLOSE && old != TCP_CLOSE && old != TCP_LISTEN))
		count(sk, old, state);
	if (state == TCP_CLOSE && (by_who() || live))
		bpf_map_delete_elem(&known, &address);
	return 0;
}

/* Of one that began before counting, what comes from now on. */
static __always_inline int add_so_far(const struct sock *sk)
{
	struct connections *connections = socket_entry(&sk->__sk_common);
	struct connection *connection, first = {};

	if (!connections)
		return 0;
	first.bytes = bytes_of(sk);
	connection = connection_of(sk, &first);
	if (connection)
		add_bytes(connections, first.bytes, connection);
	return 0;
}

SEC("tp_btf/tcp_probe")
WITH(live)
int BPF_PROG(tcp_probe, const struct sock *sk, const struct sk_buff *skb)
{
	return add_so_far(sk);
}

SEC("tp_btf/tcp_rcv_space_adjust")
WITH(live)
int BPF_PROG(tcp_rcv_space_adjust, const struct sock *sk)
{
	return add_so_far(sk);
}

static __always_inline int sent_again(const struct sock_common *sk)
{
	struct connections *connections = socket_entry(sk);

	if (connections)
		__sync_fetch_and_add(&connections->retransmits, 1);
	return 0;
}

/*
 * Since 6.17 the event also tells of segments that could not be sent:
 * ad892e912b84 ("tcp: trace retransmit failures in tcp_retransmit_skb").
 */
SEC("tp_btf/tcp_retransmit_skb")
int tcp_retransmit_skb(__u64 *ctx)
{
	const struct sock *sk = tracepoint_argument(ctx, 0);

	if (tracepoint_takes(tcp_retransmit_skb, with_error,
			     const struct sock *, const struct sk_buff *,
			     int) &&
	    (int)(__u64)tracepoint_argument(ctx, 2))
		return 0;
	return sent_again(&sk->__sk_common);
}

SEC("tp_btf/tcp_retransmit_synack")
int BPF_PROG(tcp_retransmit_synack, const struct sock *sk,
	     const struct request_sock *request)
{
	return sent_again(&request->__req_common);
}

SEC("tp_btf/tcp_send_reset")
int BPF_PROG(tcp_send_reset, const struct sock *sk, const struct sk_buff *skb)
{
	struct connections *connections = NULL;

	if (sk)
		connections = socket_entry(&sk->__sk_common);
	else if (skb)
		connections = packet_entry(skb);
	if (connections)
		__sync_fetch_and_add(&connections->resets_sent, 1);
	return 0;
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(tcp_receive_reset, struct sock *sk)
{
	struct connections *connections = socket_entry(&sk->__sk_common);

	if (connections)
		__sync_fetch_and_add(&connections->resets_received, 1);
	return 0;
}
