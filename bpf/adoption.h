/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the passes over sockets older than the attach, and user space that runs them, say to each other. */
#ifndef TCPINFO_ADOPTION_H
#define TCPINFO_ADOPTION_H

#include <linux/types.h>

struct tcpinfo_adoption {
	__u64 found;   /* sockets that were adopted, or whose callback flags came back, in this pass */
	__u64 armed;   /* times that the kernel took callback flags from a pass */
	__u64 refused; /* times that it did not: before 6.12 */
	__u32 clearing; /* a pass that takes back the flags that we set */
	__u32 full;	/* a pass waits for room in the ring */
	__u32 again;	/* not the first pass: whom it finds without memory for them was counted */
	__u32 all_known; /* the first round is over: in close mode whoever lacks the flag lost it */
	__u32 transitions; /* the tracepoint is attached: in close mode it has to learn whom a callback told of */
	__u32 others; /* another sock_ops program was seen to run for a socket of the cgroup */
};

/* What a sweep is for, and what it found. One runs at a time. */
struct tcpinfo_sweep_state {
	__u64 time_ns;  /* when it began: what is due is decided by it, so that a socket that is not due costs no clock */
	__u64 visits;   /* sockets that sweeps came to */
	__u64 silenced; /* of those that it came to: connections that lack our callback flags */
	__u32 checks;   /* look for those */
	__u32 samples_none; /* and take no samples */
};

#endif
