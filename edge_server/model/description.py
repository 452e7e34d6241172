"""The description of a link: everything that defines it but its weights, which is what ``model.json`` says.

Light to import: no torch. Read by whoever serves, trains, exports or examines a model folder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter
from tokenizers import Tokenizer

from edge_server.errors import ModelError
from edge_server.model import tokenizer as tk
from edge_server.model.config import (
    TOKEN_LENGTHS,
    AudioConfig,
    FoundationConfig,
    HeadConfig,
    ListenerAudio,
    LoraTraining,
    MemoryConfig,
    ReceiverConfig,
    VisualConfig,
)
from edge_server.model.modality import MODALITIES, Modality
from edge_server.model.published.config import (
    CheckpointAudio,
    CheckpointFoundation,
    CheckpointVisual,
    LiteVisual,
)

# Configurations of published parts have a key that the others lack; these, with all their defaults, fit any.
_FIRST_THAT_FITS = Field(union_mode="left_to_right")


@dataclass(frozen=True)
class LinkConfig:
    """Everything that defines the model but its weights."""

    name: str
    """Name, as shown to clients."""
    foundation: Annotated[CheckpointFoundation | FoundationConfig, _FIRST_THAT_FITS]
    """The foundation model: published, or trained from nothing."""
    visual: Annotated[CheckpointVisual | LiteVisual | VisualConfig, _FIRST_THAT_FITS] = field(
        default_factory=VisualConfig
    )
    """The visual encoder, likewise."""
    audio: Annotated[CheckpointAudio | ListenerAudio | AudioConfig | None, _FIRST_THAT_FITS] = field(
        default_factory=AudioConfig
    )
    """The audio encoder, likewise; None: it hears nothing."""
    head: HeadConfig = field(default_factory=HeadConfig)
    """The heads of feature modalities."""
    receiver: ReceiverConfig = field(default_factory=ReceiverConfig)
    """The receivers of feature modalities."""
    lora: LoraTraining = field(default_factory=LoraTraining)
    """LoRA of the foundation."""
    channel_dim: int = 32
    """Reals per sent token C."""
    memory: Annotated[dict[str, MemoryConfig], BeforeValidator(lambda found: found or {})] = field(
        default_factory=dict
    )
    """By slot, things whose codes its head sends, and its receiver knows; elsewhere both are learned. Files
    from before there could be several say null where there is none."""
    analog_text: bool = True
    """Whether a question may come over the analog text path."""
    max_text_tokens: int = 96
    """Longest question or context [language tokens]."""
    views: bool = False
    """Whether one question may be about several pictures and several sounds, each with a label."""
    unsure: str | None = None
    """What it was trained to say where it cannot know; None: what models that are trained here from nothing
    say."""
    token_lengths: tuple[int, ...] = TOKEN_LENGTHS
    """Token lengths that a device may choose from; each doubles the one before."""

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Those that it has an encoder for: the fields that are called as they are."""
        return tuple(each for each in MODALITIES.values() if getattr(self, each.slot, None) is not None)

    @property
    def nested(self) -> bool:
        """Whether the first tokens of every block are the block of that length."""
        return self.head.nested and not self.memory


def read_description(directory: Path) -> tuple[LinkConfig, Tokenizer]:
    """What a model folder says of its link, and its foundation's tokenizer.

    Raises:
        ModelError: a file is missing, or says something else.
    """
    try:
        raw: dict[str, Any] = json.loads((directory / "model.json").read_text())
        config = TypeAdapter(LinkConfig).validate_python(raw)
        return config, tk.load_tokenizer(directory / "tokenizer.json")
    except (OSError, ValueError) as error:
        raise ModelError(f"{directory}: not a model folder that can be read: {error}") from error
