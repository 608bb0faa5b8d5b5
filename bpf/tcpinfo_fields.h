/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The one table of fields. Everything that lists fields (record members, decoders, encoders, documentation, the
 * comparison with iperf3) expands it; nothing else may.
 *
 *   X(id, type, format, unit, kind, kernel, iperf3, rule, description)
 *
 *   id       the kernel's tcp_info name without tcpi_, or the kernel's word for what is not in tcp_info
 *   type     u8 u16 u32 u64, addr (16 bytes, IPv4 as ::ffff:a.b.c.d) or name (16 bytes, NUL padded)
 *   format   how the value is shown: number event source family address state ca_state boolean text
 *   unit     none ns us ms bytes bytes_per_s segments packets count scale256
 *   kind     identity counter gauge state flags
 *   kernel   where sock_ops and the iterator read it, as of kernel 6.18
 *   iperf3   what iperf3's JSON calls it, or ""
 *   rule     how iperf3's figure follows from ours: none, equal (the value itself), times_snd_mss (value * snd_mss),
 *            delta (the difference over the interval), ledger (see tcpinfo-validate)
 *
 * The order is the order of the record and of every output. It is append-only: a row's place is its presence bit.
 * A row must stand at an offset that its size divides; the record's static assertion says so when it does not.
 * To add a field: a row at the end, and the line in fill.bpf.h (or inet_diag_parser.cpp) that reads it.
 */
#ifndef TCPINFO_FIELDS_H
#define TCPINFO_FIELDS_H

/* clang-format off */
#define TCPINFO_FIELDS(X) \
X(time_ns, u64, number, ns, identity, "bpf_ktime_get_boot_ns()", "", none, "Time of the reading, CLOCK_BOOTTIME") \
X(cookie, u64, number, none, identity, "sock_common.skc_cookie", "", none, "Socket cookie: unique among the sockets of the running kernel") \
X(netns_cookie, u64, number, none, identity, "net.net_cookie", "", none, "Cookie of the socket's network namespace") \
X(cgroup_id, u64, number, none, identity, "sock.sk_cgrp_data.cgroup->kn->id", "", none, "cgroup v2 id in which the socket was created") \
X(local_address, addr, address, none, identity, "inet_sock.inet_saddr, sock_common.skc_v6_rcv_saddr", "local_host", none, "Local address; IPv4-mapped IPv6 is shown as IPv4") \
X(peer_address, addr, address, none, identity, "sock_common.skc_daddr, sock_common.skc_v6_daddr", "remote_host", none, "Peer address; IPv4-mapped IPv6 is shown as IPv4") \
X(congestion_control, name, text, none, identity, "inet_connection_sock.icsk_ca_ops->name", "sender_tcp_congestion", none, "Congestion control algorithm") \
X(ulp, name, text, none, state, "inet_connection_sock.icsk_ulp_ops->name", "", none, "Upper layer protocol (tls, mptcp, ...); absent when there is none") \
X(sequence, u32, number, none, identity, "counted by the source", "", none, "Number of this record among its connection's, from 0; for inet_diag the number of the dump") \
X(generation, u32, number, none, identity, "counted by the source", "", none, "How many connections this socket had before this one (disconnect, connect again)") \
X(event, u8, event, none, identity, "the callback", "", none, "What the record tells: sample, state, open, close, adopted, gap") \
X(source, u8, source, none, identity, "constant", "", none, "Who read the socket: sockops, inet_diag, iter") \
X(family, u8, family, none, identity, "sock_common.skc_family", "", none, "Family of the socket, also for IPv4-mapped addresses: 2 IPv4, 10 IPv6") \
X(state, u8, state, none, identity, "sock_common.skc_state", "", none, "Connection state after the event") \
X(local_port, u16, number, none, identity, "sock_common.skc_num", "local_port", none, "Local port") \
X(peer_port, u16, number, none, identity, "sock_common.skc_dport", "remote_port", none, "Peer port") \
X(cpu, u16, number, none, identity, "bpf_get_smp_processor_id()", "", none, "CPU on which the record was made") \
X(old_state, u8, state, none, state, "bpf_sock_ops.args[0]", "", none, "State before the event; only where the event is a transition") \
X(swept, u8, boolean, none, state, "constant", "", none, "true: read by the sweep without the socket's lock, whole field by field but not across fields") \
X(is_mptcp, u8, boolean, none, state, "tcp_sock.is_mptcp", "", none, "The socket is a subflow of an MPTCP connection") \
X(shutdown, u8, number, none, flags, "sock.sk_shutdown", "", none, "1 receiving is shut down, 2 sending is shut down") \
X(tos, u8, number, none, state, "inet_sock.tos", "", none, "IPv4 type of service byte that the socket sends") \
X(ca_state, u8, ca_state, none, state, "inet_connection_sock.icsk_ca_state", "", none, "Loss recovery state") \
X(retransmits, u8, number, count, gauge, "inet_connection_sock.icsk_retransmits", "", none, "Timeouts without progress: retransmissions of the segment at the head of the queue") \
X(probes, u8, number, count, gauge, "inet_connection_sock.icsk_probes_out", "", none, "Unanswered zero window or keep-alive probes") \
X(backoff, u8, number, count, gauge, "inet_connection_sock.icsk_backoff", "", none, "Doublings of the timeout in force") \
X(options, u8, number, none, flags, "tcp_sock.rx_opt, tcp_sock.ecn_flags, tcp_sock.syn_data_acked, ...", "", none, "Options in force: 1 timestamps, 2 SACK, 4 window scaling, 8 ECN, 16 ECN seen, 32 SYN data acked, 64 microsecond timestamps, 128 fast open child") \
X(snd_wscale, u8, number, none, state, "tcp_sock.rx_opt.snd_wscale", "", none, "Window scale that the peer asked for; 0 without window scaling") \
X(rcv_wscale, u8, number, none, state, "tcp_sock.rx_opt.rcv_wscale", "", none, "Window scale that we announced; 0 without window scaling") \
X(delivery_rate_app_limited, u8, boolean, none, state, "tcp_sock.rate_app_limited", "", none, "delivery_rate was limited by the application") \
X(fastopen_client_fail, u8, number, none, state, "tcp_sock.fastopen_client_fail", "", none, "Why TCP Fast Open failed as client: 0 unspecified, 1 no cookie, 2 data not acked, 3 SYN retransmitted") \
X(rto, u32, number, us, gauge, "inet_connection_sock.icsk_rto", "", none, "Retransmission timeout") \
X(ato, u32, number, us, gauge, "inet_connection_sock.icsk_ack.ato", "", none, "Delayed ACK timeout") \
X(snd_mss, u32, number, bytes, gauge, "tcp_sock.mss_cache", "", none, "Maximum segment size for sending") \
X(rcv_mss, u32, number, bytes, gauge, "inet_connection_sock.icsk_ack.rcv_mss", "", none, "Estimate of the peer's segment size") \
X(unacked, u32, number, packets, gauge, "tcp_sock.packets_out; listeners: sock.sk_ack_backlog", "", none, "Segments sent and not cumulatively acknowledged; listeners: connections waiting for accept") \
X(sacked, u32, number, packets, gauge, "tcp_sock.sacked_out; listeners: sock.sk_max_ack_backlog", "", none, "Segments selectively acknowledged; listeners: limit of the accept queue") \
X(lost, u32, number, packets, gauge, "tcp_sock.lost_out", "", none, "Segments marked lost") \
X(retrans, u32, number, packets, gauge, "tcp_sock.retrans_out", "", none, "Retransmitted segments in flight") \
X(fackets, u32, number, packets, gauge, "none", "", none, "Never filled since kernel 4.15: always absent") \
X(last_data_sent, u32, number, ms, gauge, "jiffies - tcp_sock.lsndtime", "", none, "Time since the last data segment was sent") \
X(last_ack_sent, u32, number, ms, gauge, "none", "", none, "Never filled by any kernel: always absent") \
X(last_data_recv, u32, number, ms, gauge, "jiffies - inet_connection_sock.icsk_ack.lrcvtime", "", none, "Time since the last data segment was received") \
X(last_ack_recv, u32, number, ms, gauge, "jiffies - tcp_sock.rcv_tstamp", "", none, "Time since the last ACK was received") \
X(pmtu, u32, number, bytes, gauge, "inet_connection_sock.icsk_pmtu_cookie", "pmtu", equal, "Path MTU") \
X(rcv_ssthresh, u32, number, bytes, gauge, "tcp_sock.rcv_ssthresh", "", none, "Current limit of the receive window") \
X(rtt, u32, number, us, gauge, "tcp_sock.srtt_us >> 3", "rtt", equal, "Smoothed round-trip time (srtt); absent before the first measurement") \
X(rttvar, u32, number, us, gauge, "tcp_sock.mdev_us >> 2", "rttvar", equal, "Mean deviation of the round-trip time; absent before the first measurement") \
X(snd_ssthresh, u32, number, segments, gauge, "tcp_sock.snd_ssthresh", "", none, "Slow start threshold; absent until it is set") \
X(snd_cwnd, u32, number, segments, gauge, "tcp_sock.snd_cwnd", "snd_cwnd", times_snd_mss, "Congestion window") \
X(advmss, u32, number, bytes, gauge, "tcp_sock.advmss", "", none, "Maximum segment size that we announced") \
X(reordering, u32, number, segments, gauge, "tcp_sock.reordering", "reorder", equal, "Reordering seen or assumed on the path") \
X(rcv_rtt, u32, number, us, gauge, "tcp_sock.rcv_rtt_est.rtt_us >> 3", "", none, "Receiver's estimate of the round-trip time") \
X(rcv_space, u32, number, bytes, gauge, "tcp_sock.rcvq_space.space", "", none, "Bytes that the receiver's application reads in a round trip") \
X(total_retrans, u32, number, segments, counter, "tcp_sock.total_retrans", "retransmits", delta, "Segments retransmitted, also of SYN") \
X(pacing_rate, u64, number, bytes_per_s, gauge, "sock.sk_pacing_rate", "", none, "Pacing rate; all ones: unlimited") \
X(max_pacing_rate, u64, number, bytes_per_s, gauge, "sock.sk_max_pacing_rate", "", none, "Limit of the pacing rate; all ones: unlimited") \
X(bytes_acked, u64, number, bytes, counter, "tcp_sock.bytes_acked", "", none, "Bytes acknowledged, with one for our SYN (active side) and one for our FIN") \
X(bytes_received, u64, number, bytes, counter, "tcp_sock.bytes_received", "bytes", ledger, "Bytes received in order, with one for the peer's FIN") \
X(segs_out, u32, number, segments, counter, "tcp_sock.segs_out", "", none, "Segments sent, with retransmissions and pure ACKs") \
X(segs_in, u32, number, segments, counter, "tcp_sock.segs_in", "", none, "Segments received, with pure ACKs") \
X(notsent_bytes, u32, number, bytes, gauge, "max(0, (int)(tcp_sock.write_seq - tcp_sock.snd_nxt))", "", none, "Bytes written by the application and not yet sent") \
X(min_rtt, u32, number, us, gauge, "tcp_sock.rtt_min.s[0].v", "", none, "Minimum round-trip time of the last minutes; absent before the first measurement") \
X(data_segs_in, u32, number, segments, counter, "tcp_sock.data_segs_in", "", none, "Segments received with data") \
X(data_segs_out, u32, number, segments, counter, "tcp_sock.data_segs_out", "", none, "Segments sent with data") \
X(delivery_rate, u64, number, bytes_per_s, gauge, "tcp_sock.rate_delivered * mss_cache / rate_interval_us", "", none, "Most recent rate of delivery") \
X(busy_time, u64, number, us, counter, "tcp_sock.chrono_stat[0..2]", "", none, "Time with data in the write queue") \
X(rwnd_limited, u64, number, us, counter, "tcp_sock.chrono_stat[1]", "", none, "Time limited by the peer's receive window") \
X(sndbuf_limited, u64, number, us, counter, "tcp_sock.chrono_stat[2]", "", none, "Time limited by the send buffer") \
X(delivered, u32, number, packets, counter, "tcp_sock.delivered", "", none, "Segments delivered, with retransmissions") \
X(delivered_ce, u32, number, packets, counter, "tcp_sock.delivered_ce", "", none, "Segments delivered with an ECN echo") \
X(bytes_sent, u64, number, bytes, counter, "tcp_sock.bytes_sent", "bytes", ledger, "Data bytes sent, with retransmissions") \
X(bytes_retrans, u64, number, bytes, counter, "tcp_sock.bytes_retrans", "", none, "Data bytes retransmitted") \
X(dsack_dups, u32, number, packets, counter, "tcp_sock.dsack_dups", "", none, "Duplicates reported by the peer (DSACK)") \
X(reord_seen, u32, number, count, counter, "tcp_sock.reord_seen", "", none, "Reordering events seen") \
X(rcv_ooopack, u32, number, packets, counter, "tcp_sock.rcv_ooopack", "", none, "Segments received out of order") \
X(snd_wnd, u32, number, bytes, gauge, "tcp_sock.snd_wnd", "snd_wnd", equal, "Window announced by the peer") \
X(rcv_wnd, u32, number, bytes, gauge, "tcp_sock.rcv_wnd", "", none, "Window that we announced") \
X(rehash, u32, number, count, counter, "tcp_sock.plb_rehash + tcp_sock.timeout_rehash", "", none, "Changes of the flow's hash, by load balancing or timeout") \
X(total_rto, u16, number, count, counter, "tcp_sock.total_rto", "", none, "Retransmission timeouts") \
X(total_rto_recoveries, u16, number, count, counter, "tcp_sock.total_rto_recoveries", "", none, "Recoveries from retransmission timeouts") \
X(total_rto_time, u32, number, ms, counter, "tcp_sock.total_rto_time + (now - tcp_sock.rto_stamp)", "", none, "Time spent in retransmission timeout recovery") \
X(received_ce, u32, number, packets, counter, "tcp_sock.received_ce", "", none, "Segments received with congestion experienced (AccECN)") \
X(delivered_e1_bytes, u32, number, bytes, counter, "tcp_sock.delivered_ecn_bytes[0]", "", none, "Bytes delivered as ECT(1)") \
X(delivered_e0_bytes, u32, number, bytes, counter, "tcp_sock.delivered_ecn_bytes[1]", "", none, "Bytes delivered as ECT(0)") \
X(delivered_ce_bytes, u32, number, bytes, counter, "tcp_sock.delivered_ecn_bytes[2]", "", none, "Bytes delivered as CE") \
X(received_e1_bytes, u32, number, bytes, counter, "tcp_sock.received_ecn_bytes[0]", "", none, "Bytes received as ECT(1)") \
X(received_e0_bytes, u32, number, bytes, counter, "tcp_sock.received_ecn_bytes[1]", "", none, "Bytes received as ECT(0)") \
X(received_ce_bytes, u32, number, bytes, counter, "tcp_sock.received_ecn_bytes[2]", "", none, "Bytes received as CE") \
X(accecn_fail_mode, u16, number, none, flags, "tcp_sock.accecn_fail_mode", "", none, "Why accurate ECN is not in force") \
X(accecn_opt_seen, u16, number, none, state, "tcp_sock.saw_accecn_opt", "", none, "Accurate ECN option seen") \
X(bbr_bw, u64, number, bytes_per_s, gauge, "bbr.bw", "", none, "BBR: estimate of the bottleneck bandwidth") \
X(bbr_min_rtt, u32, number, us, gauge, "bbr.min_rtt_us", "", none, "BBR: estimate of the round-trip propagation time") \
X(bbr_pacing_gain, u32, number, scale256, gauge, "bbr.pacing_gain", "", none, "BBR: pacing gain, 256 is 1") \
X(bbr_cwnd_gain, u32, number, scale256, gauge, "bbr.cwnd_gain", "", none, "BBR: congestion window gain, 256 is 1") \
X(vegas_enabled, u32, number, none, state, "vegas.doing_vegas_now", "", none, "Vegas: in force now") \
X(vegas_rttcnt, u32, number, count, gauge, "vegas.cntRTT", "", none, "Vegas: measurements in the last round trip") \
X(vegas_rtt, u32, number, us, gauge, "vegas.baseRTT", "", none, "Vegas: propagation delay") \
X(vegas_minrtt, u32, number, us, gauge, "vegas.minRTT", "", none, "Vegas: minimum of the last round trip") \
X(dctcp_enabled, u16, number, none, state, "dctcp", "", none, "DCTCP: in force, ECN was negotiated") \
X(dctcp_ce_state, u16, number, none, state, "dctcp.ce_state", "", none, "DCTCP: congestion experienced state") \
X(dctcp_alpha, u32, number, none, gauge, "dctcp.dctcp_alpha", "", none, "DCTCP: share of marked bytes, 1024 is all") \
X(dctcp_ab_ecn, u32, number, bytes, gauge, "dctcp.delivered_ce * mss_cache", "", none, "DCTCP: bytes marked in the window") \
X(dctcp_ab_tot, u32, number, bytes, gauge, "dctcp.delivered * mss_cache", "", none, "DCTCP: bytes acknowledged in the window") \
X(skmem_rmem_alloc, u32, number, bytes, gauge, "sock.sk_backlog.rmem_alloc", "", none, "Memory of the receive queue") \
X(skmem_rcvbuf, u32, number, bytes, gauge, "sock.sk_rcvbuf", "", none, "Limit of the receive queue's memory") \
X(skmem_wmem_alloc, u32, number, bytes, gauge, "sock.sk_wmem_alloc - 1", "", none, "Memory handed to lower layers") \
X(skmem_sndbuf, u32, number, bytes, gauge, "sock.sk_sndbuf", "", none, "Limit of the send queue's memory") \
X(skmem_fwd_alloc, u32, number, bytes, gauge, "sock.sk_forward_alloc", "", none, "Memory reserved and not used") \
X(skmem_wmem_queued, u32, number, bytes, gauge, "sock.sk_wmem_queued", "", none, "Memory of the send queue") \
X(skmem_optmem, u32, number, bytes, gauge, "sock.sk_omem_alloc", "", none, "Memory of options and socket storage") \
X(skmem_backlog, u32, number, bytes, gauge, "sock.sk_backlog.len", "", none, "Memory of packets waiting for the socket's lock") \
X(skmem_drops, u32, number, packets, counter, "sock.sk_drops", "", none, "Packets dropped by the socket")
/* clang-format on */

#endif
