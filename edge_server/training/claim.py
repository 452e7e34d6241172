"""A run folder belongs to one recipe with one seed and one set of numbers: others would mix two runs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

from edge_server.errors import ModelError

#: What a run is, in its folder.
RECORD = "run.json"
#: Stands for a vocabulary size where a recipe has a function of it.
_ANY_VOCABULARY = 1024


class Claimed(Protocol):
    """A run, whatever its recipe is made of."""

    @property
    def recipe(self) -> Any:
        """A dataclass with a name."""

    @property
    def seed(self) -> int:
        """Everything random follows from it."""

    @property
    def directory(self) -> Path:
        """Where it goes."""


def claim(run: Claimed) -> None:
    """Note in a run's folder whose it is, or see that it is this run's.

    Raises:
        ModelError: the folder holds another run.
    """
    path = run.directory / RECORD
    mine = {"recipe": run.recipe.name, "seed": run.seed, "settings": settings_of(run.recipe)}
    if path.exists():
        found = json.loads(path.read_text())
        # Folders from before settings were noted count as what their name says.
        if mine | found != mine:
            raise ModelError(
                f"{run.directory} holds a run of {found}, this is {mine}; choose another folder or delete it"
            )
        if found == mine:
            return
    run.directory.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(mine) + "\n")


def settings_of(recipe: Any) -> str:
    """A digest of every number of a recipe, but its name."""
    values = {field.name: getattr(recipe, field.name) for field in fields(recipe) if field.name != "name"}
    told = {name: value(_ANY_VOCABULARY) if callable(value) else value for name, value in values.items()}
    return hashlib.sha256(repr(sorted(told.items(), key=lambda item: item[0])).encode()).hexdigest()[:16]
