// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Fills rings with records, for those who measure how fast they are read. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "../../bpf/tcpinfo_record.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct tcpinfo_record record; /* what is written, but for the stamp */
__u32 records_wanted;
__u32 rings_used; /* 1, or 2 that get the records in turn */
__u32 failed;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096); /* set before load */
} first SEC(".maps"), second SEC(".maps");

static long fill_one(__u32 i, void *context __attribute__((unused)))
{
	struct tcpinfo_record *r;

	if (rings_used == 2 && i % 2)
		r = bpf_ringbuf_reserve(&second, sizeof(*r), 0);
	else
		r = bpf_ringbuf_reserve(&first, sizeof(*r), 0);
	if (!r) {
		failed++;
		return 0;
	}
	*r = record;
	r->time_ns += i;
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	return 0;
}

SEC("syscall")
int fill(void *context __attribute__((unused)))
{
	bpf_loop(records_wanted, fill_one, NULL, 0);
	return 0;
}
