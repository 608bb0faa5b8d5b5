// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Another user of sock_ops beside the library, and a look at the callback flags of all sockets: for tests. */
#include "../../bpf/kernel_types.bpf.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "neighbour.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define OPS 32

const volatile __u32 flags;	/* that it wants */
const volatile _Bool is_polite; /* it ORs them */
const volatile _Bool insists;	/* it sets them at each of its callbacks, not only when a connection begins */

__u64 callbacks[OPS]; /* that it had, by op */

SEC("sockops")
int neighbour(struct bpf_sock_ops *ctx)
{
	__u32 op = ctx->op;
	_Bool begins = op == BPF_SOCK_OPS_TCP_CONNECT_CB || op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB ||
		       op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB;

	if (op < OPS)
		__sync_fetch_and_add(&callbacks[op], 1);
	if (begins || insists)
		bpf_sock_ops_cb_flags_set(ctx, is_polite ? flags | ctx->bpf_sock_ops_cb_flags : flags);
	return 1;
}

SEC("iter/tcp")
int look(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	struct neighbour_look seen = {};
	struct tcp_sock *tp;

	if (!skc)
		return 0;
	tp = bpf_skc_to_tcp_sock(skc);
	if (!tp)
		return 0;
	seen.cookie = bpf_get_socket_cookie(skc);
	seen.flags = tp->bpf_sock_ops_cb_flags;
	seen.state = skc->skc_state;
	bpf_seq_write(ctx->meta->seq, &seen, sizeof(seen));
	return 0;
}
