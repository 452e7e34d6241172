"""What it takes to send the media themselves: bytes of JPEG and Opus, and of MP4 files, against accuracy.

No channel here: what is sent arrives. How many channel uses an ideal code needs for it, the figure works out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge_server.model.modality import SLOTS
from edge_server.study.baselines import Baselines, BaselineSplit
from edge_server.study.digital.ladder import Ladder, build_movie_ladders
from edge_server.training.run import Run

#: Where sizes and accuracies are kept, in the two-stage system's record.
SIZES = "sizes.jsonl"


def measure_sizes(run: Run, record: Path, baselines: Baselines, movies: int) -> None:
    """Accuracy of one seed's link at every size that may be worth sending.

    Args:
        run: of the two-stage link.
        record: of it.
        baselines: on that link.
        movies: test clips that are rendered again at full size and sent as MP4.
    """
    lines = [*_pairs(baselines), *_movies(baselines, run.stage(f"ladders-movie-{movies}"), movies)]
    partial = record / (SIZES + ".partial")
    partial.write_text("".join(json.dumps(line) + "\n" for line in lines))
    partial.replace(record / SIZES)


def _pairs(baselines: Baselines) -> Iterator[dict[str, Any]]:
    """Pairs of JPEG and Opus steps on the front of the validation split, answered on the test split."""
    candidates = {slot: worthwhile_steps(baselines.val.ladders[slot]) for slot in SLOTS}
    found = []
    for visual in candidates["visual"]:
        for audio in candidates["audio"]:
            steps = {"visual": visual, "audio": audio}
            found.append(
                (_bits(baselines.val, steps), baselines.at_steps(baselines.val, steps).accuracy, steps)
            )
    best = -1.0
    for _, accuracy, steps in sorted(found, key=lambda f: f[0]):
        if accuracy > best:
            best = accuracy
            yield {
                "kind": "jpeg-opus",
                "steps": {slot: baselines.test.ladders[slot].names[step] for slot, step in steps.items()},
                "bits": _bits(baselines.test, steps),
                "score": baselines.at_steps(baselines.test, dict(steps)).to_json(),
            }


def _movies(baselines: Baselines, folder: Path, clips: int) -> Iterator[dict[str, Any]]:
    split = baselines.test.split
    ladders = build_movie_ladders(baselines.link, split, folder, clips=clips)
    half = BaselineSplit.first(split, baselines.test.features, ladders, clips)
    visual = ladders["visual"]
    for step, name in enumerate(visual.names):
        yield {
            "kind": "mp4",
            "steps": dict.fromkeys(SLOTS, name),
            "bits": float(visual.bits_SN[step].mean()),
            "score": baselines.at_steps(half, dict.fromkeys(SLOTS, step)).to_json(),
        }


def worthwhile_steps(ladder: Ladder, most: int = 8) -> list[int]:
    """Steps that no other beats in both mean size and worth, smallest first; evenly thinned to so many."""
    sizes = ladder.bits_SN.mean(axis=1)
    kept: list[int] = []
    useful = [step for step in np.argsort(sizes) if np.isfinite(ladder.worth_S[step])]
    for step in useful or np.argsort(sizes):
        if not kept or ladder.worth_S[step] > ladder.worth_S[kept[-1]]:
            kept.append(int(step))
    picks = np.unique(np.linspace(0, len(kept) - 1, min(most, len(kept))).round().astype(int))
    return [kept[pick] for pick in picks]


def _bits(half: BaselineSplit, steps: Mapping[str, int]) -> float:
    """Mean size of a clip, both modalities [bits]."""
    return float(sum(half.ladders[slot].bits_SN[step].mean() for slot, step in steps.items()))
