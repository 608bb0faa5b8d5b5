// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Floors and peer of the sock_ops callbacks: each does less than ours has to, or does ours the naive way. They ask for no
 * callbacks; `arm` does that for their connections.
 */
#include "../../bpf/fill.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} records SEC(".maps");

SEC("sockops")
int bench_arm(struct bpf_sock_ops *ctx)
{
	if (ctx->op == BPF_SOCK_OPS_TCP_CONNECT_CB || ctx->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_RTT_CB_FLAG);
	return 1;
}

SEC("sockops")
int bench_empty(struct bpf_sock_ops *ctx __attribute__((unused)))
{
	return 1;
}

/* Reserves, stamps and submits a record of the size of ours; one that finds the ring full is a failed measurement. */
SEC("sockops")
int bench_floor(struct bpf_sock_ops *ctx __attribute__((unused)))
{
	struct tcpinfo_record *r = bpf_ringbuf_reserve(&records, sizeof(*r), 0);

	if (!r)
		return 1;
	r->time_ns = bpf_ktime_get_boot_ns();
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	return 1;
}

/* The naive way: one helper call for each member, and a wake-up whenever the consumer has caught up. */
SEC("sockops")
int bench_naive(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *bpf_sk = ctx->sk;
	struct tcpinfo_record *r;
	struct tcp_sock *tp;

	if (!bpf_sk)
		return 1;
	tp = (struct tcp_sock *)bpf_skc_to_tcp_sock(bpf_sk);
	if (!tp)
		return 1;
	r = bpf_ringbuf_reserve(&records, sizeof(*r), 0);
	if (!r)
		return 1;
	__builtin_memset(r, 0, sizeof(*r));
	r->time_ns = bpf_ktime_get_boot_ns();
	r->cookie = bpf_get_socket_cookie(ctx);
#define SK(member) BPF_CORE_READ(tp, inet_conn.icsk_inet.sk.member)
#define ICSK(member) BPF_CORE_READ(tp, inet_conn.member)
#define TP(member) BPF_CORE_READ(tp, member)
#define TP_BITS(member) BPF_CORE_READ_BITFIELD_PROBED(tp, member)
	r->netns_cookie = SK(__sk_common.skc_net.net->net_cookie);
	r->cgroup_id = SK(sk_cgrp_data.cgroup->kn->id);
	BPF_CORE_READ_INTO(&r->local_address, tp, inet_conn.icsk_inet.sk.__sk_common.skc_v6_rcv_saddr);
	BPF_CORE_READ_INTO(&r->peer_address, tp, inet_conn.icsk_inet.sk.__sk_common.skc_v6_daddr);
	BPF_CORE_READ_STR_INTO(&r->congestion_control.text, tp, inet_conn.icsk_ca_ops, name);
	r->family = SK(__sk_common.skc_family);
	r->state = SK(__sk_common.skc_state);
	r->local_port = SK(__sk_common.skc_num);
	r->peer_port = SK(__sk_common.skc_dport);
	r->shutdown = SK(sk_shutdown);
	r->pacing_rate = SK(sk_pacing_rate);
	r->max_pacing_rate = SK(sk_max_pacing_rate);
	r->skmem_rmem_alloc = SK(sk_backlog.rmem_alloc.counter);
	r->skmem_rcvbuf = SK(sk_rcvbuf);
	r->skmem_wmem_alloc = SK(sk_wmem_alloc.refs.counter);
	r->skmem_sndbuf = SK(sk_sndbuf);
	r->skmem_fwd_alloc = SK(sk_forward_alloc);
	r->skmem_wmem_queued = SK(sk_wmem_queued);
	r->skmem_optmem = SK(sk_omem_alloc.counter);
	r->skmem_backlog = SK(sk_backlog.len);
	r->skmem_drops = SK(sk_drops.counter);
	r->tos = ICSK(icsk_inet.tos);
	r->ca_state = BPF_CORE_READ_BITFIELD_PROBED(&tp->inet_conn, icsk_ca_state);
	r->retransmits = ICSK(icsk_retransmits);
	r->probes = ICSK(icsk_probes_out);
	r->backoff = ICSK(icsk_backoff);
	r->rto = ICSK(icsk_rto);
	r->ato = BPF_CORE_READ_BITFIELD_PROBED(&tp->inet_conn, icsk_ack.ato);
	r->last_data_recv = ICSK(icsk_ack.lrcvtime);
	r->rcv_mss = ICSK(icsk_ack.rcv_mss);
	r->pmtu = ICSK(icsk_pmtu_cookie);
	r->options = TP_BITS(rx_opt.tstamp_ok) | TP_BITS(rx_opt.sack_ok) | TP_BITS(rx_opt.wscale_ok) | TP(ecn_flags) |
		     TP_BITS(syn_data_acked);
	r->snd_wscale = TP_BITS(rx_opt.snd_wscale);
	r->rcv_wscale = TP_BITS(rx_opt.rcv_wscale);
	r->delivery_rate_app_limited = TP_BITS(rate_app_limited);
	r->fastopen_client_fail = TP_BITS(fastopen_client_fail);
	r->last_data_sent = TP(lsndtime);
	r->last_ack_recv = TP(rcv_tstamp);
	r->busy_time = TP(chrono_stat[0]);
	r->rwnd_limited = TP(chrono_stat[1]);
	r->sndbuf_limited = TP(chrono_stat[2]);
	r->snd_mss = TP(mss_cache);
	r->unacked = TP(packets_out);
	r->sacked = TP(sacked_out);
	r->lost = TP(lost_out);
	r->retrans = TP(retrans_out);
	r->rcv_ssthresh = TP(rcv_ssthresh);
	r->rtt = TP(srtt_us);
	r->rttvar = TP(mdev_us);
	r->snd_ssthresh = TP(snd_ssthresh);
	r->snd_cwnd = TP(snd_cwnd);
	r->advmss = TP(advmss);
	r->reordering = TP(reordering);
	r->rcv_rtt = TP(rcv_rtt_est.rtt_us);
	r->rcv_space = TP(rcvq_space.space);
	r->total_retrans = TP(total_retrans);
	r->bytes_acked = TP(bytes_acked);
	r->bytes_received = TP(bytes_received);
	r->segs_out = TP(segs_out);
	r->segs_in = TP(segs_in);
	r->notsent_bytes = TP(write_seq) - TP(snd_nxt);
	r->min_rtt = TP(rtt_min.s[0].v);
	r->data_segs_in = TP(data_segs_in);
	r->data_segs_out = TP(data_segs_out);
	r->delivery_rate = (__u64)TP(rate_delivered) * TP(mss_cache) / (TP(rate_interval_us) | 1);
	r->delivered = TP(delivered);
	r->delivered_ce = TP(delivered_ce);
	r->bytes_sent = TP(bytes_sent);
	r->bytes_retrans = TP(bytes_retrans);
	r->dsack_dups = TP(dsack_dups);
	r->reord_seen = TP(reord_seen);
	r->rcv_ooopack = TP(rcv_ooopack);
	r->snd_wnd = TP(snd_wnd);
	r->rcv_wnd = TP(rcv_wnd);
	r->is_mptcp = TP(is_mptcp);
	if (bpf_core_field_exists(tp->plb_rehash))
		r->rehash = TP(plb_rehash) + TP(timeout_rehash);
	if (bpf_core_field_exists(tp->total_rto)) {
		r->total_rto = TP(total_rto);
		r->total_rto_recoveries = TP(total_rto_recoveries);
		r->total_rto_time = TP(total_rto_time);
	}
	if (bpf_core_field_exists(tp->received_ecn_bytes)) {
		r->received_ce = TP(received_ce);
		r->delivered_e1_bytes = TP(delivered_ecn_bytes[0]);
		r->delivered_e0_bytes = TP(delivered_ecn_bytes[1]);
		r->delivered_ce_bytes = TP(delivered_ecn_bytes[2]);
		r->received_e1_bytes = TP(received_ecn_bytes[0]);
		r->received_e0_bytes = TP(received_ecn_bytes[1]);
		r->received_ce_bytes = TP(received_ecn_bytes[2]);
	}
	bpf_ringbuf_submit(r, 0);
	return 1;
}
