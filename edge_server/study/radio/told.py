"""What it is worth to tell the receiver the SNR of each token, and not of each block alone.

First of the shipped model, which never was told so: same clips, same noise, told in both ways. Then of
receivers that learn on, through delay lines half of the time, heads and foundation as they were: one of them
told of blocks, one of tokens, with the same clips, questions, channels and steps. Each takes the learning
rate that serves it best on validation clips.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from torch import nn

from device_agent.channel import Channel, SnrPer
from edge_server.data.soundstage.dataset import load_split
from edge_server.evaluation.accuracy import Setting
from edge_server.model.link import Link
from edge_server.study.radio import answers
from edge_server.study.radio.tuned import RADIOS, TAPPED
from edge_server.study.teacher_forced import TeacherForcedQuestions, over_channel
from edge_server.training.clips import EncodedClips, encode_clips
from edge_server.training.finetune import Finetune, FinetuneTraining
from edge_server.training.forward import UplinkTraining
from edge_server.training.loop import Schedule, run_stage
from edge_server.training.soundstage import SoundstageSplit
from edge_server.training.systems import USUAL_DIM

WAYS: tuple[SnrPer, ...] = get_args(SnrPer)
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Tuning:
    """What both ways are given.

    Attributes:
        steps: of stage 2, receivers alone.
        learning_rates: peaks that are tried.
        batch_size: clips a step.
        questions: about each, at most.
        validation_clips: by which a rate is chosen, gains known.
        seed: of what is drawn.
    """

    steps: int = 120
    learning_rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    batch_size: int = 12
    questions: int = 8
    validation_clips: int = 80
    seed: int = 1


class ReceiversAlone(Finetune):
    """Stage 2 in which only the receivers of feature modalities learn."""

    def trainable(self) -> dict[str, nn.Parameter]:
        """Theirs."""
        return {
            name: each for name, each in self.link.link_parameters().items() if name.startswith("receivers.")
        }


def train(
    model: Path, data: Path, scratch: Path, plan: answers.Plan, tuning: Tuning, say: Callable[[str], None]
) -> tuple[dict[str, Any], dict[SnrPer, Link]]:
    """Train receivers in both ways, or take them from where an earlier call left them.

    Args:
        model: folder of the shipped model.
        data: Soundstage, with its train and val split.
        scratch: where checkpoints and features are kept.
        plan: channels by which a rate is chosen.
        tuning: what both are given.
        say: told of each that was tried.

    Returns:
        What was tried as JSON, and the best link of each way.

    Raises:
        DatasetError: a split is missing.
    """
    link = Link.load(model)
    clips = encode_clips(link, SoundstageSplit(load_split(data, "train")), scratch / "features", "train")
    held_out = encode_clips(link, SoundstageSplit(load_split(data, "val")), scratch / "features-val", "val")
    questions = TeacherForcedQuestions(held_out.split.split, tuning.validation_clips)
    tried: list[dict[str, Any]] = []
    best: dict[SnrPer, Link] = {}
    for snr_per in WAYS:
        found = {}
        for rate in tuning.learning_rates:
            folder = scratch / f"told-{tuning.steps}-{snr_per}-{rate:g}"
            learned = _learned(model, clips, folder, snr_per, rate, tuning)
            kept = folder / "validation.json"
            if not kept.exists():
                receivers = [
                    over_channel(learned, held_out.features, each) for each in _settings(plan, snr_per)
                ]
                scores = [questions.score(learned, receive).accuracy for receive in receivers]
                kept.write_text(json.dumps(float(np.mean(scores))))
            found[rate] = (float(json.loads(kept.read_text())), learned)
            tried.append({"snr_per": snr_per, "learning_rate": rate, "validation": found[rate][0]})
            say(f"told per {snr_per}, {rate:g}: {found[rate][0]:.4f}")
        best[snr_per] = max(found.values(), key=lambda each: each[0])[1]
    return {"tuning": asdict(tuning), "tried": tried}, best


def gained(before: Sequence[Row], after: Sequence[Row]) -> dict[str, float]:
    """How much more often the second is right, over settings of the same channels.

    Returns:
        Mean in points, its standard error, the least and the most.
    """
    pairs = zip(before, after, strict=True)
    points = np.array([100.0 * (b["accuracy"] - a["accuracy"]) for a, b in pairs])
    error = points.std(ddof=1) / len(points) ** 0.5 if len(points) > 1 else 0.0
    return {
        "points": float(points.mean()),
        "standard_error": float(error),
        "least": float(points.min()),
        "most": float(points.max()),
    }


def spread_db(plan: answers.Plan, codewords: int = 200) -> float:
    """How far the SNRs of tokens lie around their block's mean: standard deviation, gains known [dB]."""
    (_, config), *_ = answers.told(plan, "token")
    rng = np.random.default_rng(plan.seed)
    channel = Channel(config, rng)
    sent = rng.standard_normal((codewords, answers.FULL, USUAL_DIM), np.float32) * np.float32(0.5**0.5)
    return float(np.mean([channel.transmit(x_TC).told_db().std() for x_TC in sent]))


def _settings(plan: answers.Plan, snr_per: SnrPer) -> list[Setting]:
    channels = (channel for _, channel in answers.told(plan, snr_per) if channel.csi == "perfect")
    return [Setting(channel, answers.FULL, plan.seed) for channel in channels]


def _learned(
    model: Path,
    clips: EncodedClips[SoundstageSplit],
    folder: Path,
    snr_per: SnrPer,
    rate: float,
    tuning: Tuning,
) -> Link:
    link = Link.load(model)
    schedule = Schedule(tuning.steps, rate, warmup_steps=min(20, tuning.steps // 2), checkpoint_every=50)
    radio = replace(RADIOS[TAPPED], snr_per=snr_per)
    training = FinetuneTraining(schedule, UplinkTraining(radio), tuning.batch_size, tuning.questions)
    run_stage(f"told per {snr_per}", ReceiversAlone(link, clips, training, tuning.seed), schedule, folder)
    return link.requires_grad_(False)
