"""``python -m tests.benchmarks.peers``: from the root of the repository, on a machine that does nothing else.

make peers                                                        the peers' environments, once
python -m tests.benchmarks.peers --out docs/results/peers.json    everybody; goes on where it was cut
python -m tests.benchmarks.peers --quick                          FastAPI alone, seconds
python -m tests.benchmarks.peers --quick --only ray               does this one work?
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tests.benchmarks.peers.comparison import measure
from tests.benchmarks.peers.contestants import FASTAPI, PEERS
from tests.benchmarks.peers.effort import QUICK, Effort
from tests.benchmarks.peers.show import show

WIDTH_WITHOUT_TERMINAL = 160
#: Where a run with everybody is written.
RESULTS = Path("docs/results/peers.json")


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Hold the edge server against the field's servers.")
    parser.add_argument("--model", type=Path, default=Path("deploy/models/soundstage-small"))
    parser.add_argument("--quick", action="store_true", help="seconds, few users, FastAPI unless --only")
    parser.add_argument(
        "--only", action="append", choices=[peer.name for peer in PEERS], help="may be repeated"
    )
    parser.add_argument("--rounds", type=int, help="in place of the usual number")
    parser.add_argument(
        "--out", type=Path, help=f"figures as JSON; of a whole run {RESULTS}, of others none, if not said"
    )
    options = parser.parse_args(arguments)
    # Without it, whatever server runs just then would outlive this process.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    effort = QUICK if options.quick else Effort()
    if options.rounds is not None:
        if options.rounds < 1:
            parser.error(f"--rounds is {options.rounds}; at least 1")
        effort = replace(effort, rounds=options.rounds)
    whole = not options.quick and not options.only
    out: Path | None = options.out or (RESULTS if whole else None)
    wanted = options.only or ([FASTAPI.name] if options.quick else [peer.name for peer in PEERS])
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_WITHOUT_TERMINAL
    result = measure(
        options.model,
        effort,
        [peer for peer in PEERS if peer.name in wanted],
        record=None if out is None else out.with_suffix(".part"),
        say=lambda line: console.print(line, soft_wrap=True),
    )
    show(result, console)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
