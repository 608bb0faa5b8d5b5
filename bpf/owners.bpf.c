// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Who holds TCP sockets: every descriptor of one, of all processes and all network namespaces. */
#include "filter.bpf.h"
#include "owners.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile __u64 cgroup_id; /* only sockets of this cgroup and all below it; 0: of all */

/*
 * A table of files that threads share is walked once, as the main thread's; one that a thread has for itself
 * (CLONE_FILES not given) as its own. Runs again for what did not fit into the reader's buffer.
 */
SEC("iter/task_file")
int tcpinfo_holders(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	const struct task_struct *process;
	struct tcpinfo_holder holder = {};
	struct file *file = ctx->file;
	struct socket *socket;
	struct tcp_sock *tp;
	struct sock *sk;

	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	if (cgroup_id && !is_below_cgroup(tp->inet_conn.icsk_inet.sk.sk_cgrp_data.cgroup, cgroup_id))
		return 0;
	process = task->group_leader;
	/* 0: nobody has asked for it, and no record names the socket; but its namespace counts. */
	holder.cookie = sk->__sk_common.skc_cookie.counter;
	holder.netns_cookie = netns_cookie_of(&tp->inet_conn.icsk_inet.sk.__sk_common);
	holder.netns_inode = tp->inet_conn.icsk_inet.sk.__sk_common.skc_net.net->ns.inum;
	holder.start_ns = process->start_boottime;
	holder.pid = task->tgid;
	holder.comm[0] = *(const __u64 *)&process->comm[0];
	holder.comm[1] = *(const __u64 *)&process->comm[8];
	bpf_seq_write(ctx->meta->seq, &holder, sizeof(holder));
	return 0;
}
