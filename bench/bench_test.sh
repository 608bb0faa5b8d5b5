#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# bench_test.sh TCPINFO-BENCH JSON-CHECKER: one short measurement is made, the JSON is read, mistakes are refused.
set -eu
bench=$1
checker=$2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

expect() {
  wanted=$1
  shift
  status=0
  "$@" > "$out/stdout" 2> "$out/stderr" || status=$?
  [ "$status" = "$wanted" ] || { echo "exit code $status instead of $wanted: $*"; cat "$out/stdout" "$out/stderr"; exit 1; }
}

expect 0 "$bench" --help
grep -q "Exit codes" "$out/stdout"
expect 0 "$bench" --list
grep -q "^connections " "$out/stdout"
expect 2 "$bench" --only nothing-of-that-name
grep -q "nothing-of-that-name (there are: .*connections" "$out/stderr"
expect 2 "$bench" --slow
if [ "$(id -u)" != 0 ]; then
  echo "needs root for the rest"
  exit 77
fi
expect 0 "$bench" --quick --only connections --out "$out/results"
grep -q "goals reached" "$out/stdout"
cmp "$out/stdout" "$out/results/bench.txt"
"$checker" "$out/results/bench.json"
