// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The iter source: every TCP socket of a network namespace, once a pass. */
#include "fill.bpf.h"
#include "filter.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define TCP_SYN_RECV 3
#define TCP_TIME_WAIT 6
#define TCP_NEW_SYN_RECV 12

const volatile struct tcpinfo_iter_settings settings;

/* Set before a pass begins. */
__u32 pass;	     /* its number */
__u64 own_listener; /* cookie of a socket that is no part of what is looked at; 0: there is none */

/* One reader at a time runs this program, and a record is too large for the stack. */
struct tcpinfo_record scratch;

/*
 * The state by which sockets are named and selected is the one that netlink shows (kernel v6.18 net/ipv4/inet_diag.c
 * inet_diag_dump_icsk()): of a TIME_WAIT socket its substate, of a half-open one SYN_RECV.
 */
static __always_inline __u32 state_of(struct sock_common *skc)
{
	__u32 state = skc->skc_state;

	if (state == TCP_NEW_SYN_RECV)
		return TCP_SYN_RECV;
	if (state == TCP_TIME_WAIT) {
		struct tcp_timewait_sock *tw = bpf_skc_to_tcp_timewait_sock(skc);

		return tw ? tw->tw_sk.tw_substate : state;
	}
	return state;
}

/* A load that nobody waits for. */
#define TOUCH(value) ({ __u64 touched = (__u64)(value); asm volatile("" : : "r"(touched)); })

/*
 * The sockets of a walk lie anywhere in memory and in no cache, and filling a record reads some 25 cache lines of each:
 * loads and stores by turns let the processor see a few of the loads at a time. Asked for together, all lines come at
 * once. One member of each line as kernel v6.18 has them; elsewhere it costs nothing to speak of.
 */
static __always_inline void touch(const struct tcp_sock *tp)
{
	const struct inet_connection_sock *icsk = &tp->inet_conn;
	const struct sock *sk = &icsk->icsk_inet.sk;

	TOUCH(sk->sk_dst_cache);
	TOUCH(sk->sk_cgrp_data.cgroup);
	TOUCH(sk->sk_rcvbuf);
	TOUCH(sk->sk_max_pacing_rate);
	TOUCH(icsk->icsk_inet.tos);
	TOUCH(icsk->icsk_ca_ops);
	TOUCH(icsk->icsk_ulp_ops);
	TOUCH(icsk->icsk_ca_priv[2]);
	TOUCH(tp->rcv_ssthresh);
	TOUCH(tp->snd_cwnd);
	TOUCH(tp->snd_ssthresh);
	TOUCH(tp->segs_out);
	TOUCH(tp->ecn_flags);
	TOUCH(tp->srtt_us);
	TOUCH(tp->bytes_received);
	TOUCH(tp->bytes_acked);
	TOUCH(tp->dsack_dups);
	TOUCH(tp->reord_seen);
	TOUCH(tp->total_retrans);
	TOUCH(tp->is_mptcp);
	TOUCH(sk->sk_drops.counter);
	TOUCH(sk->sk_ack_backlog);
}

/*
 * The kernel runs this again for the socket whose record did not fit into the reader's buffer: what it wrote then is
 * discarded, and it has no other effect.
 */
SEC("iter/tcp")
int tcpinfo_iter(struct bpf_iter__tcp *ctx)
{
	struct tcpinfo_moment moment = { .source = TCPINFO_SOURCE_ITER, .event = TCPINFO_EVENT_SAMPLE };
	struct sock_common *skc = ctx->sk_common;
	struct tcp_sock *tp;

	if (!skc)
		return 0;
	moment.state = state_of(skc);
	if (moment.state > 31 || !(settings.states & (1U << moment.state)) || !passes_filter(&settings.filter, skc))
		return 0;
	if (own_listener && (__u64)skc->skc_cookie.counter == own_listener)
		return 0;
	tp = bpf_skc_to_tcp_sock(skc);
	if (settings.cgroup_id &&
	    !(tp && is_below_cgroup(tp->inet_conn.icsk_inet.sk.sk_cgrp_data.cgroup, settings.cgroup_id)))
		return 0;
	if (tp)
		touch(tp);
	moment.time_ns = bpf_ktime_get_boot_ns();
	moment.cookie = bpf_get_socket_cookie(skc);
	moment.sequence = pass;
	moment.netns_cookie = netns_cookie_of(skc);
	if (tp) {
		moment.cgroup_id = cgroup_id_of(tp);
		tcpinfo_fill(&scratch, tp, &moment);
	} else {
		tcpinfo_fill_identity(&scratch, skc, &moment);
	}
	bpf_seq_write(ctx->meta->seq, &scratch, sizeof(scratch));
	return 0;
}
