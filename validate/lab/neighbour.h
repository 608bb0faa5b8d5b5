/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What neighbour.bpf.c tells of a socket. */
#ifndef NEIGHBOUR_H
#define NEIGHBOUR_H

#include <linux/types.h>

struct neighbour_look {
	__u64 cookie;
	__u32 flags;
	__u32 state;
};

#endif
