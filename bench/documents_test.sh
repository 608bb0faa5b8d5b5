#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# What bench/make-cost-table, bench/plot-growth and bench/project-cost make of a bench.json, and what they refuse.
set -uo pipefail
cd "$(dirname "$0")"
for tool in jq gnuplot; do
  command -v "$tool" > /dev/null || { echo "skipped: needs $tool" && exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

failures=0
expect() { # WHAT WANTED GOT
  [[ $2 == "$3" ]] || { printf 'FAILED: %s\n  wanted: %s\n  got:    %s\n' "$1" "$2" "$3" && failures=$((failures + 1)); }
}
code() { "$@" > "$work/out" 2> "$work/err"; echo $?; }

./make-cost-table testdata/bench.json > "$work/table"
expect 'a ratio with its goal' \
  '| all sockets by inet_diag<sup>1</sup> | 58.5 ms | 667 ms, ss -tinOH | 11.4 [11.1, 11.8] | ≥ 10 | reached |' \
  "$(sed -n 5p "$work/table")"
expect 'a figure alone' '| sweep of 5 \| of 100 | 3.21 us [3, 4] |  |  | ≤ 3 us | **missed** |' "$(sed -n 6p "$work/table")"
expect 'the note' '<sup>1</sup> all sockets by inet_diag: one dump  ' "$(sed -n 8p "$work/table")"
expect 'what was not possible' '`peers` was not possible here: needs a peer' "$(tail -n 1 "$work/table")"

printf 'before\n<!-- bench: begin -->\nold\n<!-- bench: end -->\nafter\n' > "$work/page"
for _ in 1 2; do ./make-cost-table --into "$work/page" testdata/bench.json; done
expect 'a page' "$(printf 'before\n<!-- bench: begin -->\n'; cat "$work/table"; printf '<!-- bench: end -->\nafter\n')" \
  "$(cat "$work/page")"
echo text > "$work/plain"
expect 'a page without the lines' 1 "$(code ./make-cost-table --into "$work/plain" testdata/bench.json)"
expect 'is left alone' text "$(cat "$work/plain")"
expect 'the page of the documents has the lines' 2 "$(grep -c -x -e '<!-- bench: begin -->' -e '<!-- bench: end -->' ../docs/cost.md)"

pictures=$(./plot-growth --out "$work/pictures" testdata/bench.json 2> "$work/err")
expect 'gnuplot warns of nothing' '' "$(cat "$work/err")"
expect 'a picture for each pair of axes' "$(printf '%s\n' "$work/pictures/cost-snapshot.png" "$work/pictures/cost-snapshot-2.png")" \
  "$pictures"
for picture in $pictures; do
  expect "$picture is a PNG" 89504e47 "$(head -c 4 "$picture" | od -An -tx1 | tr -d ' ')"
done

expect 'no link, no ACKs: 400 times as many' "763 k 1.91 k" \
  "$(for gbits in 400 1; do ./project-cost gbits=$gbits | awk -F' [|] ' '$2 == "100 ms" && /data centre/ { print $3 }'; done | paste -sd ' ')"
# 763 k callbacks, 10,000 of them records a second: 753 k × 100 ns + 10 k × 500 ns, and 5,000 connections × 1 µs.
expect 'callbacks refused, emitted, and of connections' '8.53 %' \
  "$(./project-cost refuse=100 record=500 connection=1000 | awk -F' [|] ' '$2 == "100 ms" && /data centre/ { print $5 }')"

for script in make-cost-table plot-growth; do
  expect "$script without a file" 2 "$(code ./$script)"
  expect "$script with an unknown option" 2 "$(code ./$script --no-such testdata/bench.json)"
  expect "$script with two files" 2 "$(code ./$script testdata/bench.json testdata/bench.json)"
  expect "$script with no such file" 1 "$(code ./$script /no/such/file)"
  expect "$script with what is no JSON" 1 "$(code ./$script documents_test.sh)"
  expect "$script with other JSON" 1 "$(code ./$script <(echo '{}'))"
  expect "$script --help" 0 "$(code ./$script --help)"
done
jq 'del(.measurements[].curves)' testdata/bench.json > "$work/no-curves.json"
expect 'no curves' 1 "$(code ./plot-growth --out "$work" "$work/no-curves.json")"
expect 'an unknown slope' 2 "$(code ./project-cost speed=1)"
expect 'a slope that is no number' 2 "$(code ./project-cost refuse=x)"

[[ $failures == 0 ]]
