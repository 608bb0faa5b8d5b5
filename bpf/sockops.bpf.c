// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The sockops source: a sock_ops program that follows connections from birth to close, and the sweep that samples those
 * for which no RTT callback comes (receivers, idle, stalled).
 */
#include "fill.bpf.h"
#include "filter.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define TCP_CLOSE 7

const volatile struct tcpinfo_settings settings;

/* Only so that the object's BTF describes the record: a test compares it with what user space takes it for. */
const struct tcpinfo_record *record_layout;

/* Set here when the consumer is woken, cleared by the consumer before it drains: one wake-up a drain. */
__u32 wakeup_pending;

struct connection {
	__u64 sampled_ns;
	__u32 sequence;
	__u32 generation;
	__u32 closed;
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct connection);
} connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096); /* set before load */
} records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tcpinfo_counters);
} counters SEC(".maps");

/* A callback in process context can be interrupted by one in softirq on the same CPU, hence atomic. */
#define COUNT(c, member) __sync_fetch_and_add(&(c)->member, 1)

static __always_inline struct tcpinfo_counters *get_counters(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&counters, &zero);
}

static __always_inline __u64 wakeup_flag(struct tcpinfo_counters *count)
{
	if (wakeup_pending || bpf_ringbuf_query(&records, BPF_RB_AVAIL_DATA) < settings.wakeup_bytes)
		return BPF_RB_NO_WAKEUP;
	wakeup_pending = 1;
	COUNT(count, wakeups);
	return BPF_RB_FORCE_WAKEUP;
}

/* Takes the connection's next sequence number also when the record is lost: the gap shows. */
static __noinline void emit(const struct tcp_sock *tp, struct connection *connection,
				 struct tcpinfo_moment *moment)
{
	struct tcpinfo_counters *count = get_counters();
	struct tcpinfo_record *r;
	__u64 event = moment->event;

	barrier_var(event); /* a value in a register keeps its bounds also for older verifiers */
	if (!count || event >= TCPINFO_EVENTS)
		return;
	moment->sequence = __sync_fetch_and_add(&connection->sequence, 1);
	moment->generation = connection->generation;
	COUNT(count, emitted[event]);
	r = bpf_ringbuf_reserve(&records, sizeof(*r), 0);
	if (!r) {
		COUNT(count, lost[event]);
		return;
	}
	tcpinfo_fill(r, tp, moment);
	bpf_ringbuf_submit(r, wakeup_flag(count));
}

static __always_inline void request_callbacks(struct bpf_sock_ops *ctx)
{
	int flags = BPF_SOCK_OPS_STATE_CB_FLAG;

	if (settings.mode == TCPINFO_MODE_POLLING)
		flags |= BPF_SOCK_OPS_RTT_CB_FLAG;
	/* The word is shared with other programs, and setting replaces it. */
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | flags);
}

static __always_inline struct connection *find(struct bpf_sock *sk)
{
	return bpf_sk_storage_get(&connections, sk, NULL, 0);
}

/* A connection begins: tag the socket if the filter wants it. */
static __always_inline void begin(struct bpf_sock_ops *ctx, struct bpf_sock *sk, const struct tcp_sock *tp,
				  struct tcpinfo_moment *moment)
{
	struct tcpinfo_counters *count = get_counters();
	struct connection *connection = find(sk);

	if (!count)
		return;
	if (connection && !connection->closed && ctx->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return; /* simultaneous open: it began with TCP_CONNECT */
	if (!passes_filter(&settings.filter, &tp->inet_conn.icsk_inet.sk.__sk_common)) {
		COUNT(count, filtered);
		return; /* a socket that connects again elsewhere stays closed for us */
	}
	if (connection) {
		/* The socket had another connection: disconnect and connect restarts the kernel's counters too. */
		connection->generation++;
		connection->sequence = 0;
		connection->closed = 0;
	} else {
		connection = bpf_sk_storage_get(&connections, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		if (!connection) {
			COUNT(count, untracked);
			return;
		}
	}
	COUNT(count, connections);
	request_callbacks(ctx);
	connection->sampled_ns = moment->time_ns;
	if (settings.mode == TCPINFO_MODE_CLOSE)
		return;
	moment->old_state = moment->connecting ? TCP_CLOSE : 0;
	moment->event = TCPINFO_EVENT_OPEN;
	emit(tp, connection, moment);
}

static __always_inline void on_state(struct bpf_sock_ops *ctx, struct bpf_sock *sk, const struct tcp_sock *tp,
				     struct tcpinfo_moment *moment)
{
	struct connection *connection = find(sk);

	if (!connection || connection->closed)
		return;
	/* The callback comes before the socket's state is set. */
	moment->old_state = ctx->args[0];
	moment->state = ctx->args[1];
	if (moment->state == TCP_CLOSE) {
		connection->closed = 1;
		moment->event = TCPINFO_EVENT_CLOSE;
	} else if (settings.mode == TCPINFO_MODE_STATE) {
		moment->event = TCPINFO_EVENT_STATE;
	} else {
		return;
	}
	emit(tp, connection, moment);
}

/* Round trips measured, and the first sample of a connection that we opened. */
static __always_inline void on_sample(struct bpf_sock_ops *ctx, struct bpf_sock *sk, struct tcpinfo_moment *moment)
{
	struct connection *connection;
	struct tcp_sock *tp;

	if (settings.mode != TCPINFO_MODE_POLLING)
		return;
	/* Children inherit the listener's flags: no storage means no connection of ours, or not yet. */
	connection = find(sk);
	if (!connection || connection->closed)
		return;
	if (ctx->op == BPF_SOCK_OPS_RTT_CB && moment->time_ns - connection->sampled_ns < settings.interval_ns)
		return;
	connection->sampled_ns = moment->time_ns;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return;
	moment->cookie = bpf_get_socket_cookie(ctx);
	moment->state = tp->inet_conn.icsk_inet.sk.__sk_common.skc_state;
	moment->event = TCPINFO_EVENT_SAMPLE;
	emit(tp, connection, moment);
}

SEC("sockops")
int tcpinfo_sockops(struct bpf_sock_ops *ctx)
{
	struct tcpinfo_moment moment = { .source = TCPINFO_SOURCE_SOCKOPS, .follows = 1 };
	struct bpf_sock *sk = ctx->sk;
	struct tcp_sock *tp;
	__u32 op = ctx->op;

	if (!sk)
		return 1;
	switch (op) {
	case BPF_SOCK_OPS_RTT_CB:
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		moment.time_ns = bpf_ktime_get_boot_ns();
		on_sample(ctx, sk, &moment);
		return 1;
	case BPF_SOCK_OPS_STATE_CB:
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		break;
	default:
		return 1;
	}
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 1;
	moment.time_ns = bpf_ktime_get_boot_ns();
	moment.cookie = bpf_get_socket_cookie(ctx);
	moment.state = tp->inet_conn.icsk_inet.sk.__sk_common.skc_state;
	if (op == BPF_SOCK_OPS_STATE_CB) {
		on_state(ctx, sk, tp, &moment);
		return 1;
	}
	moment.connecting = op == BPF_SOCK_OPS_TCP_CONNECT_CB;
	begin(ctx, sk, tp, &moment);
	return 1;
}

/*
 * Runs once a tagged socket and sweep. It holds no socket lock: each field is whole, but fields may be of different
 * moments, and the record says so. A connection sampled a little less than an interval ago is due too, otherwise a sweep
 * that comes early by its timer's jitter would pass it over and its next sample would be two intervals away.
 */
SEC("iter/bpf_sk_storage_map")
int tcpinfo_sweep(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct tcpinfo_moment moment = {
		.source = TCPINFO_SOURCE_SOCKOPS, .event = TCPINFO_EVENT_SAMPLE, .follows = 1, .swept = 1
	};
	struct connection *connection = ctx->value;
	struct tcpinfo_counters *count;
	struct sock *sk = ctx->sk;
	struct tcp_sock *tp;

	if (!sk || !connection)
		return 0;
	count = get_counters();
	if (!count)
		return 0;
	COUNT(count, sweeps);
	if (connection->closed)
		return 0;
	moment.time_ns = bpf_ktime_get_boot_ns();
	if ((__s64)(moment.time_ns - connection->sampled_ns) < (__s64)(settings.sweep_interval_ns / 4 * 3))
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	moment.cookie = sk->__sk_common.skc_cookie.counter;
	moment.state = sk->__sk_common.skc_state;
	if (moment.state == TCP_CLOSE)
		return 0; /* closing right now: the close record says the rest */
	connection->sampled_ns = moment.time_ns;
	emit(tp, connection, &moment);
	return 0;
}
