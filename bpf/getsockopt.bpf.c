// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The getsockopt source of the validator: the very bytes that a process gets from getsockopt(IPPROTO_TCP, TCP_INFO), and
 * beside them, where the kernel allows it, what tcpinfo_fill() makes of the socket at that moment.
 */
#include "fill.bpf.h"
#include "getsockopt.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define IPPROTO_TCP 6
#define TCP_INFO 11
#define SOCK_STREAM 1

/* kernel v6.2 a35b9af4ec2c: the socket of this hook is no typed pointer, and the helper that makes it one is not given. */
extern void *bpf_rdonly_cast(const void *object, __u32 type) __ksym __weak;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} records SEC(".maps");

struct tcpinfo_getsockopt_counters counters;

/* More than the compiler's own memset takes. */
static __always_inline void zero(void *bytes, __u32 size)
{
	__u64 *words = bytes;

#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < size / sizeof(*words); i++)
		*(volatile __u64 *)&words[i] = 0;
}

static __always_inline struct tcpinfo_getsockopt *reserve(void)
{
	struct tcpinfo_getsockopt *reading = bpf_ringbuf_reserve(&records, sizeof(*reading), 0);

	__sync_fetch_and_add(&counters.emitted, 1);
	if (!reading) {
		__sync_fetch_and_add(&counters.lost, 1);
		return NULL;
	}
	reading->length = 0;
	reading->reserved = 0;
	zero(reading->info, sizeof(reading->info));
	return reading;
}

/* No helper gives the cookie in this hook. 0: nobody has asked for it yet; the other sources do so at once. */
static __always_inline __u64 cookie_of(struct bpf_sock *sk)
{
	struct sock *kernel_sk; /* the same address without its type, which allows no offsets */

	bpf_probe_read_kernel(&kernel_sk, sizeof(kernel_sk), &sk);
	return BPF_CORE_READ(kernel_sk, __sk_common.skc_cookie.counter);
}

static __always_inline void fill_reading(struct tcpinfo_getsockopt *reading, struct bpf_sockopt *ctx,
					 struct bpf_sock *sk, const struct tcpinfo_moment *moment, __u32 length)
{
	struct tcpinfo_record *r = &reading->record;
	struct marks marks = {}, *m = &marks;

	zero(r, sizeof(*r));
	r->version = TCPINFO_RECORD_VERSION;
	r->size = sizeof(*r);
	PUT(time_ns, moment->time_ns);
	PUT(cookie, moment->cookie);
	PUT(netns_cookie, bpf_get_netns_cookie(ctx));
	if (sk->family == AF_INET6) {
		r->local_address.words[0] = sk->src_ip6[0];
		r->local_address.words[1] = sk->src_ip6[1];
		r->local_address.words[2] = sk->src_ip6[2];
		r->local_address.words[3] = sk->src_ip6[3];
		r->peer_address.words[0] = sk->dst_ip6[0];
		r->peer_address.words[1] = sk->dst_ip6[1];
		r->peer_address.words[2] = sk->dst_ip6[2];
		r->peer_address.words[3] = sk->dst_ip6[3];
	} else {
		set_ipv4(&r->local_address, sk->src_ip4);
		set_ipv4(&r->peer_address, sk->dst_ip4);
	}
	MARK(local_address);
	MARK(peer_address);
	PUT(event, TCPINFO_EVENT_SAMPLE);
	PUT(source, TCPINFO_SOURCE_GETSOCKOPT);
	PUT(family, sk->family);
	PUT(local_port, sk->src_port);
	PUT(peer_port, bpf_ntohs(sk->dst_port));
	PUT(cpu, bpf_get_smp_processor_id());
	set_present(r, m);
	reading->length = length;
	bpf_probe_read_kernel(reading->info, length, ctx->optval);
}

/* Whatever packet comes or goes, these grow before it changes anything else. */
static __always_inline __u64 packets(const struct tcp_sock *tp)
{
	return (__u64)*(volatile __u32 *)&tp->segs_in << 32 | *(volatile __u32 *)&tp->segs_out;
}

/* Without the socket's lock, which the kernel's handler has given back: kept only if no packet came in between. */
static __always_inline void emit_twin(struct bpf_sock *sk, struct tcpinfo_moment *moment)
{
	struct tcp_sock *tp = bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct tcp_sock));
	struct tcpinfo_getsockopt *twin = reserve();
	__u64 before;

	if (!twin)
		return;
	before = packets(tp);
	moment->state = tp->inet_conn.icsk_inet.sk.__sk_common.skc_state;
	moment->netns_cookie = netns_cookie_of(&tp->inet_conn.icsk_inet.sk.__sk_common);
	moment->cgroup_id = cgroup_id_of(tp);
	tcpinfo_fill(&twin->record, tp, moment);
	if (packets(tp) == before) {
		bpf_ringbuf_submit(twin, BPF_RB_NO_WAKEUP);
	} else {
		__sync_fetch_and_sub(&counters.emitted, 1);
		bpf_ringbuf_discard(twin, BPF_RB_NO_WAKEUP);
	}
}

/*
 * Runs after the kernel's own handler: optval holds what is about to be copied to the process, which gets exactly that,
 * as nothing here is written. Only where the kernel could not take over all of the process's buffer (a page at most) it
 * asks to be told so by optlen 0, or the call would fail (kernel v6.1 kernel/bpf/cgroup.c
 * __cgroup_bpf_run_filter_getsockopt()); the process's own optlen stays.
 */
static __always_inline int on_getsockopt(struct bpf_sockopt *ctx, _Bool with_twin)
{
	struct tcpinfo_moment moment = { .source = TCPINFO_SOURCE_SOCKOPS,
					 .event = TCPINFO_EVENT_SAMPLE,
					 .follows = 1,
					 .swept = 1 };
	__u32 room = ctx->optval_end - ctx->optval, length = ctx->optlen;
	struct bpf_sock *sk = ctx->sk;
	struct tcpinfo_getsockopt *reading;

	if (length > room)
		ctx->optlen = 0;
	if (ctx->level != IPPROTO_TCP || ctx->optname != TCP_INFO || ctx->retval != 0 || !sk)
		return 1;
	/* MPTCP and SMC answer for their subflows; their own sockets are no tcp_sock. */
	if (sk->type != SOCK_STREAM || sk->protocol != IPPROTO_TCP)
		return 1;
	length = length > room ? room : length;
	length = length > TCPINFO_GETSOCKOPT_BYTES ? TCPINFO_GETSOCKOPT_BYTES : length;
	moment.time_ns = bpf_ktime_get_boot_ns();
	moment.cookie = cookie_of(sk);
	reading = reserve();
	if (reading) {
		fill_reading(reading, ctx, sk, &moment, length);
		bpf_ringbuf_submit(reading, BPF_RB_NO_WAKEUP);
	}
	if (with_twin)
		emit_twin(sk, &moment);
	return 1;
}

SEC("cgroup/getsockopt")
int tcpinfo_getsockopt(struct bpf_sockopt *ctx)
{
	return on_getsockopt(ctx, 0);
}

SEC("cgroup/getsockopt")
int tcpinfo_getsockopt_twin(struct bpf_sockopt *ctx)
{
	return on_getsockopt(ctx, 1);
}
