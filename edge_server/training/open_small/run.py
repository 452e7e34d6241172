"""Running the recipe of ``open-small``: fetched weights, a listener, and a LoRA for the foundation.

RUN/hearing/          checkpoints and log of the listener
    reading/          checkpoints and log of the LoRA
    model/            listener, LoRA and card: what is committed
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from device_agent.places import downloads
from edge_server.model.link import Link
from edge_server.model.listener import ListenerEncoder
from edge_server.model.provenance import current_commit
from edge_server.training.loop import DONE, run_stage
from edge_server.training.open_small.card import write_card
from edge_server.training.open_small.drawings import drawing_names
from edge_server.training.open_small.hearing import Hearing
from edge_server.training.open_small.reading import Reading
from edge_server.training.open_small.recipe import OpenRecipe
from edge_server.training.open_small.sounds import FOLDS, instruments, recordings, voices
from edge_server.weights.assemble import save_listener, save_lora
from edge_server.weights.catalogue import OPEN_SMALL
from edge_server.weights.fetch import fetch
from edge_server.weights.names import ClassName, read_class_names
from edge_server.weights.open_small import base_link, new_listener


@dataclass(frozen=True)
class OpenRun:
    """A run of the recipe.

    Attributes:
        recipe: what to train.
        seed: everything random follows from it.
        directory: where checkpoints, logs and the model go.
        sounds: folder of recordings named as ESC-10's are; None: only instruments and speech are heard.
    """

    recipe: OpenRecipe
    seed: int
    directory: Path
    sounds: Path | None = field(default=None, compare=False)

    @property
    def model(self) -> Path:
        """Folder of what was trained, once the run has ended."""
        return self.directory / "model"

    def all(self) -> Path:
        """Run everything that has not run yet; returns the folder of what was trained."""
        # Asked now: the checkout may move on before the run ends.
        commit = current_commit()
        foundation, encoder, *_ = fetch(OPEN_SMALL, downloads())
        names = read_class_names(downloads())
        listened = self.hear()
        done = {"hearing": listened, "reading": self.read(base_link(foundation, encoder, names), names)}
        write_card(self.model, self.seed, commit, done, heard=self.sounds is not None)
        return self.model

    def hear(self) -> dict[str, Any]:
        """Train the listener; returns what the stage tells of itself."""
        torch.manual_seed(self.seed)
        listener = ListenerEncoder(new_listener())
        recorded = {} if self.sounds is None else recordings(self.sounds, FOLDS)
        hearing = Hearing(listener, recorded, instruments(), voices(), self.recipe.hearing, self.seed)
        schedule = self.recipe.hearing.schedule
        run_stage("hearing", hearing, schedule, self.directory / "hearing")
        hearing.settle(schedule.steps)
        save_listener(listener, self.model)
        return self._told("hearing")

    def read(self, link: Link, names: tuple[ClassName, ...]) -> dict[str, Any]:
        """Train the LoRA of a link's foundation; returns what the stage tells of itself."""
        torch.manual_seed(self.seed)
        reading = Reading(link, names, drawing_names(), self.recipe.reading, self.seed)
        run_stage("reading", reading, self.recipe.reading.schedule, self.directory / "reading")
        save_lora(link, self.model)
        return self._told("reading")

    def _told(self, stage: str) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((self.directory / stage / DONE).read_text())
        return told
