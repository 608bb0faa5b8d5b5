/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The kernel's conversions of jiffies, with HZ as an argument so that they can be tested for every HZ. */
#ifndef TCPINFO_UNITS_H
#define TCPINFO_UNITS_H

#include "tcpinfo_record.h"

/*
 * Milliseconds a jiffy, 0 where HZ does not divide 1000. By cases, so that the verifier, which knows HZ, leaves one
 * constant of it: eight divisions a record cost as much as twenty fields.
 */
TCPINFO_INLINE __u32 tcpinfo_ms_per_jiffy(__u32 hz)
{
	return hz == 100 ? 10 : hz == 250 ? 4 : hz == 1000 ? 1 : 0;
}

/* kernel v6.18 kernel/time/time.c jiffies_to_usecs() */
TCPINFO_INLINE __u32 tcpinfo_jiffies_to_us(__u32 jiffies, __u32 hz)
{
	__u32 ms = tcpinfo_ms_per_jiffy(hz);

	return ms ? jiffies * (ms * 1000) : (__u32)((__u64)jiffies * 1000000 / hz);
}

/* kernel v6.18 kernel/time/time.c jiffies_to_msecs(): rounds up where HZ does not divide 1000 */
TCPINFO_INLINE __u32 tcpinfo_jiffies_to_ms(__u32 jiffies, __u32 hz)
{
	__u32 ms = tcpinfo_ms_per_jiffy(hz);

	return ms ? jiffies * ms : (__u32)(((__u64)jiffies * 1000 + hz - 1) / hz);
}

/* kernel v6.18 kernel/time/time.c __msecs_to_jiffies(): rounds up */
TCPINFO_INLINE __u32 tcpinfo_ms_to_jiffies(__u32 ms, __u32 hz)
{
	return (__u32)(((__u64)ms * hz + 999) / 1000);
}

/* Differences of jiffies wrap at 32 bits: in 64 bits they are wrong as soon as one of the two has wrapped. */
TCPINFO_INLINE __u32 tcpinfo_jiffies_since(__u32 now, __u32 then)
{
	return now - then;
}

/* kernel v6.18 net/ipv4/tcp.c tcp_get_info_chrono_stats(): whole microseconds a jiffy, also where HZ is 300 */
TCPINFO_INLINE __u64 tcpinfo_chrono_us(__u32 jiffies, __u32 hz)
{
	__u32 ms = tcpinfo_ms_per_jiffy(hz);

	return (__u64)jiffies * (ms ? ms * 1000 : 1000000 / hz);
}

#endif
