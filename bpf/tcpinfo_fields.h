/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The one table of fields. Everything that lists fields (record members, decoders, encoders, documentation, the
 * comparison with iperf3) expands it; nothing else may.
 *
 *   X(id, type, format, unit, kind, kernel, since, sources, iperf3, rule, description)
 *
 *   id       the kernel's tcp_info name without tcpi_, or the kernel's word for what is not in tcp_info
 *   type     u8 u16 u32 u64, addr (16 bytes, IPv4 as ::ffff:a.b.c.d) or name (16 bytes, NUL padded)
 *   format   how the value is shown: number event source family address state ca_state boolean text
 *   unit     none ns us ms bytes bytes_per_s segments packets count scale256
 *   kind     identity counter gauge state flags; a counter never goes back while the connection lasts
 *   kernel   where sock_ops and the iterator read it, as of kernel 6.18
 *   since    first kernel whose tcp_info or netlink has it; the BPF sources may read it on older ones. "": our own
 *   sources  who gives it: all, bpf (sockops and iter), sockops, inet_diag, nobody
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
X(time_ns, u64, number, ns, identity, "bpf_ktime_get_boot_ns()", "", all, "", none, "Time of the reading, CLOCK_BOOTTIME") \
X(cookie, u64, number, none, identity, "sock_common.skc_cookie", "4.1", all, "", none, "Socket cookie: unique among the sockets of the running kernel") \
X(netns_cookie, u64, number, none, identity, "net.net_cookie", "5.14", all, "", none, "Cookie of the socket's network namespace") \
X(cgroup_id, u64, number, none, identity, "sock.sk_cgrp_data.cgroup->kn->id", "5.8", all, "", none, "cgroup v2 id in which the socket was created") \
X(local_address, addr, address, none, identity, "inet_sock.inet_saddr, sock_common.skc_v6_rcv_saddr", "2.6", all, "local_host", none, "Local address; IPv4-mapped IPv6 is shown as IPv4") \
X(peer_address, addr, address, none, identity, "sock_common.skc_daddr, sock_common.skc_v6_daddr", "2.6", all, "remote_host", none, "Peer address; IPv4-mapped IPv6 is shown as IPv4") \
X(congestion_control, name, text, none, identity, "inet_connection_sock.icsk_ca_ops->name", "2.6", all, "sender_tcp_congestion", none, "Congestion control algorithm") \
X(ulp, name, text, none, state, "inet_connection_sock.icsk_ulp_ops->name", "5.4", all, "", none, "Upper layer protocol (tls, mptcp, ...); absent when there is none") \
X(sequence, u32, number, none, identity, "counted by the source", "", all, "", none, "Number of this record among its connection's, from 0; for inet_diag and iter the number of the dump or pass") \
X(generation, u32, number, none, identity, "counted by the source", "", sockops, "", none, "How many connections this socket had before this one (disconnect, connect again); absent in close mode") \
X(event, u8, event, none, identity, "the callback", "", all, "", none, "What the record tells: sample, state, open, close, adopted, gap") \
X(source, u8, source, none, identity, "constant", "", all, "", none, "Who read the socket: sockops, inet_diag, iter; getsockopt: what a process was answered, in validation runs") \
X(family, u8, family, none, identity, "sock_common.skc_family", "2.6", all, "", none, "Family of the socket, also for IPv4-mapped addresses: 2 IPv4, 10 IPv6") \
X(state, u8, state, none, identity, "sock_common.skc_state", "2.6", all, "", none, "Connection state after the event") \
X(local_port, u16, number, none, identity, "sock_common.skc_num", "2.6", all, "local_port", none, "Local port") \
X(peer_port, u16, number, none, identity, "sock_common.skc_dport", "2.6", all, "remote_port", none, "Peer port") \
X(cpu, u16, number, none, identity, "bpf_get_smp_processor_id()", "", bpf, "", none, "CPU on which the record was made") \
X(old_state, u8, state, none, state, "bpf_sock_ops.args[0]", "", sockops, "", none, "State before the event; only where the event is a transition") \
X(swept, u8, boolean, none, state, "constant", "", sockops, "", none, "true: read by a sweep, for which the socket need not be locked: whole field by field but not across fields") \
X(is_mptcp, u8, boolean, none, state, "tcp_sock.is_mptcp", "5.6", all, "", none, "The socket is a subflow of an MPTCP connection") \
X(shutdown, u8, number, none, flags, "sock.sk_shutdown", "3.8", all, "", none, "1 receiving is shut down, 2 sending is shut down") \
X(tos, u8, number, none, state, "inet_sock.tos", "3.3", all, "", none, "IPv4 type of service byte that the socket sends") \
X(ca_state, u8, ca_state, none, state, "inet_connection_sock.icsk_ca_state", "2.6", all, "", none, "Loss recovery state") \
X(retransmits, u8, number, count, gauge, "inet_connection_sock.icsk_retransmits", "2.6", all, "", none, "Timeouts without progress: retransmissions of the segment at the head of the queue") \
X(probes, u8, number, count, gauge, "inet_connection_sock.icsk_probes_out", "2.6", all, "", none, "Unanswered zero window or keep-alive probes") \
X(backoff, u8, number, count, gauge, "inet_connection_sock.icsk_backoff", "2.6", all, "", none, "Doublings of the timeout in force") \
X(options, u8, number, none, flags, "tcp_sock.rx_opt, tcp_sock.ecn_flags, tcp_sock.syn_data_acked, ...", "2.6", all, "", none, "Options in force: 1 timestamps, 2 SACK, 4 window scaling, 8 ECN, 16 ECN seen, 32 SYN data acked, 64 microsecond timestamps, 128 fast open child") \
X(snd_wscale, u8, number, none, state, "tcp_sock.rx_opt.snd_wscale", "2.6", all, "", none, "Window scale that the peer asked for; 0 without window scaling") \
X(rcv_wscale, u8, number, none, state, "tcp_sock.rx_opt.rcv_wscale", "2.6", all, "", none, "Window scale that we announced; 0 without window scaling") \
X(delivery_rate_app_limited, u8, boolean, none, state, "tcp_sock.rate_app_limited", "4.9", all, "", none, "delivery_rate was limited by the application") \
X(fastopen_client_fail, u8, number, none, state, "tcp_sock.fastopen_client_fail", "5.5", all, "", none, "Why TCP Fast Open failed as client: 0 unspecified, 1 no cookie, 2 data not acked, 3 SYN retransmitted") \
X(rto, u32, number, us, gauge, "inet_connection_sock.icsk_rto", "2.6", all, "", none, "Retransmission timeout") \
X(ato, u32, number, us, gauge, "inet_connection_sock.icsk_ack.ato", "2.6", all, "", none, "Delayed ACK timeout") \
X(snd_mss, u32, number, bytes, gauge, "tcp_sock.mss_cache", "2.6", all, "", none, "Maximum segment size for sending") \
X(rcv_mss, u32, number, bytes, gauge, "inet_connection_sock.icsk_ack.rcv_mss", "2.6", all, "", none, "Estimate of the peer's segment size") \
X(unacked, u32, number, packets, gauge, "tcp_sock.packets_out; listeners: sock.sk_ack_backlog", "2.6", all, "", none, "Segments sent and not cumulatively acknowledged; listeners: connections waiting for accept") \
X(sacked, u32, number, packets, gauge, "tcp_sock.sacked_out; listeners: sock.sk_max_ack_backlog", "2.6", all, "", none, "Segments selectively acknowledged; listeners: limit of the accept queue") \
X(lost, u32, number, packets, gauge, "tcp_sock.lost_out", "2.6", all, "", none, "Segments marked lost") \
X(retrans, u32, number, packets, gauge, "tcp_sock.retrans_out", "2.6", all, "", none, "Retransmitted segments in flight") \
X(fackets, u32, number, packets, gauge, "none", "", nobody, "", none, "Never filled since kernel 4.15: always absent") \
X(last_data_sent, u32, number, ms, gauge, "jiffies - tcp_sock.lsndtime", "2.6", all, "", none, "Time since the last data segment was sent") \
X(last_ack_sent, u32, number, ms, gauge, "none", "", nobody, "", none, "Never filled by any kernel: always absent") \
X(last_data_recv, u32, number, ms, gauge, "jiffies - inet_connection_sock.icsk_ack.lrcvtime", "2.6", all, "", none, "Time since the last data segment was received") \
X(last_ack_recv, u32, number, ms, gauge, "jiffies - tcp_sock.rcv_tstamp", "2.6", all, "", none, "Time since the last ACK was received") \
X(pmtu, u32, number, bytes, gauge, "inet_connection_sock.icsk_pmtu_cookie", "2.6", all, "pmtu", equal, "Path MTU") \
X(rcv_ssthresh, u32, number, bytes, gauge, "tcp_sock.rcv_ssthresh", "2.6", all, "", none, "Current limit of the receive window") \
X(rtt, u32, number, us, gauge, "tcp_sock.srtt_us >> 3", "2.6", all, "rtt", equal, "Smoothed round-trip time (srtt); absent before the first measurement") \
X(rttvar, u32, number, us, gauge, "tcp_sock.mdev_us >> 2", "2.6", all, "rttvar", equal, "Mean deviation of the round-trip time; absent before the first measurement") \
X(snd_ssthresh, u32, number, segments, gauge, "tcp_sock.snd_ssthresh", "2.6", all, "", none, "Slow start threshold; absent until it is set") \
X(snd_cwnd, u32, number, segments, gauge, "tcp_sock.snd_cwnd", "2.6", all, "snd_cwnd", times_snd_mss, "Congestion window") \
X(advmss, u32, number, bytes, gauge, "tcp_sock.advmss", "2.6", all, "", none, "Maximum segment size that we announced") \
X(reordering, u32, number, segments, gauge, "tcp_sock.reordering", "2.6", all, "reorder", equal, "Reordering seen or assumed on the path") \
X(rcv_rtt, u32, number, us, gauge, "tcp_sock.rcv_rtt_est.rtt_us >> 3", "2.6", all, "", none, "Receiver's estimate of the round-trip time; 0 as long as it has none") \
X(rcv_space, u32, number, bytes, gauge, "tcp_sock.rcvq_space.space", "2.6", all, "", none, "Bytes that the receiver's application reads in a round trip") \
X(total_retrans, u32, number, segments, counter, "tcp_sock.total_retrans", "2.6", all, "retransmits", delta, "Segments retransmitted, also of SYN") \
X(pacing_rate, u64, number, bytes_per_s, gauge, "sock.sk_pacing_rate", "3.15", all, "", none, "Pacing rate; all ones: unlimited") \
X(max_pacing_rate, u64, number, bytes_per_s, gauge, "sock.sk_max_pacing_rate", "3.15", all, "", none, "Limit of the pacing rate; all ones: unlimited") \
X(bytes_acked, u64, number, bytes, counter, "tcp_sock.bytes_acked", "4.1", all, "", none, "Bytes acknowledged, with one for our SYN (active side) and one for our FIN") \
X(bytes_received, u64, number, bytes, counter, "tcp_sock.bytes_received", "4.1", all, "bytes", ledger, "Bytes received in order, with one for the peer's FIN") \
X(segs_out, u32, number, segments, counter, "tcp_sock.segs_out", "4.2", all, "", none, "Segments sent, with retransmissions and pure ACKs") \
X(segs_in, u32, number, segments, counter, "tcp_sock.segs_in", "4.2", all, "", none, "Segments received, with pure ACKs") \
X(notsent_bytes, u32, number, bytes, gauge, "max(0, (int)(tcp_sock.write_seq - tcp_sock.snd_nxt))", "4.6", all, "", none, "Bytes written by the application and not yet sent") \
X(min_rtt, u32, number, us, gauge, "tcp_sock.rtt_min.s[0].v", "4.6", all, "", none, "Minimum round-trip time of the last minutes; absent before the first measurement") \
X(data_segs_in, u32, number, segments, counter, "tcp_sock.data_segs_in", "4.6", all, "", none, "Segments received with data") \
X(data_segs_out, u32, number, segments, counter, "tcp_sock.data_segs_out", "4.6", all, "", none, "Segments sent with data") \
X(delivery_rate, u64, number, bytes_per_s, gauge, "tcp_sock.rate_delivered * mss_cache / rate_interval_us", "4.9", all, "", none, "Most recent rate of delivery") \
X(busy_time, u64, number, us, counter, "tcp_sock.chrono_stat[0..2]", "4.10", all, "", none, "Time with data in the write queue") \
X(rwnd_limited, u64, number, us, counter, "tcp_sock.chrono_stat[1]", "4.10", all, "", none, "Time limited by the peer's receive window") \
X(sndbuf_limited, u64, number, us, counter, "tcp_sock.chrono_stat[2]", "4.10", all, "", none, "Time limited by the send buffer") \
X(delivered, u32, number, packets, counter, "tcp_sock.delivered", "4.18", all, "", none, "Segments delivered, with retransmissions") \
X(delivered_ce, u32, number, packets, counter, "tcp_sock.delivered_ce", "4.18", all, "", none, "Segments delivered with an ECN echo") \
X(bytes_sent, u64, number, bytes, counter, "tcp_sock.bytes_sent", "4.19", all, "bytes", ledger, "Data bytes sent, with retransmissions") \
X(bytes_retrans, u64, number, bytes, counter, "tcp_sock.bytes_retrans", "4.19", all, "", none, "Data bytes retransmitted") \
X(dsack_dups, u32, number, packets, counter, "tcp_sock.dsack_dups", "4.19", all, "", none, "Duplicates reported by the peer (DSACK)") \
X(reord_seen, u32, number, count, counter, "tcp_sock.reord_seen", "4.19", all, "", none, "Reordering events seen") \
X(rcv_ooopack, u32, number, packets, counter, "tcp_sock.rcv_ooopack", "5.4", all, "", none, "Segments received out of order") \
X(snd_wnd, u32, number, bytes, gauge, "tcp_sock.snd_wnd", "5.4", all, "snd_wnd", equal, "Window announced by the peer") \
X(rcv_wnd, u32, number, bytes, gauge, "tcp_sock.rcv_wnd", "6.2", all, "", none, "Window that we announced") \
X(rehash, u32, number, count, counter, "tcp_sock.plb_rehash + tcp_sock.timeout_rehash", "6.2", all, "", none, "Changes of the flow's hash, by load balancing or timeout") \
X(total_rto, u16, number, count, counter, "tcp_sock.total_rto", "6.7", all, "", none, "Retransmission timeouts") \
X(total_rto_recoveries, u16, number, count, counter, "tcp_sock.total_rto_recoveries", "6.7", all, "", none, "Recoveries from retransmission timeouts") \
X(total_rto_time, u32, number, ms, gauge, "tcp_sock.total_rto_time + (now - tcp_sock.rto_stamp)", "6.7", all, "", none, "Time spent in retransmission timeout recovery; the kernel takes back what it counted of one that a further timeout prolongs") \
X(received_ce, u32, number, packets, counter, "tcp_sock.received_ce", "6.18", all, "", none, "Segments received with congestion experienced (AccECN)") \
X(delivered_e1_bytes, u32, number, bytes, gauge, "tcp_sock.delivered_ecn_bytes[0]", "6.18", all, "", none, "Bytes delivered as ECT(1); in part an estimate, which the receiver's next option may take back") \
X(delivered_e0_bytes, u32, number, bytes, gauge, "tcp_sock.delivered_ecn_bytes[1]", "6.18", all, "", none, "Bytes delivered as ECT(0); in part an estimate, which the receiver's next option may take back") \
X(delivered_ce_bytes, u32, number, bytes, gauge, "tcp_sock.delivered_ecn_bytes[2]", "6.18", all, "", none, "Bytes delivered as CE; in part an estimate, which the receiver's next option may take back") \
X(received_e1_bytes, u32, number, bytes, counter, "tcp_sock.received_ecn_bytes[0]", "6.18", all, "", none, "Bytes received as ECT(1)") \
X(received_e0_bytes, u32, number, bytes, counter, "tcp_sock.received_ecn_bytes[1]", "6.18", all, "", none, "Bytes received as ECT(0)") \
X(received_ce_bytes, u32, number, bytes, counter, "tcp_sock.received_ecn_bytes[2]", "6.18", all, "", none, "Bytes received as CE") \
X(accecn_fail_mode, u16, number, none, flags, "tcp_sock.accecn_fail_mode", "6.18", all, "", none, "Why accurate ECN is not in force") \
X(accecn_opt_seen, u16, number, none, state, "tcp_sock.saw_accecn_opt", "6.18", all, "", none, "Accurate ECN option seen") \
X(bbr_bw, u64, number, bytes_per_s, gauge, "bbr.bw", "4.9", all, "", none, "BBR: estimate of the bottleneck bandwidth") \
X(bbr_min_rtt, u32, number, us, gauge, "bbr.min_rtt_us", "4.9", all, "", none, "BBR: estimate of the round-trip propagation time; absent before the first measurement") \
X(bbr_pacing_gain, u32, number, scale256, gauge, "bbr.pacing_gain", "4.9", all, "", none, "BBR: pacing gain, 256 is 1") \
X(bbr_cwnd_gain, u32, number, scale256, gauge, "bbr.cwnd_gain", "4.9", all, "", none, "BBR: congestion window gain, 256 is 1") \
X(vegas_enabled, u32, number, none, state, "vegas.doing_vegas_now", "2.6", all, "", none, "Vegas: in force now") \
X(vegas_rttcnt, u32, number, count, gauge, "vegas.cntRTT", "2.6", all, "", none, "Vegas: measurements in the last round trip") \
X(vegas_rtt, u32, number, us, gauge, "vegas.baseRTT", "2.6", all, "", none, "Vegas: propagation delay; absent before the first measurement") \
X(vegas_minrtt, u32, number, us, gauge, "vegas.minRTT", "2.6", all, "", none, "Vegas: minimum of this round trip; absent before its first measurement") \
X(dctcp_enabled, u16, number, none, state, "dctcp", "3.18", all, "", none, "DCTCP: in force, ECN was negotiated") \
X(dctcp_ce_state, u16, number, none, state, "dctcp.ce_state", "3.18", all, "", none, "DCTCP: congestion experienced state") \
X(dctcp_alpha, u32, number, none, gauge, "dctcp.dctcp_alpha", "3.18", all, "", none, "DCTCP: share of marked bytes, 1024 is all") \
X(dctcp_ab_ecn, u32, number, bytes, gauge, "(tcp_sock.delivered_ce - dctcp.old_delivered_ce) * mss_cache", "3.18", all, "", none, "DCTCP: bytes marked in the window") \
X(dctcp_ab_tot, u32, number, bytes, gauge, "(tcp_sock.delivered - dctcp.old_delivered) * mss_cache", "3.18", all, "", none, "DCTCP: bytes acknowledged in the window") \
X(skmem_rmem_alloc, u32, number, bytes, gauge, "sock.sk_backlog.rmem_alloc", "3.6", all, "", none, "Memory of the receive queue") \
X(skmem_rcvbuf, u32, number, bytes, gauge, "sock.sk_rcvbuf", "3.6", all, "", none, "Limit of the receive queue's memory") \
X(skmem_wmem_alloc, u32, number, bytes, gauge, "sock.sk_wmem_alloc - 1", "3.6", all, "", none, "Memory handed to lower layers") \
X(skmem_sndbuf, u32, number, bytes, gauge, "sock.sk_sndbuf", "3.6", all, "", none, "Limit of the send queue's memory") \
X(skmem_fwd_alloc, u32, number, bytes, gauge, "sock.sk_forward_alloc", "3.6", all, "", none, "Memory reserved and not used") \
X(skmem_wmem_queued, u32, number, bytes, gauge, "sock.sk_wmem_queued", "3.6", all, "", none, "Memory of the send queue") \
X(skmem_optmem, u32, number, bytes, gauge, "sock.sk_omem_alloc", "3.6", all, "", none, "Memory of options and socket storage") \
X(skmem_backlog, u32, number, bytes, gauge, "sock.sk_backlog.len", "3.6", all, "", none, "Memory of packets waiting for the socket's lock") \
X(skmem_drops, u32, number, packets, counter, "sock.sk_drops", "4.7", all, "", none, "Packets dropped by the socket") \
X(uid, u32, number, none, identity, "sock.sk_uid", "2.6", all, "", none, "User who owns the socket; inet_diag: as seen from the reader's user namespace, absent where no process holds it") \
X(lost_records, u32, number, count, gauge, "counted by the source", "", sockops, "", none, "Records of this connection lost since the one before this; in a gap record those of all connections since the gap record before; absent in close mode") \
X(pid, u32, number, none, identity, "cgroup/sock_create", "", sockops, "", none, "Process that owns the socket, where owners are asked for and it is known") \
X(triggered, u16, number, none, flags, "the trigger", "", all, "", none, "Which alternatives of the trigger hold: 1 the first, 2 the second, 4 the third; absent without a trigger") \
X(lost_event, u8, event, none, state, "counted by the source", "", sockops, "", none, "Of which event the records are that a gap record tells of") \
X(adopted, u8, number, none, state, "constant", "", sockops, "", none, "The connection is older than the attach: 1 followed by callbacks, 2 by the sweep and a tracepoint; 0 it is not older") \
X(inode, u64, number, none, identity, "inet_diag_msg.idiag_inode", "2.6", inet_diag, "", none, "Inode of the socket as in /proc/PID/fd; absent where no process holds it") \
X(comm, name, text, none, identity, "cgroup/sock_create", "", sockops, "", none, "Name of that process's main thread, as in /proc/PID/comm")
/* clang-format on */

#endif
