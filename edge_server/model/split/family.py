"""Families of models that can be split, one record each; :mod:`edge_server.model.split.families` holds them.

A family that another package brings is found by its entry point of the group ``tokenlink.families``, or
registered with :func:`register_family`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeAlias

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from edge_server.errors import ModelError
from edge_server.model.split.language import causal_language_model
from edge_server.model.split.reduction import Grid

_GROUP = "tokenlink.families"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is being split.

    Attributes:
        folder: where it lies.
        model: with its weights.
        tokenizer: as the library reads it.
        processor: settings of its preprocessing, by what they are of (``"image_processor"``,
            ``"feature_extractor"``, ``"processor"``), with nothing filled in.
        picture: rows and columns of a picture [px], where the family's own does not hold; None: it does.
    """

    folder: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    processor: Mapping[str, Mapping[str, Any]]
    picture: tuple[int, int] | None = None

    def settings(self, kind: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of one part of its processor, with a family's own where the checkpoint says nothing."""
        return dict(defaults) | {k: v for k, v in self.processor.get(kind, {}).items() if v is not None}


@dataclass(frozen=True)
class MediaHalf:
    """What of a model looks at pictures, or listens.

    Attributes:
        front_end: raw media to what the tower takes: uint8 [F, H, W, 3], or float32 [S].
        encoder: that to feature tokens [T, E], through the connector.
        grid: what the feature tokens are a grid of; a sound's are one row.
        written: what the chat template writes for one.
        placeholder: the token that stands for one feature token.
        before, after: what the processor puts around all of them.
        spans: whether positions run along the grid (M-RoPE).
        window_s: of sound, how much of it is heard [s].
        sample_rate_hz: of sound.
    """

    front_end: nn.Module
    encoder: nn.Module
    grid: Grid
    written: str
    placeholder: str
    before: str = ""
    after: str = ""
    spans: bool = False
    window_s: float = 0.0
    sample_rate_hz: int = 0


ReadMedia: TypeAlias = Callable[[Checkpoint], MediaHalf]


@dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        model_type: what ``config.json`` calls it.
        network: the class that reads its checkpoints, of transformers; None: whatever causal language model
            transformers has for it.
        media: by slot, what it can be shown; nothing: text only.
        language: its language model alone, of a class that generates.
        sections: of its language model's rotary pairs, where they turn by several positions (M-RoPE);
            None: they do not.
        resolution: what is said of its pictures, for the table of families.
        refused: why it cannot be split; empty: it can.
    """

    model_type: str
    network: str | None = None
    media: Mapping[str, ReadMedia] = field(default_factory=dict)
    language: Callable[[PreTrainedModel], PreTrainedModel] = causal_language_model
    sections: Callable[[PreTrainedModel], tuple[int, ...]] | None = None
    resolution: str = ""
    refused: str = ""


_families: dict[str, Family] = {}


def register_family(family: Family) -> None:
    """Let models of a family be split.

    Raises:
        ValueError: its ``model_type`` is taken by another.
    """
    if _families.setdefault(family.model_type, family) is not family:
        raise ValueError(f"there is a family {family.model_type!r} already")


def families() -> Mapping[str, Family]:
    """All that are known, by ``model_type``."""
    _import_own()
    return dict(_families)


def family_of(model_type: object) -> Family:
    """The family of a checkpoint.

    Raises:
        ModelError: there is none, its package cannot be imported, or it cannot be split.
    """
    known = families()
    found = {each.name: each for each in entry_points(group=_GROUP)}
    family = known.get(str(model_type))
    if family is None and model_type in found:
        try:
            brought: Family = found[str(model_type)].load()
        except ImportError as error:
            raise ModelError(f"family {model_type!r} cannot be imported: {error}") from error
        family = brought
    if family is None:
        allowed = ", ".join(sorted({*(k for k, v in known.items() if not v.refused), *found}))
        raise ModelError(f"model_type is {model_type!r}, which is not split here; there are: {allowed}")
    if family.refused:
        raise ModelError(f"model_type {model_type!r} cannot be split: {family.refused}")
    return family


@cache
def _import_own() -> None:
    package = importlib.import_module("edge_server.model.split.families")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
