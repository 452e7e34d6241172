"""Estimated gains: told better by the tokens themselves, or trained for.

The shipped model, as it is and with gains refined (:mod:`edge_server.model.gain_refinement`); then stage 2
once more from its weights, gains estimated from pilots. Beside that the same steps with known gains, so that
what more training brings is not taken for what pilots do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from device_agent.channel import ChannelConfig
from edge_server.evaluation.accuracy import Setting
from edge_server.model.link import Link
from edge_server.model.provenance import current_commit
from edge_server.runtime.model_info import bundle_hash_of
from edge_server.runtime.refinement import read_refinement
from edge_server.study.json_file import write_json
from edge_server.study.teacher_forced import TeacherForcedQuestions, over_channel
from edge_server.training.clips import EncodedClips
from edge_server.training.finetune import Finetune, FinetuneTraining
from edge_server.training.forward import UplinkTraining
from edge_server.training.loop import Schedule, run_stage
from edge_server.training.radio import RadioTraining
from edge_server.training.soundstage import SoundstageSplit, encode_split
from protos.names import ChannelName, FadingName

PILOTS = "pilots"
COMMAND = "edge-server study pilots"
MEASURES = (
    "device_agent/channel/csi.py",
    "edge_server/model/gain_refinement.py",
    "edge_server/model/token_prior.py",
    "edge_server/study/pilots.py",
    "edge_server/training/radio.py",
)
SHIPPED, KNOWN, ESTIMATED = "as shipped", "further, known gains", "further, estimated gains"
REFINED = "estimated, refined"
CSI = ("perfect", "estimated", REFINED)
MOST_POINTS = 3.0


@dataclass(frozen=True)
class Plan:
    """What is trained and asked.

    Attributes:
        pilots: of each gain.
        steps: of stage 2, of both that go on.
        learning_rate: its peak.
        batch_size: clips a step.
        questions: about each, at most.
        snrs_db: at which questions are asked [dB], Rayleigh block fading.
        test_clips: that are asked about.
        channel_seeds: of gains and noise, one after another; told are means over them.
        token_length: tokens per modality.
        seed: of what is drawn.
    """

    pilots: int = 4
    steps: int = 250
    learning_rate: float = 3e-4
    batch_size: int = 12
    questions: int = 8
    snrs_db: tuple[float, ...] = (10.0, 0.0, -5.0)
    test_clips: int = 300
    channel_seeds: tuple[int, ...] = (1, 2, 3)
    token_length: int = 16
    seed: int = 1


QUICK = Plan(steps=2, batch_size=2, questions=2, snrs_db=(0.0,), test_clips=2, channel_seeds=(1,))


def study_pilots(
    model: Path,
    data: Path,
    features: Path,
    scratch: Path,
    out: Path,
    say: Callable[[str], None],
    *,
    quick: bool,
) -> Path:
    """Go on with stage 2 of the shipped model, and ask; JSON in ``out``. For the rest: :func:`compare`."""
    found = compare(model, data, features, scratch, QUICK if quick else Plan(), say)
    head = {"command": COMMAND, "measures": MEASURES, "commit": current_commit()}
    report = {**head, "model": model.name, **found, "promises": kept(found)}
    path = out / f"{PILOTS}.json"
    write_json(path, report)
    return path


def compare(
    model: Path, data: Path, features: Path, scratch: Path, plan: Plan, say: Callable[[str], None]
) -> dict[str, Any]:
    """The shipped model and the two that go on, each with known and with estimated gains, as JSON.

    Args:
        model: folder of the shipped model.
        data: Soundstage with train and test split.
        features: where clips behind its encoders are kept.
        scratch: checkpoints.
        plan: how much.
        say: told what was done.
    """
    rows: list[dict[str, Any]] = []
    link = Link.load(model)
    clips = encode_split(link, data, "train", features / "train")
    asked = encode_split(link, data, "test", features / "test")
    questions = TeacherForcedQuestions(asked.split.split, plan.test_clips)
    for name, pilots in ((SHIPPED, None), (KNOWN, None), (ESTIMATED, plan.pilots)):
        link = Link.load(model)
        if name != SHIPPED:
            _go_on(link, clips, pilots, plan, scratch / name.replace(", ", "-").replace(" ", "-"))
        link.merge_lora()
        # Further training leaves the heads' tokens other than those that the prior was fitted to.
        refine = read_refinement(model, bundle_hash_of(model)) if name == SHIPPED else None
        for csi in CSI if refine is not None else CSI[:2]:
            for snr_db in plan.snrs_db:
                channel = ChannelConfig(
                    model="rayleigh",
                    snr_db=snr_db,
                    csi="perfect" if csi == "perfect" else "estimated",
                    pilots=plan.pilots,
                )
                told = refine if csi == REFINED else None
                found = [
                    questions.score(
                        link,
                        over_channel(link, asked.features, Setting(channel, plan.token_length, seed), told),
                    ).accuracy
                    for seed in plan.channel_seeds
                ]
                rows.append(
                    {
                        "trained": name,
                        "csi": csi,
                        "snr_db": snr_db,
                        "accuracy": float(np.mean(found)),
                        "of_each_seed": found,
                    }
                )
        say(f"{name}: {rows[-len(plan.snrs_db) :]}")
    return {"plan": asdict(plan), "rows": rows}


def kept(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The promise that this settles: beside the shipped model with known gains."""
    found = {(row["trained"], row["csi"], row["snr_db"]): row["accuracy"] for row in report["rows"]}
    best = found[SHIPPED, "perfect", 0.0]
    trained, before = (100 * (best - found[name, "estimated", 0.0]) for name in (ESTIMATED, SHIPPED))
    told = f"{trained:.1f} trained for it, {report['plan']['steps']} steps; {before:.1f} as shipped"
    lost = trained
    if (SHIPPED, REFINED, 0.0) in found:
        refined = 100 * (best - found[SHIPPED, REFINED, 0.0])
        lost, told = (
            min(lost, refined),
            f"{refined:.1f} points, gains refined by the tokens, untrained; {told}",
        )
    return [
        {
            "what": "4 pilots at 0 dB below perfect CSI, trained for it",
            "measured": told,
            "met": lost <= MOST_POINTS,
        }
    ]


def _go_on(
    link: Link, clips: EncodedClips[SoundstageSplit], pilots: int | None, plan: Plan, folder: Path
) -> None:
    radio = replace(RadioTraining(), pilots=pilots, odds=_FADING)
    schedule = Schedule(plan.steps, plan.learning_rate, warmup_steps=min(20, max(1, plan.steps // 2)))
    training = FinetuneTraining(schedule, UplinkTraining(radio), plan.batch_size, plan.questions)
    run_stage("further", Finetune(link, clips, training, plan.seed), schedule, folder)


#: Mostly what the pilots are for.
_FADING: tuple[tuple[ChannelName, FadingName, float], ...] = (
    ("rayleigh", "block", 0.7),
    ("awgn", "block", 0.2),
    ("none", "block", 0.1),
)
