"""Stage 2 once more from the shipped weights: with tapped delay lines among its channels, and without.

Both are given the same clips, questions, steps and learning rate, and draw them alike; only which channel a
step goes through differs. What training through the delay lines brings is the one minus the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edge_server.model.link import Link
from edge_server.training.finetune import Finetune, FinetuneTraining
from edge_server.training.forward import UplinkTraining
from edge_server.training.loop import Schedule, run_stage
from edge_server.training.radio import RadioTraining
from edge_server.training.soundstage import encode_split

USUAL, TAPPED = "usual channels", "tapped delay lines too"
_ODDS = RadioTraining().odds
#: Half of the steps go through delay lines, those of the report that have nothing in sight.
RADIOS = {
    USUAL: RadioTraining(),
    TAPPED: replace(
        RadioTraining(),
        odds=(
            *((model, fading, odds / 2.0) for model, fading, odds in _ODDS),
            ("tdl_a", "block", 0.125),
            ("tdl_b", "block", 0.125),
            ("tdl_c", "block", 0.25),
        ),
    ),
}


@dataclass(frozen=True)
class Tuning:
    """What both are given.

    Attributes:
        steps: of stage 2.
        learning_rate: its peak.
        batch_size: clips a step.
        seed: of what is drawn.
    """

    steps: int = 300
    learning_rate: float = 3e-4
    batch_size: int = 24
    seed: int = 1


def tune(model: Path, data: Path, scratch: Path, radio: str, tuning: Tuning) -> Link:
    """Train one of the two, or take it from where an earlier call left it.

    Args:
        model: folder of the shipped model.
        data: Soundstage, with its train split.
        scratch: where checkpoints and features are kept.
        radio: a key of :data:`RADIOS`.
        tuning: what both are given.

    Raises:
        DatasetError: there is no train split.
    """
    link = Link.load(model)
    clips = encode_split(link, data, "train", scratch / "features")
    schedule = Schedule(tuning.steps, tuning.learning_rate, warmup_steps=min(20, tuning.steps // 2))
    training = FinetuneTraining(schedule, UplinkTraining(RADIOS[radio]), batch_size=tuning.batch_size)
    stage = Finetune(link, clips, training, tuning.seed)
    run_stage(radio, stage, schedule, scratch / radio.replace(" ", "-"))
    return link
