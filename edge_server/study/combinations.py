"""Unseen combinations of instrument, place and motion: a link that never met them, beside one that did.

The shipped model met all of them, so links are trained anew, as the two-stage system is: one on clips
without the combinations that are held out, one on as many clips of all kinds. Both are asked about test clips
that show a held-out combination, and about the others. Encoders and foundation are the shipped model's, which
met all combinations when they were pretrained: what is measured is the link, from heads to LoRA.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from device_agent.channel import ChannelConfig
from edge_server.data.soundstage.combinations import HELD_OUT, MOTIONS, is_new
from edge_server.data.soundstage.dataset import Split
from edge_server.data.soundstage.scene import KINDS, PLACES
from edge_server.evaluation.accuracy import Score, Setting
from edge_server.model.provenance import current_commit
from edge_server.study.alignment.arms import ARMS, DICTATION
from edge_server.study.alignment.cli import Folders, plan_of
from edge_server.study.alignment.plan import Plan
from edge_server.study.alignment.trial import Told, Trials
from edge_server.study.alignment.world import World
from edge_server.study.figures.answers import spread
from edge_server.study.json_file import write_json
from edge_server.study.teacher_forced import TeacherForcedQuestions, over_channel
from edge_server.training.caption_splits import FreelyCaptioned
from edge_server.training.clips import EncodedClips
from edge_server.training.soundstage import SoundstageSplit

COMBINATIONS = "combinations"
COMMAND = "edge-server study combinations"
MEASURES = ("edge_server/study/combinations.py", "edge_server/data/soundstage/combinations.py")
SEEN, ALL = "seen combinations only", "as many clips of all"
"""What a link is trained on."""
UNSEEN, OTHERS = "unseen", "others"
"""Test clips that show a combination that is held out, and the others."""
MOST_POINTS = 10.0
"""Below the usual test."""


@dataclass(frozen=True)
class Scale:
    """How much is trained and asked.

    Attributes:
        told: steps and rates of both links; its seed is not looked at.
        seeds: of training.
        snrs_db: at which questions are asked [dB], AWGN.
    """

    told: Told = field(default_factory=lambda: Told(1000, 1e-3, 400, 3e-4, 1))
    seeds: tuple[int, ...] = (1,)
    snrs_db: tuple[float, ...] = (10.0, 0.0, -5.0)


QUICK = Scale(Told(2, 1e-3, 2, 1e-3, 1), snrs_db=(10.0,))


def scale_of(*, quick: bool, seeds: int | None) -> Scale:
    """The scale that options describe."""
    scale = QUICK if quick else Scale()
    return scale if seeds is None else replace(scale, seeds=tuple(range(1, seeds + 1)))


def study_combinations(
    folders: Folders, scratch: Path, scale: Scale, say: Callable[[str], None], *, quick: bool
) -> Path:
    """Train links without certain combinations and ask them; JSON.

    Args:
        folders: where everything is; the reading of the alignment study is made where it is not there.
        scratch: checkpoints.
        scale: how much.
        say: told what was done.
        quick: with the small plan of the alignment study.
    """
    plan = plan_of(quick=quick, seeds=None, only=())
    world = World.open(folders.model, folders.data, folders.scratch, folders.features, plan)
    found = compare(world, plan, scratch, scale, say)
    head = {"command": COMMAND, "measures": MEASURES, "commit": current_commit(), "scale": asdict(scale)}
    path = folders.out / f"{COMBINATIONS}.json"
    write_json(path, {**head, **found})
    return path


def compare(
    world: World, plan: Plan, scratch: Path, scale: Scale, say: Callable[[str], None]
) -> dict[str, Any]:
    """Both links, as JSON.

    Args:
        world: clips, encoders, foundation.
        plan: of the alignment study, whose rounds and token length these are.
        scratch: checkpoints.
        scale: how much.
        say: told what was done.
    """
    scenes = world.clips.split.split.scenes
    known = [i for i, scene in enumerate(scenes) if not is_new(scene)]
    rows = []
    for name, picked in ((SEEN, known), (ALL, list(range(len(known))))):
        narrowed = replace(world, clips=_clips(world.clips, picked))
        trials = Trials(narrowed, plan, scratch / name.replace(" ", "-"))
        for seed in scale.seeds:
            link = trials.train(ARMS[DICTATION], replace(scale.told, seed=seed)).link
            for shown, wanted in ((UNSEEN, True), (OTHERS, False)):
                asked = _asked(world, wanted)
                for snr_db in scale.snrs_db:
                    setting = Setting(ChannelConfig(model="awgn", snr_db=snr_db), plan.token_length)
                    questions = TeacherForcedQuestions(asked.split.split)
                    score: Score = questions.score(link, over_channel(link, asked.features, setting))
                    rows.append(
                        {
                            "trained_on": name,
                            "asked_about": shown,
                            "seed": seed,
                            "snr_db": snr_db,
                            "clips": len(asked),
                            **score.to_json(),
                        }
                    )
            unseen = rows[-2 * len(scale.snrs_db)]["accuracy"]
            say(f"trained on {name}, seed {seed}: {unseen:.3f} of {UNSEEN}")
    return {
        "held_out": sorted(map(list, HELD_OUT)),
        "combinations": len(KINDS) * len(PLACES) * len(MOTIONS),
        "train_clips": len(known),
        "rows": rows,
    }


def accuracies(rows: Sequence[Mapping[str, Any]], trained_on: str, asked_about: str) -> list[dict[str, Any]]:
    """Of each SNR, the accuracy over seeds of training: mean, deviation and values."""
    found: dict[float, list[float]] = {}
    for row in rows:
        if row["trained_on"] == trained_on and row["asked_about"] == asked_about:
            found.setdefault(row["snr_db"], []).append(row["accuracy"])
    return [spread(values) for values in found.values()]


def lost_points(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Of each SNR, what a link that never met the combinations loses on them against one that did.

    Both are asked about the same clips, so that how hard these are plays no part.
    """
    return _differences(accuracies(rows, ALL, UNSEEN), accuracies(rows, SEEN, UNSEEN))


def below_usual_points(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Of each SNR, how far the link that never met them is on them below the other clips of the test.

    Those may be easier or harder: what was asked for, and no figure of unseen combinations alone.
    """
    return _differences(accuracies(rows, SEEN, OTHERS), accuracies(rows, SEEN, UNSEEN))


def told(report: Mapping[str, Any]) -> tuple[str, bool]:
    """For the promise of unseen worlds: both figures, and whether both are within the bound."""
    rows = report["rows"]
    lost, below = lost_points(rows), below_usual_points(rows)
    figures = [", ".join(f"{each:.1f}" for each in points) for points in (lost, below)]
    snrs_db = ", ".join(f"{snr_db:g}" for snr_db in dict.fromkeys(row["snr_db"] for row in rows))
    seeds = len({row["seed"] for row in rows})
    return (
        f"combinations {figures[0]} points at {snrs_db} dB below a link that met them, on the same clips, "
        f"and {figures[1]} below the other clips ({seeds} seed{'' if seeds == 1 else 's'})",
        max(*lost, *below) <= MOST_POINTS,
    )


def _differences(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> list[float]:
    return [100 * (a["mean"] - b["mean"]) for a, b in zip(first, second, strict=True)]


def _clips(clips: EncodedClips[FreelyCaptioned], picked: list[int]) -> EncodedClips[FreelyCaptioned]:
    """Some clips of a split, their questions left out: training draws its own."""
    split = clips.split
    features = {slot: np.asarray(found[picked]) for slot, found in clips.features.items()}
    part = _part(split.split, picked)
    return EncodedClips(features, FreelyCaptioned(part, tuple(split.captions[i] for i in picked)))


def _asked(world: World, wanted: bool) -> EncodedClips[SoundstageSplit]:
    """Test clips that show a held-out combination, or those that do not, with their questions."""
    test = world.held_out["test"]
    picked = [i for i, scene in enumerate(test.split.split.scenes) if is_new(scene) is wanted]
    features = {slot: np.asarray(found[picked]) for slot, found in test.features.items()}
    return EncodedClips(features, SoundstageSplit(_part(test.split.split, picked)))


def _part(split: Split, picked: list[int]) -> Split:
    place = {clip: i for i, clip in enumerate(picked)}
    questions = tuple(replace(q, clip=place[q.clip]) for q in split.questions if q.clip in place)
    return replace(
        split,
        scenes=tuple(split.scenes[i] for i in picked),
        captions=tuple(split.captions[i] for i in picked),
        questions=questions,
    )
