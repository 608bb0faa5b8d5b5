#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# test.sh ASIO_SERVICE: the service echoes, names its peer while it is connected and at the end, and ends by itself.
set -euo pipefail

output=$(mktemp)
trap 'rm -f "$output"' EXIT
"$1" --port 0 --duration 3 >"$output" &
service=$!

port=
while [[ -z $port ]]; do
  kill -0 "$service"  # it says itself why it ended
  sleep 0.1
  port=$(sed -n 's/^echo service on 127.0.0.1 port //p' "$output")
done

exec 3<>"/dev/tcp/127.0.0.1/$port"
echo hello >&3
read -r -t 2 line <&3
wait "$service"

cat "$output"
[[ $line == hello ]]
grep -Eq '^1 connections, slowest 127\.0\.0\.1 port [0-9]+: rtt [1-9][0-9]* us' "$output"
grep -Eq '^slowest of all: 127\.0\.0\.1 port [0-9]+: rtt [1-9][0-9]* us' "$output"
grep -Eq '^[1-9][0-9]* records, 0 lost$' "$output"
