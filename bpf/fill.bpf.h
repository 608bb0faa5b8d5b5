/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From a tcp_sock to a record: the only place in the kernel that reads fields. */
#ifndef TCPINFO_FILL_BPF_H
#define TCPINFO_FILL_BPF_H

#include "kernel_types.bpf.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#include "tcpinfo_record.h"
#include "tcpinfo_units.h"

/*
 * The kernel's HZ, set before load. Not `extern int CONFIG_HZ __kconfig`: libbpf then refuses to load where no kernel
 * config can be read, as in most containers.
 */
const volatile __u32 kernel_hz;

/* kernel v6.18 include/net/tcp.h */
#define TCP_LISTEN 10
#define TCP_ECN_MODE_ANY 0x11 /* TCP_ECN_MODE_RFC3168 | TCP_ECN_MODE_ACCECN; before v6.18 only bit 0 (TCP_ECN_OK) is used */
#define TCP_ECN_SEEN 0x08
#define TCP_INFINITE_SSTHRESH 0x7fffffff
/* kernel v6.18 net/ipv4/tcp_vegas.c vegas_enable(), tcp_vegas_init() */
#define VEGAS_NO_RTT 0x7fffffff

/* kernel v6.18 include/net/dst.h, include/uapi/linux/rtnetlink.h */
#define DST_METRICS_READ_ONLY 1UL
#define DST_METRICS_FLAGS 3UL
#define RTAX_LOCK 1
#define RTAX_RTO_MIN 13

/*
 * Every member is written once, absent ones with 0: clearing a whole record first would cost as much as filling it.
 * The presence bits gather in `present`, which the compiler keeps in registers, and `written` only lives while it
 * compiles: all_written() is an error there if a field was forgotten.
 */
struct marks {
	__u64 present[TCPINFO_PRESENT_WORDS];
	__u64 written[TCPINFO_PRESENT_WORDS];
};

#define BIT_OF(id) (1ULL << (TCPINFO_FIELD_##id % 64))
#define WRITTEN(id) (m->written[TCPINFO_FIELD_##id / 64] |= BIT_OF(id))

/* A field whose member is written otherwise. */
#define MARK(id)                                                                                                       \
	({                                                                                                             \
		m->present[TCPINFO_FIELD_##id / 64] |= BIT_OF(id);                                                     \
		WRITTEN(id);                                                                                           \
	})

/* Sets a field and its presence bit. */
#define PUT(id, value)                                                                                                 \
	({                                                                                                             \
		r->id = (value);                                                                                       \
		MARK(id);                                                                                              \
	})

#define PUT_ABSENT(id)                                                                                                 \
	({                                                                                                             \
		r->id = 0;                                                                                             \
		WRITTEN(id);                                                                                           \
	})

#define PUT_IF(condition, id, value)                                                                                   \
	({                                                                                                             \
		if (condition)                                                                                         \
			PUT(id, value);                                                                                \
		else                                                                                                   \
			PUT_ABSENT(id);                                                                                \
	})

/* A member that not every kernel has. */
#define PUT_IF_EXISTS(id, member, value) PUT_IF(bpf_core_field_exists(member), id, value)

extern void a_field_is_not_written(void) __attribute__((error("fill.bpf.h leaves a field of the record unwritten")));

static __always_inline void all_written(const struct marks *m)
{
	_Static_assert(TCPINFO_FIELD_COUNT > 64 && TCPINFO_FIELD_COUNT < 128, "the words that hold fields");

	if (~m->written[0] || ~(m->written[1] | ~0ULL << TCPINFO_FIELD_COUNT % 64))
		a_field_is_not_written();
}

/*
 * A bit-field: a plain access would relocate the place of its storage but not the bits inside it, which differ between
 * kernels and from our own declaration.
 */
#define BITS(object, member) BPF_CORE_READ_BITFIELD(object, member)

/* What only the caller knows about the moment of the reading. */
struct tcpinfo_moment {
	__u64 time_ns;
	__u64 cookie;
	__u64 netns_cookie;
	__u64 cgroup_id; /* 0: not known */
	__u32 sequence;
	__u32 generation;
	__u32 event;
	__u32 source;
	__u32 state;	 /* after the event: in a state callback the socket still holds the old one */
	__u32 old_state; /* 0: not a transition */
	__u32 lost_records;
	__u32 pid;	 /* 0: not known */
	__u32 triggered; /* 0: there is no trigger */
	__u32 adopted;
	__u64 comm[2];
	_Bool follows;	 /* the caller follows the connection and knows its generation */
	_Bool swept;
	_Bool connecting; /* TCP_CONNECT callback: snd_nxt is not set yet, notsent_bytes would be garbage */
};

/* What stays the same as long as there is the socket, and takes three lines of cache to find out. */
static __always_inline __u64 netns_cookie_of(const struct sock_common *skc)
{
	return skc->skc_net.net->net_cookie;
}

static __always_inline __u64 cgroup_id_of(const struct tcp_sock *tp)
{
	return tp->inet_conn.icsk_inet.sk.sk_cgrp_data.cgroup->kn->id;
}

static __always_inline void set_ipv4(union tcpinfo_address *a, __be32 address)
{
	a->halves[0] = 0;
	a->words[2] = bpf_htonl(0xffff);
	a->words[3] = address;
}

static __always_inline void copy_ipv6(union tcpinfo_address *a, const struct in6_addr *address)
{
	a->words[0] = address->in6_u.u6_addr32[0];
	a->words[1] = address->in6_u.u6_addr32[1];
	a->words[2] = address->in6_u.u6_addr32[2];
	a->words[3] = address->in6_u.u6_addr32[3];
}

static __always_inline void read_addresses(const struct sock_common *skc, union tcpinfo_address *local,
					   union tcpinfo_address *peer)
{
	if (skc->skc_family == AF_INET6) {
		copy_ipv6(local, &skc->skc_v6_rcv_saddr);
		copy_ipv6(peer, &skc->skc_v6_daddr);
	} else {
		set_ipv4(local, skc->skc_rcv_saddr);
		set_ipv4(peer, skc->skc_daddr);
	}
}

/* kernel v6.18 net/ipv4/tcp_bbr.c bbr_get_info(), tcp_vegas.c tcp_vegas_get_info(), tcp_dctcp.c dctcp_get_info() */
static __always_inline void put_congestion_control(struct tcpinfo_record *r, struct marks *m,
						   const struct inet_connection_sock *icsk, const struct tcp_sock *tp)
{
	const void *priv = &icsk->icsk_ca_priv[0];
	__u64 name = r->congestion_control.halves[0];

	if (r->congestion_control.halves[1])
		return;
	if (name == 0x726262 /* bbr */) {
		const struct bbr *ca = priv;

		if (bpf_core_field_exists(ca->min_rtt_us)) {
			__u64 bandwidth = BITS(ca, lt_use_bw) ? ca->lt_bw : ca->bw.s[0].v;
			__u32 min_rtt = ca->min_rtt_us;
			__u32 pacing_gain = BITS(ca, pacing_gain);

			if (!pacing_gain) /* the algorithm has not begun yet, all is 0 */
				return;
			PUT(bbr_bw, bandwidth * tp->mss_cache * 1000000 >> 24);
			if (min_rtt != ~0U)
				PUT(bbr_min_rtt, min_rtt);
			PUT(bbr_pacing_gain, pacing_gain);
			PUT(bbr_cwnd_gain, BITS(ca, cwnd_gain));
		}
	} else if (name == 0x7361676576 /* vegas */) {
		const struct vegas *ca = priv;

		if (bpf_core_field_exists(ca->baseRTT)) {
			__u32 base = ca->baseRTT, min = ca->minRTT;

			if (!base) /* the algorithm has not begun yet, all is 0 */
				return;
			PUT(vegas_enabled, ca->doing_vegas_now);
			PUT(vegas_rttcnt, ca->cntRTT);
			if (base != VEGAS_NO_RTT)
				PUT(vegas_rtt, base);
			if (min != VEGAS_NO_RTT)
				PUT(vegas_minrtt, min);
		}
	} else if (name == 0x7063746364 /* dctcp; its fallback is named dctcp-reno */) {
		const struct dctcp *ca = priv;

		if (bpf_core_field_exists(ca->dctcp_alpha)) {
			PUT(dctcp_enabled, 1);
			PUT(dctcp_ce_state, (__u16)ca->ce_state);
			PUT(dctcp_alpha, ca->dctcp_alpha);
			PUT(dctcp_ab_ecn, tp->mss_cache * (tp->delivered_ce - ca->old_delivered_ce));
			PUT(dctcp_ab_tot, tp->mss_cache * (tp->delivered - ca->old_delivered));
		}
	}
}

/* Of most algorithms all of these are absent. */
static __always_inline void fill_congestion_control(struct tcpinfo_record *r, struct marks *m,
						    const struct inet_connection_sock *icsk, const struct tcp_sock *tp)
{
	PUT_ABSENT(bbr_bw);
	PUT_ABSENT(bbr_min_rtt);
	PUT_ABSENT(bbr_pacing_gain);
	PUT_ABSENT(bbr_cwnd_gain);
	PUT_ABSENT(vegas_enabled);
	PUT_ABSENT(vegas_rttcnt);
	PUT_ABSENT(vegas_rtt);
	PUT_ABSENT(vegas_minrtt);
	PUT_ABSENT(dctcp_enabled);
	PUT_ABSENT(dctcp_ce_state);
	PUT_ABSENT(dctcp_alpha);
	PUT_ABSENT(dctcp_ab_ecn);
	PUT_ABSENT(dctcp_ab_tot);
	put_congestion_control(r, m, icsk, tp);
}

/* kernel v6.18 net/ipv4/tcp.c tcp_get_info_chrono_stats(); `running`: how long, if it is the one that runs */
static __always_inline __u64 chrono_us(const struct tcp_sock *tp, __u32 type, __u32 running_type, __u32 running, __u32 hz)
{
	return tcpinfo_chrono_us(tp->chrono_stat[type - 1] + (running_type == type ? running : 0), hz);
}

/* kernel v6.18 net/ipv4/tcp.c tcp_rto_min(): a route that locks its least RTO overrules the socket. In jiffies. */
static __always_inline __u32 least_rto(const struct inet_connection_sock *icsk, __u32 hz)
{
	const struct dst_entry *dst = icsk->icsk_inet.sk.sk_dst_cache;
	__u32 values[RTAX_RTO_MIN];
	unsigned long metrics;

	if (!dst)
		return icsk->icsk_rto_min;
	metrics = dst->_metrics;
	/* Routes without metrics of their own, nearly all, share read-only ones, where nothing is set. */
	if ((metrics & DST_METRICS_FLAGS) == DST_METRICS_READ_ONLY ||
	    bpf_probe_read_kernel(values, sizeof(values), (const void *)(metrics & ~DST_METRICS_FLAGS)))
		return icsk->icsk_rto_min;
	if (!(values[RTAX_LOCK - 1] & (1U << RTAX_RTO_MIN)))
		return icsk->icsk_rto_min;
	return tcpinfo_ms_to_jiffies(values[RTAX_RTO_MIN - 1], hz);
}

/* kernel v6.18 net/ipv4/tcp_output.c tcp_delack_max() */
static __always_inline __u32 delayed_ack_max(const struct inet_connection_sock *icsk, __u32 hz)
{
	__u32 rto_min = least_rto(icsk, hz), delack_max = icsk->icsk_delack_max;
	__u32 below_rto = (rto_min > 2 ? rto_min : 2) - 1;

	return below_rto < delack_max ? below_rto : delack_max;
}

/* Fields in units of time that the kernel keeps in jiffies: absent where HZ is not known. */
static __always_inline void fill_jiffies(struct tcpinfo_record *r, struct marks *m, const struct tcp_sock *tp)
{
	const struct inet_connection_sock *icsk = &tp->inet_conn;
	__u32 now = (__u32)bpf_jiffies64();
	__u32 hz = kernel_hz;
	__u32 ato = BITS(icsk, icsk_ack.ato); /* a bit-field since v6.7 "tcp: record last received ipv6 flowlabel" */
	__u64 busy, rwnd, sndbuf;
	__u32 running, type;

	PUT_ABSENT(last_ack_sent); /* tcp_info has it and never fills it */
	if (!hz) {
		PUT_ABSENT(rto);
		PUT_ABSENT(ato);
		PUT_ABSENT(last_data_sent);
		PUT_ABSENT(last_data_recv);
		PUT_ABSENT(last_ack_recv);
		PUT_ABSENT(busy_time);
		PUT_ABSENT(rwnd_limited);
		PUT_ABSENT(sndbuf_limited);
		return;
	}
	/* kernel v6.7 bbf80d713fe7 "tcp: derive delack_max from rto_min"; of the same version as total_rto */
	if (bpf_core_field_exists(tp->total_rto)) {
		__u32 delack_max = delayed_ack_max(icsk, hz);

		ato = ato < delack_max ? ato : delack_max;
	}
	PUT(rto, tcpinfo_jiffies_to_us(icsk->icsk_rto, hz));
	PUT(ato, tcpinfo_jiffies_to_us(ato, hz));
	PUT(last_data_sent, tcpinfo_jiffies_to_ms(tcpinfo_jiffies_since(now, tp->lsndtime), hz));
	PUT(last_data_recv, tcpinfo_jiffies_to_ms(tcpinfo_jiffies_since(now, icsk->icsk_ack.lrcvtime), hz));
	PUT(last_ack_recv, tcpinfo_jiffies_to_ms(tcpinfo_jiffies_since(now, tp->rcv_tstamp), hz));
	type = BITS(tp, chrono_type); /* a bit-field before v6.8 "tcp: reorganize tcp_sock fast path variables" */
	running = tcpinfo_jiffies_since(now, tp->chrono_start);
	busy = chrono_us(tp, 1, type, running, hz);
	rwnd = chrono_us(tp, 2, type, running, hz);
	sndbuf = chrono_us(tp, 3, type, running, hz);
	PUT(busy_time, busy + rwnd + sndbuf);
	PUT(rwnd_limited, rwnd);
	PUT(sndbuf_limited, sndbuf);
}

static __always_inline __u32 rto_time(const struct tcp_sock *tp)
{
	__u32 stamp = tp->rto_stamp, total = tp->total_rto_time;

	return stamp ? total + (__u32)(bpf_ktime_get_ns() / 1000000) - stamp : total;
}

/* kernel v6.18 net/ipv4/tcp.c tcp_get_info(), the part after the listener's */
static __always_inline void fill_connection(struct tcpinfo_record *r, struct marks *m, const struct tcp_sock *tp,
					    _Bool connecting)
{
	const struct inet_connection_sock *icsk = &tp->inet_conn;
	__u32 rate = tp->rate_delivered, interval = tp->rate_interval_us, min_rtt = tp->rtt_min.s[0].v;
	__u32 ssthresh = tp->snd_ssthresh, srtt = tp->srtt_us, mss = tp->mss_cache;
	__u32 ecn_flags = tp->ecn_flags;
	_Bool wscale = BITS(tp, rx_opt.wscale_ok);
	__u8 options = 0;
	__s32 notsent;

	PUT(ca_state, BITS(icsk, icsk_ca_state));
	PUT(retransmits, icsk->icsk_retransmits);
	PUT(probes, icsk->icsk_probes_out);
	PUT(backoff, icsk->icsk_backoff);
	options |= BITS(tp, rx_opt.tstamp_ok) ? 1 : 0;
	options |= BITS(tp, rx_opt.sack_ok) ? 2 : 0;
	options |= wscale ? 4 : 0;
	options |= ecn_flags & TCP_ECN_MODE_ANY ? 8 : 0;
	options |= ecn_flags & TCP_ECN_SEEN ? 16 : 0;
	options |= BITS(tp, syn_data_acked) ? 32 : 0;
	if (bpf_core_field_exists(tp->tcp_usec_ts)) /* v6.7 614e8316aa4c */
		options |= BITS(tp, tcp_usec_ts) ? 64 : 0;
	if (bpf_core_field_exists(tp->syn_fastopen_child)) /* "tcp: fastopen: note that a child socket was created" */
		options |= BITS(tp, syn_fastopen_child) ? 128 : 0;
	PUT(options, options);
	PUT(snd_wscale, wscale ? BITS(tp, rx_opt.snd_wscale) : 0);
	PUT(rcv_wscale, wscale ? BITS(tp, rx_opt.rcv_wscale) : 0);
	PUT(delivery_rate_app_limited, BITS(tp, rate_app_limited));
	PUT(fastopen_client_fail, BITS(tp, fastopen_client_fail));
	fill_jiffies(r, m, tp);
	PUT(snd_mss, mss);
	PUT(rcv_mss, icsk->icsk_ack.rcv_mss);
	PUT(unacked, tp->packets_out);
	PUT(sacked, tp->sacked_out);
	PUT(lost, tp->lost_out);
	PUT(retrans, tp->retrans_out);
	PUT(pmtu, icsk->icsk_pmtu_cookie);
	PUT(rcv_ssthresh, tp->rcv_ssthresh);
	PUT_ABSENT(fackets); /* as last_ack_sent */
	PUT_IF(srtt >> 3, rtt, srtt >> 3); /* tcp_info shows 0 for less than 1 us and for none */
	PUT_IF(srtt >> 3, rttvar, tp->mdev_us >> 2);
	PUT_IF(ssthresh < TCP_INFINITE_SSTHRESH, snd_ssthresh, ssthresh);
	PUT(advmss, tp->advmss);
	PUT(rcv_rtt, tp->rcv_rtt_est.rtt_us >> 3);
	PUT(rcv_space, tp->rcvq_space.space);
	PUT(total_retrans, tp->total_retrans);
	PUT(bytes_acked, tp->bytes_acked);
	PUT(bytes_received, tp->bytes_received);
	PUT(segs_out, tp->segs_out);
	PUT(segs_in, tp->segs_in);
	notsent = (__s32)(tp->write_seq - tp->snd_nxt);
	PUT_IF(!connecting, notsent_bytes, notsent > 0 ? notsent : 0);
	PUT_IF(min_rtt != ~0U, min_rtt, min_rtt);
	PUT(data_segs_in, tp->data_segs_in);
	PUT(data_segs_out, tp->data_segs_out);
	PUT(delivery_rate, rate && interval ? (__u64)rate * mss * 1000000 / interval : 0);
	PUT(delivered, tp->delivered);
	PUT(delivered_ce, tp->delivered_ce);
	PUT(bytes_sent, tp->bytes_sent);
	PUT(bytes_retrans, tp->bytes_retrans);
	PUT(dsack_dups, tp->dsack_dups);
	PUT(reord_seen, tp->reord_seen);
	PUT(rcv_ooopack, tp->rcv_ooopack);
	PUT(snd_wnd, tp->snd_wnd);
	PUT(rcv_wnd, tp->rcv_wnd);
	PUT_IF_EXISTS(rehash, tp->plb_rehash, tp->plb_rehash + tp->timeout_rehash); /* v6.2 29c1c44646ae */
	/* v6.7 3868ab0f1925 */
	PUT_IF_EXISTS(total_rto, tp->total_rto, tp->total_rto);
	PUT_IF_EXISTS(total_rto_recoveries, tp->total_rto, tp->total_rto_recoveries);
	PUT_IF_EXISTS(total_rto_time, tp->total_rto, rto_time(tp));
	/* v6.18 "tcp: accecn: add AccECN rx byte counters" */
	PUT_IF_EXISTS(received_ce, tp->received_ecn_bytes, tp->received_ce);
	PUT_IF_EXISTS(delivered_e1_bytes, tp->received_ecn_bytes, tp->delivered_ecn_bytes[0]);
	PUT_IF_EXISTS(delivered_e0_bytes, tp->received_ecn_bytes, tp->delivered_ecn_bytes[1]);
	PUT_IF_EXISTS(delivered_ce_bytes, tp->received_ecn_bytes, tp->delivered_ecn_bytes[2]);
	PUT_IF_EXISTS(received_e1_bytes, tp->received_ecn_bytes, tp->received_ecn_bytes[0]);
	PUT_IF_EXISTS(received_e0_bytes, tp->received_ecn_bytes, tp->received_ecn_bytes[1]);
	PUT_IF_EXISTS(received_ce_bytes, tp->received_ecn_bytes, tp->received_ecn_bytes[2]);
	PUT_IF_EXISTS(accecn_fail_mode, tp->received_ecn_bytes, BITS(tp, accecn_fail_mode));
	PUT_IF_EXISTS(accecn_opt_seen, tp->received_ecn_bytes, BITS(tp, saw_accecn_opt));
	fill_congestion_control(r, m, icsk, tp);
}

/* kernel v6.18 net/core/sock.c sk_get_meminfo() */
static __always_inline void fill_memory(struct tcpinfo_record *r, struct marks *m, const struct sock *sk)
{
	PUT(skmem_rmem_alloc, sk->sk_backlog.rmem_alloc.counter);
	PUT(skmem_rcvbuf, sk->sk_rcvbuf);
	PUT(skmem_wmem_alloc, sk->sk_wmem_alloc.refs.counter - 1);
	PUT(skmem_sndbuf, sk->sk_sndbuf);
	PUT(skmem_fwd_alloc, sk->sk_forward_alloc);
	PUT(skmem_wmem_queued, sk->sk_wmem_queued);
	PUT(skmem_optmem, sk->sk_omem_alloc.counter);
	PUT(skmem_backlog, sk->sk_backlog.len);
	PUT(skmem_drops, sk->sk_drops.counter);
}

static __always_inline void set_present(struct tcpinfo_record *r, const struct marks *m)
{
	r->present[0] = m->present[0];
	r->present[1] = m->present[1];
	r->present[2] = m->present[2];
}

/* What every socket has, also one that is no full socket. */
static __always_inline void fill_identity(struct tcpinfo_record *r, struct marks *m, const struct sock_common *skc,
					  const struct tcpinfo_moment *moment)
{
	r->version = TCPINFO_RECORD_VERSION;
	r->size = sizeof(*r);

	PUT(time_ns, moment->time_ns);
	PUT(cookie, moment->cookie);
	PUT(netns_cookie, moment->netns_cookie);
	read_addresses(skc, &r->local_address, &r->peer_address);
	MARK(local_address);
	MARK(peer_address);
	PUT(sequence, moment->sequence);
	PUT(event, moment->event);
	PUT(source, moment->source);
	PUT(family, skc->skc_family);
	PUT(state, moment->state);
	PUT(local_port, skc->skc_num);
	PUT(peer_port, bpf_ntohs(skc->skc_dport));
	PUT(cpu, bpf_get_smp_processor_id());
}

/* TIME_WAIT, FIN_WAIT2 of a closed one, half-open: the kernel keeps no tcp_sock of these. */
static __always_inline void tcpinfo_fill_identity(struct tcpinfo_record *r, const struct sock_common *skc,
						  const struct tcpinfo_moment *moment)
{
	struct marks marks = {}, *m = &marks;

	__builtin_memset(r, 0, sizeof(*r));
	fill_identity(r, m, skc, moment);
	set_present(r, m);
}

/* An algorithm's or a protocol's name, without its pointer absent. */
#define PUT_NAME(id, operations)                                                                                       \
	({                                                                                                             \
		if (operations) {                                                                                      \
			r->id.halves[0] = *(const __u64 *)&(operations)->name[0];                                      \
			r->id.halves[1] = *(const __u64 *)&(operations)->name[8];                                      \
			MARK(id);                                                                                      \
		} else {                                                                                               \
			r->id.halves[0] = r->id.halves[1] = 0;                                                         \
			WRITTEN(id);                                                                                   \
		}                                                                                                      \
	})

static __always_inline void tcpinfo_fill(struct tcpinfo_record *r, const struct tcp_sock *tp,
					 const struct tcpinfo_moment *moment)
{
	const struct inet_connection_sock *icsk = &tp->inet_conn;
	const struct sock *sk = &icsk->icsk_inet.sk;
	const struct tcp_congestion_ops *ca = icsk->icsk_ca_ops;
	const struct tcp_ulp_ops *ulp = icsk->icsk_ulp_ops;
	struct marks marks = {}, *m = &marks;

	if (moment->state == TCP_LISTEN) /* it has but few of the fields */
		__builtin_memset(r, 0, sizeof(*r));
	fill_identity(r, m, &sk->__sk_common, moment);
	PUT_IF(moment->cgroup_id, cgroup_id, moment->cgroup_id);
	PUT_NAME(congestion_control, ca);
	PUT_NAME(ulp, ulp);
	PUT_IF(moment->follows, generation, moment->generation);
	PUT_IF(moment->follows, swept, moment->swept);
	PUT_IF(moment->old_state, old_state, moment->old_state);
	PUT(is_mptcp, tp->is_mptcp);
	PUT(shutdown, sk->sk_shutdown);
	PUT(tos, icsk->icsk_inet.tos);
	PUT(uid, sk->sk_uid.val);
	PUT_IF(moment->follows, lost_records, moment->lost_records);
	PUT_IF(moment->follows || moment->adopted, adopted, moment->adopted);
	PUT_IF(moment->triggered, triggered, moment->triggered);
	PUT_IF(moment->pid, pid, moment->pid);
	r->comm.halves[0] = moment->comm[0];
	r->comm.halves[1] = moment->comm[1];
	if (moment->pid)
		MARK(comm);
	WRITTEN(comm);
	PUT_ABSENT(inode);	/* three more lines of cache */
	PUT_ABSENT(lost_event); /* gaps are told by user space */

	PUT(pacing_rate, sk->sk_pacing_rate);
	PUT(max_pacing_rate, sk->sk_max_pacing_rate);
	PUT(reordering, tp->reordering);
	PUT(snd_cwnd, tp->snd_cwnd);
	fill_memory(r, m, sk);
	if (moment->state == TCP_LISTEN) {
		PUT(unacked, sk->sk_ack_backlog);
		PUT(sacked, sk->sk_max_ack_backlog);
	} else {
		fill_connection(r, m, tp, moment->connecting);
		all_written(m);
	}
	set_present(r, m);
}

#endif
