"""What a cluster can do, row by row; what is found goes into docs/results/cluster.json.

    python -m tests.benchmarks.cluster                     every row: a quarter of an hour
    python -m tests.benchmarks.cluster --row kills --quick a small version of one, into no file

A row that was measured before is measured anew; the others of the file stay as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from edge_server.model.provenance import current_commit
from tests.benchmarks.cluster import duplicates, fairness, hop, kills, saturation, throughput, upgrade

COMMAND = "python -m tests.benchmarks.cluster"
MEASURES = ["edge_server/cluster", "edge_server/engine", "edge_server/frontdoor", "edge_server/cell"]
ROWS = {
    "throughput": throughput,
    "hop": hop,
    "kills": kills,
    "duplicates": duplicates,
    "fairness": fairness,
    "upgrade": upgrade,
}
SATURATION = "saturation"
"""Reckoned from what the others have found, and drawn."""


def main() -> None:
    """Measure, and write after each row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--row", action="append", choices=[*ROWS, SATURATION], help="this one; several may be named"
    )
    parser.add_argument("--quick", action="store_true", help="a small version, which settles nothing")
    parser.add_argument("--out", type=Path, default=Path("docs/results/cluster.json"))
    told = parser.parse_args()
    for name in told.row or [*ROWS, SATURATION]:
        if name == SATURATION:
            if not told.quick:
                found = saturation.measure(told.out.parent)
                saturation.draw(found, told.out.with_name("cluster_saturation.png"))
                _write(told.out, name, found)
            continue
        began, busy = time.monotonic(), os.getloadavg()[0]
        found = ROWS[name].measure(quick=told.quick)
        found |= {"took_s": round(time.monotonic() - began, 1), "load_of_the_machine": round(busy, 2)}
        print(name, json.dumps(found), flush=True)
        for row in ROWS[name].promises(found):
            print(f"  {row['what']}: {row['measured']} ({'met' if row['met'] else 'not met'})", flush=True)
        if not told.quick:
            _write(told.out, name, found)


def _write(out: Path, name: str, found: dict[str, Any]) -> None:
    report = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {"rows": {}}
    commit = current_commit()
    rows = {**report["rows"], name: {"commit": commit, "cores": os.cpu_count(), **found}}
    promises = [
        {**promise, "commit": row["commit"]}
        for each, row in rows.items()
        for promise in (saturation if each == SATURATION else ROWS[each]).promises(row)
    ]
    made = {"command": COMMAND, "measures": MEASURES, "commit": commit, "promises": promises, "rows": rows}
    out.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
