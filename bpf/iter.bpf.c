// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The iter source: every TCP socket of a network namespace, once a pass. */
#include "fill.bpf.h"
#include "filter.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define TCP_SYN_RECV 3
#define TCP_TIME_WAIT 6
#define TCP_NEW_SYN_RECV 12

const volatile struct tcpinfo_iter_settings settings;

__u32 pass; /* its number, set before it begins */

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
	tp = bpf_skc_to_tcp_sock(skc);
	if (settings.cgroup_id &&
	    !(tp && is_below_cgroup(tp->inet_conn.icsk_inet.sk.sk_cgrp_data.cgroup, settings.cgroup_id)))
		return 0;
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
