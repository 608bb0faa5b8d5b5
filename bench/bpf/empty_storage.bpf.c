// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The floor of what it costs in memory to follow a socket: an element of socket storage with nothing in it. */
#include <stddef.h>
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u8);
} empty SEC(".maps");

SEC("sockops")
int create(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	if (sk && (ctx->op == BPF_SOCK_OPS_TCP_CONNECT_CB || ctx->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB))
		bpf_sk_storage_get(&empty, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	return 1;
}
