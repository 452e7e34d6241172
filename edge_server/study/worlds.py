"""The shipped model in worlds that it was not trained in: other artwork, another soundfont, the same scenes.

Every world has the scenes, and so the questions, of the same seed; only how they look or sound is another.
What a world costs is the difference to the usual one, question by question.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from device_agent.channel import ChannelConfig
from edge_server.data.soundstage.dataset import load_split
from edge_server.errors import DatasetError
from edge_server.evaluation.accuracy import Evaluator, Setting
from edge_server.evaluation.held_out import HeldOut
from edge_server.model.link import Link
from edge_server.study.combinations import told as unseen_combinations

COMMAND = "edge-server study worlds"
MEASURES = ("edge_server/study/worlds.py", "deploy/models/soundstage-small")
SNRS_DB = (10.0, 0.0, -5.0)
USUAL = "usual"
MOST_POINTS = 15.0
"""Below the usual test."""


def compare(
    link: Link,
    worlds: Mapping[str, Path],
    token_length: int,
    limit: int | None = None,
    advance: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Accuracy in each world, as JSON.

    Args:
        link: the model.
        worlds: data sets by name, each with a test split; :data:`USUAL` is among them.
        token_length: tokens per modality.
        limit: only the first questions.
        advance: told of questions that were asked.

    Raises:
        DatasetError: a split cannot be read, or is of other scenes than the usual one.
    """
    splits = {name: load_split(folder, "test") for name, folder in worlds.items()}
    rows = []
    for name, split in splits.items():
        if split.questions != splits[USUAL].questions:
            raise DatasetError(
                f"{worlds[name]}: has other questions than {worlds[USUAL]}; same seed and clips"
            )
        evaluator = Evaluator(link, HeldOut.of_soundstage(split), limit)
        told = json.loads((worlds[name] / "test" / "split.json").read_text())
        for snr_db in SNRS_DB:
            setting = Setting(ChannelConfig(model="awgn", snr_db=snr_db), token_length)
            score = evaluator.through_channel(setting, advance).to_json()
            look = {key: told.get(key, USUAL) for key in ("artwork", "soundfont")}
            rows.append({"world": name, **look, "snr_db": snr_db, **score})
    return {"token_length": token_length, "rows": rows}


def questions_asked(worlds: Mapping[str, Path], limit: int | None) -> int:
    """How many questions :func:`compare` asks."""
    return sum(len(load_split(folder, "test").questions[:limit]) for folder in worlds.values()) * len(SNRS_DB)


def kept(
    rows: Sequence[Mapping[str, Any]], combinations: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """The promise that this settles.

    Args:
        rows: of :func:`compare`.
        combinations: what ``edge-server study combinations`` wrote, its third; None: it is not there.
    """
    usual = {row["snr_db"]: row["accuracy"] for row in rows if row["world"] == USUAL}
    lost = {
        world: [100 * (usual[row["snr_db"]] - row["accuracy"]) for row in rows if row["world"] == world]
        for world in dict.fromkeys(row["world"] for row in rows)
        if world != USUAL
    }
    told = "; ".join(
        f"{world} {', '.join(f'{each:.1f}' for each in points)} points at "
        f"{', '.join(f'{snr_db:g}' for snr_db in usual)} dB"
        for world, points in lost.items()
    )
    within = all(max(points) <= MOST_POINTS for points in lost.values())
    what = "Compositional split; other sprites; other soundfont: below the usual test"
    if combinations is None:
        measured = f"{told}; compositional: not measured"
        why = "the compositional split is not there"
        return [{"what": what, "measured": measured, "met": None if within else False, "why": why}]
    figure, composes = unseen_combinations(combinations)
    why = (
        "the encoders have seen one artwork and one soundfont; the compositional split is of links that are "
        "trained anew, behind encoders that met all combinations"
    )
    return [{"what": what, "measured": f"{figure}; {told}", "met": within and composes, "why": why}]
