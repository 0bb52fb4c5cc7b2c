// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Counts: packets at netif_receive_skb, after GRO, and at net_dev_xmit, before
 * TSO.
 * Not seen: packets of native XDP, AF_XDP and PACKET_QDISC_BYPASS. What a VLAN,
 * bond or macvlan receives counts at the device below it. Nor is it known which
 * task caused a packet: softirqs receive packets and send those that waited,
 * and by then the task may have ended.
 * Cost: about 0.2 us a packet.
 */
#include "ktally.bpf.h"
#include "net.h"

TALLY("packets and bytes, by network interface and direction", "sar ifstat");

NETNS_FILTER;

enum direction {
	received,
	sent,
};

struct side {
	char interface[16];
	enum direction direction;
};

struct traffic {
	__u64 packets COUNTER("packets; what GRO or TSO joined is one");
	__u64 bytes COUNTER("their bytes, with the link layer's header")
		UNIT(bytes);
};

PERCPU_TABLE(netdev, struct side, struct traffic, 1024, "interfaces")
OVERVIEW(80, "network", bytes);

static __always_inline int moved(struct net_device *dev,
				 enum direction direction, __u64 bytes)
{
	struct side key = {.direction = direction};
	struct traffic *traffic;

	if (!wanted_net(dev->nd_net.net))
		return 0;
	__short_name(key.interface, dev->name);
	traffic = tally_entry(netdev, &key);
	__sync_fetch_and_add(&traffic->packets, 1);
	__sync_fetch_and_add(&traffic->bytes, bytes);
	return 0;
}

SEC("tp_btf/netif_receive_skb")
int BPF_PROG(netif_receive_skb, struct sk_buff *skb)
{
	/* The header is before the data by now, and no longer in the length. */
	__u64 header = skb->data - skb->head - skb->mac_header;

	return moved(skb->dev, received, skb->len + header);
}

/* The packet itself may be gone; a driver that is busy gets it once more. */
SEC("tp_btf/net_dev_xmit")
int BPF_PROG(net_dev_xmit, struct sk_buff *skb, int result,
	     struct net_device *dev, unsigned int len)
{
	return result ? 0 : moved(dev, sent, len);
}
