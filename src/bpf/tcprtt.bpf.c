// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: segments that an established connection receives, at tcp_probe, after
 * GRO and with the smoothed time before them.
 * Not seen: handshakes, and connections that close.
 * Cost: about 0.4 us a segment received.
 */
#include "ktally.bpf.h"
#include "net.h"

TALLY("round-trip time of TCP, by remote address");

NETNS_FILTER;
OPTION(__u16 AS(port), port, 0, "count only connections of this port");

struct peer {
	struct address remote AS(ip);
};

struct rtt {
	struct tally_histogram rtt HISTOGRAM(
		"smoothed round-trip time, as each segment arrives") UNIT(ns);
	__u64 max MAXIMUM("the longest round trip") UNIT(ns);
};

TABLE(tcprtt, struct peer, struct rtt, 8192, "round trips");

SEC("tp_btf/tcp_probe")
int BPF_PROG(tcp_probe, struct sock *sk)
{
	const struct sock_common *common = &sk->__sk_common;
	struct peer key = {};
	struct rtt *rtt;
	__u64 time;

	if (!wanted_net(common->skc_net.net))
		return 0;
	if (port && port != common->skc_dport &&
	    port != bpf_htons(common->skc_num))
		return 0;
	if (!remote_address(common, &key.remote))
		return 0;
	/* In eighths of a microsecond. */
	time = BPF_CORE_READ((struct tcp_sock *)sk, srtt_us) * 1000UL / 8;

	rtt = tally_entry(tcprtt, &key);
	tally_observe(&rtt->rtt, time);
	tally_maximum(&rtt->max, time);
	return 0;
}
