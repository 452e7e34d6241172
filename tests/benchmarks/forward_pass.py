"""The forward pass that serves, against Hugging Face's own class with prompts padded on the left.

    python -m tests.benchmarks.forward_pass --out docs/results/forward_pass.json

Both read the same prompts with the same weights in turn, in one process: first it is checked that they say
the same, then a prefill and some decode steps of each are timed, the one that begins changing every round.
Times are medians over rounds with quartiles, ratios are taken within a round. Run it on an idle machine.

Ours is timed twice: as it is served, which on a processor with instructions for bfloat16 reads prompts in it,
and in float32. The process keeps the memory that it frees, as the server does; that helps both sides.

Two batches. ``mixed``: what many users ask at once, media of every kind and token length, captions as text, a
question over the analog path. ``media``: every prompt with picture and sound, so that prompts differ by their
questions alone and there is little padding to save; it says how much comes from elsewhere.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from edge_server.data.soundstage.captions import describe
from edge_server.data.soundstage.questions import draw_questions
from edge_server.data.soundstage.scene import sample_scene
from edge_server.engine.model import FeatureBlock, Prompt
from edge_server.model import tokenizer as tk
from edge_server.model.allocator import keep_freed_memory
from edge_server.model.link import Link
from edge_server.model.serving import ServedLink
from tests.benchmarks.device_report import machine
from tests.eager_reference import EagerLink

#: How many times faster the prefill of the mixed batch has to be.
LEAST_PREFILL_RATIO = 2.0
#: Token lengths whose real mix is served, and the kinds of question in the mixed batch, in turn.
TOKEN_LENGTHS = (1, 2, 4, 8, 16, 32)
_MEDIA = ("video", "audio")
KINDS = (_MEDIA, ("image",), ("video",), ("audio",), ("caption",), _MEDIA, ("analog",))
#: What is timed: ours as it is served, ours in float32, and theirs.
WHO = ("served", "float32", "hugging_face")
_SNR_DB = 10.0
# A row that is this undecided between two language tokens may say either.
_UNDECIDED = 1e-3


@dataclass(frozen=True)
class Effort:
    """How closely to look."""

    prompts: int = 32
    """Of a batch."""
    steps: int = 16
    """Decode steps after each prefill."""
    rounds: int = 60
    """That are timed."""


def batches(link: Link, count: int, seed: int = 0) -> dict[str, list[Prompt]]:
    """Both batches, from questions about generated scenes."""
    rng = np.random.default_rng(seed)
    kinds = {"mixed": KINDS, "media": (_MEDIA,)}
    return {
        name: [_prompt(link, some[number % len(some)], rng) for number in range(count)]
        for name, some in kinds.items()
    }


def _prompt(link: Link, kind: Sequence[str], rng: np.random.Generator) -> Prompt:
    scene = sample_scene(rng)
    question = tuple(tk.encode(link.tokenizer, draw_questions(scene, 1, rng)[0].text))
    if "caption" in kind:
        limit = link.config.max_text_tokens
        return Prompt((), question, tuple(tk.encode(link.tokenizer, describe(scene, rng))[:limit]))
    if "analog" in kind:
        media = [_block(link, modality, _length(link, rng), rng) for modality in _MEDIA]
        return Prompt((*media, _block(link, "text", len(question), rng)), ())
    return Prompt(tuple(_block(link, modality, _length(link, rng), rng) for modality in kind), question)


def _length(link: Link, rng: np.random.Generator) -> int:
    return int(rng.choice([length for length in TOKEN_LENGTHS if length in link.config.token_lengths]))


def _block(link: Link, modality: str, token_length: int, rng: np.random.Generator) -> FeatureBlock:
    shape = (token_length, link.config.channel_dim)
    return FeatureBlock(modality, rng.normal(0, 0.5**0.5, shape).astype(np.float32), _SNR_DB)


def check_parity(served: ServedLink, reference: EagerLink, prompts: Sequence[Prompt], steps: int) -> None:
    """Stop where the two say different things.

    Raises:
        SystemExit: they do.
    """
    rows = reference.prefill(prompts)
    state, said = served.prefill(prompts)
    agreed = np.ones(len(prompts), bool)
    for step in range(steps + 1):
        likeliest = rows.logits_BV.softmax(-1).topk(2).values
        undecided = (likeliest[:, 0] - likeliest[:, 1] < _UNDECIDED).numpy()
        differs = np.array([ours.token_id for ours in said]) != np.array(rows.tokens)
        if (agreed & differs & ~undecided).any():
            row = int(np.flatnonzero(agreed & differs & ~undecided)[0])
            raise SystemExit(
                f"prompt {row}, step {step}: served language token {said[row].token_id}, "
                f"Hugging Face's class says {rows.tokens[row]}"
            )
        # What follows another word is another answer.
        agreed &= ~differs
        if step < steps:
            rows = reference.decode(rows)
            state, said = served.decode(state)


def measure(link: Link, effort: Effort, advance: Callable[[Sequence[int]], Sequence[int]]) -> dict[str, Any]:
    """Time both, batch by batch.

    Args:
        link: what answers.
        effort: how closely to look.
        advance: is given the rounds, and may show how far they are.
    """
    keep_freed_memory()
    served, exact = ServedLink(link, bundle_hash="", bfloat16=True), ServedLink(link, bundle_hash="")
    reference = EagerLink(link)
    report: dict[str, Any] = {
        "model": link.config.name,
        "machine": machine() | {"threads": torch.get_num_threads(), "transformers": version("transformers")},
        "prompts": effort.prompts,
        "decode_steps": effort.steps,
        "rounds": effort.rounds,
        "asked": {"mixed_prefill_ratio": LEAST_PREFILL_RATIO},
        "batches": {},
    }
    for name, prompts in batches(link, effort.prompts).items():
        check_parity(exact, reference, prompts, effort.steps)
        taken_s = _time({"served": served, "float32": exact}, reference, prompts, effort, advance)
        positions = [served.check(prompt) for prompt in prompts]
        report["batches"][name] = {
            "positions": {
                "shortest": min(positions),
                "mean": statistics.mean(positions),
                "longest": max(positions),
            },
            "same_first_word": _agreement(served, exact, prompts),
            **{
                part: {
                    **{
                        f"{who}_s": spread(taken_s[who, part])
                        for who in ("served", "float32", "hugging_face")
                    },
                    "ratio": _ratio(taken_s["hugging_face", part], taken_s["served", part]),
                    "float32_ratio": _ratio(taken_s["hugging_face", part], taken_s["float32", part]),
                }
                for part in ("prefill", "decode_step")
            },
        }
    return report


def _agreement(served: ServedLink, exact: ServedLink, prompts: Sequence[Prompt]) -> float:
    """Share of prompts whose first word is the same however they are read."""
    pairs = zip(served.prefill(prompts)[1], exact.prefill(prompts)[1], strict=True)
    return statistics.mean(ours.token_id == theirs.token_id for ours, theirs in pairs)


def _ratio(theirs_s: Sequence[float], ours_s: Sequence[float]) -> dict[str, float]:
    return spread([theirs / ours for theirs, ours in zip(theirs_s, ours_s, strict=True)])


def _time(
    served: Mapping[str, ServedLink],
    reference: EagerLink,
    prompts: Sequence[Prompt],
    effort: Effort,
    advance: Callable[[Sequence[int]], Sequence[int]],
) -> dict[tuple[str, str], list[float]]:
    """Seconds of each round, by who and what."""
    taken_s: dict[tuple[str, str], list[float]] = {}
    # As in the engine, a batch that has become empty is the one that the next prompts join.
    empty = {who: model.keep(model.prefill(prompts)[0], []) for who, model in served.items()}

    def ours(who: str) -> tuple[float, float, float]:
        model = served[who]
        begin_s = time.perf_counter()
        state, _ = model.prefill(prompts, empty[who])
        read_s = time.perf_counter()
        for _ in range(effort.steps):
            state, _ = model.decode(state)
        end_s = time.perf_counter()
        empty[who] = model.keep(state, [])
        return begin_s, read_s, end_s

    def theirs() -> tuple[float, float, float]:
        begin_s = time.perf_counter()
        rows = reference.prefill(prompts)
        _ = rows.tokens
        read_s = time.perf_counter()
        for _ in range(effort.steps):
            rows = reference.decode(rows)
            _ = rows.tokens
        return begin_s, read_s, time.perf_counter()

    turns: list[tuple[str, Callable[[], tuple[float, float, float]]]] = [
        *((who, partial(ours, who)) for who in served),
        ("hugging_face", theirs),
    ]
    for _, run in turns:
        run()
    for _ in advance(range(effort.rounds)):
        turns.reverse()
        for who, run in turns:
            begin_s, read_s, end_s = run()
            taken_s.setdefault((who, "prefill"), []).append(read_s - begin_s)
            taken_s.setdefault((who, "decode_step"), []).append((end_s - read_s) / effort.steps)
    return taken_s


def spread(numbers: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    lower, median, upper = statistics.quantiles(numbers, n=4, method="inclusive")
    return {"median": median, "lower": lower, "upper": upper}


def show(report: Mapping[str, Any], console: Console) -> None:
    """The report as a table."""
    threads = report["machine"]["threads"]
    table = Table(
        title=f"{report['model']}: {report['prompts']} prompts, {threads} threads, median (quartiles)",
        box=box.SIMPLE,
    )
    headings = ("batch", "positions", "", "ms", "theirs", "times faster", "float32")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("batch", "") else "right")
    for name, batch in report["batches"].items():
        where = batch["positions"]
        for part in ("prefill", "decode_step"):
            row = batch[part]
            table.add_row(
                name if part == "prefill" else "",
                f"{where['shortest']} to {where['longest']}" if part == "prefill" else "",
                part.replace("_", " "),
                f"{row['served_s']['median'] * 1e3:.1f}",
                f"{row['hugging_face_s']['median'] * 1e3:.1f}",
                _with_quartiles(row["ratio"]),
                f"{row['float32_ratio']['median']:.2f}",
            )
    console.print(table)


def _with_quartiles(found: Mapping[str, float]) -> str:
    return f"{found['median']:.2f} ({found['lower']:.2f}-{found['upper']:.2f})"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command.

    Raises:
        SystemExit: the two say different things, or the prefill is not as much faster as asked.
    """
    parser = argparse.ArgumentParser(description="Time the forward pass against Hugging Face's class.")
    parser.add_argument("--model", type=Path, default=Path("deploy/models/soundstage-small"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch computes with")
    parser.add_argument("--prompts", type=int, default=Effort.prompts)
    parser.add_argument("--steps", type=int, default=Effort.steps, help="decode steps after each prefill")
    parser.add_argument("--rounds", type=int, default=Effort.rounds, help="that are timed, at least 2")
    parser.add_argument("--least", type=float, default=LEAST_PREFILL_RATIO, help="times faster, or fail")
    parser.add_argument(
        "--out", type=Path, default=Path("docs/results/forward_pass.json"), help="figures as JSON"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    console = Console()
    effort = Effort(options.prompts, options.steps, max(options.rounds, 2))
    report = measure(
        Link.load(options.model),
        effort,
        lambda rounds: track(rounds, "rounds", console=console, transient=True),  # type: ignore[arg-type,return-value]
    )
    show(report, console)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    found = report["batches"]["mixed"]["prefill"]["ratio"]["median"]
    if found < options.least:
        raise SystemExit(f"prefill of the mixed batch is {found:.2f} times faster; {options.least:g} asked")


if __name__ == "__main__":
    main()
