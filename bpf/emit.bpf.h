/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is kept of a connection, and the way of its records to user space: rings, the bell, counters. */
#ifndef TCPINFO_EMIT_BPF_H
#define TCPINFO_EMIT_BPF_H

#include "fill.bpf.h"
#include "trigger.bpf.h"

const volatile struct tcpinfo_settings settings;

/* Only so that the object's BTF describes the record: a test compares it with what user space takes it for. */
const struct tcpinfo_record *record_layout;

/*
 * The consumer is woken when a ring holds this much. The consumer sets it: 0 where it sleeps until there is a record, the
 * watermark where it comes by itself before records are too old. Who wakes it sets NEVER: one wake-up a drain.
 */
#define NEVER (~0ULL)
#define QUERY_EVERY 8
__u64 wakeup_at;

/* Set when a record is lost, and cleared by the consumer, which then reads the counters and tells of it. */
__u32 has_lost;

struct tcpinfo_books books;

struct connection {
	__u64 sampled_ns;
	__u64 netns_cookie;
	__u64 cgroup_id;
	__u32 due_jiffies; /* before it no sample is due; from it on the clock decides */
	__u32 sequence;
	__u32 generation;
	__u32 lost; /* records, since the last one that got through; atomic, as a sweep runs beside callbacks */
	__u8 told;    /* the state that a transition's record told last; CLOSE: the connection is over */
	__u8 adopted; /* as in its records */
	__u8 added;   /* callback flags that we set and nobody had */
	__u8 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct connection);
} connections SEC(".maps");

struct ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096); /* those that are put in may have another size */
};

/*
 * By CPU: 52 producers on one ring get a tenth of what one gets. Samples have their own, so that a flood of them cannot
 * push out the records of which a connection has but a few. A mode that makes no samples has no rings for them.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1); /* set before load */
	__type(key, __u32);
	__array(values, struct ring);
} records SEC(".maps");

/* Readable while the consumer is wanted: rings of records would be as long as there is a record in them. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096); /* a page, whatever its size */
} bell SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tcpinfo_counters);
} counters SEC(".maps");

/* A callback in process context can be interrupted by one in softirq on the same CPU, hence atomic. */
#define COUNT(c, member) __sync_fetch_and_add(&(c)->member, 1)

static __always_inline struct tcpinfo_counters *get_counters(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&counters, &zero);
}

static __always_inline void *ring_of(__u32 event)
{
	__u32 key = bpf_get_smp_processor_id();

	if (event != TCPINFO_EVENT_SAMPLE)
		key += settings.cpus;
	return bpf_map_lookup_elem(&records, &key);
}

static __always_inline __u64 ring_bytes(__u32 event)
{
	return event == TCPINFO_EVENT_SAMPLE ? settings.sample_ring_bytes : settings.life_ring_bytes;
}

/*
 * For iterators, which the consumer itself runs, one at a time: they stop where callbacks need the rest, and go on
 * after a drain.
 */
__u64 room_questions;

static __always_inline int ring_has_room(__u32 event)
{
	__u64 bytes = ring_bytes(event);
	void *ring;

	/* Half a ring of many records does not fill up between two questions. */
	if (bytes > QUERY_EVERY * 8 * sizeof(struct tcpinfo_record) && room_questions++ % QUERY_EVERY)
		return 1;
	ring = ring_of(event);
	return !ring || bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) <= bytes / 2;
}

static __always_inline void ring_bell(struct tcpinfo_counters *count, __u64 at)
{
	void *ringing;

	if (__sync_lock_test_and_set(&wakeup_at, NEVER) == NEVER)
		return; /* another CPU was first */
	ringing = bpf_ringbuf_reserve(&bell, sizeof(__u64), 0);
	if (ringing) {
		COUNT(count, wakeups);
		bpf_ringbuf_discard(ringing, BPF_RB_FORCE_WAKEUP);
	} else {
		wakeup_at = at; /* the next record tries again */
	}
}

/*
 * After the record's submission: its exchange is a full barrier between the producer's position and wakeup_at. The
 * consumer that falls asleep sets wakeup_at, then looks at the positions: one of the two sees the other.
 */
static __always_inline void wake_consumer(struct tcpinfo_counters *count, void *ring, __u32 event, __u64 emitted)
{
	__u64 set = *(volatile __u64 *)&wakeup_at, at = set;

	if (set == NEVER)
		return;
	/* The watermark is made for samples, whose rings may be the bigger ones. */
	if (event != TCPINFO_EVENT_SAMPLE && at > settings.life_ring_bytes / 4)
		at = settings.life_ring_bytes / 4;
	/* A watermark of many records may be passed by a few: the question costs as much as ten fields. */
	if (at > QUERY_EVERY * 4 * sizeof(struct tcpinfo_record) && emitted % QUERY_EVERY)
		return;
	if (bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) < at)
		return;
	ring_bell(count, set);
}

/*
 * Counts, then sets the flag, then looks whether to wake; the consumer sets the watermark, then clears the flag, then
 * reads the counters. Each step is a full barrier, so that whoever comes second sees what the other did.
 */
static __always_inline void lose(struct tcpinfo_counters *count, struct connection *connection, __u32 event)
{
	__u64 before, at;

	if (connection)
		__sync_fetch_and_add(&connection->lost, 1);
	before = COUNT(count, lost[event]);
	barrier_var(before); /* an addition whose result nobody wants is no barrier on every architecture */
	if (!*(volatile __u32 *)&has_lost)
		__sync_lock_test_and_set(&has_lost, 1);
	at = *(volatile __u64 *)&wakeup_at;
	if (at != NEVER) /* a watermark that no number of records comes to exactly */
		ring_bell(count, at);
}

/* What is kept of the connection goes into each of its records. */
static __always_inline void know_connection(struct tcpinfo_moment *moment, const struct connection *connection)
{
	moment->generation = connection->generation;
	moment->netns_cookie = connection->netns_cookie;
	moment->cgroup_id = connection->cgroup_id;
	moment->adopted = connection->adopted;
}

/*
 * Finds room for a record that was counted. Takes the connection's next sequence number also when the record is lost: the
 * gap shows, and the next record that gets through says how many were lost. Without a connection the record is the only
 * one.
 */
static __always_inline struct tcpinfo_record *take_room(struct tcpinfo_counters *count, void *ring, __u32 event,
							struct connection *connection, struct tcpinfo_moment *moment)
{
	struct tcpinfo_record *r;

	if (connection)
		moment->sequence = __sync_fetch_and_add(&connection->sequence, 1);
	r = ring ? bpf_ringbuf_reserve(ring, sizeof(*r), 0) : NULL;
	if (!r)
		lose(count, connection, event);
	else if (connection && *(volatile __u32 *)&connection->lost)
		moment->lost_records = __sync_lock_test_and_set(&connection->lost, 0);
	return r;
}

/* What is known of the moment while this compiles costs nothing: for the hot path, where it is never in memory. */
static __always_inline void emit(const struct tcp_sock *tp, struct connection *connection,
				 struct tcpinfo_moment *moment)
{
	struct tcpinfo_counters *count = get_counters();
	__u64 event = moment->event, emitted;
	struct tcpinfo_record *r;
	void *ring;

	barrier_var(event); /* a value in a register keeps its bounds also for older verifiers */
	if (!count || event >= TCPINFO_EVENTS)
		return;
	emitted = COUNT(count, emitted[event]);
	ring = ring_of(event);
	r = take_room(count, ring, event, connection, moment);
	if (!r)
		return;
	tcpinfo_fill(r, tp, moment);
	if (settings.trigger.grows && event != TCPINFO_EVENT_CLOSE)
		look_at(&settings.trigger, tp, r);
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	wake_consumer(count, ring, event, emitted);
}

/*
 * A record of a connection's life. A function of its own: a copy of all that fills a record for each program and kind
 * would be long to verify, and a moment whose address is known elsewhere is in memory for the hot path as well.
 */
static __noinline int emit_life(const struct tcp_sock *tp, struct connection *connection, struct tcpinfo_moment *moment)
{
	if (connection) {
		know_connection(moment, connection);
	} else {
		moment->netns_cookie = netns_cookie_of(&tp->inet_conn.icsk_inet.sk.__sk_common);
		moment->cgroup_id = cgroup_id_of(tp);
	}
	emit(tp, connection, moment);
	return 0;
}

static __always_inline void begin_sample(struct tcpinfo_moment *moment, const struct tcp_sock *tp,
					 const struct connection *connection, __u64 time_ns, __u32 state, _Bool swept)
{
	*moment = (struct tcpinfo_moment){
		.time_ns = time_ns,
		.cookie = tp->inet_conn.icsk_inet.sk.__sk_common.skc_cookie.counter, /* its first record made it */
		.event = TCPINFO_EVENT_SAMPLE,
		.source = TCPINFO_SOURCE_SOCKOPS,
		.state = state,
		.follows = 1,
		.swept = swept,
	};
	know_connection(moment, connection);
}

/* A sample that is due, if the trigger wants it. */
static __noinline int emit_selected(const struct tcp_sock *tp, struct connection *connection, __u64 time_ns,
				    __u32 state, _Bool swept)
{
	struct tcpinfo_counters *count = get_counters();
	struct draft *draft = take_draft();
	struct tcpinfo_moment moment;
	struct tcpinfo_record *r;
	__u64 emitted;
	void *ring;

	if (!count)
		goto out;
	begin_sample(&moment, tp, connection, time_ns, state, swept);
	if (draft) {
		tcpinfo_fill(&draft->record, tp, &moment);
		if (!is_wanted(&settings.trigger, tp, &draft->record)) {
			COUNT(count, untriggered);
			goto out;
		}
	}
	emitted = COUNT(count, emitted[TCPINFO_EVENT_SAMPLE]);
	ring = draft ? ring_of(TCPINFO_EVENT_SAMPLE) : NULL; /* no telling whether it is wanted: lost */
	r = take_room(count, ring, TCPINFO_EVENT_SAMPLE, connection, &moment);
	if (r && draft) {
		copy_draft(r, draft, &moment);
		bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
		wake_consumer(count, ring, TCPINFO_EVENT_SAMPLE, emitted);
	}
out:
	release_draft(draft);
	return 0;
}

static __always_inline void emit_sample(const struct tcp_sock *tp, struct connection *connection, __u64 time_ns,
					__u32 state, _Bool swept)
{
	struct tcpinfo_moment moment;

	if (settings.trigger.clauses) {
		emit_selected(tp, connection, time_ns, state, swept);
		return;
	}
	begin_sample(&moment, tp, connection, time_ns, state, swept);
	emit(tp, connection, &moment);
}

#endif
