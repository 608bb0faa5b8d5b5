/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the iterator over open files gives. C and C++ include it. */
#ifndef TCPINFO_OWNERS_H
#define TCPINFO_OWNERS_H

#include <linux/types.h>

/* One descriptor of a TCP socket. */
struct tcpinfo_holder {
	__u64 cookie;
	__u64 netns_cookie;
	__u64 start_ns; /* boot time at which the process began */
	__u64 comm[2];	/* of its main thread */
	__u32 pid;	/* in the initial process namespace */
	__u32 netns_inode;
};

#endif
