/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the getsockopt program and its reader in validate/ say to each other. C and C++ include it. */
#ifndef TCPINFO_GETSOCKOPT_H
#define TCPINFO_GETSOCKOPT_H

#include "tcpinfo_record.h"

/* More than any kernel gives (280 bytes as of kernel 7.2). */
#define TCPINFO_GETSOCKOPT_BYTES 512

struct tcpinfo_getsockopt {
	struct tcpinfo_record record; /* with length: identity only; without: a whole record, the twin */
	__u32 length;		      /* of what the process got */
	__u32 reserved;
	__u64 info[TCPINFO_GETSOCKOPT_BYTES / 8]; /* the bytes that it got */
};

struct tcpinfo_getsockopt_counters {
	__u64 emitted; /* records that were due */
	__u64 lost;    /* of these: the ring was full */
};

#endif
