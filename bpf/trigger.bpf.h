/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which of the samples that are due are wanted. A record that is reserved in a ring and discarded keeps its room until
 * the consumer has passed it, so that samples that nobody wants would fill the ring and wake the consumer: they are
 * made apart, and what is wanted is copied. Without a trigger the verifier leaves nothing of this.
 */
#ifndef TCPINFO_TRIGGER_BPF_H
#define TCPINFO_TRIGGER_BPF_H

#include "fill.bpf.h"

/*
 * A callback in process context can be interrupted by one in softirq, and where the kernel is preemptible by another
 * process's, in no order: each takes a record that is free. More than these at once on one CPU take chance and ill
 * will.
 */
#define TRIGGER_DRAFTS 4

struct draft {
	__u64 in_use;
	struct tcpinfo_record record;
};

/* Neither of the two maps is created where there is no use for it. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TRIGGER_DRAFTS);
	__type(key, __u32);
	__type(value, struct draft);
} drafts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct tcpinfo_history);
} histories SEC(".maps");

static __always_inline struct draft *take_draft(void)
{
	for (__u32 i = 0; i < TRIGGER_DRAFTS; i++) {
		__u32 key = i;
		struct draft *draft = bpf_map_lookup_elem(&drafts, &key);

		if (draft && !__sync_lock_test_and_set(&draft->in_use, 1))
			return draft;
	}
	return NULL;
}

static __always_inline void release_draft(struct draft *draft)
{
	if (draft)
		*(volatile __u64 *)&draft->in_use = 0;
}

static __always_inline const struct tcpinfo_trigger *known_trigger(const volatile struct tcpinfo_trigger *trigger)
{
	const struct tcpinfo_trigger *known = (const struct tcpinfo_trigger *)trigger;

	barrier_var(known); /* or the compiler takes the initial zeroes for the value */
	return known;
}

/* What of it has grown since the connection was last looked at. Without memory for what it was, nothing. */
static __always_inline __u32 look_at(const volatile struct tcpinfo_trigger *trigger, const struct tcp_sock *tp,
				     const struct tcpinfo_record *r)
{
	struct tcpinfo_history *history;

	if (!trigger->grows)
		return 1U << TCPINFO_TRIGGER_GROWS;
	history = bpf_sk_storage_get(&histories, (void *)tp, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!history)
		return 1U << TCPINFO_TRIGGER_GROWS;
	return tcpinfo_trigger_grown(known_trigger(trigger), r, history);
}

/* Whether the draft is wanted; then it says why. */
static __always_inline int is_wanted(const volatile struct tcpinfo_trigger *trigger, const struct tcp_sock *tp,
				     struct tcpinfo_record *r)
{
	__u32 triggered = tcpinfo_trigger_holds(known_trigger(trigger), r, look_at(trigger, tp, r));

	if (!triggered)
		return 0;
	r->triggered = triggered;
	r->present[TCPINFO_FIELD_triggered / 64] |= BIT_OF(triggered);
	return 1;
}

/* The draft, with what is known of a record only when it goes its way. */
static __always_inline void copy_draft(struct tcpinfo_record *r, const struct draft *draft,
				       const struct tcpinfo_moment *moment)
{
	__builtin_memcpy(r, &draft->record, sizeof(*r));
	r->sequence = moment->sequence;
	r->lost_records = moment->lost_records;
}

#endif
