"""What a LoRA that is for media only costs: CPU time of a token, kept apart or in two sets of weights.

    python -m tests.benchmarks.adapter_cost --out docs/results/adapter_cost.json

*Merged* is what it was: every question gets the LoRA. *Apart* adds it to the rows that are about media, one
pass for all. *Two sets* has the foundation twice, with and without, and a pass for each kind that is there.
*Hugging Face* is what its own class takes with the LoRA merged. Times are those of the processor, one thread,
the fastest of several rounds of steps.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from device_agent.places import resolved_model
from edge_server.engine.ports import FeatureBlock, Prompt
from edge_server.evaluation.accuracy import without_lora
from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.model.provenance import current_commit
from edge_server.runtime.model_runner import ServedLink
from tests.benchmarks.device_report import machine
from tests.eager_reference import EagerLink

_COMMAND = "python -m tests.benchmarks.adapter_cost"
_BATCHES = (1, 8, 32)
_STEPS, _ROUNDS = 6, 3
_MEASURES = [
    "edge_server/runtime/decoder.py",
    "edge_server/runtime/adapter.py",
    "edge_server/runtime/kv_cache.py",
    "edge_server/runtime/model_runner.py",
]
_MEDIA: Mapping[str, Callable[[int], list[bool]]] = {
    "media": lambda rows: [True] * rows,
    "text": lambda rows: [False] * rows,
    "half": lambda rows: [row % 2 == 0 for row in range(rows)],
}


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print or write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("open-small"), help="model folder")
    parser.add_argument("--rows", type=int, nargs="+", default=_BATCHES, help="rows of each batch")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    link = Link.load(resolved_model(given.model))
    every = copy.deepcopy(link)
    every.config = replace(every.config, lora=replace(every.config.lora, applies_to=None))
    bare = without_lora(link)
    apart, merged, untouched = (ServedLink(each, bundle_hash="") for each in (link, every, bare))
    rows = []
    for count in given.rows:
        for kind, of_rows in _MEDIA.items():
            media = of_rows(count)
            if len(set(media)) == 1 and kind == "half":
                continue
            prompts = _prompts(link, media)
            shown = [prompt for prompt, about in zip(prompts, media, strict=True) if about]
            plain = [prompt for prompt, about in zip(prompts, media, strict=True) if not about]
            ways: dict[str, list[tuple[Any, Sequence[Prompt]]]] = {
                "merged": [(merged, prompts)],
                "apart": [(apart, prompts)],
                "two sets": [(merged, shown), (untouched, plain)],
            }
            found = {
                name: _cpu_s([each for each in passes if each[1]], count) for name, passes in ways.items()
            }
            if kind == "media":
                found["Hugging Face"] = _cpu_s([(EagerLink(merged.link), prompts)], count)
            row: dict[str, Any] = {"rows": count, "about": kind, "cpu_s": found}
            row["over_merged"] = {
                name: {what: each[what] / found["merged"][what] for what in each}
                for name, each in found.items()
            }
            print(json.dumps(row), flush=True)
            rows.append(row)
    weights = sum(each.nbytes for each in bare.foundation.parameters())
    report = {
        "command": _COMMAND,
        "commit": current_commit(),
        "measures": _MEASURES,
        "machine": machine(),
        "lora_bytes": sum(each.nbytes for each in link.lora_parameters().values()),
        "second_set_bytes": weights - bare.embedding.weight.nbytes,
        "batches": rows,
    }
    if given.out is not None:
        given.out.write_text(json.dumps(report, indent=2) + "\n")


def _prompts(link: Link, media: Sequence[bool]) -> list[Prompt]:
    """Questions of about the same length, each with or without something received."""
    rng = np.random.default_rng(0)
    size = (16, link.config.channel_dim)
    ids = tuple(tk.encode(link.tokenizer, "What is in the picture, and what is it used for?"))
    more = tuple(tk.encode(link.tokenizer, "Please be so kind as to tell me, in a few words. " * 2))[:28]
    prompts = []
    for about in media:
        block = FeatureBlock("image", rng.standard_normal(size).astype(np.float32), 10.0)
        prompts.append(Prompt((block,), ids) if about else Prompt((), (*more, *ids)))
    return prompts


def _cpu_s(passes: Sequence[tuple[Any, Sequence[Prompt]]], rows: int) -> dict[str, float]:
    """Of a prompt, and of a language token of a decode step [s]."""
    read, said = [], []
    for _ in range(_ROUNDS):
        started = time.process_time()
        states = [(served, _state(served.prefill(prompts))) for served, prompts in passes]
        read.append((time.process_time() - started) / rows)
        started = time.process_time()
        for _ in range(_STEPS):
            states = [(served, _state(served.decode(state))) for served, state in states]
        said.append((time.process_time() - started) / rows / _STEPS)
    return {"prompt": min(read), "token": min(said)}


def _state(made: Any) -> Any:
    """A running batch, whether steps come beside it or not."""
    return made[0] if isinstance(made, tuple) else made


if __name__ == "__main__":
    main()
