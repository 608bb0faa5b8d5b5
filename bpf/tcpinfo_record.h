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

/*
 * The trigger: of the samples that are due those are wanted of which any clause holds. A clause holds if all its
 * conditions do. A condition compares two operands, each a field of the record or a constant, multiplied; it does not
 * hold where a field is absent, nor does its opposite.
 */
#define TCPINFO_TRIGGER_CLAUSES 16 /* as many as the field `triggered` has bits */
#define TCPINFO_TRIGGER_CONDITIONS 64
#define TCPINFO_TRIGGER_GROWS 4 /* fields that may be asked whether they grow */

/* Read as the record's 8 bytes that hold it, so that no operand needs a branch for its size. */
struct tcpinfo_operand {
	__u64 mask; /* of the word after the shift; 0: a constant */
	__u64 constant;
	__u32 factor;
	__u16 word;	    /* where in the record, a multiple of 8 */
	__u16 present_word; /* where the presence bit is; of a constant the other operand's */
	__u8 shift;
	__u8 present_shift;
	__u8 reserved[6];
};

/* What a condition allows; any sum of these. */
enum tcpinfo_outcome {
	TCPINFO_OUTCOME_LESS = 1,
	TCPINFO_OUTCOME_EQUAL = 2,
	TCPINFO_OUTCOME_GREATER = 4,
};

struct tcpinfo_condition {
	struct tcpinfo_operand left, right;
	__u32 clause;
	__u8 outcomes;
	__u8 grows; /* which of the trigger's fields has to have grown; TCPINFO_TRIGGER_GROWS: none */
	__u16 reserved;
};

struct tcpinfo_trigger {
	__u32 clauses; /* 0: every sample is wanted */
	__u32 conditions;
	__u32 grows;
	__u32 reserved;
	struct tcpinfo_operand grow[TCPINFO_TRIGGER_GROWS];
	struct tcpinfo_condition condition[TCPINFO_TRIGGER_CONDITIONS];
};

TCPINFO_STATIC_ASSERT(sizeof(struct tcpinfo_record) % 8 == 0, "operands are read as words of 8 bytes");

/* A connection's values when it was last examined. */
struct tcpinfo_history {
	__u64 value[TCPINFO_TRIGGER_GROWS];
	__u32 known; /* bit i: value[i] was read */
	__u32 reserved;
};

TCPINFO_INLINE __u64 tcpinfo_record_word(const struct tcpinfo_record *r, __u32 offset)
{
	__u64 word;

	__builtin_memcpy(&word, __builtin_assume_aligned((const char *)r + offset, 8), sizeof(word));
	return word;
}

TCPINFO_INLINE __u64 tcpinfo_operand_value(const struct tcpinfo_operand *o, const struct tcpinfo_record *r)
{
	return (tcpinfo_record_word(r, o->word) >> o->shift & o->mask) | o->constant;
}

TCPINFO_INLINE __u64 tcpinfo_operand_present(const struct tcpinfo_operand *o, const struct tcpinfo_record *r)
{
	return tcpinfo_record_word(r, o->present_word) >> o->present_shift & 1;
}

/*
 * 1 if a < b: the borrow of a - b. BPF compares by jumps only, and a verifier that follows both ways of each condition
 * would have 2^64 to follow. Where the compiler knows something of `a` it makes a comparison of this again.
 */
TCPINFO_INLINE __u64 tcpinfo_less(__u64 a, __u64 b)
{
	__asm__("" : "+r"(a));
	return ((~a & b) | ((~a | b) & (a - b))) >> 63;
}

/* 1 if it holds. Products have 96 bits, of which `low` is the last 32: nothing wraps. */
TCPINFO_INLINE __u32 tcpinfo_condition_holds(const struct tcpinfo_condition *c, const struct tcpinfo_record *r,
					     __u32 grown)
{
	__u64 a = tcpinfo_operand_value(&c->left, r), b = tcpinfo_operand_value(&c->right, r);
	__u64 a_low = (a & 0xffffffff) * c->left.factor, b_low = (b & 0xffffffff) * c->right.factor;
	__u64 a_high = (a >> 32) * c->left.factor + (a_low >> 32);
	__u64 b_high = (b >> 32) * c->right.factor + (b_low >> 32);
	__u64 less = tcpinfo_less(a_high, b_high), greater = tcpinfo_less(b_high, a_high);
	__u64 same = 1 - less - greater, outcome;

	a_low &= 0xffffffff;
	b_low &= 0xffffffff;
	less |= same & tcpinfo_less(a_low, b_low);
	greater |= same & tcpinfo_less(b_low, a_low);
	outcome = less | (1 - less - greater) << 1 | greater << 2;
	/* One bit of three is set: with 7 added it carries if it is wanted. */
	return (__u32)(((outcome & c->outcomes) + 7) >> 3 & tcpinfo_operand_present(&c->left, r) &
		       tcpinfo_operand_present(&c->right, r) & (grown >> c->grows));
}

/*
 * Which fields are greater than when the connection was last examined, bit by bit, and bit TCPINFO_TRIGGER_GROWS. What was
 * never read did not grow; what is absent now leaves the last value.
 */
TCPINFO_INLINE __u32 tcpinfo_trigger_grown(const struct tcpinfo_trigger *t, const struct tcpinfo_record *r,
					   struct tcpinfo_history *h)
{
	__u32 grown = 1U << TCPINFO_TRIGGER_GROWS, i;

	for (i = 0; i < TCPINFO_TRIGGER_GROWS; i++) {
		__u64 value, present, keep;

		if (i >= t->grows)
			break;
		value = tcpinfo_operand_value(&t->grow[i], r);
		present = tcpinfo_operand_present(&t->grow[i], r);
		grown |= (__u32)(h->known >> i & present & tcpinfo_less(h->value[i], value)) << i;
		keep = present - 1;
		h->value[i] = (h->value[i] & keep) | (value & ~keep);
		h->known |= (__u32)present << i;
	}
	return grown;
}

/* Which clauses hold, bit by bit. `grown` is what tcpinfo_trigger_grown() gave, or bit TCPINFO_TRIGGER_GROWS alone. */
TCPINFO_INLINE __u32 tcpinfo_trigger_holds(const struct tcpinfo_trigger *t, const struct tcpinfo_record *r, __u32 grown)
{
	__u32 failed = 0, i;

	for (i = 0; i < TCPINFO_TRIGGER_CONDITIONS; i++) {
		if (i >= t->conditions)
			break;
		failed |= (1 - tcpinfo_condition_holds(&t->condition[i], r, grown)) << t->condition[i].clause;
	}
	return ~failed & ((1U << t->clauses) - 1);
}

/* Settings of the sock_ops programs, fixed before they are loaded. */
struct tcpinfo_settings {
	__u64 interval_ns;	 /* polling: least time between samples of a connection; 0: every RTT callback */
	__u64 sweep_interval_ns; /* polling: a sweep samples what was not sampled for about this long */
	__u64 sample_ring_bytes; /* of each ring of samples */
	__u64 life_ring_bytes;	 /* of each ring of all other records */
	__u64 cgroup_id;	 /* that the programs are attached to */
	__u32 interval_jiffies;	 /* interval_ns rounded down; 0 where HZ is not known */
	__u32 mode;		 /* enum tcpinfo_mode */
	__u32 cpus;		 /* possible ones: the rings of samples come first, then as many of all other records */
	__u32 adopts;		 /* connections whose beginning was not seen are followed too */
	__u32 record_bytes;	 /* by these two a program that was left by another version is told */
	__u32 connection_bytes;
	struct tcpinfo_filter filter;
	struct tcpinfo_trigger trigger;
};

/* What the consumer keeps in the programs' memory, so that one that is started again goes on with the same account. */
struct tcpinfo_books {
	__u64 delivered[TCPINFO_EVENTS];
	__u64 lost_sink[TCPINFO_EVENTS];
	__u64 told[TCPINFO_EVENTS]; /* of the lost records: those that gap records have told of */
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
	__u64 untriggered;	       /* samples that were due and of which the trigger did not hold */
	__u64 rearmed;		       /* times that callback flags came back that others had overwritten */
};

#endif
