"""The recipe of ``open-small``: every number of its training."""

from __future__ import annotations

from dataclasses import dataclass

from edge_server.training.loop import Schedule
from edge_server.training.open_small.hearing import HearingTraining
from edge_server.training.open_small.reading import ReadingTraining
from edge_server.weights.open_small import NAME


@dataclass(frozen=True)
class OpenRecipe:
    """A run of ``open-small``."""

    name: str
    """Name of the model, and of its folder under ``runs/``."""
    hearing: HearingTraining
    """The listener tells sounds apart."""
    reading: ReadingTraining
    """The foundation's LoRA reads captions."""


def open_small() -> OpenRecipe:
    """The model that ships."""
    hearing = Schedule(600, 3e-3, warmup_steps=20, weight_decay=0.05, log_every=10, checkpoint_every=100)
    reading = Schedule(100, 8e-4, warmup_steps=8, final_fraction=0.1, log_every=2, checkpoint_every=10)
    return OpenRecipe(NAME, HearingTraining(hearing), ReadingTraining(reading))
