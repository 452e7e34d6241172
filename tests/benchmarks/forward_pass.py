"""The forward pass that serves, against Hugging Face's own class with prompts padded on the left.

    python -m tests.benchmarks.forward_pass --out docs/results/forward_pass.json

Both read the same prompts with the same weights in turn: first it is checked that they say the same, then a
prefill and some decode steps of each are timed, the one that begins changing every round. Each is in a
process of its own, ours as a server's, theirs as it comes. Times are medians over rounds with quartiles,
ratios are of one round. Run it on an idle machine.

Ours is timed twice: as it is served, which on a processor with instructions for bfloat16 reads prompts in it,
and in float32.

Two batches. ``mixed``: what many users ask at once, media of every kind and token length, captions as text, a
question over the analog path. ``media``: every prompt with picture and sound, so that prompts differ by their
questions alone and there is little padding to save; it says how much comes from elsewhere.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from edge_server.engine.ports import FeatureBlock, Prompt
from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.runtime.computing import AS_SERVED
from edge_server.runtime.model_runner import ServedLink
from tests.benchmarks.device_report import machine
from tests.benchmarks.forward_turns import WHO, Contestant, Times, contestants
from tests.eager_reference import EagerLink

#: How many times faster the prefill of the mixed batch has to be.
LEAST_PREFILL_RATIO = 2.0
#: Token lengths whose real mix is served, and the kinds of question in the mixed batch, in turn.
TOKEN_LENGTHS = (1, 2, 4, 8, 16, 32)
_MEDIA = ("video", "audio")
KINDS = (_MEDIA, ("image",), ("video",), ("audio",), ("caption",), _MEDIA, ("analog",))
PARTS = ("prefill", "decode_step")
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
        undecided = (likeliest[:, 0] - likeliest[:, 1] < _UNDECIDED).cpu().numpy()
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


def measure(
    model: Path,
    effort: Effort,
    threads: int,
    advance: Callable[[Sequence[int]], Sequence[int]],
    device: torch.device,
) -> dict[str, Any]:
    """Time all, batch by batch.

    Args:
        model: model folder.
        effort: how closely to look.
        threads: that torch computes with.
        advance: is given the rounds, and may show how far they are.
        device: where all compute.
    """
    link = Link.load(model).to(device)
    served, exact = ServedLink(link, bundle_hash="", precision=AS_SERVED), ServedLink(link, bundle_hash="")
    drawn = batches(link, effort.prompts)
    for prompts in drawn.values():
        check_parity(exact, EagerLink(link), prompts, effort.steps)
    with contestants(model, drawn, effort.steps, threads, device) as those:
        found = {
            name: _row(_time(those, name, effort.rounds, advance), exact, prompts)
            | {"same_first_word": _agreement(served, exact, prompts)}
            for name, prompts in drawn.items()
        }
    return {
        "model": link.config.name,
        "machine": machine()
        | {"threads": threads, "transformers": version("transformers"), "device": _name_of(device)},
        "prompts": effort.prompts,
        "decode_steps": effort.steps,
        "rounds": effort.rounds,
        "asked": {"mixed_prefill_ratio": LEAST_PREFILL_RATIO},
        "batches": found,
    }


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _time(
    those: Mapping[str, Contestant],
    batch: str,
    rounds: int,
    advance: Callable[[Sequence[int]], Sequence[int]],
) -> dict[str, list[Times]]:
    """Times of each round, by who."""
    turns = list(those)
    taken_s: dict[str, list[Times]] = {who: [] for who in turns}
    for who in turns:
        those[who].run(batch)
    for _ in advance(range(rounds)):
        turns.reverse()
        for who in turns:
            taken_s[who].append(those[who].run(batch))
    return taken_s


def _row(
    taken_s: Mapping[str, Sequence[Times]], exact: ServedLink, prompts: Sequence[Prompt]
) -> dict[str, Any]:
    positions = [exact.check(prompt) for prompt in prompts]
    row: dict[str, Any] = {
        "positions": {
            "shortest": min(positions),
            "mean": statistics.mean(positions),
            "longest": max(positions),
        }
    }
    for number, part in enumerate(PARTS):
        part_s = {who: [times[number] for times in taken_s[who]] for who in WHO}
        row[part] = {
            **{f"{who}_s": spread(part_s[who]) for who in WHO},
            "ratio": _ratio(part_s["hugging_face"], part_s["served"]),
            "float32_ratio": _ratio(part_s["hugging_face"], part_s["float32"]),
        }
    return row


def _agreement(served: ServedLink, exact: ServedLink, prompts: Sequence[Prompt]) -> float:
    """Share of prompts whose first word is the same however they are read."""
    pairs = zip(served.prefill(prompts)[1], exact.prefill(prompts)[1], strict=True)
    return statistics.mean(ours.token_id == theirs.token_id for ours, theirs in pairs)


def _ratio(theirs_s: Sequence[float], ours_s: Sequence[float]) -> dict[str, float]:
    return spread([theirs / ours for theirs, ours in zip(theirs_s, ours_s, strict=True)])


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
        for part in PARTS:
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
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="all compute on")
    parser.add_argument("--prompts", type=int, default=Effort.prompts)
    parser.add_argument("--steps", type=int, default=Effort.steps, help="decode steps after each prefill")
    parser.add_argument("--rounds", type=int, default=Effort.rounds, help="that are timed, at least 2")
    parser.add_argument("--least", type=float, default=LEAST_PREFILL_RATIO, help="times faster, or fail")
    parser.add_argument(
        "--out", type=Path, default=Path("docs/results/forward_pass.json"), help="figures as JSON"
    )
    options = parser.parse_args(arguments)
    console = Console()
    effort = Effort(options.prompts, options.steps, max(options.rounds, 2))
    report = measure(
        options.model,
        effort,
        options.threads,
        lambda rounds: track(rounds, "rounds", console=console, transient=True),  # type: ignore[arg-type,return-value]
        options.device,
    )
    show(report, console)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    found = report["batches"]["mixed"]["prefill"]["ratio"]["median"]
    if found < options.least:
        raise SystemExit(f"prefill of the mixed batch is {found:.2f} times faster; {options.least:g} asked")


if __name__ == "__main__":
    main()
