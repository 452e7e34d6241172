"""Fewer feature tokens without training: how many of open-small's answers stay as they are.

    edge-server weights get open-small
    python -m tests.benchmarks.token_reduction --photos DIR --out docs/results/token_reduction.json

    photo ─▶ the encoder's 49 cells ─▶ 16, 8, 4 of them, or fewer reals or bits ─▶ the rest of the encoder
          ─▶ caption known by heart ─▶ answer ◀── the same as with all 49? no noise in it

What comes behind the cells (last layer, average, classes, caption) is computed from what arrives of them, as
an edge would that is sent cells. The figure is drawn beside the JSON. Right names are counted too, where
files are named by what they show.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from device_agent.media.loading import clip_from_file
from device_agent.places import downloads, resolved_model
from edge_server.engine.ports import FeatureBlock, Prompt
from edge_server.evaluation.accuracy import answer_all
from edge_server.evaluation.named import Named, is_named, read_lemmas, read_named
from edge_server.export.calibration import fitted_ways
from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.model.memory import MemoryReceiver
from edge_server.model.modality import MODALITIES
from edge_server.model.provenance import current_commit
from edge_server.model.published.lite import _SHARPER, LiteEncoder
from edge_server.model.split.reduction import REDUCERS
from edge_server.runtime.model_runner import ServedLink
from edge_server.study.plots.style import COLOURS, MARKERS, figure, save
from edge_server.weights.catalogue import LEMMAS

PROMISE = "Training-free compression, 49 to 16, 8 and 4 tokens: agreement with the uncompressed answer"
LENGTHS = (16, 8, 4)
QUESTIONS = ("What is in the picture?",)
_GRID = (7, 7)
_SNR_DB = 40.0
_LONGEST = 24
_TOKEN_LENGTH = 16


class Edge:
    """What follows the cells of a picture: the rest of the encoder, the caption, the answer."""

    def __init__(self, link: Link) -> None:
        slot = link.slots[0]
        encoder, receiver = link.encoder(slot), link.receiver(slot)
        assert isinstance(encoder, LiteEncoder)
        assert isinstance(receiver, MemoryReceiver)
        self.link, self.slot, self.encoder, self.receiver = link, slot, encoder, receiver
        self._served = ServedLink(link, bundle_hash="")
        self._ids = [tuple(tk.encode(link.tokenizer, question)) for question in QUESTIONS]
        self._said: dict[tuple[int, ...], tuple[str, ...]] = {}

    def cells(self, path: Path) -> Tensor:
        """Of the middle of a picture, row after row, [49, D]."""
        frames_THWC = clip_from_file(path, kind="image").frames_THWC
        assert frames_THWC is not None
        pixels = self.encoder.front_end(torch.from_numpy(np.ascontiguousarray(frames_THWC)))
        maps: Tensor = self.encoder.network.maps(pixels[:1])[0]
        return maps.flatten(1).t()

    def sent(self, x_TD: Tensor) -> Tensor:
        """What arrives of cells, as the block that the receiver knows a caption for."""
        network = self.encoder.network
        head = network.head(x_TD.t()[None, :, :, None])
        likely_1K = torch.softmax(_SHARPER * network.logits(head), dim=-1)
        # Colour and side come from what is not sent here: nothing is told of them.
        others = [torch.zeros(1, each) for each in self.encoder.config.others]
        return self.link.send(self.slot, self.encoder.joined(likely_1K, *others), _TOKEN_LENGTH)[0]

    def answers(self, blocks: Sequence[Tensor]) -> list[tuple[str, ...]]:
        """To each question about each block; pictures that become one caption are answered once."""
        captions = [tuple(self.receiver.recall(x_TC).tolist()) for x_TC in blocks]
        fresh = {c: x_TC for c, x_TC in zip(captions, blocks, strict=True) if c not in self._said}
        prompts = [
            Prompt((FeatureBlock(MODALITIES[self.slot].wire[0], x_TC.numpy(), _SNR_DB),), ids)
            for x_TC in fresh.values()
            for ids in self._ids
        ]
        found: list[str] = []
        for begin in range(0, len(prompts), 32):
            found += answer_all(self._served, prompts[begin : begin + 32], _LONGEST)
        for number, caption in enumerate(fresh):
            self._said[caption] = tuple(found[number * len(QUESTIONS) :][: len(QUESTIONS)])
        return [self._said[caption] for caption in captions]


def measure(edge: Edge, files: Sequence[Named]) -> list[dict[str, Any]]:
    """Each way to send less: how many answers stay, how many names are right, what it takes."""
    with torch.inference_mode():
        shown = [edge.cells(file.path) for file in track(files, "pictures", console=Console(stderr=True))]
        width, whole = shown[0].shape[1], _GRID[0] * _GRID[1]
        expected = edge.answers([edge.sent(x_TD) for x_TD in shown])

        def told(
            name: str, tokens: int, payload: str, bits: float, arrived: Callable[[int], Tensor]
        ) -> dict[str, Any]:
            found = edge.answers([edge.sent(arrived(number)) for number in range(len(shown))])
            same = [
                a == b
                for one, other in zip(found, expected, strict=True)
                for a, b in zip(one, other, strict=True)
            ]
            named = [is_named(said[0], file.names) for said, file in zip(found, files, strict=True)]
            return {
                "reduce": name,
                "tokens": tokens,
                "payload": payload,
                "kilobytes": tokens * bits / 8000,
                "agreement": float(np.mean(same)),
                "right": float(np.mean(named)),
            }

        rows = [told("none", whole, "float32", 32.0 * width, lambda number: shown[number])]
        for length in LENGTHS:
            for name, reduce in REDUCERS.items():

                def fewer(number: int, reduce: Any = reduce, length: int = length) -> Tensor:
                    arrived: Tensor = reduce(shown[number], _GRID, length)
                    return arrived

                rows.append(told(name, length, "float32", 32.0 * width, fewer))
        for way in fitted_ways(shown):

            def arrives(number: int, way: Any = way) -> Tensor:
                arrived: Tensor = way.of_each[number](shown[number])
                return arrived

            rows.append(told(way.name, whole, way.payload, way.bits, arrives))
    return rows


def promise(rows: Sequence[dict[str, Any]], pictures: int) -> dict[str, Any]:
    """The row of the table of promises: the best method at each length, beside random."""
    parts, met = [], True
    for length in LENGTHS:
        at = {row["reduce"]: row["agreement"] for row in rows if row["tokens"] == length}
        best = max((name for name in at if name != "random"), key=at.__getitem__)
        met = met and at[best] > at["random"]
        parts.append(f"{length}: {best} {at[best]:.1%}, random {at['random']:.1%}")
    return {"what": PROMISE, "measured": f"{'; '.join(parts)}; of {pictures} pictures", "met": met}


def draw(result: dict[str, Any]) -> Figure:
    """Agreement over token length, a line per method; and over bytes, for what is fitted or rounded."""
    made, (tokens, size) = figure(columns=2)
    rows = result["rows"]
    for number, name in enumerate(dict.fromkeys(row["reduce"] for row in rows if row["tokens"] in LENGTHS)):
        line = [row for row in rows if row["reduce"] in (name, "none") and row["payload"] == "float32"]
        line.sort(key=lambda row: row["tokens"])
        style = {"color": COLOURS[number], "marker": MARKERS[number], "label": name}
        tokens.plot([row["tokens"] for row in line], [row["agreement"] for row in line], **style)
    tokens.set(xscale="log", xlabel="feature tokens sent", ylabel="answers that stay", title="fewer tokens")
    tokens.set_xticks([*LENGTHS, 49], [str(each) for each in (*LENGTHS, 49)])
    tokens.minorticks_off()
    tokens.legend()
    kinds = {"PCA": "pca", "residual VQ": "rvq", "a scale for 32 values": "in blocks"}
    for number, (label, key) in enumerate(kinds.items()):
        line = sorted(
            (row for row in rows if key in f"{row['reduce']} {row['payload']}"),
            key=lambda row: row["kilobytes"],
        )
        style = {"color": COLOURS[number], "marker": MARKERS[number], "label": label}
        size.plot([row["kilobytes"] for row in line], [row["agreement"] for row in line], **style)
    size.set(xscale="log", xlabel="kB a picture", title="all 49, fewer reals or bits")
    size.legend()
    return made


def main(
    photos: Annotated[Path, typer.Option(help="Folder of pictures, named by what they show.")],
    out: Annotated[Path, typer.Option(help="Where the JSON goes; the figure goes beside it.")],
    model: Annotated[Path, typer.Option(help="Model folder, or its name.")] = Path("open-small"),
    every: Annotated[int, typer.Option(min=1, help="Of so many pictures, one.")] = 1,
) -> None:
    """Ask open-small about pictures with fewer and fewer of their feature tokens."""
    files = read_named(photos, "visual", read_lemmas(downloads() / LEMMAS.name))[::every]
    rows = measure(Edge(Link.load(resolved_model(model))), files)
    table = Table("fewer by", "tokens", "payload", "kB", "answers that stay", "right name")
    for row in rows:
        table.add_row(
            row["reduce"],
            str(row["tokens"]),
            row["payload"],
            f"{row['kilobytes']:.2f}",
            f"{row['agreement']:.1%}",
            f"{row['right']:.1%}",
        )
    Console().print(table)
    result = {
        "command": f"python -m tests.benchmarks.token_reduction --photos DIR --every {every}",
        "commit": current_commit(),
        "measures": ["edge_server/model/split/reduction.py", "edge_server/model/split/compression.py"],
        "model": "open-small",
        "pictures": len(files),
        "questions": list(QUESTIONS),
        "rows": rows,
        "promises": [promise(rows, len(files))],
    }
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    save(draw(result), out.with_suffix(".png"))


if __name__ == "__main__":
    typer.run(main)
