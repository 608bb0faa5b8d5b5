/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who made a socket, or its listener. A callback cannot tell: it runs wherever packets are handled, on loopback as the
 * peer.
 */
#ifndef TCPINFO_CREATORS_BPF_H
#define TCPINFO_CREATORS_BPF_H

#include "fill.bpf.h"

/* Where owners are not asked for there is neither this program nor this map. */
const volatile __u32 knows_creators;

struct creator {
	__u64 comm[2];
	__u32 pid;
	__u32 reserved;
};

/* A socket that a listener accepts gets a copy (kernel v6.18 net/core/bpf_sk_storage.c bpf_sk_storage_clone()). */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct creator);
} creators SEC(".maps");

/* Runs inside socket(2), in the cgroup of the one who calls it. Without memory the socket has no creator. */
SEC("cgroup/sock_create")
int tcpinfo_creator(struct bpf_sock *sk)
{
	const struct task_struct *task, *process;
	struct creator *creator;

	if (sk->protocol != IPPROTO_TCP)
		return 1;
	creator = bpf_sk_storage_get(&creators, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!creator)
		return 1;
	task = bpf_get_current_task_btf();
	process = task->group_leader;
	creator->pid = task->tgid;
	creator->comm[0] = *(const __u64 *)&process->comm[0];
	creator->comm[1] = *(const __u64 *)&process->comm[8];
	return 1;
}

static __always_inline void set_creator(struct tcpinfo_moment *moment, struct bpf_sock *sk)
{
	const struct creator *creator;

	if (!knows_creators)
		return;
	creator = bpf_sk_storage_get(&creators, sk, NULL, 0);
	if (!creator)
		return;
	moment->pid = creator->pid;
	moment->comm[0] = creator->comm[0];
	moment->comm[1] = creator->comm[1];
}

#endif
