/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What tallies of the network share: their filter, and who is at the other end
 * of a connection. Include it behind ktally.bpf.h.
 */
#ifndef KTALLY_NET_H
#define KTALLY_NET_H

#include <bpf/bpf_endian.h>

/* A filter like those of ktally.bpf.h: off where no OPTION offers it. */
const volatile __u32 netns;

#define NETNS_FILTER                      \
	OPTION(__u32 AS(netns), netns, 0, \
	       "count only this network namespace (a path: /proc/PID/ns/net)")

/* Does this network namespace pass the filter? */
static __always_inline bool wanted_net(struct net *net)
{
	return !netns || net->ns.inum == netns;
}

/* An address of either family, for AS(ip): IPv4 as ::ffff:a.b.c.d. */
struct address {
	__be32 words[4];
};

static __always_inline void set_ipv4(struct address *address, __be32 ipv4)
{
	address->words[2] = bpf_htonl(0xffff);
	address->words[3] = ipv4;
}

static __always_inline bool is_ipv4(const struct address *address)
{
	return !address->words[0] && !address->words[1] &&
	       address->words[2] == bpf_htonl(0xffff);
}

/* One of a socket's addresses; false where its family is neither of these. */
#define __socket_address(sk, ipv4, ipv6, address)                            \
	({                                                                   \
		bool __has_it = true;                                        \
		if ((sk)->skc_family == AF_INET) {                           \
			set_ipv4(address, (sk)->ipv4);                       \
		} else if ((sk)->skc_family == AF_INET6 &&                   \
			   bpf_core_field_exists((sk)->ipv6)) {              \
			(address)->words[0] = (sk)->ipv6.in6_u.u6_addr32[0]; \
			(address)->words[1] = (sk)->ipv6.in6_u.u6_addr32[1]; \
			(address)->words[2] = (sk)->ipv6.in6_u.u6_addr32[2]; \
			(address)->words[3] = (sk)->ipv6.in6_u.u6_addr32[3]; \
		} else {                                                     \
			__has_it = false;                                    \
		}                                                            \
		__has_it;                                                    \
	})

/* The address at the other end. */
static __always_inline bool remote_address(const struct sock_common *sk,
					   struct address *address)
{
	return __socket_address(sk, skc_daddr, skc_v6_daddr, address);
}

/* The address at this end. */
static __always_inline bool local_address(const struct sock_common *sk,
					  struct address *address)
{
	return __socket_address(sk, skc_rcv_saddr, skc_v6_rcv_saddr, address);
}

/*
 * The lower of a connection's two ports (network order): with hardly an
 * exception that of the service, whichever end it is at. Clients' ports come
 * from high up, a new one each time, and would be a row each.
 */
static __always_inline __be16 service_port(__be16 one, __be16 other)
{
	return bpf_ntohs(one) < bpf_ntohs(other) ? one : other;
}

/*
 * The port at this end (network order). As a socket closes it gives its port
 * back, and only the number that it sent with stays.
 */
static __always_inline __be16 local_port_of(const struct sock_common *sk)
{
	__be16 local = bpf_htons(sk->skc_num);

	if (!local)
		local = BPF_CORE_READ((const struct inet_sock *)sk, inet_sport);
	return local;
}

/* The port of a socket's service. */
static __always_inline __be16 socket_port(const struct sock_common *sk)
{
	return service_port(local_port_of(sk), sk->skc_dport);
}

/* Who sent a packet; in the two headers it stands at 12, and at 8. */
static __always_inline void source_address(const struct sk_buff *skb,
					   struct address *address)
{
	const unsigned char *header = skb->head + skb->network_header;
	__u8 version = 0;
	__be32 source = 0;

	bpf_probe_read_kernel(&version, 1, header);
	if (version >> 4 == 4) {
		bpf_probe_read_kernel(&source, sizeof(source), header + 12);
		set_ipv4(address, source);
	} else {
		bpf_probe_read_kernel(address, sizeof(*address), header + 8);
	}
}

static __always_inline __be16 packet_port(const struct sk_buff *skb)
{
	__be16 ports[2] = {};

	bpf_probe_read_kernel(ports, sizeof(ports),
			      skb->head + skb->transport_header);
	return service_port(ports[0], ports[1]);
}

#endif /* KTALLY_NET_H */
