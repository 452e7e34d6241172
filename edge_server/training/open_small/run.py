"""Running the recipe of ``open-small``: fetched weights, what the foundation says of itself, its LoRA.

RUN/own_answers.json  what the foundation says to plain questions
    reading/          checkpoints and log
    model/            LoRA and card: what is committed
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from device_agent.places import downloads
from edge_server.model.provenance import current_commit
from edge_server.training.loop import run_stage
from edge_server.training.open_small.card import write_card
from edge_server.training.open_small.chat import own_answers
from edge_server.training.open_small.drawings import drawing_names
from edge_server.training.open_small.reading import Reading
from edge_server.training.open_small.recipe import OpenRecipe
from edge_server.weights.assemble import save_trained
from edge_server.weights.catalogue import OPEN_SMALL
from edge_server.weights.fetch import fetch
from edge_server.weights.names import read_class_names
from edge_server.weights.open_small import base_link


@dataclass(frozen=True)
class OpenRun:
    """A run of the recipe.

    Attributes:
        recipe: what to train.
        seed: everything random follows from it.
        directory: where checkpoints, logs and the model go.
    """

    recipe: OpenRecipe
    seed: int
    directory: Path

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
        link = base_link(foundation, encoder, names)
        # Before there is a LoRA: it is to answer as it did.
        plain = own_answers(link, self.directory / "own_answers.json")
        torch.manual_seed(self.seed)
        schedule = self.recipe.reading.schedule
        reading = Reading(link, names, drawing_names(), plain, self.recipe.reading, self.seed)
        run_stage("reading", reading, schedule, self.directory / "reading")
        save_trained(link, self.model)
        done = json.loads((self.directory / "reading" / "done.json").read_text())
        write_card(self.model, self.seed, commit, {"reading": done})
        return self.model
