// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The sockops source: a sock_ops program that follows connections from birth to close, and the sweep that samples those
 * for which no RTT callback comes (receivers, idle, stalled).
 */
#include "adopt.bpf.h"
#include "creators.bpf.h"
#include "emit.bpf.h"
#include "filter.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct tcpinfo_sweep_state sweep;

static __always_inline struct connection *find(struct bpf_sock *sk)
{
	return bpf_sk_storage_get(&connections, sk, NULL, 0);
}

/* A connection of ours that lives. Children inherit the listener's flags: no storage means none of ours, or not yet. */
static __always_inline struct connection *find_open(struct bpf_sock *sk)
{
	struct connection *connection = find(sk);

	return connection && !is_over(connection) ? connection : NULL;
}

/* The helper makes the cookie; only the first time there is none to read. */
static __always_inline __u64 cookie_of(struct bpf_sock_ops *ctx, const struct tcp_sock *tp)
{
	__u64 cookie = tp->inet_conn.icsk_inet.sk.__sk_common.skc_cookie.counter;

	return cookie ? cookie : bpf_get_socket_cookie(ctx);
}

/*
 * A connection begins: tags the socket if the filter wants it. In close mode the callback flag is the tag: nothing is
 * kept of a connection, as an element of storage made and freed costs as much as several records.
 */
static __always_inline struct connection *begin(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
						const struct tcp_sock *tp)
{
	_Bool keeps_nothing = settings.mode == TCPINFO_MODE_CLOSE;
	struct connection *connection = keeps_nothing ? NULL : find(sk);
	struct tcpinfo_counters *count = get_counters();

	if (!count)
		return NULL;
	/*
	 * Simultaneous open: it began with TCP_CONNECT. In close mode the flag says so, which a child may have
	 * inherited; but before a child is established nobody can have accepted it (MPTCP can: a subflow that joins).
	 */
	if (ctx->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB &&
	    (keeps_nothing
		 ? (ctx->bpf_sock_ops_cb_flags & BPF_SOCK_OPS_STATE_CB_FLAG) && tp->inet_conn.icsk_inet.sk.sk_socket
		 : connection && !is_over(connection)))
		return NULL;
	if (!passes_filter(&settings.filter, &tp->inet_conn.icsk_inet.sk.__sk_common)) {
		COUNT(count, filtered);
		return NULL; /* a socket that connects again elsewhere stays closed for us */
	}
	if (!keeps_nothing) {
		connection = follow(tp, connection, 0);
		if (!connection) {
			COUNT(count, untracked);
			return NULL;
		}
	}
	COUNT(count, connections);
	request_callbacks(ctx, connection);
	return connection;
}

/* A callback of a socket that we do not know: it came before the pass over those that are older than the attach. */
static __always_inline struct connection *adopt(struct bpf_sock_ops *ctx, const struct tcp_sock *tp,
						struct tcpinfo_moment *moment)
{
	struct connection *connection;

	if (!settings.adopts || !passes_filter(&settings.filter, &tp->inet_conn.icsk_inet.sk.__sk_common))
		return NULL;
	connection = follow(tp, NULL, FOLLOWED_BY_CALLBACKS);
	if (!connection)
		return NULL; /* counted when it began, or by the first pass */
	request_callbacks(ctx, connection);
	moment->time_ns = bpf_ktime_get_boot_ns();
	moment->state = tp->inet_conn.icsk_inet.sk.__sk_common.skc_state;
	moment->cookie = cookie_of(ctx, tp);
	moment->follows = 1;
	emit_adopted(tp, connection, moment);
	return connection;
}

static __always_inline void open(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct tcpinfo_moment moment = {
		.source = TCPINFO_SOURCE_SOCKOPS, .event = TCPINFO_EVENT_OPEN, .follows = 1
	};
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct connection *connection;

	if (!tp)
		return;
	look_for_others(tp);
	connection = begin(ctx, sk, tp);
	if (!connection)
		return;
	moment.time_ns = bpf_ktime_get_boot_ns();
	moment.state = tp->inet_conn.icsk_inet.sk.__sk_common.skc_state;
	moment.connecting = ctx->op == BPF_SOCK_OPS_TCP_CONNECT_CB;
	moment.old_state = moment.connecting ? TCP_CLOSE : 0;
	moment.cookie = cookie_of(ctx, tp);
	set_creator(&moment, sk);
	set_sampled(connection, moment.time_ns, (__u32)bpf_jiffies64());
	emit_life(tp, connection, &moment);
}

/* The callback comes before the socket's state is set. */
static __always_inline void change_state(struct bpf_sock_ops *ctx, struct bpf_sock *sk, __u32 new_state)
{
	_Bool keeps_nothing = settings.mode == TCPINFO_MODE_CLOSE;
	struct tcpinfo_moment moment = { .source = TCPINFO_SOURCE_SOCKOPS };
	struct connection *connection = keeps_nothing ? NULL : find(sk);
	struct tcp_sock *tp;
	__u32 old_state;

	if (!keeps_nothing && (connection ? is_over(connection) : !settings.adopts))
		return;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return;
	old_state = tp->inet_conn.icsk_inet.sk.__sk_common.skc_state;
	if (old_state == new_state) /* close() after shutdown() */
		return;
	if (!connection && is_none_yet(tp, old_state))
		return;
	if (!keeps_nothing) {
		if (!connection) {
			if (old_state == TCP_SYN_RECV && new_state == TCP_CLOSE)
				return; /* a child that never came to be a connection */
			connection = adopt(ctx, tp, &moment);
			if (!connection)
				return;
		}
		connection->told = new_state;
		if (new_state != TCP_CLOSE)
			rearm(ctx, connection);
		moment.follows = 1;
	} else { /* whoever set the flag, it is a connection that ends */
		if (!passes_filter(&settings.filter, &tp->inet_conn.icsk_inet.sk.__sk_common))
			return;
		if (adoption.transitions) {
			struct connection *told = bpf_sk_storage_get(&connections, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);

			if (told)
				told->told = TCP_CLOSE;
		}
	}
	moment.time_ns = bpf_ktime_get_boot_ns();
	moment.cookie = cookie_of(ctx, tp);
	moment.old_state = old_state;
	moment.state = new_state;
	moment.event = TCPINFO_EVENT_STATE;
	if (new_state == TCP_CLOSE) {
		moment.event = TCPINFO_EVENT_CLOSE;
		set_creator(&moment, sk);
	}
	emit_life(tp, connection, &moment);
}

SEC("sockops")
int tcpinfo_sockops(struct bpf_sock_ops *ctx)
{
	__u32 op = ctx->op, jiffies, new_state;
	struct connection *connection;
	struct bpf_sock *sk = ctx->sk;
	struct tcp_sock *tp;
	__u64 time_ns;

	if (!sk)
		return 1;
	/* First what ends here for most callbacks; what goes on is a sample. */
	switch (op) {
	case BPF_SOCK_OPS_RTT_CB:
		if (settings.mode != TCPINFO_MODE_POLLING)
			return 1;
		connection = find_open(sk);
		if (!connection)
			return 1;
		jiffies = (__u32)bpf_jiffies64(); /* a load, where the clock is a call */
		if ((__s32)(jiffies - connection->due_jiffies) < 0)
			return 1;
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB: /* the first sample of a connection that we opened */
		if (settings.mode == TCPINFO_MODE_CLOSE)
			return 1;
		connection = find(sk);
		if (!connection && settings.adopts) {
			struct tcpinfo_moment moment = { .source = TCPINFO_SOURCE_SOCKOPS };

			tp = bpf_skc_to_tcp_sock(sk);
			if (tp)
				adopt(ctx, tp, &moment);
			return 1;
		}
		if (!connection || is_over(connection) || settings.mode != TCPINFO_MODE_POLLING)
			return 1;
		jiffies = (__u32)bpf_jiffies64();
		break;
	case BPF_SOCK_OPS_STATE_CB:
		new_state = ctx->args[1];
		if (new_state == TCP_CLOSE || settings.mode == TCPINFO_MODE_STATE)
			change_state(ctx, sk, new_state);
		return 1;
	case BPF_SOCK_OPS_TCP_LISTEN_CB: /* it was connected before; its children would inherit the flags */
		connection = settings.mode == TCPINFO_MODE_CLOSE ? NULL : find(sk);
		if (connection && connection->added) {
			bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags & ~connection->added);
			connection->added = 0;
		}
		return 1;
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		open(ctx, sk);
		return 1;
	default:
		return 1;
	}

	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 1;
	time_ns = bpf_ktime_get_boot_ns();
	/* A sweep may have sampled it after the clock was read. */
	if (op == BPF_SOCK_OPS_RTT_CB && (__s64)(time_ns - connection->sampled_ns) < (__s64)settings.interval_ns)
		return 1;
	rearm(ctx, connection);
	set_sampled(connection, time_ns, jiffies);
	emit_sample(tp, connection, time_ns, tp->inet_conn.icsk_inet.sk.__sk_common.skc_state, 0);
	return 1;
}

/*
 * A tagged socket in a sweep. Without the socket's lock each field is whole, but fields may be of different moments, and
 * the record says so. A connection sampled a little less than an interval ago is due too, otherwise a sweep that comes
 * early by its timer's jitter would pass it over and its next sample would be two intervals away.
 */
static __always_inline int visit(struct sock_common *skc, struct connection *connection)
{
	struct tcp_sock *tp;
	__u64 time_ns;
	_Bool is_due;
	__u32 state;

	sweep.visits++;
	if (is_over(connection) || !connection->sampled_ns) /* its first record is being made */
		return 0;
	is_due = !sweep.samples_none &&
		 (__s64)(sweep.time_ns - connection->sampled_ns) >= (__s64)(settings.sweep_interval_ns / 4 * 3);
	if (!is_due && !sweep.checks)
		return 0;
	tp = bpf_skc_to_tcp_sock(skc);
	if (!tp)
		return 0;
	state = skc->skc_state;
	if (state == TCP_CLOSE)
		return 0; /* closing right now: the close record says the rest */
	if (is_due && !ring_has_room(TCPINFO_EVENT_SAMPLE))
		return 1; /* the read ends here, and the next one begins with this socket */
	if (sweep.checks && wanted_flags() & ~flags_of(tp))
		sweep.silenced++;
	if (!is_due)
		return 0;
	time_ns = bpf_ktime_get_boot_ns();
	/* Also of those without callbacks: a difference of jiffies means nothing after half of their range, 24 days at HZ 1000. */
	set_sampled(connection, time_ns, (__u32)bpf_jiffies64());
	emit_sample(tp, connection, time_ns, state, 1);
	return 0;
}

/* Runs for each tagged socket, whichever network namespace it is in, and holds no socket lock. */
SEC("iter/bpf_sk_storage_map")
int tcpinfo_sweep(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct connection *connection = ctx->value;
	struct sock *sk = ctx->sk;

	return sk && connection ? visit(&sk->__sk_common, connection) : 0;
}

/* Instead, where the kernel refuses programs over the elements of a map: for each socket of one network namespace. */
SEC("iter/tcp")
int tcpinfo_sweep_all(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	struct connection *connection = skc ? bpf_sk_storage_get(&connections, skc, NULL, 0) : NULL;

	return connection ? visit(skc, connection) : 0;
}
