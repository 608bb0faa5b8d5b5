/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Connections whose beginning was not seen, and callback flags: what we ask for, what others overwrote, what we take back.
 */
#ifndef TCPINFO_ADOPT_BPF_H
#define TCPINFO_ADOPT_BPF_H

#include "emit.bpf.h"
#include "filter.bpf.h"
#include "adoption.h"

#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_SYN_RECV 3
#define TCP_CLOSE 7

#define TCP_BPF_SOCK_OPS_CB_FLAGS 1008 /* kernel v6.12 include/uapi/linux/bpf.h */

/* tcpinfo_record: adopted */
#define FOLLOWED_BY_CALLBACKS 1
#define FOLLOWED_WITHOUT 2

struct tcpinfo_adoption adoption;

static __always_inline __u32 wanted_flags(void)
{
	__u32 flags = BPF_SOCK_OPS_STATE_CB_FLAG;

	if (settings.mode == TCPINFO_MODE_POLLING)
		flags |= BPF_SOCK_OPS_RTT_CB_FLAG;
	return flags;
}

static __always_inline __u32 flags_of(const struct tcp_sock *tp)
{
	return *(volatile __u8 *)&tp->bpf_sock_ops_cb_flags;
}

enum cgroup_bpf_attach_type { CGROUP_SOCK_OPS = 3 }; /* the running kernel's value is asked for */

/* Whether so many sock_ops programs, or more, run for the socket: those of its cgroup and of all above it. */
static __always_inline int runs_programs(const struct tcp_sock *tp, __u32 number)
{
	const struct cgroup *cgroup = tp->inet_conn.icsk_inet.sk.sk_cgrp_data.cgroup;
	__u64 type = bpf_core_enum_value(enum cgroup_bpf_attach_type, CGROUP_SOCK_OPS);
	const struct bpf_prog_array *array = NULL;
	const struct bpf_prog *program = NULL;
	const char *item;

	if (bpf_probe_read_kernel(&array, sizeof(array), (const char *)&cgroup->bpf.effective + type * sizeof(array)))
		return 0;
	item = (const char *)array + bpf_core_field_offset(struct bpf_prog_array, items) +
	       (number - 1) * bpf_core_type_size(struct bpf_prog_array_item);
	return !bpf_probe_read_kernel(&program, sizeof(program), item) && program; /* the last one is followed by NULL */
}

/* Ours is one of them. It may share callback flags with others, who may overwrite them: user space takes care of that. */
static __always_inline void look_for_others(const struct tcp_sock *tp)
{
	if (!adoption.others && runs_programs(tp, 2))
		adoption.others = 1;
}

static __always_inline void set_sampled(struct connection *connection, __u64 time_ns, __u32 jiffies)
{
	connection->sampled_ns = time_ns;
	connection->due_jiffies = jiffies + settings.interval_jiffies;
}

/* The word is shared with other programs, and setting replaces it. What we added is ours to take back. */
static __always_inline void request_callbacks(struct bpf_sock_ops *ctx, struct connection *connection)
{
	__u32 present = ctx->bpf_sock_ops_cb_flags, missing = wanted_flags() & ~present;

	if (!missing)
		return;
	bpf_sock_ops_cb_flags_set(ctx, present | missing);
	if (connection)
		connection->added |= missing;
}

/* Another program overwrote our flags. Before 6.12 only a callback of the socket itself can bring them back. */
static __always_inline void rearm(struct bpf_sock_ops *ctx, struct connection *connection)
{
	struct tcpinfo_counters *count;

	if (!(wanted_flags() & ~ctx->bpf_sock_ops_cb_flags))
		return;
	count = get_counters();
	request_callbacks(ctx, connection);
	if (connection->adopted == FOLLOWED_WITHOUT)
		connection->adopted = FOLLOWED_BY_CALLBACKS;
	else if (count)
		COUNT(count, rearmed);
}

/*
 * Storage for a connection that begins, or that we begin to follow; `connection` is what the socket has of an earlier one.
 * The kernel's counters begin anew where a socket connects again. NULL: no memory.
 */
static __always_inline struct connection *follow(const struct tcp_sock *tp, struct connection *connection, __u32 adopted)
{
	if (connection) {
		connection->sampled_ns = 0;
		connection->generation++;
		connection->sequence = 0;
		connection->lost = 0;
		connection->told = 0;
	} else {
		connection = bpf_sk_storage_get(&connections, (void *)tp, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		if (!connection)
			return NULL;
		connection->netns_cookie = netns_cookie_of(&tp->inet_conn.icsk_inet.sk.__sk_common);
		connection->cgroup_id = cgroup_id_of(tp);
	}
	connection->adopted = adopted;
	return connection;
}

static __always_inline int is_over(const struct connection *connection)
{
	return connection->told == TCP_CLOSE;
}

/* It leaves this state without having been a connection: a connect() may fail before its SYN is sent. */
static __always_inline int is_none_yet(const struct tcp_sock *tp, __u32 state)
{
	return state == TCP_CLOSE || state == TCP_LISTEN || (state == TCP_SYN_SENT && !tp->segs_out);
}

static __always_inline void emit_adopted(const struct tcp_sock *tp, struct connection *connection,
					 struct tcpinfo_moment *moment)
{
	moment->event = TCPINFO_EVENT_ADOPTED;
	if (connection)
		set_sampled(connection, moment->time_ns, (__u32)bpf_jiffies64());
	emit_life(tp, connection, moment);
}

static __always_inline int is_ours(const struct tcp_sock *tp)
{
	return is_below_cgroup(tp->inet_conn.icsk_inet.sk.sk_cgrp_data.cgroup, settings.cgroup_id);
}

/* The helper exists in older kernels too, which do not know this option: only the effect tells. */
static __always_inline __u32 set_flags(struct sock_common *skc, const struct tcp_sock *tp, __u32 flags)
{
	int value = flags;

	bpf_setsockopt(skc, IPPROTO_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, &value, sizeof(value));
	return flags_of(tp);
}

/*
 * Runs for each socket of a network namespace, which is locked. In close mode nothing is kept of a connection, and the
 * callback flag is the tag.
 */
SEC("iter/tcp")
int tcpinfo_adopt(struct bpf_iter__tcp *ctx)
{
	_Bool keeps_nothing = settings.mode == TCPINFO_MODE_CLOSE;
	struct sock_common *skc = ctx->sk_common;
	__u32 before, missing, state, wanted = wanted_flags();
	struct connection *connection = NULL;
	struct tcpinfo_counters *count;
	struct tcp_sock *tp;
	_Bool is_new;

	if (!skc)
		return 0;
	state = skc->skc_state;
	tp = bpf_skc_to_tcp_sock(skc); /* NULL for half-open ones and TIME_WAIT */
	count = get_counters();
	if (!tp || !count || !is_ours(tp))
		return 0;
	if (!keeps_nothing)
		connection = bpf_sk_storage_get(&connections, tp, NULL, 0);
	before = flags_of(tp);
	if (adoption.clearing) {
		__u32 added = keeps_nothing ? wanted : connection ? connection->added : 0;

		/* Another program may have asked since for what we were the first to set: it stays. */
		if ((before & added) && !runs_programs(tp, 1))
			set_flags(skc, tp, before & ~added);
		if (connection)
			connection->added = 0;
		return 0;
	}
	if (is_none_yet(tp, state))
		return 0;
	look_for_others(tp);
	missing = wanted & ~before;
	is_new = keeps_nothing ? missing != 0 : !connection || is_over(connection);
	if (is_new && (!settings.adopts || !passes_filter(&settings.filter, skc)))
		return 0;
	if (keeps_nothing && adoption.all_known)
		is_new = 0;
	if (is_new) {
		if (!ring_has_room(TCPINFO_EVENT_ADOPTED)) {
			adoption.full = 1;
			return 1; /* the read ends here, and the next one begins with this socket */
		}
		if (!keeps_nothing) {
			connection = follow(tp, connection, FOLLOWED_BY_CALLBACKS);
			if (!connection) {
				if (!adoption.again)
					COUNT(count, untracked);
				return 0;
			}
		}
		adoption.found++;
	}
	if (missing) {
		__u32 after = set_flags(skc, tp, before | missing);

		if (connection)
			connection->added |= after & missing;
		missing &= ~after;
		if (missing) {
			adoption.refused++;
			if (is_new && connection)
				connection->adopted = FOLLOWED_WITHOUT;
		} else {
			adoption.armed++;
			if (!is_new) {
				adoption.found++;
				if (connection && connection->adopted == FOLLOWED_WITHOUT)
					connection->adopted = FOLLOWED_BY_CALLBACKS;
				else
					COUNT(count, rearmed);
			}
		}
	}
	if (is_new) {
		struct tcpinfo_moment moment = {
			.source = TCPINFO_SOURCE_SOCKOPS, .follows = !keeps_nothing, .state = state
		};

		moment.adopted = missing ? FOLLOWED_WITHOUT : FOLLOWED_BY_CALLBACKS;
		moment.time_ns = bpf_ktime_get_boot_ns();
		moment.cookie = bpf_get_socket_cookie(skc);
		emit_adopted(tp, connection, &moment);
	}
	return 0;
}

/*
 * Every change of state of every socket of the host. It closes the gap between the attach and the end of the passes, and
 * stands in for callbacks that the kernel cannot be asked for.
 */
SEC("tp_btf/inet_sock_set_state")
int tcpinfo_transition(const __u64 *ctx)
{
	struct tcpinfo_moment moment = { .source = TCPINFO_SOURCE_SOCKOPS, .adopted = FOLLOWED_WITHOUT };
	struct sock *sk = (struct sock *)ctx[0];
	int old_state = (int)ctx[1], new_state = (int)ctx[2];
	_Bool keeps_nothing = settings.mode == TCPINFO_MODE_CLOSE;
	struct connection *connection;
	struct tcp_sock *tp;

	if (old_state == TCP_CLOSE || old_state == TCP_LISTEN || old_state == new_state)
		return 0;
	if (keeps_nothing && new_state != TCP_CLOSE)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp || !is_ours(tp))
		return 0;
	/* The callback came before this. Another program may have taken our flag in there. */
	connection = bpf_sk_storage_get(&connections, tp, NULL, 0);
	if (connection && (is_over(connection) || connection->told == new_state)) {
		if (keeps_nothing)
			bpf_sk_storage_delete(&connections, tp);
		return 0;
	}
	if (flags_of(tp) & BPF_SOCK_OPS_STATE_CB_FLAG)
		return 0;
	if (!connection) {
		/* Or a child that never came to be a connection. */
		if (is_none_yet(tp, old_state) || (old_state == TCP_SYN_RECV && new_state == TCP_CLOSE))
			return 0;
		if (!passes_filter(&settings.filter, &sk->__sk_common))
			return 0;
	}
	moment.time_ns = bpf_ktime_get_boot_ns();
	moment.cookie = bpf_get_socket_cookie(sk);
	moment.state = old_state;
	if (!keeps_nothing) {
		moment.follows = 1;
		if (!connection) {
			connection = follow(tp, NULL, FOLLOWED_WITHOUT);
			if (!connection)
				return 0;
			emit_adopted(tp, connection, &moment);
		}
		if (settings.mode != TCPINFO_MODE_STATE && new_state != TCP_CLOSE)
			return 0;
		connection->told = new_state;
	}
	moment.old_state = old_state;
	moment.state = new_state;
	moment.event = new_state == TCP_CLOSE ? TCPINFO_EVENT_CLOSE : TCPINFO_EVENT_STATE;
	emit_life(tp, connection, &moment);
	return 0;
}

#endif
