"""vLLM behind the runner port beside our own decoder: do they say the same, and what CPU time does each take?

    edge-server engines install vllm
    python -m tests.benchmarks.vllm_runner --out docs/results/vllm.json     on an idle machine

Questions of the load test's users to the shipped model, in batches, one thread each. CPU time is that of the
process that computes: ours, and vLLM's, which has receivers and embeddings from ours.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich.console import Console
from rich.table import Table

from edge_server.engine import Prompt
from edge_server.model.provenance import current_commit
from edge_server.runtime.computing import EXACT, Computing
from edge_server.runtime.folders import load
from edge_server.runtime.vllm_loading import load_vllm
from edge_server.runtime.vllm_runner import VllmRunner
from tests.benchmarks.serving.offline_loop import answer, prompts_of

_BATCH, _USERS, _SEED = 32, 64, 1
_LONGEST = 32


class Ended:
    """vLLM's runner with what the loop asks of a model."""

    def __init__(self, runner: VllmRunner, eos_id: int) -> None:
        self.eos_id = eos_id
        self.prefill, self.decode, self.keep = runner.prefill, runner.decode, runner.keep


def answers(model: Any, prompts: Sequence[Prompt]) -> list[list[int]]:
    """Of all prompts, batch after batch."""
    found: list[list[int]] = []
    for begin in range(0, len(prompts), _BATCH):
        found += answer(model, prompts[begin : begin + _BATCH], _LONGEST)
    return found


def timed(
    model: Any, prompts: Sequence[Prompt], cpu_s: Callable[[], float], rounds: int
) -> tuple[list[list[int]], float]:
    """The answers, and the CPU time of the quickest round, after one that warms up [s]."""
    found = answers(model, prompts)
    best = float("inf")
    for _ in range(rounds):
        began = cpu_s()
        answers(model, prompts)
        best = min(best, cpu_s() - began)
    return found, best


def cpu_s_of(pid: int) -> Callable[[], float]:
    """CPU time of another process and its threads [s]."""
    process = psutil.Process(pid)

    def cpu_s() -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    return cpu_s


def main(
    out: Annotated[Path, typer.Option(help="Where the JSON goes.")],
    model: Annotated[Path, typer.Option(help="Model folder.")] = Path("deploy/models/soundstage-small"),
    questions: Annotated[int, typer.Option(min=1)] = 64,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    compiled: Annotated[bool, typer.Option(help="Also with vLLM's graph compiled.")] = True,
    python: Annotated[Path | None, typer.Option(help="vLLM's interpreter, else the one installed.")] = None,
) -> None:
    """Ask both."""
    prompts = prompts_of(model, _SEED, questions, _USERS)
    own = load(model, Computing(precision=EXACT))
    expected, own_s = timed(own, prompts, time.process_time, rounds)
    rows: list[dict[str, Any]] = [{"runner": "own", "cpu_s": own_s, "same": questions}]
    for name, is_compiled in (("vllm, eager", False), ("vllm, compiled", True))[: 1 + compiled]:
        runner = load_vllm(model, 1, _BATCH, compiled=is_compiled, python=python)
        try:
            found, cpu_s = timed(Ended(runner, own.eos_id), prompts, cpu_s_of(runner.process.pid), rounds)
        finally:
            runner.close()
        same = sum(a == b for a, b in zip(found, expected, strict=True))
        rows.append({"runner": name, "cpu_s": cpu_s, "same": same, "cpu_over_own": cpu_s / own_s})
    table = Table("runner", "CPU s", "over ours", f"same answers of {questions}")
    for row in rows:
        over = f"{row['cpu_s'] / own_s:.2f}"
        table.add_row(row["runner"], f"{row['cpu_s']:.2f}", over, str(row["same"]))
    Console().print(table)
    result = {
        "command": "python -m tests.benchmarks.vllm_runner",
        "commit": current_commit(),
        "measures": ["edge_server/runtime"],
        "model": model.name,
        "questions": questions,
        "batch": _BATCH,
        "runners": rows,
    }
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
