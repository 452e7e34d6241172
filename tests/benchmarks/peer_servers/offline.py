"""The limit: a loop in torch over perfect batches, with no server around it and nobody beside it.

    python -m tests.benchmarks.peer_servers.offline --help

It reads workloads as JSON, each of groups of serialized questions in base64. A batch is one question as many
times as it has rows: nothing is padded, and no row waits for another. Whole groups are run: the mix is that
of the groups. Prints JSON, for each workload: ``questions`` answered, ``wall_s``, ``cpu_s`` of the process
meanwhile, and ``texts`` of all groups.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.peer_servers.answering import Answerer


def run(answerer: Answerer, groups: list[list[bytes]], batch: int, seconds: float) -> dict[str, Any]:
    """Answer group after group, again and again, for so long [s]."""
    asked = [[answerer.prompt(data) for data in group] for group in groups]
    texts = [answerer.generate(group) for group in asked]  # warms up, too
    questions = 0
    cpu_began_s, began_s = time.process_time(), time.perf_counter()
    for group in itertools.cycle(asked):
        for each in group:
            answerer.generate([each] * batch)
            questions += batch
        if time.perf_counter() - began_s >= seconds:
            break
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_began_s
    return {"questions": questions, "wall_s": wall_s, "cpu_s": cpu_s, "texts": texts}


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Answer perfect batches as fast as torch does.")
    parser.add_argument("questions", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args(arguments)
    answerer = Answerer(options.model, options.threads)
    found = {}
    for workload, packed in json.loads(options.questions.read_text()).items():
        groups = [[base64.b64decode(each) for each in group] for group in packed]
        found[workload] = run(answerer, groups, options.batch, options.seconds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
