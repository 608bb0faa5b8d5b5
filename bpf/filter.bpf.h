/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which sockets are wanted. */
#ifndef TCPINFO_FILTER_BPF_H
#define TCPINFO_FILTER_BPF_H

#include "fill.bpf.h"

static __always_inline int passes_filter(const volatile struct tcpinfo_filter *filter, const struct sock_common *skc)
{
	__u16 local_port = skc->skc_num, peer_port = bpf_ntohs(skc->skc_dport);
	union tcpinfo_address local, peer;

	if (!filter->clauses)
		return 1;
	read_addresses(skc, &local, &peer);
	for (__u32 i = 0; i < TCPINFO_FILTER_CLAUSES; i++) {
		const struct tcpinfo_clause *clause = (const struct tcpinfo_clause *)&filter->clause[i];

		if (i >= filter->clauses)
			break;
		barrier_var(clause); /* or the compiler takes the initial zeroes for the value */
		if (tcpinfo_clause_matches(clause, &local, local_port, &peer, peer_port))
			return 1;
	}
	return 0;
}

#define CGROUP_DEPTH 64 /* loops need a bound; the kernel has none */

/* The cgroup itself or one below it. */
static __always_inline int is_below_cgroup(const struct cgroup *cgroup, __u64 id)
{
	for (int i = 0; i < CGROUP_DEPTH && cgroup; i++) {
		const struct cgroup_subsys_state *parent;

		if (cgroup->kn->id == id)
			return 1;
		parent = cgroup->self.parent;
		if (!parent)
			return 0;
		cgroup = parent->cgroup;
	}
	return 0;
}

#endif
