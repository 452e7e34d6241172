"""The description of a split model: what ``model.json`` says of it. Light to import: no torch.

MODEL/model.json      this
      tokenizer.json  the checkpoint's own
      language/       the language model alone, as a Hugging Face folder
      bundle/         the device's half, in ONNX
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import TypeAdapter
from tokenizers import Tokenizer

from edge_server.errors import ModelError
from edge_server.model import tokenizer as tk

RunnerName: TypeAlias = Literal["decoder", "class"]
"""What computes the language model: the decoder of :mod:`edge_server.runtime.decoder`, or its own class."""

FILE = "model.json"


@dataclass(frozen=True)
class MediaPart:
    """How media of one slot stands in a prompt."""

    content: Literal["image", "audio"]
    """What the chat template calls it in a message's content."""
    written: str
    """What the chat template writes for one."""
    before: str
    """What the processor puts before its placeholders, in place of that."""
    placeholder: str
    """The token that stands for one feature token."""
    after: str
    """What comes after them."""
    placeholder_id: int
    """Its language token id."""
    tokens: int
    """Feature tokens of one picture or sound, before any are left out."""
    log_rms: tuple[float, float]
    """Range in which the scale of its feature tokens is told (:mod:`edge_server.model.split.scale`)."""
    grid: tuple[int, int] | None = None
    """Rows and columns that positions run along (M-RoPE); None: one after another."""


@dataclass(frozen=True)
class SplitConfig:
    """Everything that defines a split model but its weights."""

    name: str
    """Name, as shown to clients."""
    family: str
    """``model_type`` of the checkpoint that it was split from."""
    runner: RunnerName
    """What computes its language model."""
    embedding_size: int
    """Width E of a feature token as the language model takes it."""
    channel_dim: int
    """Reals per sent token C."""
    token_lengths: tuple[int, ...]
    """Token lengths that a device may choose from; the last one leaves nothing out."""
    token_length: int
    """The one that is suggested."""
    max_positions: int
    """Longest prompt with its answer [language and feature tokens]."""
    vocab_size: int
    """Language tokens."""
    eos_ids: tuple[int, ...]
    """Any of these ends an answer."""
    parts: Mapping[str, MediaPart] = field(default_factory=dict)
    """By slot, what may be shown."""
    chat_template: str | None = None
    """Jinja, the checkpoint's own; None: it has none, and is given text as it is."""
    special: Mapping[str, str] = field(default_factory=dict)
    """Special tokens that the template may write, by their names there (``bos_token``)."""
    sections: tuple[int, ...] = ()
    """Rotary pairs that turn by time, row and column, one section after another (M-RoPE); or none."""
    bottleneck: int = 0
    """Reals that a trained bottleneck leaves of a feature token; 0: there is none, all of E are sent."""
    adds_special: bool = False
    """Whether the checkpoint's tokenizer adds its own special tokens to a text that has no BOS."""
    kind: Literal["split"] = "split"
    """Tells this from a link's configuration."""


def is_split(directory: Path) -> bool:
    """Whether a model folder holds a split model.

    Raises:
        ModelError: it holds no description.
    """
    try:
        raw = json.loads((directory / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{directory}: not a model folder that can be read: {error}") from error
    return isinstance(raw, dict) and raw.get("kind") == "split"


def read_split(directory: Path) -> tuple[SplitConfig, Tokenizer]:
    """What a model folder says of a split model, and its tokenizer.

    Raises:
        ModelError: a file is missing, or says something else.
    """
    try:
        raw: dict[str, Any] = json.loads((directory / FILE).read_text(encoding="utf-8"))
        config = TypeAdapter(SplitConfig).validate_python(raw)
        return config, tk.load_tokenizer(directory / "tokenizer.json")
    except (OSError, ValueError) as error:
        raise ModelError(f"{directory}: not a model folder that can be read: {error}") from error


def write_split(config: SplitConfig, directory: Path) -> None:
    """Write ``model.json``."""
    text = json.dumps(asdict(config), indent=2, ensure_ascii=False)
    (directory / FILE).write_text(text + "\n", encoding="utf-8")
