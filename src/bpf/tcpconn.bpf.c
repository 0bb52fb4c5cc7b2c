// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: sockets that enter SYN_SENT, for the task that connects, until they
 * are established or closed (inet_sock_set_state).
 * Not seen: connections that were begun before counting. An MPTCP connection
 * counts once per subflow.
 * Cost: about 1 us a connection.
 */
#include "ktally.bpf.h"
#include "net.h"

TALLY("time to connect by TCP, by process and remote address",
      "tcpconnect tcpconnlat");

TASK_FILTERS;
NETNS_FILTER;
WHO_OPTIONS;

struct peer {
	struct tally_who;
	struct address remote AS(ip);
	__be16 port AS(port);
	__u16 padding[3] HIDDEN;
};

struct connects {
	__u64 connects COUNTER("connections that were begun");
	__u64 failed COUNTER("of these, those refused, timed out or given up");
	struct tally_histogram
		latency HISTOGRAM("time until a connection was established")
			UNIT(ns);
	__u64 max MAXIMUM("the longest time until one was established")
		UNIT(ns);
};

TABLE(tcpconn, struct peer, struct connects, 8192, "TCP connects");

/* Connections that are being made, by their socket. */
struct connect {
	__u64 since;
	struct peer key;
};

HASH_STATE(connecting, __u64, struct connect, 16384)
UNDER_WAY(tcpconn, latency);

static __always_inline int begin(const struct sock *sk)
{
	const struct sock_common *common = &sk->__sk_common;
	struct connect connect = {};
	__u64 address = (__u64)sk;
	struct connects *connects;

	if (!wanted_task() || !wanted_net(common->skc_net.net) ||
	    !remote_address(common, &connect.key.remote))
		return 0;
	connect.key.port = common->skc_dport;
	current_who(&connect.key);
	connects = tally_entry(tcpconn, &connect.key);
	__sync_fetch_and_add(&connects->connects, 1);
	connect.since = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&connecting, &address, &connect, BPF_ANY))
		tally_dropped(tcpconn);
	return 0;
}

static __always_inline int end(const struct sock *sk, bool is_established)
{
	__u64 time, address = (__u64)sk;
	struct connects *connects;
	struct connect *connect;

	connect = bpf_map_lookup_elem(&connecting, &address);
	if (!tally_elapsed(connect, &time))
		return 0;
	connects = tally_entry(tcpconn, &connect->key);
	if (is_established) {
		tally_observe(&connects->latency, time);
		tally_maximum(&connects->max, time);
	} else {
		__sync_fetch_and_add(&connects->failed, 1);
	}
	bpf_map_delete_elem(&connecting, &address);
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(inet_sock_set_state, const struct sock *sk, int old, int state)
{
	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (state == TCP_SYN_SENT)
		return begin(sk);
	if (state == TCP_ESTABLISHED || state == TCP_CLOSE)
		return end(sk, state == TCP_ESTABLISHED);
	return 0;
}
