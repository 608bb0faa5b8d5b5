// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* For a test: a trigger as the kernel evaluates it, on records that are handed in. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "tcpinfo_record.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile struct tcpinfo_trigger trigger;

struct tcpinfo_record record;
struct tcpinfo_history history;
__u32 held;

SEC("syscall")
int check_trigger(void *ctx)
{
	const struct tcpinfo_trigger *known = (const struct tcpinfo_trigger *)&trigger;

	(void)ctx;
	barrier_var(known); /* or the compiler takes the initial zeroes for the value */
	held = tcpinfo_trigger_holds(known, &record, tcpinfo_trigger_grown(known, &record, &history));
	return 0;
}
