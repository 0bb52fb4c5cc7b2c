// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: changes of a socket's state (inet_sock_set_state), retransmits and
 * resets. A retransmit of several segments counts once.
 * Not seen: handshakes that a listening socket has not completed and, before
 * 6.10, resets that belong to no socket.
 * Cost: about 0.2 us a change of state; ordinary segments cost nothing.
 */
#include "ktally.bpf.h"
#include "net.h"

TALLY("TCP connections, by remote address and port of the service");

NETNS_FILTER;
OPTION(__u16 AS(port), port, 0, "count only this service");

/* What travels: an IPv6 socket may well speak IPv4. */
enum family {
	ipv4 = AF_INET,
	ipv6 = AF_INET6,
};

struct service {
	struct address remote AS(ip);
	__be16 port AS(port);
	enum family family;
};

struct connections {
	__u64 opened COUNTER("connections opened from here");
	__u64 accepted COUNTER("connections opened from there");
	__u64 closed COUNTER("connections that ended");
	__u64 failed COUNTER("connections that never came about");
	__u64 retransmits COUNTER("segments sent again");
	__u64 resets_sent COUNTER("resets sent");
	__u64 resets_received COUNTER("resets received");
};

TABLE(tcp, struct service, struct connections, 8192, "TCP connections")
OVERVIEW(85, "TCP resent", retransmits);

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
	struct service key = {};

	if (!wanted_net(sk->skc_net.net) || !remote_address(sk, &key.remote))
		return NULL;
	key.port = socket_port(sk);
	return entry(&key);
}

/* By a packet that was received, for want of a socket. */
static __always_inline struct connections *
packet_entry(const struct sk_buff *skb)
{
	struct service key = {};

	if (!wanted_net(skb->dev->nd_net.net))
		return NULL;
	source_address(skb, &key.remote);
	key.port = packet_port(skb);
	return entry(&key);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(inet_sock_set_state, const struct sock *sk, int old, int state)
{
	struct connections *connections;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (state != TCP_ESTABLISHED &&
	    (state != TCP_CLOSE || old == TCP_CLOSE || old == TCP_LISTEN))
		return 0;
	connections = socket_entry(&sk->__sk_common);
	if (!connections)
		return 0;
	if (state == TCP_ESTABLISHED && old == TCP_SYN_SENT)
		__sync_fetch_and_add(&connections->opened, 1);
	else if (state == TCP_ESTABLISHED)
		__sync_fetch_and_add(&connections->accepted, 1);
	else if (old == TCP_SYN_SENT || old == TCP_SYN_RECV)
		__sync_fetch_and_add(&connections->failed, 1);
	else
		__sync_fetch_and_add(&connections->closed, 1);
	return 0;
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
