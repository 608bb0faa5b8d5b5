#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Records the fixtures of inet_diag_parser_test, as root: unshare -n python3 record_inet_diag.py

Writes what the kernel answers to a dump of IPv4 and of IPv6 TCP sockets, to the last byte, into inet_diag_ipv4.bin and
inet_diag_ipv6.bin beside this script, and prints what the test has to expect, decoded here on its own.
"""
import os
import socket
import struct
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ALL_STATES = 0xFFFFFFFF
EXTENSIONS = sum(1 << (i - 1) for i in (2, 3, 4, 5, 7, 8))  # INFO VEGASINFO CONG TOS SKMEMINFO SHUTDOWN


def pair(family, address, control, port):
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind((address, port))
    listener.listen(7)
    client = socket.socket(family)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, control)
    client.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0x10)
    client.connect((address, port))
    server, _ = listener.accept()
    client.sendall(b"x" * 100000)
    got = 0
    while got < 100000:
        got += len(server.recv(100000 - got))
    server.sendall(b"y" * 1000)
    client.recv(1000)
    return listener, client, server


def dump(family, sequence):
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4)
    body = struct.pack("=BBBBI48s", family, socket.IPPROTO_TCP, EXTENSIONS, 0, ALL_STATES, b"")
    netlink.send(struct.pack("=IHHII", 16 + len(body), 20, 0x301, sequence, 0) + body)
    out = b""
    while True:
        chunk = netlink.recv(1 << 16)
        out += chunk
        at = 0
        while at < len(chunk):
            length, kind = struct.unpack_from("=IH", chunk, at)
            if kind == 3:
                return out
            at += (length + 3) & ~3


def describe(data):
    at = 0
    while at < len(data):
        length, kind, flags, sequence, _ = struct.unpack_from("=IHHII", data, at)
        if kind == 20:
            family, state = struct.unpack_from("=BB", data, at + 16)
            sport, dport = struct.unpack_from(">HH", data, at + 20)
            cookie = struct.unpack_from("=Q", data, at + 60)[0]
            print(f"at {at} length {length} family {family} state {state} {sport} -> {dport} cookie {cookie}")
            attribute = at + 16 + 72
            while attribute < at + length:
                size, name = struct.unpack_from("=HH", data, attribute)
                value = data[attribute + 4:attribute + size]
                if name == 2:
                    print("   info", size - 4, value[:8].hex(), struct.unpack_from("=24I", value, 8),
                          struct.unpack_from("=4Q6I4Q2I2Q6IHH8IHH", value, 104))
                else:
                    print("   attribute", name, size - 4, value.hex(), value if name == 4 else "")
                attribute += (size + 3) & ~3
        else:
            print(f"at {at} length {length} type {kind} flags {flags}")
        at += (length + 3) & ~3


subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
sockets = [pair(socket.AF_INET, "127.0.0.1", b"cubic", 5001), pair(socket.AF_INET6, "::1", b"bbr", 5002),
           pair(socket.AF_INET6, "::ffff:127.0.0.1", b"reno", 5003)]
gone = pair(socket.AF_INET, "127.0.0.1", b"cubic", 5004)
gone[1].close()
gone[2].close()
gone[0].close()
time.sleep(0.3)
for name, family, sequence in (("ipv4", socket.AF_INET, 41), ("ipv6", socket.AF_INET6, 42)):
    data = dump(family, sequence)
    with open(os.path.join(HERE, f"inet_diag_{name}.bin"), "wb") as file:
        file.write(data)
    print(name, len(data))
    describe(data)
