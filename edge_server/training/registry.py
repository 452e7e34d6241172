"""Recipes by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge_server.training.recipes import Recipe, smoke, soundstage_small
from edge_server.training.systems import Budget, compared_systems

#: Recipes that pretrain for themselves.
BASES: dict[str, Callable[[], Recipe]] = {"soundstage-small": soundstage_small, "smoke": smoke}


def all_recipes() -> dict[str, Recipe]:
    """Every recipe that can be asked for by name."""
    bases = {name: build() for name, build in BASES.items()}
    return bases | compared_systems(bases["soundstage-small"], Budget())


def folder_of(recipe: Recipe, seed: int, runs: Path) -> Path:
    """The folder of a run among ``runs``: compared systems have one a seed."""
    if recipe.shares_pretraining is None:
        return runs / recipe.name
    return runs / "systems" / f"seed-{seed}" / recipe.name
