#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Makes a small recording of a directory of tcpinfo-validate run: compact.py RUN DIRECTORY

The results of iperf3 are copied without spaces. The records become NAME.records: the first line names the fields, each
further line is a record, its fields apart by commas: nothing where the field is as in the record before of that cookie
and source, which every line has, "-" where it is absent. Records of the control connection are left out of polls.
"""
import json
import pathlib
import sys

run, to = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
to.mkdir(parents=True, exist_ok=True)
ports = set()
for name in ("iperf3.json", "iperf3-server.json"):
    result = json.loads((run / name).read_text())
    ports |= {one["local_port"] for one in result["start"]["connected"]} | {
        one["remote_port"] for one in result["start"]["connected"]}
    result["start"]["system_info"] = "Linux"
    result["start"].pop("cookie", None)
    (to / name).write_text(json.dumps(result, separators=(",", ":")) + "\n")
for source in ("sockops", "inet_diag", "iter", "getsockopt"):
    lines = (run / f"{source}.jsonl").read_text().splitlines()
    fields = [one["name"] for one in json.loads(lines[0])["fields"]]
    last, out = {}, [",".join(fields)]
    for line in lines[1:]:
        record = json.loads(line)
        if source in ("inet_diag", "iter") and not {record["local_port"], record["peer_port"]} <= ports:
            continue
        key = (record["cookie"], record["source"])
        before = last.get(key, {})
        cells = []
        for field in fields:
            value = record.get(field)
            text = "-" if value is None else str(int(value)) if isinstance(value, bool) else str(value)
            cells.append("" if before.get(field) == text and field not in ("cookie", "source") else text)
            before[field] = text
        last[key] = before
        out.append(",".join(cells).rstrip(","))
    (to / f"{source}.records").write_text("\n".join(out) + "\n")
