/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the BPF programs and user space say to each other: the record, its enumerations, the filter, the settings and
 * the counters. C and C++ include it.
 */
#ifndef TCPINFO_RECORD_H
#define TCPINFO_RECORD_H

#include <linux/types.h>

#include "tcpinfo_fields.h"

#ifdef __cplusplus
#define TCPINFO_STATIC_ASSERT(condition, text) static_assert(condition, text)
#define TCPINFO_INLINE inline
#else
#define TCPINFO_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#define TCPINFO_INLINE static inline __attribute__((always_inline))
#endif

/* Addresses are IPv6; IPv4 is ::ffff:a.b.c.d. Network byte order. */
union tcpinfo_address {
	__u8 bytes[16];
	__u32 words[4];
	__u64 halves[2];
};

union tcpinfo_name {
	char text[16];
	__u64 halves[2];
};

typedef __u8 tcpinfo_u8;
typedef __u16 tcpinfo_u16;
typedef __u32 tcpinfo_u32;
typedef __u64 tcpinfo_u64;
typedef union tcpinfo_address tcpinfo_addr;
typedef union tcpinfo_name tcpinfo_name;

enum tcpinfo_event {
	TCPINFO_EVENT_NONE = 0,
	TCPINFO_EVENT_SAMPLE,
	TCPINFO_EVENT_STATE,
	TCPINFO_EVENT_OPEN,
	TCPINFO_EVENT_CLOSE,
	TCPINFO_EVENT_ADOPTED,
	TCPINFO_EVENT_GAP,
	TCPINFO_EVENTS /* how many */
};

enum tcpinfo_source {
	TCPINFO_SOURCE_NONE = 0,
	TCPINFO_SOURCE_SOCKOPS,
	TCPINFO_SOURCE_INET_DIAG,
	TCPINFO_SOURCE_ITER,
	TCPINFO_SOURCE_GETSOCKOPT,
	TCPINFO_SOURCES /* how many */
};

enum tcpinfo_mode {
	TCPINFO_MODE_POLLING = 0,
	TCPINFO_MODE_STATE,
	TCPINFO_MODE_CLOSE,
	TCPINFO_MODES /* how many */
};

/* A row's place in the table is its presence bit. */
enum tcpinfo_field {
#define X(id, ...) TCPINFO_FIELD_##id,
	TCPINFO_FIELDS(X)
#undef X
	TCPINFO_FIELD_COUNT
};

#define TCPINFO_RECORD_VERSION 1
#define TCPINFO_PRESENT_WORDS 3

/* Every byte is filled before a record leaves its maker: an absent field's bytes are zero and its bit is clear. */
struct tcpinfo_record {
	__u32 version;
	__u32 size;
	__u64 present[TCPINFO_PRESENT_WORDS];
#define X(id, type, ...) tcpinfo_##type id;
	TCPINFO_FIELDS(X)
#undef X
};

/* No padding: the compiler placed each member right after the one before. */
enum {
	TCPINFO_RECORD_BYTES = sizeof(__u32) * 2 + sizeof(__u64) * TCPINFO_PRESENT_WORDS
#define X(id, type, ...) +sizeof(tcpinfo_##type)
	TCPINFO_FIELDS(X)
#undef X
};
TCPINFO_STATIC_ASSERT(sizeof(struct tcpinfo_record) == TCPINFO_RECORD_BYTES,
		      "a row of tcpinfo_fields.h stands at an offset that its size does not divide");
TCPINFO_STATIC_ASSERT(TCPINFO_FIELD_COUNT <= TCPINFO_PRESENT_WORDS * 64, "more rows than presence bits");

/*
 * The filter: a connection passes if there is no clause or any clause holds. A clause holds if both ports lie in their
 * ranges and both addresses match. IPv4-mapped addresses count as IPv4 everywhere.
 */
#define TCPINFO_FILTER_CLAUSES 16

enum tcpinfo_prefix_family {
	TCPINFO_PREFIX_ANY = 0, /* every address matches */
	TCPINFO_PREFIX_IPV4,	/* IPv4 and IPv4-mapped addresses below the prefix */
	TCPINFO_PREFIX_IPV6,	/* other IPv6 addresses below the prefix */
};

struct tcpinfo_prefix {
	union tcpinfo_address address; /* bits outside the mask are zero */
	union tcpinfo_address mask;
	__u32 family;
	__u32 length; /* of the mask, counted in the prefix's own family; for programs that want it as a number */
};

struct tcpinfo_clause {
	struct tcpinfo_prefix local, peer;
	__u16 local_port_min, local_port_max;
	__u16 peer_port_min, peer_port_max;
};

struct tcpinfo_filter {
	__u32 clauses;
	__u32 reserved;
	struct tcpinfo_clause clause[TCPINFO_FILTER_CLAUSES];
};

TCPINFO_INLINE int tcpinfo_address_is_ipv4(const union tcpinfo_address *a)
{
	return a->halves[0] == 0 && a->bytes[8] == 0 && a->bytes[9] == 0 && a->bytes[10] == 0xff && a->bytes[11] == 0xff;
}

/* The one meaning of a prefix, in the kernel and in user space. Not for volatile settings: copy the clause first. */
TCPINFO_INLINE int tcpinfo_prefix_matches(const struct tcpinfo_prefix *p, const union tcpinfo_address *a)
{
	if (p->family == TCPINFO_PREFIX_ANY)
		return 1;
	if (tcpinfo_address_is_ipv4(a) != (p->family == TCPINFO_PREFIX_IPV4))
		return 0;
	return (a->halves[0] & p->mask.halves[0]) == p->address.halves[0] &&
	       (a->halves[1] & p->mask.halves[1]) == p->address.halves[1];
}

TCPINFO_INLINE int tcpinfo_clause_matches(const struct tcpinfo_clause *c, const union tcpinfo_address *local,
					  __u16 local_port, const union tcpinfo_address *peer, __u16 peer_port)
{
	return local_port >= c->local_port_min && local_port <= c->local_port_max && peer_port >= c->peer_port_min &&
	       peer_port <= c->peer_port_max && tcpinfo_prefix_matches(&c->local, local) &&
	       tcpinfo_prefix_matches(&c->peer, peer);
}

/* Settings of the sock_ops programs, fixed before they are loaded. */
struct tcpinfo_settings {
	__u64 interval_ns;	 /* polling: least time between samples of a connection; 0: every RTT callback */
	__u64 sweep_interval_ns; /* polling: a sweep samples what was not sampled for about this long */
	__u64 sample_ring_bytes; /* of each ring of samples */
	__u64 life_ring_bytes;	 /* of each ring of all other records */
	__u32 interval_jiffies;	 /* interval_ns rounded down; 0 where HZ is not known */
	__u32 mode;		 /* enum tcpinfo_mode */
	__u32 cpus;		 /* possible ones: the rings of samples come first, then as many of all other records */
	__u32 reserved;
	struct tcpinfo_filter filter;
};

/* Settings of the iterator, fixed before it is loaded. */
struct tcpinfo_iter_settings {
	__u64 cgroup_id; /* sockets of this cgroup and all below it; 0: of all */
	__u32 states;	 /* bit i: sockets in TCP state i */
	__u32 reserved;
	struct tcpinfo_filter filter;
};

/* Counted in the kernel on each CPU; the sum over CPUs counts. */
struct tcpinfo_counters {
	__u64 emitted[TCPINFO_EVENTS]; /* records that were due, by event */
	__u64 lost[TCPINFO_EVENTS];    /* of these: the ring was full, by event */
	__u64 connections;	       /* connections that passed the filter */
	__u64 filtered;		       /* connections that did not */
	__u64 untracked;	       /* connections without socket storage: no memory; nothing of them is emitted */
	__u64 wakeups;		       /* times that the consumer was woken */
};

#endif
